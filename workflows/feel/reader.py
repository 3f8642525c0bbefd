"""The parser's lower half: the cursor over the tokens, and the reading of names and types."""

import re
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager

from workflows.feel.errors import FeelSyntaxError
from workflows.feel.lexer import KEYWORDS, Lexer, Token
from workflows.feel.names import NameTable, name_token, tokens_of
from workflows.feel.types import (
    SIMPLE_TYPES,
    ContextType,
    FeelType,
    FunctionType,
    ListType,
    RangeType,
    named,
)

MAX_TEXT = 100_000
"""Longest expression accepted, in code points."""
MAX_NESTING = 60
"""Deepest nesting of sub-expressions accepted; also keeps the parser off Python's recursion limit."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_TYPE_NAMES = (*SIMPLE_TYPES, "Any", "Null", "day and time duration", "year and month duration")


class Reader:
    """Cursor over one text, with the names in scope at the cursor.

    Args:
        text: The expression.
        names: Names of the variables in scope.
        members: Names of context entries that may occur in paths and filters.
        types: Names of item definitions.
        builtins: Names of the built-in functions.
    """

    def __init__(
        self,
        text: str,
        *,
        names: Iterable[str] = (),
        members: Iterable[str] = (),
        types: Mapping[str, FeelType] | None = None,
        builtins: NameTable | None = None,
    ) -> None:
        self.lexer = Lexer(text)
        self.position = 0
        # Set by errors that no other reading of the text could avoid.
        self.exhausted = False
        self._nesting = 0
        self._work = 1_000 + 60 * len(text)
        self._scopes = [builtins or NameTable(), NameTable(names)]
        self._members = NameTable(members)
        self._filters = 0
        self._types = NameTable((*_TYPE_NAMES, *(types or ())))
        if len(text) > MAX_TEXT:
            raise self.error("the text is too long", 0, f"at most {MAX_TEXT} characters")
        surrogate = _SURROGATE.search(text)
        if surrogate is not None:
            raise self.error("the text holds half a character", surrogate.start(), "Unicode characters")

    # Cursor

    @property
    def token(self) -> Token:
        """The token at the cursor."""
        self._work -= 1
        if self._work < 0:
            self.exhausted = True
            raise self.error("the text is too ambiguous", self.position, "a simpler expression")
        return self.lexer.token(self.position)

    def error(self, problem: str, position: int, expected: str) -> FeelSyntaxError:
        """A syntax error at a position."""
        return self.lexer.error(problem, position, expected)

    def unexpected(self, expected: str) -> FeelSyntaxError:
        """A syntax error about the token at the cursor."""
        token = self.token
        found = "the text ends here" if token.kind == "end" else f"{token.text[:40]!r} does not fit here"
        return self.error(found, token.start, expected)

    def at(self, *texts: str) -> bool:
        """Whether the token at the cursor is one of these operators or keywords."""
        token = self.token
        return token.text in texts and token.kind in ("operator", "word")

    def accept(self, text: str) -> bool:
        """Step over an operator or keyword if it is next."""
        if not self.at(text):
            return False
        self.position = self.token.end
        return True

    def expect(self, text: str) -> None:
        """Step over an operator or keyword that has to be next."""
        if not self.accept(text):
            raise self.unexpected(f"{text!r}")

    @contextmanager
    def nested(self) -> Generator[None]:
        """One level of nesting deeper."""
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            self.exhausted = True
            raise self.error(
                "the expression is nested too deeply", self.position, f"at most {MAX_NESTING} levels"
            )
        try:
            yield
        finally:
            self._nesting -= 1

    # Scope

    @contextmanager
    def scope(self, names: Iterable[str] = ()) -> Generator[NameTable]:
        """More names in scope for a while; the table may grow meanwhile."""
        table = NameTable(names)
        self._scopes.append(table)
        try:
            yield table
        finally:
            self._scopes.pop()

    @contextmanager
    def filter_scope(self) -> Generator[None]:
        """Inside a filter the entries of the filtered contexts are in scope."""
        self._filters += 1
        try:
            yield
        finally:
            self._filters -= 1

    def learn_member(self, name: str) -> None:
        """Remember the key of a context literal as a name that paths may use."""
        self._members.add(name)

    # Names

    def name(self) -> str:
        """Read a reference: the longest match in scope, else the words up to the next keyword."""
        tables = [*self._scopes, self._members] if self._filters else self._scopes
        return self._read_name(tables)

    def member(self) -> str:
        """Read the name behind the dot of a path."""
        return self._read_name([self._members])

    def _read_name(self, tables: list[NameTable]) -> str:
        token = self.token
        if token.kind != "word":
            raise self.unexpected("a name")
        tokens, ends = [token.text], [token.end]
        best, spelling = 1, token.text
        for table in tables:
            for candidate, known in table.candidates(token.text):
                if len(candidate) > best and self._continues(candidate, tokens, ends):
                    best, spelling = len(candidate), known
                    break
        self.position = ends[best - 1]
        return self._join_words(spelling)

    def _continues(self, candidate: tuple[str, ...], tokens: list[str], ends: list[int]) -> bool:
        """Whether the tokens at the cursor spell a candidate; extends the tokens read so far."""
        text = self.lexer.text
        while len(tokens) < len(candidate):
            start = self.lexer.skip(ends[-1])
            end = name_token(text, start)
            self._work -= 1
            if end is None:
                return False
            tokens.append(text[start:end])
            ends.append(end)
        return tuple(tokens[: len(candidate)]) == candidate

    def _join_words(self, name: str) -> str:
        """Append the words that follow: two names in a row mean nothing else."""
        words = [name]
        while self.token.kind == "word" and self.token.text not in KEYWORDS:
            words.append(self.token.text)
            self.position = self.token.end
        return " ".join(words)

    def binding(self, *stops: str) -> str:
        """Read the name that an iterator, parameter or context entry introduces.

        Keywords may be part of it; it ends before one of the ``stops``.
        """
        text = self.lexer.text
        if self.token.kind != "word":
            raise self.unexpected("a name")
        start = self.token.start
        position = self.token.end
        while True:
            following = self.lexer.skip(position)
            end = name_token(text, following)
            self._work -= 1
            if end is None or text[following:end] in stops:
                break
            position = end
        self.position = position
        name = " ".join(text[start:position].split())
        if tokens_of(name) is None:
            raise self.error(f"{name!r} is not a name", start, "a name")
        return name

    # Types

    def type(self) -> FeelType:
        """Read a type (grammar rule 52)."""
        with self.nested():
            token = self.token
            if token.kind != "word":
                raise self.unexpected("a type")
            generic = token.text in ("list", "range", "context", "function")
            if generic and self.lexer.token(token.end).text == "<":
                self.position = self.lexer.token(token.end).end
                return self._generic(token.text)
            name = self._read_name([self._types])
            while self.accept("."):
                name = f"{name}.{self._read_name([])}"
            return named(name)

    def _generic(self, kind: str) -> FeelType:
        if kind in ("list", "range"):
            inner = self.type()
            self._close_type()
            return ListType(inner) if kind == "list" else RangeType(inner)
        if kind == "context":
            entries: list[tuple[str, FeelType]] = []
            while not entries or self.accept(","):
                name = self.binding(":")
                self.expect(":")
                entries.append((name, self.type()))
            self._close_type()
            return ContextType(tuple(entries))
        parameters: list[FeelType] = []
        while not self.at(">") and (not parameters or self.accept(",")):
            parameters.append(self.type())
        self._close_type()
        self.expect("->")
        return FunctionType(tuple(parameters), self.type())

    def _close_type(self) -> None:
        token = self.token
        if token.text == ">=":
            # The lexer cannot know that this '>' closes a type.
            self.position = token.start + 1
            return
        self.expect(">")
