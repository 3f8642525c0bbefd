"""The rail ``x402``: signed transfers, verified before a run and settled after it through a facilitator.

The types of the wire are those of the package ``x402``; the transport is ours, because a facilitator's
answer is settled, declined or unknown, never an exception. There is no end point of the protocol that tells
what became of a settlement, so evidence is kept here: what was asked is stored before it is asked. Settling
the same signed transfer again can move its money once only, so an unknown settlement is asked for again until
it is told.
"""

from datetime import timedelta
from typing import TypeVar

from pydantic import ValidationError
from x402.schemas import SettleResponse, VerifyResponse

from activities.rails.transport import Answered, RailClient
from activities.records.database import Database
from activities.records.x402 import (
    begin_settling,
    find_payment,
    keep_payment,
    move_payment,
    note_transaction,
)
from models.canonical import canonical_json
from models.rail import Declined, RailAnswer, RailName, RailRequest, Settled, Unknown
from models.x402 import (
    X402_VERSION,
    X402AuthoriseRequest,
    X402Payment,
    X402PaymentInvalidError,
    X402Status,
    X402Terms,
    payment_digest,
    read_payment,
)

PENDING = "settlement_pending"
"""Broadcast, not confirmed: not an end (x402 2.20)."""

Response = TypeVar("Response", VerifyResponse, SettleResponse)

_NOT_FOUND = Unknown(reason="nothing was verified under the reference yet", not_found=True)
_UNSUPPORTED = Declined(
    code="unsupported", message="A signed transfer is given back by a transfer of its own."
)


class X402Rail:
    """Answers of a facilitator, as settled, declined or unknown."""

    name = RailName.X402
    key_lifetime = timedelta.max

    def __init__(self, terms: X402Terms, database: Database) -> None:
        """Call the facilitator of ``terms``; keep enclosed payments in ``database``."""
        self._terms = terms
        self._database = database
        self._client = RailClient(terms.facilitator_url, {"Content-Type": "application/json"})

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def look_up_method(self, *, customer: str, method: str, user_id: str) -> RailAnswer:
        """Nothing is stored with a facilitator."""
        return _UNSUPPORTED

    async def authorise(self, *, key: str, body: bytes) -> RailAnswer:
        """Keep the enclosed payment, once, and let the facilitator verify it; nothing moves."""
        request = X402AuthoriseRequest.model_validate_json(body)
        wanted = self._terms.requirements(request.amount, request.currency)
        if wanted is None:
            return Declined(code="currency_refused", message=f"{request.currency} is not accepted over x402.")
        try:
            payment = read_payment(request.payment, wanted)
        except X402PaymentInvalidError as error:
            return Declined(code="payment_invalid", message=error.message)
        asked = {"x402Version": X402_VERSION, "paymentPayload": payment, "paymentRequirements": wanted}
        enclosed = X402Payment(
            reference=request.reference,
            tenant_id=request.tenant_id,
            user_id=request.user_id,
            digest=payment_digest(payment),
            body=canonical_json(asked),
            amount=request.amount,
            currency=request.currency,
        )
        async with self._database.platform() as connection:
            kept = await keep_payment(connection, enclosed)
        if kept is None:
            return Declined(
                code="payment_reused", message="The signed transfer was used for another purchase."
            )
        if kept.status is not X402Status.RECEIVED:
            return _authorised(kept)
        answer = await self._client.call("POST", "/verify", content=kept.body)
        if isinstance(answer, Unknown):
            return answer
        verified = _read(answer, VerifyResponse)
        if verified is None:
            return answer.untold()
        if not verified.is_valid:
            return Declined(
                code=(verified.invalid_reason or "invalid")[:100],
                message=(verified.invalid_message or "")[:2000],
            )
        async with self._database.platform() as connection:
            await move_payment(connection, kept.reference, X402Status.RECEIVED, X402Status.VERIFIED)
        return Settled(provider_ref=f"x402:{kept.reference}", amount=kept.amount)

    async def look_up_authorisation(self, reference: str) -> RailAnswer:
        """Read whether the payment was verified."""
        async with self._database.platform() as connection:
            found = await find_payment(connection, reference)
        return _NOT_FOUND if found is None or found.status is X402Status.RECEIVED else _authorised(found)

    async def capture(self, *, key: str, body: bytes) -> RailAnswer:
        """Settle the signed transfer; it is for exactly its amount, so nothing less can be collected."""
        request = RailRequest.model_validate_json(body)
        async with self._database.platform() as connection:
            found = await begin_settling(connection, request.reference, request.amount, request.currency)
        if found is None:
            return Declined(code="hold_not_found", message="No verified payment of this amount is there.")
        if found.status is not X402Status.SETTLING:
            return _captured(found)
        answer = await self._client.call("POST", "/settle", content=found.body)
        if isinstance(answer, Unknown):
            return answer
        settled = _read(answer, SettleResponse)
        return answer.untold() if settled is None else await self._judge(found, settled)

    async def _judge(self, found: X402Payment, answer: SettleResponse) -> RailAnswer:
        transaction = answer.transaction[:200]
        if answer.success and transaction and answer.network == self._terms.network:
            wanted = self._terms.requirements(found.amount, found.currency)
            if answer.amount not in (None, None if wanted is None else wanted["amount"]):
                return Unknown(reason=f"the facilitator settled {answer.amount[:50]}, not what was asked")
            async with self._database.platform() as connection:
                await note_transaction(connection, found.reference, transaction, settled=True)
            return Settled(provider_ref=transaction, amount=found.amount)
        if transaction:
            async with self._database.platform() as connection:
                await note_transaction(connection, found.reference, transaction, settled=False)
        reason = (answer.error_reason or "no reason")[:100]
        # A refusal decides only where nothing can have moved before: not after an attempt whose end nobody
        # saw, and never when it says that the transfer is under way or was used.
        first = found.attempts == 1 and not transaction
        if answer.success or reason == PENDING or "nonce" in reason or "already" in reason or not first:
            return Unknown(reason=f"the facilitator said {reason}; transaction {transaction or 'unknown'}")
        async with self._database.platform() as connection:
            await move_payment(connection, found.reference, X402Status.SETTLING, X402Status.VOID)
        return Declined(code=reason, message=(answer.error_message or "")[:2000])

    async def void(self, *, key: str, reference: str) -> RailAnswer:
        """Never send the signed transfer; it expires by itself."""
        async with self._database.platform() as connection:
            for status in (X402Status.RECEIVED, X402Status.VERIFIED):
                await move_payment(connection, reference, status, X402Status.VOID)
            found = await find_payment(connection, reference)
        if found is None or found.status is X402Status.VOID:
            return Settled(provider_ref=f"x402:{reference}", amount=0)
        if found.status is X402Status.SETTLED:
            return Declined(code="hold_captured", message="The transfer was settled.")
        return Unknown(reason="the transfer is being settled")

    async def look_up(self, reference: str) -> RailAnswer:
        """Read what is known here; the protocol has no question for it."""
        async with self._database.platform() as connection:
            found = await find_payment(connection, reference)
        return _NOT_FOUND if found is None else _captured(found)

    async def refund(self, *, key: str, body: bytes) -> RailAnswer:
        """Not over this rail."""
        return _UNSUPPORTED

    async def look_up_refund(self, *, capture_reference: str, reference: str) -> RailAnswer:
        """Not over this rail."""
        return _UNSUPPORTED


def _read(answer: Answered, kind: type[Response]) -> Response | None:
    try:
        return kind.model_validate(answer.body)
    except ValidationError:
        return None


def _authorised(found: X402Payment) -> RailAnswer:
    if found.status is X402Status.VOID:
        return Declined(code="hold_voided", message="The payment was given back.")
    return Settled(provider_ref=f"x402:{found.reference}", amount=found.amount)


def _captured(found: X402Payment) -> RailAnswer:
    if found.status is X402Status.SETTLED:
        return Settled(provider_ref=found.transaction or "", amount=found.amount)
    if found.status is X402Status.VOID:
        return Declined(code="hold_voided", message="The payment was given back.")
    if found.status is X402Status.SETTLING:
        return Unknown(reason=f"being settled; transaction {found.transaction or 'unknown'}")
    return Unknown(reason="verified, not settled yet")
