"""What one evaluation carries: its budget, its clock, its diagnostics, and the chain of scopes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workflows.feel.errors import FeelBudgetError
from workflows.feel.values import DateTime

MAX_DIAGNOSTICS = 100


@dataclass(frozen=True, slots=True)
class Budget:
    """Bounds of one evaluation; counted, never timed, so that a replay stops at the same place.

    Attributes:
        steps: Work: nodes entered by loops, filters and invocations, list items and blocks of 16
            characters produced or compared, states tried by regular expressions.
        depth: Nesting of expression nodes, through function invocations.
        string: Length of the longest string produced, in code points.
    """

    steps: int = 200_000
    depth: int = 300
    string: int = 65_536


DEFAULT_BUDGET = Budget()


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """Why something became null.

    Attributes:
        reason: Stable name of the kind of problem: ``unknown_variable``, ``invocation`` and so on.
        message: What happened, in words.
        at: Offset in the expression's text, where known.
    """

    reason: str
    message: str
    at: int | None = None


class Run:
    """The state of one evaluation."""

    __slots__ = ("allowed", "clock", "depth_left", "diagnostics", "steps_left")

    def __init__(
        self,
        budget: Budget,
        clock: DateTime | None,
        diagnostics: list[Diagnostic] | None,
    ) -> None:
        self.allowed = budget
        self.steps_left = budget.steps
        self.depth_left = budget.depth
        self.clock = clock
        self.diagnostics = diagnostics

    def spend(self, steps: int) -> None:
        """Charge work.

        Raises:
            FeelBudgetError: The budget does not cover it.
        """
        self.steps_left -= steps
        if self.steps_left < 0:
            raise FeelBudgetError("steps", self.allowed.steps)

    def descend(self, levels: int) -> None:
        """Charge depth until `ascend` gives it back.

        Raises:
            FeelBudgetError: The budget does not cover it.
        """
        self.depth_left -= levels
        if self.depth_left < 0:
            raise FeelBudgetError("depth", self.allowed.depth)

    def ascend(self, levels: int) -> None:
        """Give depth back."""
        self.depth_left += levels

    def produce(self, length: int) -> None:
        """Charge a string before it is built.

        Raises:
            FeelBudgetError: The string or the sum of the work is too large.
        """
        if length > self.allowed.string:
            raise FeelBudgetError("string", self.allowed.string)
        self.spend(1 + (length >> 4))

    def note(self, reason: str, message: str, at: int | None = None) -> None:
        """Report why the value at hand is null; returns None so that callers can return it."""
        notes = self.diagnostics
        if notes is not None and len(notes) < MAX_DIAGNOSTICS:
            notes.append(Diagnostic(reason, message, at))


class Scope:
    """One context of the scope chain, innermost first."""

    __slots__ = ("names", "parent", "run")

    def __init__(self, names: Mapping[str, Any], parent: "Scope | None", run: Run) -> None:
        self.names = names
        self.parent = parent
        self.run = run
