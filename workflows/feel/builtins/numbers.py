"""Numeric functions (DMN 1.5 §10.3.4.5, table 76)."""

from decimal import (
    ROUND_CEILING,
    ROUND_DOWN,
    ROUND_FLOOR,
    ROUND_HALF_DOWN,
    ROUND_HALF_EVEN,
    ROUND_HALF_UP,
    ROUND_UP,
    Context,
    Decimal,
)

from workflows.feel.builtins.library import Library
from workflows.feel.runtime import Run
from workflows.feel.values import (
    DECIMAL,
    DaysTimeDuration,
    Value,
    YearsMonthsDuration,
    number,
    whole,
)

LIBRARY = Library()

_SCALES = range(-6111, 6177)
# Room for every digit between the largest and the smallest number: intermediate results are exact.
_EXACT = Context(prec=13_000, Emin=-20_000, Emax=20_000, traps=[])


def _rounded(value: Decimal, scale: Decimal, rounding: str) -> Value:
    """Round to a number of decimals; a fraction of the scale is dropped."""
    if scale.adjusted() > 6:
        return None
    places = int(scale)
    if places not in _SCALES:
        return None
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and -exponent <= places:
        padded = value.adjusted() + places + 1 <= DECIMAL.prec
        return number(value.quantize(Decimal((0, (1,), -places)), context=_EXACT)) if padded else value
    return number(value.quantize(Decimal((0, (1,), -places)), rounding=rounding, context=_EXACT))


@LIBRARY("decimal(n: number, scale: number)")
def decimal(run: Run, value: Decimal, scale: Decimal) -> Value:
    """Round half to even at a scale."""
    return _rounded(value, scale, ROUND_HALF_EVEN)


@LIBRARY("floor(n: number, scale: number)")
def floor_to_scale(run: Run, value: Decimal, scale: Decimal) -> Value:
    """Round down to a scale."""
    return _rounded(value, scale, ROUND_FLOOR)


@LIBRARY("floor(n: number)")
def floor(run: Run, value: Decimal) -> Value:
    """Greatest integer not above the number."""
    return _rounded(value, Decimal(0), ROUND_FLOOR)


@LIBRARY("ceiling(n: number, scale: number)")
def ceiling_to_scale(run: Run, value: Decimal, scale: Decimal) -> Value:
    """Round up to a scale."""
    return _rounded(value, scale, ROUND_CEILING)


@LIBRARY("ceiling(n: number)")
def ceiling(run: Run, value: Decimal) -> Value:
    """Least integer not below the number."""
    return _rounded(value, Decimal(0), ROUND_CEILING)


@LIBRARY("round up(n: number, scale: number)")
def round_up(run: Run, value: Decimal, scale: Decimal) -> Value:
    """Round away from zero."""
    return _rounded(value, scale, ROUND_UP)


@LIBRARY("round down(n: number, scale: number)")
def round_down(run: Run, value: Decimal, scale: Decimal) -> Value:
    """Round towards zero."""
    return _rounded(value, scale, ROUND_DOWN)


@LIBRARY("round half up(n: number, scale: number)")
def round_half_up(run: Run, value: Decimal, scale: Decimal) -> Value:
    """Round to nearest, halves away from zero."""
    return _rounded(value, scale, ROUND_HALF_UP)


@LIBRARY("round half down(n: number, scale: number)")
def round_half_down(run: Run, value: Decimal, scale: Decimal) -> Value:
    """Round to nearest, halves towards zero."""
    return _rounded(value, scale, ROUND_HALF_DOWN)


@LIBRARY("abs(n: magnitude)")
def absolute(run: Run, value: Value) -> Value:
    """Absolute value of a number or duration."""
    if isinstance(value, DaysTimeDuration):
        return DaysTimeDuration(abs(value.nanoseconds))
    if isinstance(value, YearsMonthsDuration):
        return YearsMonthsDuration(abs(value.months))
    return value.copy_abs() if isinstance(value, Decimal) else None


@LIBRARY("modulo(dividend: number, divisor: number)")
def modulo(run: Run, dividend: Decimal, divisor: Decimal) -> Value:
    """``dividend - divisor * floor(dividend / divisor)``, exactly; the divisor gives the sign."""
    if not divisor:
        return None
    rest = _EXACT.remainder(dividend, divisor)
    if rest and (rest < 0) != (divisor < 0):
        rest = _EXACT.add(rest, divisor)
    return number(rest)


@LIBRARY("sqrt(number: number)")
def square_root(run: Run, value: Decimal) -> Value:
    """Square root; null for negative numbers."""
    return number(DECIMAL.sqrt(value)) if value >= 0 else None


@LIBRARY("log(number: number)")
def natural_logarithm(run: Run, value: Decimal) -> Value:
    """Logarithm to base e; null unless positive."""
    return number(DECIMAL.ln(value)) if value > 0 else None


@LIBRARY("exp(number: number)")
def exponential(run: Run, value: Decimal) -> Value:
    """Euler's number to the power of the number."""
    return number(DECIMAL.exp(value))


@LIBRARY("odd(number: number)")
def odd(run: Run, value: Decimal) -> Value:
    """Whether an integer is odd; null for fractions."""
    parity = _parity(value)
    return None if parity is None else parity == 1


@LIBRARY("even(number: number)")
def even(run: Run, value: Decimal) -> Value:
    """Whether an integer is even; null for fractions."""
    parity = _parity(value)
    return None if parity is None else parity == 0


def _parity(value: Decimal) -> int | None:
    if value.adjusted() > 40:
        return 0
    integer = whole(value)
    return None if integer is None else integer % 2
