"""Runs a corpus of executable BPMN cases with expected traces through the interpreter.

The corpus lies outside the repository: ``<corpus>/bpmn/cases.json`` beside the files it names. Scripts are
bare tokens of a language that only this runner knows; see `ScriptTokens`.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from workflows.bpmn import commands as out
from workflows.bpmn.deployment import deploy
from workflows.bpmn.diagnostics import DefinitionRefusedError
from workflows.bpmn.expression import CompiledExpression, Languages
from workflows.bpmn.languages import Feel
from workflows.bpmn.simulate import Outcome, Simulated, Simulation
from workflows.bpmn.state import State


class CaseResult(NamedTuple):
    """How one case went."""

    group: str
    feature: str
    number: int
    passed: bool
    expected: list[str]
    seen: list[str]
    unwritten: list[str]
    """Expected log entries that no script of the file can write: the case contradicts itself."""


class Report(NamedTuple):
    """How a corpus went."""

    results: list[CaseResult]

    @property
    def passed(self) -> int:
        """Number of cases that passed."""
        return sum(result.passed for result in self.results)

    @property
    def total(self) -> int:
        """Number of cases."""
        return len(self.results)

    def lines(self) -> list[str]:
        """Return failures, then one line per group, then the totals."""
        lines = [
            f"FAIL {r.group}/{r.feature} #{r.number}: expected {r.expected}, seen {r.seen}"
            + (f"; no script of the file logs {', '.join(r.unwritten)}" if r.unwritten else "")
            for r in self.results
            if not r.passed
        ]
        totals = Counter(result.group for result in self.results)
        good = Counter(result.group for result in self.results if result.passed)
        lines += [f"bpmn {group}: {good[group]}/{totals[group]}" for group in sorted(totals)]
        return [*lines, f"bpmn {self.passed}/{self.total}"]


class _Conditions:
    """The corpus writes its few conditions in Java: they are FEEL after two substitutions."""

    def compile(self, source: str) -> CompiledExpression:
        text = source.strip()
        negated = text.startswith("!")
        if negated:
            text = text[1:].strip()
        head, found, rest = text.partition(".contains(")
        if found and rest.endswith(")"):
            text = f"contains({head.strip()}, {rest[:-1].strip()})"
        return Feel().compile(f"not({text})" if negated else text)


class ScriptTokens:
    """Does what the bare script tokens say and keeps the log."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def __call__(self, job: out.StartJob) -> Outcome:
        outcome = Outcome()
        for token in str(job.details.get("script", "")).split(","):
            outcome = self._do(token.strip(), job, outcome)
        return outcome

    def _do(self, token: str, job: out.StartJob, outcome: Outcome) -> Outcome:
        variables = dict(outcome.variables)
        if token.startswith("SCRIPT_task"):
            self.log.append(f"Task{token.removeprefix('SCRIPT_task')}")
        elif token.startswith("INCREMENT_INTEGER_VARIABLE"):
            value = variables.get("integerVariable", job.variables.get("integerVariable"))
            variables["integerVariable"] = (value if isinstance(value, int) else 0) + 1
            if token.endswith("_AND_LOG"):
                self.log.append("Increment")
        elif token == "CREATE_MARKER_FILE":
            self.log.append("MarkerExists")
        elif token == "SET_STRING_DATA":
            variables["data"] = "String"
        elif token == "LOG_DATA":
            if job.variables.get("data") == "String" or "String" in job.variables.values():
                self.log.append("DataCorrect")
        elif token == "THROW_ERROR":
            return outcome._replace(error="ERR_CODE")
        elif token == "WAIT_TEN_SECONDS":
            return outcome._replace(delay=timedelta(seconds=10))
        return outcome._replace(variables=variables)


def languages() -> Languages:
    """Return the languages of the corpus: its conditions, and scripts as jobs."""
    return Languages({"feel": _Conditions()}, frozenset({""}))


def run_case(folder: Path, case: dict[str, Any], cut: Callable[[State], State] | None = None) -> CaseResult:
    """Run one case; ``cut`` replaces the state after every event."""
    return judge(folder, case, _observe(folder / case["file"], case, cut))


def judge(folder: Path, case: dict[str, Any], seen: list[str]) -> CaseResult:
    """Compare what a case logged with what it must log."""
    expected = sorted(case["expect"])
    wanted = Counter(expected)
    found = Counter(seen)
    # The marker is a file: it exists or it does not, and cases that do not ask for it ignore it.
    found["MarkerExists"] = min(found["MarkerExists"], wanted["MarkerExists"])
    if "GenericError" in wanted:
        passed = "GenericError" in found or bool(
            set(found) & {"RuntimeException", "ErrorThrownErrorEvent"} and len(+found) == 1
        )
    else:
        passed = +found == wanted
    text = (folder / case["file"]).read_text(errors="replace")
    unwritten = sorted(
        {
            entry
            for entry in expected
            if entry.startswith("Task") and f"SCRIPT_task{entry.removeprefix('Task')}" not in text
        }
    )
    number = case.get("n", 1)
    return CaseResult(case["group"], case["feature"], number, passed, expected, sorted(seen), unwritten)


def _observe(path: Path, case: dict[str, Any], cut: Callable[[State], State] | None) -> list[str]:
    try:
        graphs = deploy(path.read_bytes(), languages()).graphs
    except DefinitionRefusedError:
        return ["GenericError"]
    worker = ScriptTokens()
    simulation = Simulation(graphs, worker, cut=cut)
    if case["parallel_process"] and "ParallelProcess" in graphs:
        _start(simulation, "ParallelProcess", {}, by_trigger=False)
        simulation.run(simulation.now)
    main = _start(simulation, path.stem, case["inputs"], by_trigger=True)
    delay = case["delay_ms"]
    simulation.run(simulation.now + timedelta(milliseconds=delay) if delay else None)
    log = list(worker.log)
    if any(
        incident[0] != "DEADLOCK"
        for simulated in simulation.instances.values()
        for incident in simulated.state.incidents.values()
    ):
        log.append("RuntimeException")
    if main is not None and isinstance(main.outcome, out.Failed):
        log.append("ErrorThrownErrorEvent")
    return log


def _start(
    simulation: Simulation, process: str, variables: dict[str, Any], *, by_trigger: bool
) -> Simulated | None:
    """Start a process as its start events want it; one that only waits for an event is left to it."""
    graph = simulation.graphs[process]
    triggers = graph.start_triggers
    started = any(node.kind == "startEvent" for node in graph.root.inner)
    if not started or any(trigger.kind == "none" for trigger in triggers):
        return simulation.start(process, variables)
    if any(trigger.kind == "timer" for trigger in triggers):
        simulation.schedule_timer_starts(process, variables)
        return None
    if not by_trigger:
        return None
    return simulation.start(process, variables, triggers[0].node)


def run_bpmn(corpus: Path, cut: Callable[[State], State] | None = None) -> Report:
    """Run all cases of ``<corpus>/bpmn``.

    Args:
        corpus: Folder that holds ``bpmn/cases.json``.
        cut: Replaces each state after each event, to show that nothing is lost by serialising it.
    """
    folder = corpus / "bpmn"
    cases = json.loads((folder / "cases.json").read_text())
    return Report([run_case(folder, case, cut) for case in cases])


def through_json(state: State) -> State:
    """Serialise a state to text and read it back."""
    return State.from_json(json.loads(json.dumps(state.to_json())))


if __name__ == "__main__":
    sys.stdout.write("\n".join(run_bpmn(Path(sys.argv[1])).lines()) + "\n")
