"""Range functions (DMN 1.5 §10.3.4.7, table 78): how points and ranges lie to each other.

The definitions are those of the table, read with `_lt`, `_gt` and `_eq` that are unknown (null)
for values that cannot be compared; an unknown part makes the answer null unless it does not matter.
An unbounded end lies beyond every point.
"""

from collections.abc import Callable

from workflows.feel.builtins.library import Library
from workflows.feel.runtime import Run
from workflows.feel.semantics import order
from workflows.feel.values import Range, Value

LIBRARY = Library()


class _IncomparableError(Exception):
    """Two values of the definition are not of one comparable kind."""


class _End:
    """One end of a range, comparable with other ends and with points."""

    __slots__ = ("included", "infinite", "value")

    def __init__(self, value: Value, included: bool, infinite: int) -> None:
        self.value = value
        self.included = included
        # -1 below everything, 1 above everything, 0 finite.
        self.infinite = infinite if value is None else 0

    def sign(self, other: "_End") -> int:
        if self.infinite or other.infinite:
            return self.infinite - other.infinite
        relation = order(self.value, other.value)
        if relation is None:
            raise _IncomparableError
        return relation

    def __lt__(self, other: "_End") -> bool:
        return self.sign(other) < 0

    def __gt__(self, other: "_End") -> bool:
        return self.sign(other) > 0

    def same(self, other: "_End") -> bool:
        return self.sign(other) == 0


class _Span:
    """A range, or a point as the closed range that holds only it."""

    __slots__ = ("end", "start")

    def __init__(self, value: Value) -> None:
        if isinstance(value, Range):
            if value.operator == "!=":
                raise _IncomparableError
            self.start = _End(value.start, value.start_included, -1)
            self.end = _End(value.end, value.end_included, 1)
        else:
            self.start = self.end = _End(value, True, 0)


_Relation = Callable[[_Span, _Span], bool]


def _before(a: _Span, b: _Span) -> bool:
    return a.end < b.start or (a.end.same(b.start) and not (a.end.included and b.start.included))


def _meets(a: _Span, b: _Span) -> bool:
    return a.end.included and b.start.included and a.end.same(b.start)


def _touches(a: _Span, b: _Span) -> bool:
    """Some point of b is at or below a's end and at or above b's start."""
    return a.end > b.start or _meets(a, b)


def _overlaps(a: _Span, b: _Span) -> bool:
    return _touches(a, b) and _touches(b, a)


def _overlaps_before(a: _Span, b: _Span) -> bool:
    starts = a.start < b.start or (a.start.same(b.start) and a.start.included and not b.start.included)
    ends = a.end < b.end or (a.end.same(b.end) and (not a.end.included or b.end.included))
    return starts and _touches(a, b) and ends


def _overlaps_after(a: _Span, b: _Span) -> bool:
    starts = b.start < a.start or (b.start.same(a.start) and b.start.included and not a.start.included)
    ends = b.end < a.end or (b.end.same(a.end) and (not b.end.included or a.end.included))
    return starts and _touches(b, a) and ends


def _starts_within(a: _Span, b: _Span) -> bool:
    """Whether b starts no earlier than a."""
    return a.start < b.start or (a.start.same(b.start) and (a.start.included or not b.start.included))


def _ends_within(a: _Span, b: _Span) -> bool:
    """Whether b ends no later than a."""
    return a.end > b.end or (a.end.same(b.end) and (a.end.included or not b.end.included))


def _includes(a: _Span, b: _Span) -> bool:
    return _starts_within(a, b) and _ends_within(a, b)


def _finishes(a: _Span, b: _Span) -> bool:
    return a.end.included == b.end.included and a.end.same(b.end) and _starts_within(b, a)


def _starts(a: _Span, b: _Span) -> bool:
    return a.start.included == b.start.included and a.start.same(b.start) and _ends_within(b, a)


def _coincides(a: _Span, b: _Span) -> bool:
    return (
        a.start.same(b.start)
        and a.start.included == b.start.included
        and a.end.same(b.end)
        and a.end.included == b.end.included
    )


def _converse(relation: _Relation) -> _Relation:
    return lambda a, b: relation(b, a)


def _declare(name: str, relation: _Relation, *forms: str) -> None:
    """Declare the signatures of one relation, each given as the kinds of its two parameters."""

    def decide(run: Run, first: Value, second: Value) -> Value:
        try:
            return relation(_Span(first), _Span(second))
        except _IncomparableError:
            return None

    LIBRARY(*(f"{name}({form})" for form in forms))(decide)


_POINTS = "point1: point, point2: point"
_POINT_RANGE = "point: point, range: range"
_RANGE_POINT = "range: range, point: point"
_RANGES = "range1: range, range2: range"

_declare("before", _before, _POINTS, _POINT_RANGE, _RANGE_POINT, _RANGES)
_declare("after", _converse(_before), _POINTS, _POINT_RANGE, _RANGE_POINT, _RANGES)
_declare("meets", _meets, _RANGES)
_declare("met by", _converse(_meets), _RANGES)
_declare("overlaps", _overlaps, _RANGES)
_declare("overlaps before", _overlaps_before, _RANGES)
_declare("overlaps after", _overlaps_after, _RANGES)
_declare("finishes", _finishes, _POINT_RANGE, _RANGES)
_declare("finished by", _converse(_finishes), _RANGE_POINT, _RANGES)
_declare("includes", _includes, _RANGE_POINT, _RANGES)
_declare("during", _converse(_includes), _POINT_RANGE, _RANGES)
_declare("starts", _starts, _POINT_RANGE, _RANGES)
_declare("started by", _converse(_starts), _RANGE_POINT, _RANGES)
_declare("coincides", _coincides, _POINTS, _RANGES)
