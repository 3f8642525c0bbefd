"""Figures of a sample, and how they are shown."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of the sample does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]


@dataclass(frozen=True)
class Figure:
    """One measured line: what, how much, in which unit, and what was hoped for."""

    name: str
    value: float
    unit: str
    goal: str = ""

    def line(self) -> str:
        """Return the line as it is printed."""
        goal = f"   (goal: {self.goal})" if self.goal else ""
        return f"  {self.name:<58} {self.value:>12,.3f} {self.unit}{goal}"


def report(title: str, figures: Sequence[Figure], output: Path | None = None) -> None:
    """Print the figures under a title and, where a file is named, keep them as JSON."""
    print(f"\n{title}")
    for figure in figures:
        print(figure.line(), flush=True)
    if output is not None:
        kept: list[dict[str, Any]] = [vars(figure) for figure in figures]
        output.write_text(json.dumps({"title": title, "figures": kept}, indent=2))
