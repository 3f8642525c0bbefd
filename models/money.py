"""Money: integers in minor units with an ISO 4217 currency, and splits that always add up (DESIGN §6).

No float ever holds an amount. ``Decimal`` appears at the edge only, for people and for rails whose API
takes major units.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, Field

from models.errors import InvalidRequestError

MAX_AMOUNT = 2**53 - 1
"""Largest amount and balance: every integer up to it survives any JSON reader (RFC 8785 §3.2.2.3)."""

BASIS_POINTS = 10_000

EXPONENTS: dict[str, int] = {
    **dict.fromkeys(
        (  # noqa: SIM905
            "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD "
            "CAD CDF CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD "
            "GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD "
            "MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP "
            "PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS "
            "TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VES WST XCD YER ZAR ZMW ZWG"
        ).split(),
        2,
    ),
    **dict.fromkeys(
        "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(),  # noqa: SIM905
        0,
    ),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),  # noqa: SIM905
}
"""ISO 4217 currency → digits after the decimal point of its major unit."""


class UnknownCurrencyError(InvalidRequestError):
    """The code is not an ISO 4217 currency we know."""

    code = "UNKNOWN_CURRENCY"

    def __init__(self, currency: str) -> None:
        super().__init__(
            f"{currency[:16]!r} is not a currency; give an ISO 4217 code in capitals, such as INR.",
            details={"fields": {"currency": "ISO 4217 code in capitals"}},
        )


class InvalidAmountError(InvalidRequestError):
    """The amount is not a whole number of minor units within bounds."""

    code = "INVALID_AMOUNT"

    def __init__(self, rule: str) -> None:
        super().__init__(
            f"The amount {rule}; give a whole number of minor units (50 is 0.50 INR), at most {MAX_AMOUNT}.",
            details={"fields": {"amount": rule}},
        )


def exponent_of(currency: str) -> int:
    """Return how many digits the minor unit has (INR 2, JPY 0, KWD 3).

    Raises:
        UnknownCurrencyError: It is not in the table.
    """
    try:
        return EXPONENTS[currency]
    except KeyError:
        raise UnknownCurrencyError(currency) from None


def check_amount(amount: object, *, minimum: int = 0) -> int:
    """Return ``amount`` if it is an integer (no bool, no float) from ``minimum`` to ``MAX_AMOUNT``.

    Raises:
        InvalidAmountError: It is not.
    """
    if not isinstance(amount, int) or isinstance(amount, bool):
        raise InvalidAmountError("is not an integer")
    if amount < minimum:
        raise InvalidAmountError(f"is below {minimum}")
    if amount > MAX_AMOUNT:
        raise InvalidAmountError("is too large")
    return amount


def _known_currency(code: str) -> str:
    if code not in EXPONENTS:
        raise ValueError("not an ISO 4217 currency code in capitals, such as INR")
    return code


Currency = Annotated[str, Field(min_length=3, max_length=3), AfterValidator(_known_currency)]
"""An ISO 4217 code in a contract."""

MinorUnits = Annotated[int, Field(strict=True, ge=0, le=MAX_AMOUNT)]
"""An amount in a contract; floats, strings and booleans are refused."""

PositiveMinorUnits = Annotated[int, Field(strict=True, ge=1, le=MAX_AMOUNT)]
"""An amount above zero in a contract."""


def to_major(amount: int, currency: str) -> Decimal:
    """Return the exact amount in major units: 50 INR → ``Decimal("0.50")``."""
    return Decimal(amount).scaleb(-exponent_of(currency))


def format_amount(amount: int, currency: str) -> str:
    """Return the amount for people: ``0.50 INR``."""
    return f"{to_major(amount, currency):f} {currency}"


def split(amount: int, weights: Sequence[int]) -> tuple[int, ...]:
    """Share ``amount`` out by ``weights`` with the largest-remainder method; the shares sum to it exactly.

    Left-over units go to the largest remainders, ties in the order of the parties. Each share is within
    one unit of its exact quota.

    Args:
        amount: Minor units, not negative.
        weights: Non-negative integers, such as basis points, with a sum above zero.

    Raises:
        ValueError: The weights are negative, empty or all zero.
        InvalidAmountError: The amount is negative, too large or no integer.
    """
    check_amount(amount)
    total = sum(weights)
    if total <= 0 or any(weight < 0 for weight in weights):
        raise ValueError("weights must be non-negative with a sum above zero")
    shares = [amount * weight // total for weight in weights]
    remainders = [amount * weight % total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda place: -remainders[place])
    for place in by_remainder[: amount - sum(shares)]:
        shares[place] += 1
    return tuple(shares)
