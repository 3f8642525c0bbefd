"""The values of FEEL: nothing but these types ever flows through an evaluation (DMN 1.5 §10.3.2.3).

null is None, numbers are `Decimal` of at most 34 digits, lists are `list` and contexts are `dict`;
both are treated as immutable. Temporal values are our own because FEEL's years reach ±999 999 999
and its seconds have nanoseconds, which `datetime` cannot hold.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from workflows.feel.types import FeelType

DECIMAL = Context(prec=34, rounding=ROUND_HALF_EVEN, Emin=-6143, Emax=6144, capitals=1, clamp=0, traps=[])
"""IEEE 754-2008 decimal128; results outside its range are not finite and become null."""

NANOSECONDS = 1_000_000_000
MAX_YEAR = 999_999_999


@dataclass(frozen=True, slots=True)
class Date:
    """A day of the proleptic Gregorian calendar; astronomical years, -999 999 999 to 999 999 999."""

    year: int
    month: int
    day: int


@dataclass(frozen=True, slots=True)
class Time:
    """A time of day.

    Attributes:
        hour: 0 to 23.
        minute: 0 to 59.
        second: 0 to 59.
        nanosecond: 0 to 999 999 999.
        offset: Seconds east of UTC, or None for a local time.
        zone: IANA zone name; excludes ``offset``.
    """

    hour: int
    minute: int
    second: int
    nanosecond: int = 0
    offset: int | None = None
    zone: str | None = None


@dataclass(frozen=True, slots=True)
class DateTime:
    """A day and a time of day, local or in UTC form (the time's offset or zone)."""

    date: Date
    time: Time


@dataclass(frozen=True, slots=True)
class DaysTimeDuration:
    """A days and time duration, exact to the nanosecond."""

    nanoseconds: int


@dataclass(frozen=True, slots=True)
class YearsMonthsDuration:
    """A years and months duration, in months."""

    months: int


@dataclass(frozen=True, slots=True)
class Range:
    """An interval, or one of the unary comparisons ``< e``, ``= e``, ``!= e`` and so on.

    Attributes:
        start: Lower end; None when unbounded.
        end: Upper end; None when unbounded.
        start_included: Whether ``start`` belongs to the range.
        end_included: Whether ``end`` belongs to the range.
        operator: ``..`` for an interval, else the unary comparison it was written with.
    """

    start: "Value"
    end: "Value"
    start_included: bool
    end_included: bool
    operator: str = ".."


@dataclass(frozen=True, slots=True)
class Parameter:
    """A formal parameter of a function; `type` None stands for Any."""

    name: str
    type: "FeelType | None" = None


class Function:
    """Anything that can be invoked: a closure or a built-in. Equality is identity."""

    __slots__ = ("parameters",)

    def __init__(self, parameters: tuple[Parameter, ...]) -> None:
        self.parameters = parameters


class Closure(Function):
    """A function definition with the scope it was evaluated in.

    Attributes:
        body: Compiled body, a function of the scope of one invocation; None for external
            functions, which are refused: invoking them gives null.
        scope: Defining scope.
        size: Number of nodes of the body, charged as steps at each invocation.
        depth: Nesting of the body, charged as depth while an invocation runs.
        result: Declared or inferred result type; None when unknown.
    """

    __slots__ = ("body", "depth", "result", "scope", "size")

    def __init__(
        self,
        parameters: tuple[Parameter, ...],
        body: "Callable[[Any], Value] | None",
        scope: Any,
        *,
        size: int = 1,
        depth: int = 1,
        result: "FeelType | None" = None,
    ) -> None:
        super().__init__(parameters)
        self.body = body
        self.scope = scope
        self.size = size
        self.depth = depth
        self.result = result


Value: TypeAlias = (
    bool
    | Decimal
    | str
    | Date
    | Time
    | DateTime
    | DaysTimeDuration
    | YearsMonthsDuration
    | Range
    | Function
    | list[Any]
    | dict[str, Any]
    | None
)

ZERO = Decimal(0)
ONE = Decimal(1)


def number(value: Decimal) -> Decimal | None:
    """Bring a decimal into FEEL's number space: 34 digits, no NaN, no infinity, no negative zero.

    Returns:
        The rounded number, or None where it is not finite or out of decimal128's range.
    """
    rounded = DECIMAL.plus(value)
    if not rounded.is_finite():
        return None
    return rounded if rounded else rounded.copy_abs()


def whole(value: "Value") -> int | None:
    """Return the integer a number stands for, or None when it is not an integral number."""
    if type(value) is not Decimal or value.adjusted() > 40 or value != value.to_integral_value():
        return None
    return int(value)
