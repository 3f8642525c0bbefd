"""Edits of a payload: applied within what may be edited, and kept as JSON Patch (RFC 6902, RFC 6901)."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any, cast

from models.approval_errors import EditRefusedError

MAX_EDITS = 200


def pointer_of(field: str) -> str:
    """Return the JSON Pointer of a field: a pointer as it is, a plain name as a member of the top."""
    return field if field.startswith("/") else "/" + field.replace("~", "~0").replace("/", "~1")


def apply_edits(
    payload: Mapping[str, Any], edits: Mapping[str, Any], editable: Iterable[str]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Apply edits to a copy of ``payload``.

    Args:
        payload: What was asked about.
        edits: Pointers or names, and their new values.
        editable: Pointers or names under which edits are allowed.

    Returns:
        The payload after the edits, and what really changed as JSON Patch.

    Raises:
        EditRefusedError: An edit is outside of ``editable``, or of nothing that exists.
    """
    allowed = [pointer_of(field) for field in editable]
    refused: list[tuple[str, str]] = []
    if len(edits) > MAX_EDITS:
        raise EditRefusedError([("", f"more than {MAX_EDITS} edits")])
    result: dict[str, Any] = copy.deepcopy(dict(payload))
    patch: list[dict[str, Any]] = []
    for field, value in sorted(edits.items()):
        pointer = pointer_of(field)
        if not any(pointer == each or pointer.startswith(each + "/") for each in allowed):
            refused.append((field, "is not among editableFields"))
            continue
        step = _set(result, pointer, copy.deepcopy(value))
        if step is None:
            refused.append((field, "its parent does not exist"))
        else:
            patch += step
    if refused:
        raise EditRefusedError(refused)
    return result, patch


def _set(document: dict[str, Any], pointer: str, value: Any) -> list[dict[str, Any]] | None:
    """Set one value; returns the patch (empty: nothing changes), or None where there is no such place."""
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    place: Any = document
    for part in parents:
        place = _child(place, part)
        if place is None:
            return None
    if isinstance(place, dict):
        members = cast("dict[str, Any]", place)
        existed, former = last in members, members.get(last)
        members[last] = value
    elif isinstance(place, list):
        entries = cast("list[Any]", place)
        if last == "-":
            entries.append(value)
            return [{"op": "add", "path": pointer, "value": value}]
        index = _index(entries, last)
        if index is None:
            return None
        existed, former = True, entries[index]
        entries[index] = value
    else:
        return None
    if existed and type(former) is type(value) and former == value:
        return []
    return [{"op": "replace" if existed else "add", "path": pointer, "value": value}]


def _child(place: Any, part: str) -> Any:
    if isinstance(place, dict):
        return cast("dict[str, Any]", place).get(part)
    if isinstance(place, list):
        entries = cast("list[Any]", place)
        index = _index(entries, part)
        return None if index is None else entries[index]
    return None


def _index(entries: list[Any], part: str) -> int | None:
    if not part.isascii() or not part.isdecimal() or (len(part) > 1 and part[0] == "0") or len(part) > 9:
        return None
    return int(part) if int(part) < len(entries) else None
