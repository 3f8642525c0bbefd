"""Run a corpus of FEEL expressions with expected values against our engine.

A corpus is a directory with ``feel/cases.json``, or itself holding ``cases.json``: a list of
``{dir, id, name, expr, inputs, error, expected}`` with values typed as ``{t, v}``. It is data from
elsewhere and stays outside the repository.
"""

import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from workflows.feel import FeelSyntaxError, evaluate, member_names, parse_expression
from workflows.feel.runtime import DEFAULT_BUDGET, Run
from workflows.feel.semantics import equal
from workflows.feel.temporal_text import parse_date, parse_date_time, parse_duration, parse_time
from workflows.feel.values import Value

TOLERANCE = Decimal("1e-8")
CLOCK = datetime(2026, 1, 1, 12, tzinfo=UTC)


@dataclass
class Report:
    """What a run found.

    Attributes:
        passed: Cases passed, by group.
        total: Cases run, by group.
        failures: One line per case that failed.
    """

    passed: Counter[str] = field(default_factory=Counter[str])
    total: Counter[str] = field(default_factory=Counter[str])
    failures: list[str] = field(default_factory=list[str])

    def lines(self) -> list[str]:
        """The report by group, then the failures."""
        groups = [f"{group:45} {self.passed[group]:5}/{self.total[group]}" for group in self.total]
        return [*groups, *self.failures]

    @property
    def score(self) -> str:
        """``PASSED/TOTAL`` over all groups."""
        return f"{self.passed.total()}/{self.total.total()}"


def run_feel(corpus: Path) -> Report:
    """Run every FEEL case of a corpus.

    Args:
        corpus: Directory that holds ``feel/cases.json`` or ``cases.json``.

    Returns:
        The report; empty where the corpus has no FEEL cases.
    """
    report = Report()
    path = corpus / "feel" / "cases.json"
    if not path.exists():
        path = corpus / "cases.json"
    if not path.exists():
        return report
    for case in json.loads(path.read_text(encoding="utf-8")):
        group = str(case["dir"])
        report.total[group] += 1
        problem = run_case(case)
        if problem is None:
            report.passed[group] += 1
        else:
            report.failures.append(f"{group} {case['id']}/{case['name']}: {case['expr']!r}: {problem}")
    return report


def run_case(case: dict[str, Any]) -> str | None:
    """Run one case; None if it passed, else what was wrong."""
    inputs = {name: read_value(value) for name, value in case["inputs"].items()}
    expected = None if case["error"] else read_value(case["expected"])
    try:
        expression = parse_expression(case["expr"], names=inputs, members=member_names(inputs))
    except FeelSyntaxError as error:
        return None if expected is None else f"expected {expected!r}, got a syntax error: {error}"
    actual = bind(evaluate(expression, inputs, clock=CLOCK), expected)
    return None if agrees(expected, actual) else f"expected {expected!r}, got {actual!r}"


def bind(actual: Value, expected: Value) -> Value:
    """Bind a result to the decision's output variable (DMN 1.5 §10.3.2.9.4).

    The cases are decisions without their declared types, so the kind of the expected value stands in
    for the type of the variable: a singleton list bound to a variable of another type is its item.
    """
    if (
        isinstance(actual, list)
        and len(actual) == 1
        and expected is not None
        and not isinstance(expected, list)
    ):
        return actual[0]
    return actual


def read_value(typed: dict[str, Any]) -> Value:
    """The FEEL value of a typed JSON value."""
    kind: str = typed["t"]
    value: Any = typed.get("v")
    match kind:
        case "null":
            return None
        case "boolean":
            return value in (True, "true")
        case "decimal":
            return Decimal(str(value))
        case "string":
            return str(value)
        case "date" | "dateTime":
            # A date is a date and time without its time in the source of the cases.
            return parse_date_time(value) if "T" in value else parse_date(value)
        case "time":
            return parse_time(value)
        case "duration":
            return parse_duration(value)
        case "list":
            return [read_value(item) for item in value or []]
        case "context":
            return {key: read_value(item) for key, item in (value or {}).items()}
        case _:
            raise ValueError(f"unknown type {kind!r} in the corpus")


def agrees(expected: Value, actual: Value) -> bool:
    """Typed equality, numbers within `TOLERANCE`."""
    if isinstance(expected, Decimal) and isinstance(actual, Decimal):
        return abs(expected - actual) <= TOLERANCE
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(map(agrees, expected, actual))
    if isinstance(expected, dict) and isinstance(actual, dict):
        return expected.keys() == actual.keys() and all(agrees(expected[k], actual[k]) for k in expected)
    return equal(expected, actual, Run(DEFAULT_BUDGET, None, None)) is True


def main() -> None:
    """Print the report for the corpus named on the command line."""
    report = run_feel(Path(sys.argv[1]))
    sys.stdout.write("\n".join([*report.lines(), f"feel {report.score}"]) + "\n")


if __name__ == "__main__":
    main()
