"""Context functions (DMN 1.5 §10.3.4.10, table 81)."""

from typing import Any

from workflows.feel.builtins.library import Library
from workflows.feel.errors import FeelBudgetError
from workflows.feel.runtime import Run
from workflows.feel.types import MAX_VALUE_DEPTH
from workflows.feel.values import Value

LIBRARY = Library()


@LIBRARY("get value(m: context, key: string)")
def get_value(run: Run, context: dict[str, Any], key: str) -> Value:
    """Value of an entry; null where there is none."""
    return context.get(key)


@LIBRARY("get value(context: context, keys: list)")
def get_nested_value(run: Run, context: dict[str, Any], keys: list[Value]) -> Value:
    """Value of an entry of nested contexts."""
    current: Value = context
    for key in keys:
        if not isinstance(current, dict) or not isinstance(key, str):
            return None
        current = current.get(key)
    return current if keys else None


@LIBRARY("get entries(m: context)")
def get_entries(run: Run, context: dict[str, Any]) -> Value:
    """Entries as contexts of ``key`` and ``value``."""
    run.spend(2 * len(context))
    return [{"key": key, "value": value} for key, value in context.items()]


@LIBRARY("context(entries: list)")
def context(run: Run, entries: list[Value]) -> Value:
    """Context of such entries; null where a key is missing, no string or repeated."""
    run.spend(len(entries))
    result: dict[str, Any] = {}
    for entry in entries:
        if not isinstance(entry, dict) or "value" not in entry:
            return None
        key = entry.get("key")
        if not isinstance(key, str) or key in result:
            return None
        result[key] = entry["value"]
    return result


@LIBRARY("context put(context: context, key: string, value: any)")
def context_put(run: Run, context: dict[str, Any], key: str, value: Value) -> Value:
    """The context with an entry added or replaced."""
    run.spend(len(context))
    return {**context, key: value}


@LIBRARY("context put(context: context, keys: list, value: any)")
def context_put_nested(run: Run, context: dict[str, Any], keys: list[Value], value: Value) -> Value:
    """The context with an entry of a nested context added or replaced."""
    return _put(run, context, keys, value, 0)


def _put(run: Run, context: Value, keys: list[Value], value: Value, index: int) -> Value:
    key = keys[index] if index < len(keys) else None
    if not isinstance(context, dict) or not isinstance(key, str):
        return None
    if index > MAX_VALUE_DEPTH:
        raise FeelBudgetError("value", MAX_VALUE_DEPTH)
    run.spend(len(context))
    if index == len(keys) - 1:
        return {**context, key: value}
    inner = _put(run, context.get(key), keys, value, index + 1)
    return None if inner is None else {**context, key: inner}


@LIBRARY("context merge(contexts: list)")
def context_merge(run: Run, contexts: list[Value]) -> Value:
    """Entries of all contexts, later ones winning."""
    merged: dict[str, Any] = {}
    for part in contexts:
        if not isinstance(part, dict):
            return None
        run.spend(1 + len(part))
        merged.update(part)
    return merged
