"""Properties of the engine: totality, bounded work, round trips, and the algebra of its values."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.feel.expressions import date_times, dates, days_time, decimals, nearly_feel, nodes, values
from workflows.feel import (
    Budget,
    FeelBudgetError,
    FeelSyntaxError,
    evaluate,
    from_feel,
    parse_expression,
    parse_unary_tests,
    to_feel,
)
from workflows.feel import calendar as days
from workflows.feel.printer import print_expression
from workflows.feel.runtime import DEFAULT_BUDGET, Run
from workflows.feel.semantics import add, compare, equal, multiply, order, subtract
from workflows.feel.syntax import Node, depth
from workflows.feel.values import Date, DateTime, DaysTimeDuration, Value, YearsMonthsDuration

SMALL = Budget(steps=20_000)
relaxed = settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def run() -> Run:
    return Run(DEFAULT_BUDGET, None, None)


@relaxed
@given(nearly_feel)
def test_parsing_raises_nothing_but_a_syntax_error(text: str) -> None:
    for parse in (parse_expression, parse_unary_tests):
        refusal: FeelSyntaxError | None = None
        try:
            parse(text)
        except FeelSyntaxError as error:
            refusal = error
        assert refusal is None or (refusal.line >= 1 and refusal.column >= 1 and refusal.expected)


@relaxed
@given(nodes, values, values)
def test_evaluation_raises_nothing_but_a_budget_error(node: Node, first: Value, second: Value) -> None:
    try:
        expression = parse_expression(print_expression(node), names=["two words"])
        result = evaluate(expression, {"a": first, "xs": second, "order": {"a": first}}, budget=SMALL)
        from_feel(result)
    except (FeelBudgetError, FeelSyntaxError):
        return


@relaxed
@given(nodes)
def test_a_printed_expression_parses_to_the_same_tree(node: Node) -> None:
    text = print_expression(node)
    if depth(node) <= 15:
        assert parse_expression(text, names=["two words"]).root == node


@relaxed
@given(values)
def test_values_survive_json_and_string_gives_every_value_a_text(value: Value) -> None:
    assert evaluate(parse_expression("a = a"), {"a": value}) is True
    assert (value is None) is (evaluate(parse_expression("string(a)"), {"a": value}) is None)
    to_feel(from_feel(value))


@given(decimals, decimals)
def test_decimal_arithmetic_is_exact_to_34_digits(left: Decimal, right: Decimal) -> None:
    for operation, exact in (
        (add, Fraction(left) + Fraction(right)),
        (multiply, Fraction(left) * Fraction(right)),
    ):
        result = operation(left, right, run())
        assert isinstance(result, Decimal)
        assert abs(Fraction(result) - exact) <= abs(exact) / 10**33
        assert len(result.as_tuple().digits) <= 34


@given(dates | date_times, days_time)
def test_moving_by_a_duration_and_back_returns(point: Date | DateTime, length: DaysTimeDuration) -> None:
    if isinstance(point, DateTime) and point.time.zone is None:
        there = add(point, length, run())
        assert subtract(there, length, run()) == point
        assert subtract(there, point, run()) == length
    whole_days = DaysTimeDuration(length.nanoseconds // days.DAY * days.DAY)
    if isinstance(point, Date):
        assert subtract(add(point, whole_days, run()), point, run()) == whole_days


@given(st.integers(-300_000_000_000, 300_000_000_000))
def test_days_and_dates_correspond(number: int) -> None:
    date = days.date_of(number)
    assert date is not None
    assert days.day_number(date) == number


@given(dates, st.integers(0, 24_000))
def test_months_added_are_months_between(date: Date, months: int) -> None:
    first = Date(date.year, date.month, 1)
    moved = add(first, YearsMonthsDuration(months), run())
    between = evaluate(parse_expression("years and months duration(a, b)"), {"a": first, "b": moved})
    assert between == YearsMonthsDuration(months)


@given(values, values)
def test_equality_and_order_agree(left: Value, right: Value) -> None:
    assert equal(left, right, run()) == equal(right, left, run())
    sign, converse = order(left, right), order(right, left)
    assert (sign is None) is (converse is None)
    if sign is not None and converse is not None:
        assert sign == -converse
        assert compare("<", left, right, run()) is (sign < 0)


ends = st.integers(0, 5)
ranges = st.tuples(ends, ends, st.booleans(), st.booleans()).filter(lambda r: r[0] < r[1])


def members(written: tuple[int, int, bool, bool]) -> set[Fraction]:
    """The points of a range on a grid of quarters, which tells all ranges with integer ends apart."""
    low, high, low_in, high_in = written
    grid = (Fraction(n, 4) for n in range(4 * low, 4 * high + 1))
    return {p for p in grid if (low_in or p != low) and (high_in or p != high)}


def text_of(written: tuple[int, int, bool, bool]) -> str:
    low, high, low_in, high_in = written
    return f"{'[' if low_in else '('}{low}..{high}{']' if high_in else ')'}"


@given(ranges, ranges)
def test_range_functions_are_relations_of_point_sets(a: Any, b: Any) -> None:
    left, right = members(a), members(b)
    expected = {
        "before": max(left) < min(right),
        "after": min(left) > max(right),
        "overlaps": bool(left & right),
        "includes": left >= right,
        "during": left <= right,
        "coincides": left == right,
    }
    for name, truth in expected.items():
        call = f"{name}({text_of(a)}, {text_of(b)})"
        assert evaluate(parse_expression(call), {}) is truth, call


@given(ranges, ends)
def test_in_and_the_range_functions_agree_about_points(written: Any, point: int) -> None:
    inside = Fraction(point) in members(written)
    for call in (f"{point} in {text_of(written)}", f"includes({text_of(written)}, {point})"):
        assert evaluate(parse_expression(call), {}) is inside
