"""XPath regular expressions: text to syntax tree, with every rule XPath calls an error."""

from dataclasses import dataclass
from typing import TypeAlias

from workflows.feel.regex import characters
from workflows.feel.regex.characters import Test

MAX_NESTING = 40
MAX_REPEAT = 1_000

_SINGLE = {"n": "\n", "r": "\r", "t": "\t"}
_LITERAL_ESCAPES = "\\|.-^?*+{}()[]$"
_SPACES = " \t\n\r"


class RegexError(ValueError):
    """The pattern, flags or replacement break a rule of XPath; FEEL makes it null."""


@dataclass(frozen=True, slots=True)
class Character:
    """One character out of a class."""

    test: Test


@dataclass(frozen=True, slots=True)
class Anchor:
    """``^`` (start) or ``$`` (end)."""

    at_start: bool


@dataclass(frozen=True, slots=True)
class Group:
    """A group; number None where it does not capture."""

    body: "Regex"
    number: int | None


@dataclass(frozen=True, slots=True)
class BackReference:
    """What a group matched before."""

    number: int


@dataclass(frozen=True, slots=True)
class Sequence:
    """One part after the other."""

    parts: tuple["Regex", ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """The first branch that lets the whole match."""

    branches: tuple["Regex", ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """A quantified part; maximum None is unbounded."""

    body: "Regex"
    minimum: int
    maximum: int | None
    greedy: bool


Regex: TypeAlias = Character | Anchor | Group | BackReference | Sequence | Choice | Repeat


class RegexParser:
    """One parse of one pattern."""

    def __init__(self, pattern: str, flags: str) -> None:
        if not set(flags) <= set("smixq"):
            raise RegexError(f"the flags {flags[:10]!r} are not among s, m, i, x and q")
        self.ignore_case = "i" in flags
        self.dot_all = "s" in flags
        self.pattern = pattern
        self.literal = "q" in flags
        if "x" in flags and not self.literal:
            self.pattern = _without_spaces(pattern)
        self.position = 0
        self.groups = 0
        self.open_groups: set[int] = set()
        self._nesting = 0

    def parse(self) -> Regex:
        """Read the whole pattern.

        Raises:
            RegexError: The pattern is not an XPath regular expression.
        """
        if self.literal:
            return Sequence(tuple(self._single(character) for character in self.pattern))
        tree = self._choice()
        if self.position < len(self.pattern):
            raise self._error("an unmatched ')'")
        return tree

    def _error(self, problem: str) -> RegexError:
        return RegexError(f"the pattern has {problem} at position {self.position + 1}")

    def _peek(self, text: str) -> bool:
        return self.pattern.startswith(text, self.position)

    def _take(self, text: str) -> bool:
        found = self._peek(text)
        if found:
            self.position += len(text)
        return found

    def _next(self) -> str:
        if self.position >= len(self.pattern):
            raise self._error("an unexpected end")
        self.position += 1
        return self.pattern[self.position - 1]

    def _choice(self) -> Regex:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise self._error("groups nested too deeply")
        branches = [self._sequence()]
        while self._take("|"):
            branches.append(self._sequence())
        self._nesting -= 1
        return branches[0] if len(branches) == 1 else Choice(tuple(branches))

    def _sequence(self) -> Regex:
        parts: list[Regex] = []
        while self.position < len(self.pattern) and self.pattern[self.position] not in "|)":
            parts.append(self._quantified(self._atom()))
        return Sequence(tuple(parts))

    def _quantified(self, atom: Regex) -> Regex:
        bounds: tuple[int, int | None]
        if self._take("?"):
            bounds = (0, 1)
        elif self._take("*"):
            bounds = (0, None)
        elif self._take("+"):
            bounds = (1, None)
        elif self._take("{"):
            bounds = self._bounds()
        else:
            return atom
        greedy = not self._take("?")
        if self.position < len(self.pattern) and self.pattern[self.position] in "?*+{":
            raise self._error("a quantifier after a quantifier")
        return Repeat(atom, bounds[0], bounds[1], greedy)

    def _bounds(self) -> tuple[int, int | None]:
        end = self.pattern.find("}", self.position)
        if end < 0:
            raise self._error("an open '{'")
        low, comma, high = self.pattern[self.position : end].partition(",")
        self.position = end + 1
        texts = [low, high] if comma and high else [low]
        if not all(text.isascii() and text.isdigit() and len(text) <= 6 for text in texts):
            raise self._error("a quantifier that is no number")
        minimum = int(low)
        maximum = int(high) if high else (None if comma else minimum)
        if max(minimum, maximum or 0) > MAX_REPEAT or (maximum is not None and maximum < minimum):
            raise self._error("a quantifier out of range")
        return minimum, maximum

    def _atom(self) -> Regex:
        character = self._next()
        if character == "(":
            return self._group()
        if character == "[":
            return Character(self._class_test(self._character_class()))
        if character == ".":
            return Character((lambda c: True) if self.dot_all else (lambda c: c not in "\n\r"))
        if character in "^$":
            return Anchor(character == "^")
        if character == "\\":
            return self._escape()
        if character in "?*+{}])":
            raise self._error(f"a misplaced {character!r}")
        return self._single(character)

    def _single(self, character: str) -> Regex:
        return Character(self._class_test(lambda c: c == character))

    def _class_test(self, test: Test) -> Test:
        return characters.ignoring_case(test) if self.ignore_case else test

    def _group(self) -> Regex:
        capturing = not self._take("?:")
        if self._peek("?"):
            raise self._error("an unknown kind of group")
        number = None
        if capturing:
            self.groups += 1
            number = self.groups
            self.open_groups.add(number)
        body = self._choice()
        if not self._take(")"):
            raise self._error("an open group")
        if number is not None:
            self.open_groups.discard(number)
        return Group(body, number)

    def _escape(self) -> Regex:
        character = self._next()
        if character.isascii() and character.isdigit():
            return self._back_reference(character)
        return Character(self._class_test(self._escaped(character)))

    def _back_reference(self, digit: str) -> Regex:
        number = int(digit)
        while self.position < len(self.pattern) and self.pattern[self.position] in "0123456789":
            longer = number * 10 + int(self.pattern[self.position])
            if longer > self.groups:
                break
            number = longer
            self.position += 1
        if number == 0 or number > self.groups or number in self.open_groups:
            raise self._error("a reference to no earlier group")
        return BackReference(number)

    def _escaped(self, character: str) -> Test:
        if character in "pP":
            return self._property(negative=character == "P")
        test = characters.escape_class(character)
        if test is not None:
            return test
        if character in _SINGLE:
            meant = _SINGLE[character]
            return lambda c: c == meant
        if character in _LITERAL_ESCAPES:
            return lambda c: c == character
        raise self._error(f"the unknown escape {character!r}")

    def _property(self, *, negative: bool) -> Test:
        end = self.pattern.find("}", self.position)
        if not self._take("{") or end < 0:
            raise self._error("a property without a name")
        test = characters.property_class(self.pattern[self.position : end])
        if test is None:
            raise self._error("an unknown property")
        self.position = end + 1
        return characters.complement(test) if negative else test

    def _character_class(self) -> Test:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise self._error("classes nested too deeply")
        negative = self._take("^")
        tests: list[Test] = []
        excluded: Test | None = None
        while not self._take("]"):
            if tests and self._peek("-["):
                self.position += 2
                excluded = self._character_class()
                if not self._take("]"):
                    raise self._error("something behind a class subtraction")
                break
            tests.append(self._class_item(first=not tests))
        if not tests:
            raise self._error("an empty class")
        self._nesting -= 1
        test = characters.union(tests)
        test = characters.complement(test) if negative else test
        return test if excluded is None else characters.without(test, excluded)

    def _class_item(self, *, first: bool) -> Test:
        start = self._next()
        if start == "[":
            raise self._error("an unescaped '[' in a class")
        if start == "\\":
            letter = self._next()
            if letter not in _SINGLE and letter not in _LITERAL_ESCAPES:
                return self._escaped(letter)
            start = _SINGLE.get(letter, letter)
        elif start == "-" and not first and not self._peek("]"):
            raise self._error("an unescaped '-' in a class")
        if self._peek("-") and not self._peek("-]") and not self._peek("-["):
            self.position += 1
            end = self._next()
            if end == "\\":
                letter = self._next()
                if letter not in _SINGLE and letter not in _LITERAL_ESCAPES:
                    raise self._error("a range that ends in a class")
                end = _SINGLE.get(letter, letter)
            if end == "[" or end < start:
                raise self._error("a range out of order")
            return characters.span(start, end)
        return lambda c: c == start


def _without_spaces(pattern: str) -> str:
    """Drop white space outside character classes (flag ``x``), behind a backslash as well."""
    kept: list[str] = []
    depth, escaped = 0, False
    for character in pattern:
        if depth == 0 and character in _SPACES:
            continue
        kept.append(character)
        if escaped:
            escaped = False
            continue
        escaped = character == "\\"
        depth += (character == "[") - (character == "]" and depth > 0)
    return "".join(kept)
