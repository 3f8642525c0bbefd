"""JavaScript's values and conversions: truth, text, number, operators, escapes."""

import math
import operator
import re
from collections.abc import Callable
from typing import Any


class _Undefined:
    def __repr__(self) -> str:
        return "undefined"


UNDEFINED = _Undefined()


_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u\{([0-9a-fA-F]{1,6})\}|u([0-9a-fA-F]{4})|([0-7]{1,3})|(\r\n|[\s\S]))"
)


_SIMPLE_ESCAPES = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "b": "\b",
    "f": "\f",
    "v": "\v",
    "0": "\0",
    "\n": "",
    "\r\n": "",
    "\u2028": "",
}


class Unknown(Exception):  # noqa: N818
    """The expression is not a constant, or a bound was reached."""


def unescape(text: str) -> str:
    """Decode the escapes of a string or template literal."""
    if "\\" not in text:
        return text

    def replace(match: re.Match[str]) -> str:
        two, braced, four, octal, simple = match.groups()
        digits = two or braced or four
        if digits:
            code = int(digits, 16)
            return chr(code) if code < 0x110000 else ""
        if octal:
            return chr(int(octal, 8))
        return _SIMPLE_ESCAPES.get(simple, simple)

    return _ESCAPE.sub(replace, text)


def unknown() -> Any:
    """Raise `Unknown`, where only an expression can stand."""
    raise Unknown


def truthy(value: Any) -> bool:
    """JavaScript's truth of a value."""
    if isinstance(value, list | dict | bytes):
        return True
    return not (
        value is UNDEFINED or value is None or value is False or value == "" or value == 0 or value != value
    )


def to_text(value: Any) -> str:
    """JavaScript's string of a value."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if value != value:
            return "NaN"
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        return str(int(value)) if value.is_integer() and abs(value) < 1e21 else repr(value)
    if isinstance(value, list):
        return ",".join("" if item in (None, UNDEFINED) else to_text(item) for item in value)
    if value is None:
        return "null"
    if value is UNDEFINED:
        return "undefined"
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, dict):
        return "[object Object]"
    raise Unknown


def to_number(value: Any) -> float:
    """JavaScript's number of a value."""
    if isinstance(value, bool):
        return 1.0 if value else 0.0
    if isinstance(value, float):
        return value
    if value is None:
        return 0.0
    if value is UNDEFINED:
        return math.nan
    text = to_text(value).strip()
    if not text:
        return 0.0
    try:
        return float(int(text, 0)) if text[:2].lower() in ("0x", "0b", "0o") else float(text)
    except ValueError:
        return math.nan


def add(left: Any, right: Any) -> Any:
    """JavaScript's ``+``."""
    if isinstance(left, str | list | dict | bytes) or isinstance(right, str | list | dict | bytes):
        return to_text(left) + to_text(right)
    return to_number(left) + to_number(right)


def int32(value: float) -> int:
    """JavaScript's ``ToInt32``."""
    if value != value or value in (math.inf, -math.inf):
        return 0
    number = int(value) & 0xFFFFFFFF
    return number - (1 << 32) if number & 0x80000000 else number


_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


def arithmetic(kind: str, left: Any, right: Any) -> Any:
    """JavaScript's binary operators but ``+`` and the logical ones."""
    if kind in ("===", "==", "!==", "!="):
        return (left == right) == (kind in ("===", "=="))
    if kind in ("<", ">", "<=", ">="):
        first: Any
        second: Any
        first, second = (
            (left, right)
            if isinstance(left, str) and isinstance(right, str)
            else (to_number(left), to_number(right))
        )
        return _ORDER[kind](first, second)
    first_number, second_number = to_number(left), to_number(right)
    if kind == "-":
        return first_number - second_number
    if kind == "*":
        return first_number * second_number
    if kind == "/":
        return first_number / second_number
    if kind == "%":
        return math.fmod(first_number, second_number)
    if kind == "**":
        return first_number**second_number if abs(second_number) < 100 else unknown()
    one, two = int32(first_number), int32(second_number)
    if kind == "^":
        return float(one ^ two)
    if kind == "&":
        return float(one & two)
    if kind == "|":
        return float(one | two)
    if kind == "<<":
        return float(int32(float(one << (two & 31))))
    if kind == ">>":
        return float(one >> (two & 31))
    if kind == ">>>":
        return float((one & 0xFFFFFFFF) >> (two & 31))
    raise Unknown
