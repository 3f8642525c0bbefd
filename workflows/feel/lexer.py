"""Tokens of FEEL, produced on demand because what a name is depends on the scope (§10.3.1.5)."""

import re
from dataclasses import dataclass
from decimal import Decimal

from workflows.feel.errors import FeelSyntaxError
from workflows.feel.names import SPACES, WORD

KEYWORDS = frozenset(
    (
        *("for", "if", "then", "else", "return", "some", "every", "satisfies", "in", "and", "or"),
        *("between", "instance", "function", "true", "false", "null"),
    )
)

_NUMBER = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_OPERATOR = re.compile(r"\.\.|\*\*|->|<=|>=|!=|[-+*/=<>()\[\]{},:.@]")
_PLAIN = re.compile(r'[^"\\]*')
_HEX = re.compile(r"[0-9A-Fa-f]+")
_ESCAPES = {"'": "'", '"': '"', "\\": "\\", "n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True, slots=True)
class Token:
    """One token.

    Attributes:
        kind: ``word``, ``number``, ``string``, ``operator`` or ``end``.
        text: Source text, or for strings the value.
        start: Offset of its first character.
        end: Offset behind its last character.
    """

    kind: str
    text: str
    start: int
    end: int


class Lexer:
    """Cuts one text; keeps no position of its own, so that the parser can go back."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._tokens: dict[int, Token] = {}

    def skip(self, position: int) -> int:
        """Position of the next character that is neither white space nor comment."""
        text = self.text
        while True:
            match = SPACES.match(text, position)
            position = match.end() if match else position
            if text.startswith("//", position):
                newline = text.find("\n", position)
                position = len(text) if newline < 0 else newline + 1
            elif text.startswith("/*", position):
                close = text.find("*/", position + 2)
                if close < 0:
                    raise self.error("the comment is not closed", position, "'*/'")
                position = close + 2
            else:
                return position

    def token(self, position: int) -> Token:
        """The token at or after a position."""
        found = self._tokens.get(position)
        if found is None:
            found = self._tokens[position] = self._scan(self.skip(position))
        return found

    def error(self, problem: str, position: int, expected: str) -> FeelSyntaxError:
        """A syntax error at a position of this text."""
        return FeelSyntaxError(problem, text=self.text, position=position, expected=expected)

    def _scan(self, start: int) -> Token:
        text = self.text
        if start >= len(text):
            return Token("end", "", start, start)
        if text[start] == '"':
            return self._string(start)
        for kind, pattern in (("word", WORD), ("number", _NUMBER), ("operator", _OPERATOR)):
            match = pattern.match(text, start)
            if match is not None:
                return Token(kind, match.group(), start, match.end())
        raise self.error(f"the character {text[start]!r} has no meaning here", start, "an expression")

    def _string(self, start: int) -> Token:
        text, parts, position = self.text, list[str](), start + 1
        while True:
            match = _PLAIN.match(text, position)
            if match is not None:
                parts.append(match.group())
                position = match.end()
            if position >= len(text):
                raise self.error("the string is not closed", start, "'\"'")
            if text[position] == '"':
                return Token("string", "".join(parts), start, position + 1)
            value, position = self._escape(position)
            parts.append(value)

    def _escape(self, position: int) -> tuple[str, int]:
        """Read one backslash sequence; those without a meaning stand for themselves (regexes)."""
        kind = self.text[position + 1 : position + 2]
        if kind in ("u", "U"):
            code, end = self._code_point(position)
            if 0xD800 <= code <= 0xDBFF and self.text.startswith("\\u", end):
                low, low_end = self._code_point(end)
                if 0xDC00 <= low <= 0xDFFF:
                    return chr(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)), low_end
            if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
                raise self.error("the escape names no Unicode character", position, "a code point")
            return chr(code), end
        if kind in _ESCAPES:
            return _ESCAPES[kind], position + 2
        return "\\" + kind, position + 1 + len(kind)

    def _code_point(self, position: int) -> tuple[int, int]:
        length = 4 if self.text[position + 1] == "u" else 6
        digits = self.text[position + 2 : position + 2 + length]
        if len(digits) != length or _HEX.fullmatch(digits) is None:
            raise self.error("the escape is incomplete", position, f"{length} hexadecimal digits")
        return int(digits, 16), position + 2 + length


def decimal_literal(text: str) -> Decimal:
    """Exact value of a numeric literal."""
    return Decimal(text)
