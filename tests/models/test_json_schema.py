"""Checking strangers' values against strangers' schemas."""

import contextlib
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.json_schema import MAX_SECONDS, MAX_VIOLATIONS, SchemaTooComplexError, check, violations

ORDER: dict[str, Any] = {
    "type": "object",
    "required": ["url", "count"],
    "additionalProperties": False,
    "properties": {
        "url": {"type": "string", "pattern": "^https://"},
        "count": {"type": "integer", "minimum": 1},
        "tags": {"type": "array", "items": {"type": "object", "properties": {"k": {"enum": ["a", "b"]}}}},
    },
}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def test_a_fitting_value_has_no_problems():
    assert violations({"url": "https://a", "count": 1}, ORDER) == []


def test_every_failing_field_is_named_with_rule_and_remedy():
    problems = violations({"url": "ftp://a", "tags": [{}, {"k": "z"}], "more": 1}, ORDER)
    assert {(each.field, each.rule) for each in problems} == {
        ("count", "required"),
        ("url", "pattern"),
        ("tags[1].k", "enum"),
        ("more", "additionalProperties"),
    }
    assert all(each.message and each.remedy for each in problems)


def test_a_problem_never_repeats_the_value():
    problems = violations({"url": "ftp://s3cr3t", "count": "s3cr3t"}, ORDER)
    assert problems
    assert "s3cr3t" not in str(problems)


def test_the_closest_alternative_says_what_it_lacks():
    schema = {"anyOf": [{"type": "string"}, {"type": "object", "properties": {"k": {"type": "integer"}}}]}
    fields = {each.field for each in violations({"k": "x"}, schema)}
    assert fields == {"(root)", "k"}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"$ref": "#"}, 1),
        ({"$ref": "https://example.com/schema"}, 1),
        ({"$ref": "#/nowhere"}, 1),
        ({"multipleOf": 0.1}, 10**400),
        ({"unevaluatedProperties": False}, {"a": 1}),
        ({"pattern": "(?=a)"}, "a"),
        ({"minLength": {}}, "a"),
        ({"type": 3}, "a"),
    ],
)
def test_what_cannot_be_checked_is_refused_and_not_passed(schema: dict[str, Any], value: Any):
    with pytest.raises(SchemaTooComplexError):
        violations(value, schema)


def test_references_that_double_at_each_level_end_within_the_time_limit():
    definitions: dict[str, Any] = {
        f"a{level}": {"allOf": [{"$ref": f"#/$defs/a{level + 1}"}] * 2} for level in range(60)
    }
    definitions["a60"] = {}
    started = time.monotonic()
    with pytest.raises(SchemaTooComplexError):
        violations(1, {"$ref": "#/$defs/a0", "$defs": definitions})
    assert time.monotonic() - started < 3 * MAX_SECONDS


def test_a_pattern_that_backtracks_elsewhere_takes_linear_time():
    started = time.monotonic()
    assert violations("a" * 1_000_000 + "b", {"pattern": "(a+)+$"})
    assert time.monotonic() - started < 2


def test_unique_items_of_a_long_array_take_linear_time():
    started = time.monotonic()
    assert violations([{"a": number} for number in range(20_000)], {"uniqueItems": True}) == []
    assert time.monotonic() - started < 3


def test_one_and_one_point_zero_are_the_same_item():
    assert violations([1, 1.0], {"uniqueItems": True})
    assert violations([1, True], {"uniqueItems": True}) == []


def test_problems_are_capped():
    assert len(violations(["x"] * 1000, {"items": {"type": "integer"}})) <= MAX_VIOLATIONS


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("email", "a@b.example", "nobody"),
        ("date", "2026-11-21", "21.11.2026"),
        ("date-time", "2026-11-21T10:00:00Z", "2026-11-21T10:00:00"),
        ("uuid", "0198c0de-0000-7000-8000-000000000000", "0198"),
        ("ipv4", "127.0.0.1", "127.0.0.256"),
        ("ipv6", "::1", "127.0.0.1"),
        ("uri", "https://example.com/x", "example com"),
    ],
)
def test_formats_are_asserted(name: str, good: str, bad: str):
    assert violations(good, {"format": name}) == []
    assert violations(bad, {"format": name})


def test_registration_finds_what_a_check_could_not_run():
    schema = {
        "type": "object",
        "properties": {
            "pattern": {"pattern": "(?=a)"},
            "lost": {"$ref": "#/nowhere"},
            "closed": {"unevaluatedProperties": False},
            "fine": {"$ref": "#/properties/pattern", "enum": [{"pattern": "("}]},
        },
    }
    assert {problem.field for problem in check(schema, "input_schema")} == {
        "input_schema.properties.pattern.pattern",
        "input_schema.properties.lost.$ref",
        "input_schema.properties.closed.unevaluatedProperties",
    }


@given(value=JSON)
def test_any_value_is_judged_without_an_error_of_ours(value: Any):
    for problem in violations(value, ORDER):
        assert problem.field


@given(
    value=JSON, schema=st.dictionaries(st.sampled_from(["type", "items", "enum", "minimum", "$ref"]), JSON)
)
def test_any_schema_gives_problems_or_a_refusal(value: Any, schema: dict[str, Any]):
    with contextlib.suppress(SchemaTooComplexError):
        violations(value, schema)
