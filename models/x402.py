"""The rail ``x402``: what we ask of a payer in an HTTP 402, and what a payer encloses (x402 protocol, v2).

A payer signs one transfer of exactly the price to our address. It is verified before the run and settled
after it, through a facilitator; between the two it is kept here. One signed transfer pays for one purchase.
"""

import hashlib
from base64 import b64decode
from binascii import Error as EncodingError
from datetime import datetime
from enum import StrEnum
from json import loads
from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic import Field as Described
from sqlalchemy import BigInteger, LargeBinary, Text
from sqlmodel import Field

from models.canonical import canonical_json
from models.errors import PlatformError
from models.mandate import MANDATE_LIFETIME_SECONDS, SETTLE_MARGIN_SECONDS
from models.money import Currency
from models.rail import RailName, RailRequest
from models.settings import InvalidSettingsError, Settings
from models.table import Record, time_field

X402_VERSION = 2
SCHEME = "exact"
OFFER_SECONDS = 900
"""How long a payer's signature must stay valid: a mandate's ten minutes, queueing and the settlement."""

NEEDED_SECONDS = MANDATE_LIFETIME_SECONDS + SETTLE_MARGIN_SECONDS
"""What a signature must have left when it comes in: the longest run and its settlement."""

MAX_HEADER_CHARACTERS = 16_384


class X402Asset(BaseModel):
    """What one currency is paid in on the network."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    asset: Annotated[str, Described(min_length=1, max_length=200)]
    """The token's address, or an ISO 4217 code where the network settles in currencies."""
    units_per_minor: Annotated[int, Described(strict=True, ge=1)]
    """Atomic units of the asset for one minor unit of the currency (a US cent in USDC: 10 000)."""
    extra: dict[str, str] = Described(default_factory=dict)
    """What the scheme needs besides: the EIP-712 domain's ``name`` and ``version``."""


class X402Terms(BaseModel):
    """On which terms this installation is paid."""

    model_config = ConfigDict(frozen=True)

    facilitator_url: str
    network: str
    pay_to: str
    assets: dict[Currency, X402Asset]

    @classmethod
    def from_settings(cls, settings: Settings) -> "X402Terms | None":
        """Read ``X402_…``; None where the rail is not configured.

        Raises:
            InvalidSettingsError: Only a part is set, or ``X402_ASSETS`` is malformed.
        """
        if not settings.x402_facilitator_url:
            return None
        try:
            adapter: TypeAdapter[dict[str, X402Asset]] = TypeAdapter(dict[Currency, X402Asset])
            assets = adapter.validate_json(settings.x402_assets)
        except ValidationError:
            assets = {}
        if not assets or not settings.x402_pay_to or not settings.x402_network:
            rule = "must be set with X402_NETWORK and X402_PAY_TO: currency → asset, units_per_minor, as JSON"
            raise InvalidSettingsError({"X402_ASSETS": rule})
        return cls(
            facilitator_url=settings.x402_facilitator_url,
            network=settings.x402_network,
            pay_to=settings.x402_pay_to,
            assets=assets,
        )

    def requirements(self, amount: int, currency: str) -> dict[str, Any] | None:
        """Word what is wanted for ``amount`` minor units; None where the currency is not accepted."""
        asset = self.assets.get(currency)
        if asset is None or amount <= 0:
            return None
        return {
            "scheme": SCHEME,
            "network": self.network,
            "asset": asset.asset,
            "amount": str(amount * asset.units_per_minor),
            "payTo": self.pay_to,
            "maxTimeoutSeconds": OFFER_SECONDS,
            "extra": dict(asset.extra),
        }


def read_payment(header: str, wanted: dict[str, Any], *, now: float | None = None) -> dict[str, Any]:
    """Read ``PAYMENT-SIGNATURE`` (base64 JSON) and make sure that it accepts exactly what is ``wanted``.

    Args:
        header: As it came.
        wanted: The requirements (``X402Terms.requirements``).
        now: Unix time from which it must stay valid for the longest run and its settlement; None where that
            was judged before.

    Raises:
        X402PaymentInvalidError: It is no version 2 payment, or one for something else.
    """
    try:
        if len(header) > MAX_HEADER_CHARACTERS:
            raise ValueError
        payment = loads(b64decode(header, validate=True))
    except (EncodingError, ValueError, RecursionError):
        raise X402PaymentInvalidError("the header is no base64 of JSON") from None
    if not isinstance(payment, dict):
        raise X402PaymentInvalidError("the header holds no JSON object")
    fields = cast("dict[str, Any]", payment)
    if fields.get("x402Version") != X402_VERSION or not isinstance(fields.get("payload"), dict):
        raise X402PaymentInvalidError("it is no payment of x402 version 2")
    accepted = fields.get("accepted")
    if not isinstance(accepted, dict):
        raise X402PaymentInvalidError("it does not say what it accepts")
    for name in ("scheme", "network", "asset", "amount", "payTo"):
        if cast("dict[str, Any]", accepted).get(name) != wanted[name]:
            raise X402PaymentInvalidError(f"its {name} is not the one that is wanted")
    authorization = cast("dict[str, Any]", fields["payload"]).get("authorization")
    if now is not None and isinstance(authorization, dict):
        _require_time(cast("dict[str, Any]", authorization).get("validBefore"), now)
    return fields


def _require_time(valid_before: object, now: float) -> None:
    """Refuse a signature that could expire before the run is settled."""
    given = valid_before if isinstance(valid_before, int) else str(valid_before or "")
    if isinstance(given, str) and not given.isdecimal():
        raise X402PaymentInvalidError("its validBefore is no time")
    if int(given) < now + NEEDED_SECONDS:
        raise X402PaymentInvalidError(f"it must stay valid for {NEEDED_SECONDS} s, so that it can be settled")


def payment_digest(payment: dict[str, Any]) -> bytes:
    """Name a signed transfer, whatever else is written around it: by its payer, asset and nonce.

    Two signatures over one nonce move money once at most, so they are one.
    """
    payload = cast("dict[str, Any]", payment["payload"])
    authorization = payload.get("authorization")
    named: dict[str, Any] = payload
    if isinstance(authorization, dict) and "nonce" in authorization:
        fields = cast("dict[str, Any]", authorization)
        named = {name: str(fields.get(name)).lower() for name in ("from", "nonce")}
    accepted = cast("dict[str, Any]", payment["accepted"])
    facts = {"network": str(accepted["network"]), "asset": str(accepted["asset"]).lower(), "named": named}
    return hashlib.sha256(canonical_json(facts)).digest()


class X402AuthoriseRequest(RailRequest):
    """What is verified before a run: the payer's signed transfer and what it must be."""

    payment: str = Described(max_length=MAX_HEADER_CHARACTERS)
    """``PAYMENT-SIGNATURE`` as it came. It can move money to our address only."""


class X402Status(StrEnum):
    """Where an enclosed payment stands; ``settled`` and ``void`` are left by nothing."""

    RECEIVED = "received"
    VERIFIED = "verified"
    SETTLING = "settling"
    """The facilitator was asked to settle: money may have moved."""
    SETTLED = "settled"
    VOID = "void"
    """Given back before settling: it is never sent."""


class X402Payment(Record, table=True):
    """One enclosed payment, by our reference: the store that pending settlements survive in."""

    __tablename__ = "x402_payments"

    reference: str = Field(primary_key=True)
    tenant_id: str = Field(index=True)
    user_id: str
    digest: bytes = Field(sa_type=LargeBinary, unique=True)
    body: bytes = Field(sa_type=LargeBinary)
    """The exact bytes that verify and settle are asked with."""
    amount: int = Field(sa_type=BigInteger)
    """Minor units."""
    currency: str
    status: X402Status = Field(default=X402Status.RECEIVED, sa_type=Text)
    attempts: int = 0
    transaction: str | None = None
    """Broadcast, or confirmed where it is settled."""
    created_at: datetime = time_field()
    settled_at: datetime | None = time_field(nullable=True)


class X402PaymentInvalidError(PlatformError):
    """The enclosed payment is not the one that is asked for."""

    code = "X402_PAYMENT_INVALID"
    http_status = 402

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The payment in PAYMENT-SIGNATURE is refused: {reason}. Nothing was charged. Sign what the "
            "PAYMENT-REQUIRED header asks for.",
            details={"rail": RailName.X402, "reason": reason},
        )


class PaymentRequiredError(PlatformError):
    """The price has to be paid with the request, or beforehand."""

    code = "PAYMENT_REQUIRED"
    http_status = 402

    def __init__(self, accepts: list[dict[str, Any]]) -> None:
        super().__init__(
            "This costs something, and neither a wallet nor a registered payment method of yours covers it. "
            "Sign one of the accepted payments and repeat the request with PAYMENT-SIGNATURE, or top up.",
            details={"x402Version": X402_VERSION, "accepts": accepts},
        )
