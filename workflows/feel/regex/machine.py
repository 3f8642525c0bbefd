"""A backtracking machine for regular expressions that counts its steps.

Without back-references the outcome at a (program position, text position) pair never depends on how
it was reached, so a pair that failed once is never tried again: the work is bounded by program
length times text length. With back-references only the budget bounds it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from workflows.feel.regex.characters import Test
from workflows.feel.regex.syntax import (
    Anchor,
    BackReference,
    Character,
    Choice,
    Group,
    Regex,
    RegexError,
    RegexParser,
    Repeat,
    Sequence,
)

MAX_PROGRAM = 5_000
"""Longest program; repeats with counts are written out."""

_CHARGE = 64

_MATCH, _CHAR, _SPLIT, _JUMP, _SAVE, _START, _END, _SAME, _ADVANCED = range(9)

Instruction: TypeAlias = "tuple[int, int, int, Test | None]"
"""Operation code, two operands (targets, slots or group numbers), and the class to test."""


@dataclass(frozen=True, slots=True)
class Match:
    """Where a pattern matched.

    Attributes:
        text: The text searched.
        start: Offset of the first character of the match.
        end: Offset behind its last character.
        slots: Start and end of each group by ``2 * number``; -1 for groups that took no part.
    """

    text: str
    start: int
    end: int
    slots: tuple[int, ...]

    def group(self, number: int) -> str:
        """What a group matched; the whole match for 0, nothing for groups that took no part."""
        if number == 0:
            return self.text[self.start : self.end]
        start, end = self.slots[2 * number], self.slots[2 * number + 1]
        return self.text[start:end] if start >= 0 and end >= 0 else ""


class Pattern:
    """A compiled pattern."""

    def __init__(
        self, program: list[Instruction], groups: int, *, multiline: bool, ignore_case: bool
    ) -> None:
        self.groups = groups
        self._program = program
        self._multiline = multiline
        self._ignore_case = ignore_case
        self._memoise = all(code not in (_SAME, _ADVANCED) for code, _, _, _ in program)

    def search(self, text: str, position: int, spend: Callable[[int], None]) -> Match | None:
        """Find the first match at or after a position.

        Args:
            text: The text.
            position: Where to begin.
            spend: Charged with the steps taken; raises to stop the search.

        Returns:
            The leftmost match, by the usual preference of branches, or None.
        """
        failed: set[int] = set()
        for start in range(position, len(text) + 1):
            match = self._match_at(text, start, failed, spend)
            if match is not None:
                return match
        return None

    def _match_at(
        self, text: str, start: int, failed: set[int], spend: Callable[[int], None]
    ) -> Match | None:
        program, length, memoise = self._program, len(text), self._memoise
        slots = [-1] * (2 * self.groups + 2 + self._counters())
        pending: list[tuple[int, int, list[int]]] = [(0, start, slots)]
        steps = 0
        while pending:
            address, position, slots = pending.pop()
            while True:
                steps += 1
                if steps == _CHARGE:
                    spend(_CHARGE)
                    steps = 0
                if memoise:
                    key = address * (length + 1) + position
                    if key in failed:
                        break
                    failed.add(key)
                code, first, second, test = program[address]
                if code == _CHAR:
                    if position >= length or test is None or not test(text[position]):
                        break
                    position += 1
                    address += 1
                elif code == _SPLIT:
                    pending.append((second, position, slots))
                    address = first
                elif code == _JUMP:
                    address = first
                elif code == _SAVE:
                    slots = slots.copy()
                    slots[first] = position
                    address += 1
                elif code == _MATCH:
                    spend(steps)
                    return Match(text, start, position, tuple(slots))
                else:
                    moved = self._check(code, first, text, position, slots)
                    if moved is None:
                        break
                    position = moved
                    address += 1
        spend(steps)
        return None

    def _counters(self) -> int:
        return sum(code == _ADVANCED for code, _, _, _ in self._program)

    def _check(self, code: int, operand: int, text: str, position: int, slots: list[int]) -> int | None:
        """Assertions and back-references: the position behind them, or None where they fail."""
        if code == _START:
            at = position == 0 or (self._multiline and text[position - 1] == "\n")
            return position if at else None
        if code == _END:
            at = position == len(text) or (self._multiline and text[position] == "\n")
            return position if at else None
        if code == _ADVANCED:
            return None if slots[operand] == position else position
        start, end = slots[2 * operand], slots[2 * operand + 1]
        seen = text[start:end] if start >= 0 and end >= 0 else ""
        here = text[position : position + len(seen)]
        same = here.casefold() == seen.casefold() if self._ignore_case else here == seen
        return position + len(seen) if same and len(here) == len(seen) else None


class _Emitter:
    """Writes the program of a syntax tree."""

    def __init__(self, groups: int, *, referring: bool) -> None:
        self.program: list[Instruction] = []
        self._referring = referring
        self._next_slot = 2 * groups + 2

    def _add(self, code: int, first: int = 0, second: int = 0, test: Test | None = None) -> int:
        if len(self.program) >= MAX_PROGRAM:
            raise RegexError("the pattern is too large")
        self.program.append((code, first, second, test))
        return len(self.program) - 1

    def emit(self, node: Regex) -> None:
        """Append the program of a node."""
        match node:
            case Character(test):
                self._add(_CHAR, test=test)
            case Anchor(at_start):
                self._add(_START if at_start else _END)
            case BackReference(number):
                self._add(_SAME, number)
            case Group(body, None):
                self.emit(body)
            case Group(body, int(number)):
                self._add(_SAVE, 2 * number)
                self.emit(body)
                self._add(_SAVE, 2 * number + 1)
            case Sequence(parts):
                for part in parts:
                    self.emit(part)
            case Choice(branches):
                self._choice(branches)
            case Repeat():
                self._repeat(node)
            case _:
                raise RegexError("the pattern has an unknown part")

    def finish(self) -> list[Instruction]:
        """Close the program."""
        self._add(_MATCH)
        return self.program

    def _choice(self, branches: tuple[Regex, ...]) -> None:
        jumps: list[int] = []
        for branch in branches[:-1]:
            split = self._add(_SPLIT)
            self.emit(branch)
            jumps.append(self._add(_JUMP))
            self._split(split, split + 1, len(self.program), greedy=True)
        self.emit(branches[-1])
        for jump in jumps:
            self.program[jump] = (_JUMP, len(self.program), 0, None)

    def _repeat(self, node: Repeat) -> None:
        for _ in range(node.minimum):
            self.emit(node.body)
        if node.maximum is None:
            split = self._add(_SPLIT)
            self._guarded(node.body)
            self._add(_JUMP, split)
            self._split(split, split + 1, len(self.program), greedy=node.greedy)
            return
        splits: list[int] = []
        for _ in range(node.maximum - node.minimum):
            splits.append(self._add(_SPLIT))
            self.emit(node.body)
        for split in splits:
            self._split(split, split + 1, len(self.program), greedy=node.greedy)

    def _guarded(self, body: Regex) -> None:
        """A round of an unbounded loop; without memory of failures it must not be empty for ever."""
        if not self._referring:
            self.emit(body)
            return
        slot = self._next_slot
        self._next_slot += 1
        self._add(_SAVE, slot)
        self.emit(body)
        self._add(_ADVANCED, slot)

    def _split(self, at: int, inside: int, outside: int, *, greedy: bool) -> None:
        targets = (inside, outside) if greedy else (outside, inside)
        self.program[at] = (_SPLIT, *targets, None)


@lru_cache(maxsize=256)
def compile_pattern(pattern: str, flags: str) -> Pattern:
    """Compile a pattern.

    Args:
        pattern: An XPath regular expression.
        flags: Any of ``s`` (dot matches line ends), ``m`` (anchors match at lines), ``i`` (case),
            ``x`` (white space is dropped) and ``q`` (everything is literal).

    Returns:
        The compiled pattern.

    Raises:
        RegexError: XPath calls the pattern or the flags an error, or the program would be too large.
    """
    parser = RegexParser(pattern, flags)
    tree = parser.parse()
    emitter = _Emitter(parser.groups, referring=_refers(tree))
    emitter.emit(tree)
    program = emitter.finish()
    return Pattern(program, parser.groups, multiline="m" in flags, ignore_case=parser.ignore_case)


def _refers(node: Regex) -> bool:
    match node:
        case BackReference():
            return True
        case Group(body=body) | Repeat(body=body):
            return _refers(body)
        case Sequence(parts=parts) | Choice(branches=parts):
            return any(_refers(part) for part in parts)
        case _:
            return False
