"""Values as text: what `string()` gives (DMN 1.5 §10.3.4.1, table 72)."""

from decimal import Decimal

from workflows.feel.conversion import temporal_text
from workflows.feel.errors import FeelBudgetError
from workflows.feel.names import tokens_of
from workflows.feel.runtime import Run
from workflows.feel.types import MAX_VALUE_DEPTH
from workflows.feel.values import Function, Range, Value


def format_value(value: Value, run: Run) -> str:
    """Text of a value: strings as they are, other values as FEEL would write them.

    Raises:
        FeelBudgetError: The text is too long or the value nested too deeply.
    """
    if isinstance(value, str):
        return value
    text = _literal(value, run, 0)
    run.produce(len(text))
    return text


def format_number(value: Decimal) -> str:
    """Plain decimal notation with the number's own scale, without an exponent."""
    return f"{value:f}"


def quote(text: str) -> str:
    """A string literal for a string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    escaped = escaped.replace("\r", "\\r").replace("\t", "\\t")
    return f'"{escaped}"'


def format_key(key: str) -> str:
    """A context key: as a name where it is one, else as a string."""
    plain = tokens_of(key) is not None and key == " ".join(key.split())
    return key if plain else quote(key)


def _literal(value: Value, run: Run, depth: int) -> str:
    if depth > MAX_VALUE_DEPTH:
        raise FeelBudgetError("value", MAX_VALUE_DEPTH)
    run.spend(1)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return format_number(value)
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, list):
        return _joined("[", [_literal(item, run, depth + 1) for item in value], "]", run)
    if isinstance(value, dict):
        entries = [f"{format_key(key)}: {_literal(item, run, depth + 1)}" for key, item in value.items()]
        return _joined("{", entries, "}", run)
    if isinstance(value, Range):
        return _range(value, run, depth)
    if isinstance(value, Function):
        return f"function({', '.join(parameter.name for parameter in value.parameters)})"
    return temporal_text(value) or ""


def _joined(opening: str, parts: list[str], closing: str, run: Run) -> str:
    run.produce(sum(map(len, parts)) + 2 * len(parts))
    return opening + ", ".join(parts) + closing


def _range(value: Range, run: Run, depth: int) -> str:
    if value.operator != "..":
        end = value.end if value.operator in ("<", "<=") else value.start
        return f"({value.operator} {_literal(end, run, depth + 1)})"
    opening, closing = "[" if value.start_included else "(", "]" if value.end_included else ")"
    return f"{opening}{_literal(value.start, run, depth + 1)}..{_literal(value.end, run, depth + 1)}{closing}"
