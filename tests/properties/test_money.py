"""Money adds up: splits are exact, amounts are integers, canonical bytes have no floats."""

from decimal import Decimal

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from models.canonical import NotCanonicalError, canonical_json
from models.money import (
    EXPONENTS,
    MAX_AMOUNT,
    InvalidAmountError,
    UnknownCurrencyError,
    check_amount,
    exponent_of,
    format_amount,
    split,
    to_major,
)
from models.payment import SPLIT_BASIS_POINTS

amounts = st.integers(min_value=0, max_value=MAX_AMOUNT)
weights = st.lists(st.integers(min_value=0, max_value=10_000), min_size=1, max_size=6).filter(any)


@given(amounts, weights)
def test_shares_add_up_and_each_is_within_one_unit_of_its_quota(amount: int, weights: list[int]) -> None:
    shares = split(amount, weights)
    assert sum(shares) == amount
    for share, weight in zip(shares, weights, strict=True):
        assert share >= 0
        assert abs(share * sum(weights) - amount * weight) < sum(weights)


@given(st.integers(min_value=0, max_value=MAX_AMOUNT - 1))
def test_no_party_gets_less_of_a_larger_amount(amount: int) -> None:
    smaller, larger = split(amount, SPLIT_BASIS_POINTS), split(amount + 1, SPLIT_BASIS_POINTS)
    assert all(before <= after for before, after in zip(smaller, larger, strict=True))


@pytest.mark.parametrize(
    ("amount", "shares"),
    [
        (0, (0, 0, 0)),
        (1, (1, 0, 0)),
        (3, (2, 1, 0)),
        (6, (4, 1, 1)),
        (9, (6, 2, 1)),
        (50, (35, 10, 5)),
        (99, (69, 20, 10)),
        (201, (141, 40, 20)),
    ],
)
def test_seventy_twenty_ten(amount: int, shares: tuple[int, ...]) -> None:
    assert split(amount, SPLIT_BASIS_POINTS) == shares


@pytest.mark.parametrize("bad", [-1, MAX_AMOUNT + 1, 1.0, True, "5", None, float("nan")])
def test_what_is_no_amount_is_refused(bad: object) -> None:
    with pytest.raises(InvalidAmountError):
        check_amount(bad)


@pytest.mark.parametrize("bad", [[], [0, 0], [-1, 2]])
def test_impossible_weights_are_refused(bad: list[int]) -> None:
    with pytest.raises(ValueError, match="weights"):
        split(10, bad)


@given(amounts, st.sampled_from(sorted(EXPONENTS)))
def test_major_units_are_exact(amount: int, currency: str) -> None:
    assert to_major(amount, currency) * Decimal(10) ** exponent_of(currency) == amount


def test_amounts_are_worded_with_their_currency() -> None:
    assert [format_amount(50, code) for code in ("INR", "JPY", "KWD")] == ["0.50 INR", "50 JPY", "0.050 KWD"]


def test_an_unknown_currency_is_refused() -> None:
    with pytest.raises(UnknownCurrencyError):
        exponent_of("XXX")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_AMOUNT, MAX_AMOUNT) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_canonical_bytes_do_not_depend_on_the_order_of_keys(value: object) -> None:
    def turned(node: object) -> object:
        if isinstance(node, dict):
            return {key: turned(node[key]) for key in reversed(list(node))}
        if isinstance(node, list):
            return [turned(item) for item in node]
        return node

    assert canonical_json(value) == canonical_json(turned(value))


@pytest.mark.parametrize("bad", [1.0, {"a": [1, {"b": 0.5}]}, 2**53, {"a": "\ud800"}, float("inf"), b"x"])
def test_what_has_no_canonical_form_is_refused(bad: object) -> None:
    with pytest.raises(NotCanonicalError):
        canonical_json(bad)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-MAX_AMOUNT, MAX_AMOUNT) | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(st.characters(max_codepoint=127), max_size=5), inner, max_size=4)
            | st.dictionaries(st.text(max_size=5), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_canonical_bytes_are_those_of_rfc_8785(value: object) -> None:
    assert canonical_json(value) == rfc8785.dumps(value)  # pyright: ignore[reportArgumentType]


def test_every_character_is_escaped_as_rfc_8785_says() -> None:
    for code in (*range(0x300), 0x2028, 0x2029, 0xFEFF, 0xFFFD, 0xFFFF, 0x10FFFF):
        value = {"a": chr(code), "b": chr(code) * 2}
        assert canonical_json(value) == rfc8785.dumps(value)
