"""Which groups of telling substrings a text holds, in one pass over it.

Dozens of plain searches cost more than parsing; YARA looks for all of them at once.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import yara

_TIMEOUT_SECONDS = 5


def groups_in(text: str, groups: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    """Return the names of the groups of which a substring occurs in ``text``, whatever its case.

    Args:
        text: The text.
        groups: Substrings in ASCII by name of the group.
    """
    try:
        matches = _compiled(tuple(groups.items())).match(
            data=text.encode("utf-8", "replace"), timeout=_TIMEOUT_SECONDS, fast=True
        )
    except yara.Error:
        return frozenset(groups)
    return frozenset(match.rule for match in matches)


@cache
def _compiled(groups: tuple[tuple[str, tuple[str, ...]], ...]) -> Any:
    return yara.compile(source="\n".join(_rule(name, marks) for name, marks in groups))


def _rule(name: str, marks: tuple[str, ...]) -> str:
    strings = "\n".join(f'${number} = "{mark}" nocase' for number, mark in enumerate(marks))
    return f"rule {name} {{ strings: {strings} condition: any of them }}"
