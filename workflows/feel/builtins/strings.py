"""String functions (DMN 1.5 §10.3.4.3, table 74)."""

from decimal import Decimal

from workflows.feel.builtins.library import Library
from workflows.feel.regex import Pattern, RegexError, compile_pattern, parse_replacement
from workflows.feel.runtime import Run
from workflows.feel.values import Value, whole

LIBRARY = Library()


@LIBRARY("substring(string: string, start position: number, length: number?)")
def substring(run: Run, text: str, position: Decimal, length: Decimal | None) -> Value:
    """Cut from a position; positions beyond the string give null, a fraction of the length is cut off."""
    start = whole(position)
    if start is None or start == 0 or abs(start) > len(text):
        return None
    rest = text[start - 1 if start > 0 else len(text) + start :]
    if length is None:
        return rest
    taken = int(length.to_integral_value("ROUND_DOWN")) if length.adjusted() < 20 else len(rest)
    return rest[:taken] if taken >= 1 else None


@LIBRARY("string length(string: string)")
def string_length(run: Run, text: str) -> Value:
    """Number of code points."""
    return Decimal(len(text))


@LIBRARY("upper case(string: string)")
def upper_case(run: Run, text: str) -> Value:
    """The string in upper case."""
    run.produce(len(text))
    return text.upper()


@LIBRARY("lower case(string: string)")
def lower_case(run: Run, text: str) -> Value:
    """The string in lower case."""
    run.produce(len(text))
    return text.lower()


@LIBRARY("substring before(string: string, match: string)")
def substring_before(run: Run, text: str, match: str) -> Value:
    """What precedes the first match; empty without one."""
    run.produce(len(text))
    position = text.find(match)
    return text[:position] if position > 0 else ""


@LIBRARY("substring after(string: string, match: string)")
def substring_after(run: Run, text: str, match: str) -> Value:
    """What follows the first match; empty without one."""
    run.produce(len(text))
    position = text.find(match)
    return text[position + len(match) :] if position >= 0 else ""


@LIBRARY("contains(string: string, match: string)")
def contains(run: Run, text: str, match: str) -> Value:
    """Whether the string contains the match."""
    run.spend(1 + (len(text) >> 4))
    return match in text


@LIBRARY("starts with(string: string, match: string)")
def starts_with(run: Run, text: str, match: str) -> Value:
    """Whether the string starts with the match."""
    return text.startswith(match)


@LIBRARY("ends with(string: string, match: string)")
def ends_with(run: Run, text: str, match: str) -> Value:
    """Whether the string ends with the match."""
    return text.endswith(match)


def _compile(run: Run, pattern: str, flags: str | None) -> Pattern | None:
    """Compile a pattern; null, with the reason, where XPath would raise an error."""
    run.spend(1 + len(pattern))
    try:
        return compile_pattern(pattern, flags or "")
    except RegexError as error:
        return run.note("regex", str(error))


@LIBRARY("matches(input: string, pattern: string, flags: string?)")
def matches(run: Run, text: str, pattern: str, flags: str | None) -> Value:
    """Whether the pattern matches somewhere in the string."""
    compiled = _compile(run, pattern, flags)
    return None if compiled is None else compiled.search(text, 0, run.spend) is not None


@LIBRARY("replace(input: string, pattern: string, replacement: string, flags: string?)")
def replace(run: Run, text: str, pattern: str, replacement: str, flags: str | None) -> Value:
    """Replace every match; null where the pattern matches the empty string (XPath FORX0003)."""
    compiled = _compile(run, pattern, flags)
    if compiled is None:
        return None
    try:
        # Flag q makes the replacement literal as well.
        template = [replacement] if flags and "q" in flags else parse_replacement(replacement, compiled)
    except RegexError as error:
        return run.note("regex", str(error))
    if compiled.search("", 0, run.spend) is not None:
        return run.note("regex", "the pattern matches the empty string")
    parts: list[str] = []
    length = position = 0
    while (match := compiled.search(text, position, run.spend)) is not None and match.end > match.start:
        parts.append(text[position : match.start])
        parts.extend(part if isinstance(part, str) else match.group(part) for part in template)
        length += match.start - position + sum(len(part) for part in parts[-len(template) :])
        run.produce(length)
        position = match.end
    parts.append(text[position:])
    run.produce(length + len(parts[-1]))
    return "".join(parts)


@LIBRARY("split(string: string, delimiter: string)")
def split(run: Run, text: str, delimiter: str) -> Value:
    """Split at every match; null where the delimiter matches the empty string (XPath FORX0003)."""
    compiled = _compile(run, delimiter, None)
    if compiled is None:
        return None
    if compiled.search("", 0, run.spend) is not None:
        return run.note("regex", "the delimiter matches the empty string")
    parts: list[Value] = []
    position = 0
    while (match := compiled.search(text, position, run.spend)) is not None and match.end > match.start:
        parts.append(text[position : match.start])
        position = match.end
        run.spend(1)
    parts.append(text[position:])
    return parts


@LIBRARY(
    "string join(list: list, delimiter: string?)",
    "string join(list: list, delimiter: string?, prefix: string?, suffix: string?)",
)
def string_join(
    run: Run,
    items: list[Value],
    delimiter: str | None,
    prefix: str | None = None,
    suffix: str | None = None,
) -> Value:
    """Join the strings of a list, leaving out null; null where another kind of item is in it."""
    texts = [item for item in items if isinstance(item, str)]
    if len(texts) + sum(item is None for item in items) != len(items):
        return None
    separator = delimiter or ""
    run.spend(len(items))
    run.produce(sum(map(len, texts)) + len(separator) * max(0, len(texts) - 1))
    return f"{prefix or ''}{separator.join(texts)}{suffix or ''}"
