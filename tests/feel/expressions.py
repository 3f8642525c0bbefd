"""Generators of FEEL: syntax trees, values, and text that is nearly FEEL."""

from decimal import Decimal
from functools import cache
from typing import Any

from hypothesis import strategies as st

from workflows.feel import syntax
from workflows.feel.builtins import BUILTINS
from workflows.feel.syntax import Node
from workflows.feel.types import ListType, NamedType
from workflows.feel.values import (
    Date,
    DateTime,
    DaysTimeDuration,
    Parameter,
    Time,
    Value,
    YearsMonthsDuration,
)

NAMES = ["a", "b", "xs", "item", "partial", "order", "two words"]

decimals: st.SearchStrategy[Decimal] = st.one_of(
    st.integers(-1000, 1000).map(Decimal),
    st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**9), max_value=10**9),
    st.integers(-(10**34) + 1, 10**34 - 1).map(Decimal),
).map(lambda value: value if value else Decimal(0))
dates = st.builds(Date, st.integers(-9999, 9999), st.integers(1, 12), st.integers(1, 28))
offsets = st.none() | st.integers(-14 * 60, 14 * 60).map(lambda minutes: minutes * 60)
times = st.builds(
    Time, st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), st.integers(0, 10**9 - 1), offsets
) | st.builds(
    Time,
    st.integers(0, 23),
    st.integers(0, 59),
    st.integers(0, 59),
    st.just(0),
    st.none(),
    st.sampled_from(["Europe/Paris", "America/New_York", "Asia/Kolkata", "Etc/UTC"]),
)
date_times = st.builds(DateTime, dates, times)
days_time = st.builds(DaysTimeDuration, st.integers(-(10**18), 10**18))
years_months = st.builds(YearsMonthsDuration, st.integers(-120_000, 120_000))
strings = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars: st.SearchStrategy[Value] = st.one_of(
    st.none(), st.booleans(), decimals, strings, dates, times, date_times, days_time, years_months
)


def _lists(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(children, max_size=4) | st.dictionaries(
        st.sampled_from(NAMES) | strings, children, max_size=4
    )


values: st.SearchStrategy[Value] = st.recursive(scalars, _lists, max_leaves=12)


def _iterators(node: st.SearchStrategy[Node], *, ranges: bool) -> st.SearchStrategy[Any]:
    end = st.none() | node if ranges else st.none()
    return st.lists(
        st.builds(syntax.Iterator, st.sampled_from(NAMES), node, end), min_size=1, max_size=2
    ).map(tuple)


def _nodes(node: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    some, two = st.lists(node, max_size=3).map(tuple), st.lists(node, min_size=2, max_size=3).map(tuple)
    name = st.sampled_from(NAMES)
    types = st.sampled_from([NamedType("number"), NamedType("date and time"), ListType(NamedType("Any"))])
    sums = st.lists(st.tuples(st.sampled_from(["+", "-"]), node), min_size=1, max_size=3).map(tuple)
    products = st.lists(st.tuples(st.sampled_from(["*", "/"]), node), min_size=1, max_size=3).map(tuple)
    parameters = st.lists(
        st.builds(Parameter, name, st.none() | types), max_size=3, unique_by=lambda parameter: parameter.name
    ).map(tuple)
    function = st.sampled_from(sorted(BUILTINS)).map(syntax.Name)
    named = st.lists(st.tuples(name, node), min_size=1, max_size=2, unique_by=lambda pair: pair[0]).map(tuple)
    return st.one_of(
        st.builds(syntax.Path, node, st.sampled_from(["a", "year", "time offset", "end included"])),
        st.builds(syntax.Filter, node, node),
        st.builds(syntax.Invocation, function, some),
        st.builds(syntax.Invocation, node, st.just(()), named),
        st.builds(syntax.Negation, node),
        st.builds(syntax.Arithmetic, node, sums),
        st.builds(syntax.Arithmetic, node, products),
        st.builds(syntax.Arithmetic, node, node.map(lambda exponent: (("**", exponent),))),
        st.builds(syntax.Comparison, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), node, node),
        st.builds(syntax.Between, node, node, node),
        st.builds(syntax.In, node, st.lists(node, min_size=1, max_size=3).map(tuple)),
        st.builds(syntax.Conjunction, two),
        st.builds(syntax.Disjunction, two),
        st.builds(syntax.InstanceOf, node, types),
        st.builds(syntax.If, node, node, node),
        st.builds(syntax.For, _iterators(node, ranges=True), node),
        st.builds(syntax.Quantified, st.booleans(), _iterators(node, ranges=False), node),
        st.builds(syntax.FunctionDefinition, parameters, node),
        st.builds(syntax.ListLiteral, some),
        st.builds(
            syntax.ContextLiteral,
            st.lists(
                st.tuples(st.sampled_from(NAMES) | strings, node), max_size=3, unique_by=lambda pair: pair[0]
            ).map(tuple),
        ),
        st.builds(syntax.Interval, node, node, st.booleans(), st.booleans()),
    )


leaves = st.builds(syntax.Literal, scalars) | st.builds(syntax.Name, st.sampled_from(NAMES))


@st.composite
def _tree(draw: st.DrawFn, levels: int) -> Node:
    return draw(_inner_nodes(levels) if levels and draw(st.booleans()) else leaves)


@cache
def _inner_nodes(levels: int) -> st.SearchStrategy[Node]:
    return _nodes(_tree(levels - 1))


nodes = _inner_nodes(4)

_FRAGMENTS = [
    *(
        "for ",
        "if ",
        " then ",
        " else ",
        " return ",
        "some ",
        "every ",
        " satisfies ",
        " in ",
        " and ",
        " or ",
    ),
    *(
        " between ",
        " instance of ",
        "function(",
        "list<",
        "context<",
        "number",
        "date and time",
        " external ",
    ),
    *("(", ")", "[", "]", "{", "}", ",", ":", ".", "..", "+", "-", "*", "/", "**", "=", "!=", "<", "<=", ">"),
    *(
        '"',
        "\\u",
        "\\U01F40E",
        '@"2020-01-01"',
        '@"PT1H"',
        "//",
        "/*",
        "*/",
        "?",
        "not(",
        "null",
        "true",
        "->",
    ),
    *("1", "0.5", "1e400", "a", "item", "partial", "two words", "\n", " ", "\ud800", "\u00a0", "'"),
    *("count(", "sort(", "replace(", "range(", "string(", "for i in 1..9 return ", "xs[", "order."),
]
nearly_feel = st.lists(st.sampled_from(_FRAGMENTS) | st.text(max_size=3), max_size=40).map("".join)
