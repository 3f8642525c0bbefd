"""Filtering: selection by position or by condition (DMN 1.5 §10.3.2.5, table 68)."""

from decimal import Decimal

from workflows.feel.program import Program
from workflows.feel.runtime import Scope
from workflows.feel.semantics import item_at
from workflows.feel.values import Value


def select_items(value: Value, condition: Program, size: int, scope: Scope) -> Value:
    """``value[condition]``; which of position and condition it is shows when it meets an item.

    Args:
        value: What is filtered; anything but a list and null is filtered as a list of itself.
        condition: Evaluated for each item, with the item's entries and ``item`` in scope.
        size: Steps charged per item.
        scope: Scope of the filter.
    """
    run = scope.run
    if value is None:
        return run.note("filter", "null cannot be filtered")
    items: list[Value] = value if isinstance(value, list) else [value]
    if not items:
        position = condition(Scope({"item": None}, scope, run))
        return None if isinstance(position, Decimal) else []
    selected: list[Value] = []
    for index, item in enumerate(list(items)):
        run.spend(size)
        inner = Scope({"item": item}, scope, run)
        verdict = condition(Scope(item, inner, run) if isinstance(item, dict) else inner)
        if verdict is True:
            selected.append(item)
        elif index == 0 and isinstance(verdict, Decimal):
            return item_at(items, verdict)
        elif index == 0 and verdict is not None and verdict is not False:
            return run.note("filter", "a filter is neither a condition nor a position")
    return selected
