"""Names of several words: tokens, and longest match against the names in scope (§10.3.1.4, 1.5).

A name is a sequence of tokens: words, and the additional symbols ``. / - ' + *``. White space only
separates tokens, so ``Phone   Number`` is ``Phone Number`` and ``a - b`` is ``a-b`` wherever that
name is in scope.
"""

import re
from collections.abc import Iterable

_START = (
    "?A-Z_a-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02ff\u0370-\u037d\u037f-\u1fff\u200c-\u200d\u2070-\u218f"
    "\u2c00-\u2fef\u3001-\ud7ff\uf900-\ufdcf\ufdf0-\ufffd\U00010000-\U000effff"
)
_PART = _START + "0-9\u00b7\u0300-\u036f\u203f-\u2040"
_SPACE = "\t-\r \u0085\u00a0\u1680\u180e\u2000-\u200b\u2028\u2029\u202f\u205f\u3000\ufeff"

# Some of the separators of rule 61 lie inside the ranges of rule 28; they separate.
WORD = re.compile(f"(?![{_SPACE}])[{_START}](?:(?![{_SPACE}])[{_PART}])*")
WORD_PART = re.compile(f"(?:(?![{_SPACE}])[{_PART}])+")
SPACES = re.compile(f"[{_SPACE}]*")
SYMBOLS = "./-'\u2019+*"


def name_token(text: str, position: int) -> int | None:
    """End of the name token that starts at a position, or None where none starts there."""
    match = WORD_PART.match(text, position)
    if match is not None:
        return match.end()
    if position < len(text) and text[position] in SYMBOLS:
        return position + 1
    return None


def tokens_of(name: str) -> tuple[str, ...] | None:
    """Split a name into its tokens; None for strings that no FEEL name can spell."""
    tokens: list[str] = []
    position = SPACES.match(name).end()  # type: ignore[union-attr]
    while position < len(name):
        end = name_token(name, position)
        if end is None:
            return None
        tokens.append(name[position:end])
        position = SPACES.match(name, end).end()  # type: ignore[union-attr]
    if not tokens or WORD.fullmatch(tokens[0]) is None:
        return None
    return tuple(tokens)


class NameTable:
    """A set of names, searchable by the first of their tokens, longest first."""

    __slots__ = ("_by_first",)

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._by_first: dict[str, list[tuple[tuple[str, ...], str]]] = {}
        for name in names:
            self.add(name)

    def add(self, name: str) -> None:
        """Bring a name into the table; strings that are no names are left out."""
        tokens = tokens_of(name)
        if tokens is None:
            return
        entries = self._by_first.setdefault(tokens[0], [])
        if all(known != tokens for known, _ in entries):
            entries.append((tokens, name))
            entries.sort(key=lambda entry: -len(entry[0]))

    def candidates(self, first: str) -> list[tuple[tuple[str, ...], str]]:
        """Names that start with a token, as (tokens, spelling), longest first."""
        return self._by_first.get(first, [])
