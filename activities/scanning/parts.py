"""Large sources are read in parts, so that a syntax tree never takes more memory than the scan has.

A part ends before a line that starts a statement at the left margin. It is accepted only when it
parses by itself: a cut inside a string, a bracket or a block cannot, so the parts together are the
statements of the whole file, and no text can pretend otherwise. Names do not carry over from part to
part (short Python statements excepted), which is why `limit.parts` sends the file to review.
"""

import ast
import re
import string
from collections.abc import Callable, Iterator

from tree_sitter import Tree

from activities.scanning.limits import PART_TOKENS

Parsed = tuple[Tree, str]
"""A JavaScript tree and the grammar it was parsed with."""

_WORD = bytes(code if (chr(code).isalnum() and code < 128) or code == 95 else 32 for code in range(256))
_NOT_PUNCTUATION = bytes(code for code in range(256) if chr(code) not in string.punctuation)
_PYTHON_START = re.compile(r"\n(?!(?:else|elif|except|finally|case)\b)(?=[A-Za-z_@])")
_JAVASCRIPT_START = re.compile(rb"[;}][ \t\r]*\n(?!(?:else|catch|finally|while)\b)(?=[A-Za-z_$!(/@])")
_PYTHON_MIDDLE = re.compile(
    rb"\n(?=(?:def|class|async def|import|from|if|for|try|with)\s|@\w|[A-Za-z_]\w* ?=)"
)
_WIDEST = 4
_KEPT_STATEMENTS = 400
_KEPT_LINES = 20


def count_tokens(source: str | bytes) -> int:
    """Estimate the number of words and punctuation marks; never less than a third of the real number."""
    data = source if isinstance(source, bytes) else source.encode("latin-1", "replace")
    return len(data.translate(_WORD).split()) + len(data.translate(None, _NOT_PUNCTUATION))


def part_length(source: str | bytes) -> int | None:
    """Return how long a part of ``source`` may be, or None when it needs no parts."""
    if len(source) <= PART_TOKENS:
        return None
    tokens = count_tokens(source)
    return None if tokens <= PART_TOKENS else max(1, len(source) * PART_TOKENS // tokens)


def python_parts(
    text: str, length: int, parse: Callable[[str], ast.Module | None]
) -> Iterator[ast.Module | None]:
    """Parse ``text`` in parts; line numbers are those of the whole. None for a rest that cannot be parsed.

    Every part also holds the short statements of the parts before it.
    """
    position, line = 0, 0
    kept: list[ast.stmt] = []
    while position < len(text):
        size, tree, end = length, None, len(text)
        while tree is None and size <= length * _WIDEST:
            end = _next_start(text, position + size)
            tree = parse("\n" * line + text[position:end])
            size *= 2
        if tree is None:
            yield None
            return
        own = tree.body
        tree.body = [*kept, *own]
        yield tree
        kept = [*kept, *(node for node in own if _is_short(node))][:_KEPT_STATEMENTS]
        line += text.count("\n", position, end)
        position = end


def _next_start(text: str, position: int) -> int:
    for match in _PYTHON_START.finditer(text, min(position, len(text))):
        if text[match.start() - 1] != "\\":
            return match.end()
    return len(text)


def _is_short(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign | ast.FunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno < _KEPT_LINES
    )


def javascript_parts(
    source: bytes, length: int, parse: Callable[[bytes], Parsed | None]
) -> Iterator[tuple[bytes, Parsed | None]]:
    """Yield the parts of ``source``, each parsed; the tree of a part that cannot stand alone has errors."""
    position = 0
    while position < len(source):
        size, first = length, None
        while True:
            match = _JAVASCRIPT_START.search(source, min(position + size, len(source)))
            end = match.end() if match else len(source)
            parsed = parse(source[position:end])
            first = first or (end, parsed)
            if (parsed is not None and not parsed[0].root_node.has_error) or end == len(source):
                break
            size *= 2
            if size > length * _WIDEST:
                end, parsed = first
                break
        yield source[position:end], parsed
        position = end


def middle(data: bytes, language: str) -> int | None:
    """Return where a new statement probably begins near the middle of ``data``, or None."""
    pattern = _PYTHON_MIDDLE if language == "python" else _JAVASCRIPT_START
    match = pattern.search(data, len(data) // 2, len(data) * 3 // 4)
    return match.end() if match else None
