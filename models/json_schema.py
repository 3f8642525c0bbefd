"""JSON Schema 2020-12 on strangers' schemas and strangers' values, with a bound on the work.

Inputs, outputs and deployments' configuration are checked here. Schemas come from developers and values
from users, so neither may make a check hang or reach out: references stay inside the schema, regular
expressions run on RE2 (linear time), and every keyword that is evaluated costs one step of a budget. What
cannot be bounded so (``unevaluatedProperties``, ``unevaluatedItems``, ``$dynamicRef``, look-around and
back references in patterns) is refused when an agent is registered.

Messages never repeat a value: a configuration is secret.
"""

import functools
import ipaddress
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from datetime import date, datetime
from itertools import islice
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import re2  # pyright: ignore[reportMissingTypeStubs]
from jsonschema import Draft202012Validator, FormatChecker, TypeChecker
from jsonschema.exceptions import UnknownType, ValidationError
from jsonschema.validators import extend
from pydantic import BaseModel, ConfigDict
from referencing import Registry
from referencing.exceptions import Unresolvable

from models.errors import InvalidRequestError

MAX_STEPS = 250_000
"""Keywords evaluated per check, about a second of work; an array of 10 000 small objects passes."""

MAX_SECONDS = 2.0
"""For steps that are dear because references nest deeply; looked at every 256 steps."""

MAX_VIOLATIONS = 50
MAX_PATTERN_MEMORY = 1 << 20
MAX_NAME_CHARACTERS = 200

UNBOUNDED_KEYWORDS = {
    "unevaluatedProperties": "Use additionalProperties.",
    "unevaluatedItems": "Use items or prefixItems.",
    "$dynamicRef": "Use $ref.",
}


class Violation(BaseModel):
    """One broken rule: where, which keyword, what it asks for, what to do."""

    model_config = ConfigDict(frozen=True)

    field: str
    rule: str
    message: str
    remedy: str


class SchemaTooComplexError(InvalidRequestError):
    """Checking the value against the schema takes more work than we spend on one check."""

    code = "SCHEMA_TOO_COMPLEX"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The value cannot be checked against the agent's schema: {reason}. "
            "Send a smaller value, or ask the developer for a simpler schema.",
            details={"reason": reason, "max_steps": MAX_STEPS},
        )


class _Pattern(Protocol):
    def search(self, text: str) -> object | None: ...


class _Budget:
    def __init__(self) -> None:
        self.steps = 0
        self.deadline = time.monotonic() + MAX_SECONDS


_budget: ContextVar[_Budget] = ContextVar("json_schema_budget")


def _step() -> None:
    budget = _budget.get()
    budget.steps += 1
    if budget.steps > MAX_STEPS:
        raise SchemaTooComplexError(f"it takes more than {MAX_STEPS} steps")
    if not budget.steps & 0xFF and time.monotonic() > budget.deadline:
        raise SchemaTooComplexError(f"it takes longer than {MAX_SECONDS:g} seconds")


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> _Pattern:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_PATTERN_MEMORY
    return cast("_Pattern", re2.compile(pattern, options))


def _matches(pattern: str, text: str) -> bool:
    try:
        return _compiled(pattern).search(text) is not None
    except (re2.error, UnicodeEncodeError):
        raise SchemaTooComplexError("the schema has a pattern that RE2 cannot run") from None


def _pattern(validator: Any, pattern: str, instance: object, _: object) -> Iterator[ValidationError]:
    if isinstance(instance, str) and not _matches(pattern, instance):
        yield ValidationError("pattern")


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], instance: object, _: object
) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    for pattern, schema in patterns.items():
        for name, value in cast("dict[str, Any]", instance).items():
            _step()
            if _matches(pattern, name):
                yield from validator.descend(value, schema, path=name, schema_path=pattern)


def _extra_properties(instance: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    known = schema.get("properties", {})
    patterns = schema.get("patternProperties", {})
    return [
        name for name in instance if name not in known and not any(_matches(each, name) for each in patterns)
    ]


def _additional_properties(
    validator: Any, allowed: Any, instance: object, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    for name in _extra_properties(cast("dict[str, Any]", instance), schema):
        _step()
        if allowed is False:
            yield ValidationError("unknown", path=[name])
        elif allowed is not True:
            yield from validator.descend(cast("dict[str, Any]", instance)[name], allowed, path=name)


def _required(validator: Any, names: Sequence[str], instance: object, _: object) -> Iterator[ValidationError]:
    if isinstance(instance, dict):
        for name in names:
            if name not in instance:
                yield ValidationError("missing", path=[name])


def _canonical(value: object) -> object:
    """Return ``value`` with integral floats as integers: JSON Schema holds 1 and 1.0 to be equal."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_canonical(item) for item in cast("list[Any]", value)]
    return value


def _unique_items(validator: Any, wanted: bool, instance: object, _: object) -> Iterator[ValidationError]:
    if not wanted or not isinstance(instance, list):
        return
    seen: set[str] = set()
    for item in cast("list[Any]", instance):
        _step()
        text = json.dumps(_canonical(item), sort_keys=True)
        if text in seen:
            yield ValidationError("repeated")
            return
        seen.add(text)


def _unbounded(validator: Any, value: object, instance: object, schema: object) -> Iterator[ValidationError]:
    raise SchemaTooComplexError("the schema uses a keyword that is not supported here")
    yield


Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


def _counted(keyword: Keyword) -> Keyword:
    def evaluate(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        _step()
        yield from keyword(validator, value, instance, schema) or ()

    return evaluate


def _format_checker() -> FormatChecker:
    checker = FormatChecker(formats=())

    def add(name: str, check: Callable[[str], object]) -> None:
        def conforms(value: object) -> bool:
            return not isinstance(value, str) or bool(check(value))

        checker.checks(name, raises=ValueError)(conforms)

    add("email", lambda text: len(text) <= 254 and _matches(r"^[^@\s]+@[^@\s]+$", text))
    add("date", date.fromisoformat)
    add("date-time", lambda text: "T" in text.upper() and datetime.fromisoformat(text).tzinfo is not None)
    add("uuid", lambda text: str(uuid.UUID(text)) == text.lower())
    add("ipv4", ipaddress.IPv4Address)
    add("ipv6", ipaddress.IPv6Address)
    add("uri", lambda text: urlsplit(text).scheme and not any(char.isspace() for char in text))
    return checker


def _is_integer(_: TypeChecker, value: object) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())


_KEYWORDS: dict[str, Keyword] = {
    **cast("dict[str, Keyword]", Draft202012Validator.VALIDATORS),
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "required": _required,
    "uniqueItems": _unique_items,
    **{name: _unbounded for name in UNBOUNDED_KEYWORDS},
}

_Validator: Any = extend(
    Draft202012Validator,
    validators={name: _counted(keyword) for name, keyword in _KEYWORDS.items()},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer),
)

_FORMATS = _format_checker()
_NO_DOCUMENTS: Any = Registry()
"""Holds nothing and fetches nothing: a reference to another document cannot be resolved."""


def violations(instance: object, schema: Mapping[str, Any]) -> list[Violation]:
    """Check a JSON value against a schema.

    Args:
        instance: The value, as `json.loads` gives it.
        schema: A schema that passed `check`; asserts ``format`` for email, date, date-time, uuid, ipv4,
            ipv6 and uri.

    Returns:
        Every broken rule, at most ``MAX_VIOLATIONS``; empty when the value fits. ``field`` is a path such
        as ``items[2].price``, or ``(root)`` for the whole value.

    Raises:
        SchemaTooComplexError: The check would take more than ``MAX_STEPS`` steps or ``MAX_SECONDS``, or
            cannot be done.
    """
    token = _budget.set(_Budget())
    try:
        validator = _Validator(schema, format_checker=_FORMATS, registry=_NO_DOCUMENTS)
        broken: dict[tuple[str, str], Violation] = {}
        found: Iterator[ValidationError] = validator.iter_errors(instance)
        for error in islice(found, MAX_VIOLATIONS):
            for violation in _violations(error):
                broken.setdefault((violation.field, violation.rule), violation)
        return list(broken.values())[:MAX_VIOLATIONS]
    except RecursionError:
        raise SchemaTooComplexError("the schema refers to itself without end") from None
    except Unresolvable:
        raise SchemaTooComplexError("the schema refers to a place that does not exist in it") from None
    except (ArithmeticError, ValueError):
        raise SchemaTooComplexError("a number is too large to be compared") from None
    except (TypeError, AttributeError, KeyError, UnknownType):
        raise SchemaTooComplexError("the schema is malformed") from None
    finally:
        _budget.reset(token)


def check(schema: Mapping[str, Any], field: str) -> list[Violation]:
    """Find in a valid JSON Schema what `violations` could not run; for registration.

    Args:
        schema: A schema that its meta-schema accepts.
        field: Name that the fields start with, such as ``manifest.input_schema``.
    """
    return list(islice(_unusable(schema, schema, field), MAX_VIOLATIONS))


_LITERAL = frozenset({"const", "enum", "default", "examples"})
_NAMED = frozenset({"properties", "$defs", "definitions", "dependentSchemas", "patternProperties"})


def _unusable(schema: object, root: Mapping[str, Any], field: str) -> Iterator[Violation]:
    if isinstance(schema, list):
        for place, item in enumerate(cast("list[Any]", schema)):
            yield from _unusable(item, root, f"{field}[{place}]")
        return
    if not isinstance(schema, dict):
        return
    for keyword, value in cast("dict[str, Any]", schema).items():
        where = f"{field}.{keyword}"
        if keyword in _LITERAL:
            continue
        if keyword in UNBOUNDED_KEYWORDS:
            yield _violation(where, keyword, "is not supported", UNBOUNDED_KEYWORDS[keyword])
        elif keyword == "$ref" and not _resolves(root, value):
            yield _violation(where, keyword, "refers to nothing in this schema", "Refer to '#/$defs/…'.")
        patterns: Sequence[str] = ()
        if keyword == "pattern" and isinstance(value, str):
            patterns = (value,)
        elif keyword == "patternProperties" and isinstance(value, dict):
            patterns = tuple(cast("dict[str, Any]", value))
        for pattern in patterns:
            if not _compiles(pattern):
                yield _violation(
                    where,
                    keyword,
                    "must be a regular expression that RE2 can run (linear time)",
                    "Remove look-ahead, look-behind and back references; repeat at most 1000 times.",
                )
        if keyword in _NAMED and isinstance(value, dict):
            for name, item in cast("dict[str, Any]", value).items():
                yield from _unusable(item, root, f"{where}.{name}"[:MAX_NAME_CHARACTERS])
        else:
            yield from _unusable(value, root, where[:MAX_NAME_CHARACTERS])


def _resolves(root: Mapping[str, Any], reference: object) -> bool:
    try:
        _Validator(root, registry=_NO_DOCUMENTS)._resolver.lookup(reference)
    except (Unresolvable, ValueError, AttributeError, TypeError):
        return False
    return True


def _compiles(pattern: str) -> bool:
    try:
        _compiled(pattern)
    except (re2.error, UnicodeEncodeError):
        return False
    return True


def _violation(field: str, rule: str, message: str, remedy: str) -> Violation:
    return Violation(
        field=field[: 2 * MAX_NAME_CHARACTERS], rule=rule, message=message[:500], remedy=remedy[:500]
    )


def _path(parts: Sequence[str | int]) -> str:
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part[:MAX_NAME_CHARACTERS]}" if text else part[:MAX_NAME_CHARACTERS]
    return text or "(root)"


def _shown(value: object) -> str:
    """Show a value of the schema (never of the instance)."""
    if isinstance(value, list):
        entries = cast("list[object]", value)
        return ", ".join(json.dumps(item) for item in entries[:20]) + (", …" if len(entries) > 20 else "")
    return json.dumps(value)[:200]


_WORDS: dict[str, tuple[str, str]] = {
    "type": ("must be of type {0}", "Send a value of that type."),
    "enum": ("must be one of {0}", "Send one of the listed values."),
    "const": ("must be {0}", "Send exactly that value."),
    "minimum": ("must be at least {0}", "Send a larger number."),
    "maximum": ("must be at most {0}", "Send a smaller number."),
    "exclusiveMinimum": ("must be greater than {0}", "Send a larger number."),
    "exclusiveMaximum": ("must be less than {0}", "Send a smaller number."),
    "multipleOf": ("must be a multiple of {0}", "Send such a number."),
    "minLength": ("must have at least {0} characters", "Send a longer text."),
    "maxLength": ("must have at most {0} characters", "Send a shorter text."),
    "pattern": ("must match the regular expression {0}", "Write the value in that form."),
    "format": ("must be written as {0}", "Write the value in that form."),
    "minItems": ("must have at least {0} items", "Add items."),
    "maxItems": ("must have at most {0} items", "Remove items."),
    "uniqueItems": ("must not hold the same item twice", "Remove the repetition."),
    "contains": ("must hold an item of the described kind", "Add such an item."),
    "minProperties": ("must have at least {0} fields", "Add fields."),
    "maxProperties": ("must have at most {0} fields", "Remove fields."),
    "required": ("is missing", "Add the field."),
    "additionalProperties": ("is not a known field", "Remove the field, or correct its name."),
    "dependentRequired": ("lacks a field that another one asks for", "Add the field that belongs to it."),
    "propertyNames": ("has a field whose name is not allowed", "Correct the field's name."),
    "anyOf": ("must fit at least one of the schema's alternatives", "Correct the value to fit one of them."),
    "oneOf": ("must fit exactly one of the schema's alternatives", "Correct the value to fit one of them."),
    "not": ("must not be what the schema excludes", "Send another value."),
}


def _violations(error: ValidationError) -> Iterator[Violation]:
    keyword = str(error.validator) if isinstance(error.validator, str) else "false"
    message, remedy = _WORDS.get(keyword, ("is not allowed by the schema", "Send another value."))
    yield _violation(
        _path(list(error.absolute_path)), keyword, message.format(_shown(error.validator_value)), remedy
    )
    if keyword in ("anyOf", "oneOf") and error.context:
        yield from _closest_alternative(error.context)


def _closest_alternative(context: Sequence[ValidationError]) -> Iterator[Violation]:
    """Name the failing fields of the alternative that the value comes closest to: fewest, deepest."""
    alternatives: dict[int, list[ValidationError]] = {}
    for error in context:
        place = error.relative_schema_path[0]
        alternatives.setdefault(place if isinstance(place, int) else 0, []).append(error)
    best = min(alternatives.values(), key=lambda found: (-max(len(e.path) for e in found), len(found)))
    for error in best:
        if error.path:
            yield from _violations(error)
