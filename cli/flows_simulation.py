"""A scenario for the simulator, and its trace as people and programs read it."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from cli.flows_files import FlowFileError, span
from workflows.bpmn import commands as out
from workflows.bpmn.graph import Graph
from workflows.bpmn.simulate import EPOCH, Entry, Outcome, Simulated, Simulation


class JobAnswer(BaseModel):
    """What a job answers.

    Attributes:
        variables: Its results.
        delay: ISO 8601 duration of virtual time that it takes.
        error: BPMN error code that it ends with.
        escalation: Escalation code that it throws before it ends.
        failure: Text of a technical failure: an incident.
        hold: It never ends.
    """

    model_config = ConfigDict(extra="forbid")

    variables: dict[str, Any] = {}
    delay: str | None = None
    error: str | None = None
    escalation: str | None = None
    failure: str | None = None
    hold: bool = False


class Arrival(BaseModel):
    """A message or signal from outside.

    Attributes:
        after: ISO 8601 duration from the start of the simulation.
        name: Its name.
        key: Correlation key of a message.
        variables: What it carries.
    """

    model_config = ConfigDict(extra="forbid")

    after: str = "PT0S"
    name: str
    key: str | None = None
    variables: dict[str, Any] = {}


class Scenario(BaseModel):
    """What happens around a simulated process.

    Attributes:
        jobs: Answers by element id; a list gives one answer after another, the last one again and again.
        messages: Messages that arrive.
        signals: Signals that are broadcast.
    """

    model_config = ConfigDict(extra="forbid")

    jobs: dict[str, JobAnswer | list[JobAnswer]] = {}
    messages: list[Arrival] = []
    signals: list[Arrival] = []

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Return the scenario of a JSON file.

        Raises:
            FlowFileError: It is none.
        """
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the file"
            raise FlowFileError(f"The scenario cannot be used: {place}: {first['msg']}.") from None


class SimulationResult(NamedTuple):
    """A simulation that came to rest.

    Attributes:
        process: What was started.
        main: Its instance.
        simulation: All instances, with the trace.
        began: The clock's first value.
    """

    process: str
    main: Simulated
    simulation: Simulation
    began: datetime

    @property
    def status(self) -> str:
        """``completed``, ``failed``, ``terminated``, ``incident`` or ``waiting``."""
        if self.main.state.ended:
            return self.main.state.status
        stuck = any(item.state.incidents for item in self.simulation.instances.values())
        return "incident" if stuck else "waiting"

    @property
    def variables(self) -> dict[str, Any]:
        """The variables at the end."""
        outcome = self.main.outcome
        return outcome.variables if isinstance(outcome, out.Completed) else self.main.state.variables

    def incidents(self) -> list[dict[str, Any]]:
        """Every open incident of every instance."""
        return [
            {
                "instance": item.number,
                "element": item.state.instances[key].node,
                "type": kind,
                "message": message,
            }
            for item in self.simulation.instances.values()
            for key, (kind, message) in item.state.incidents.items()
        ]

    def waiting(self) -> list[str]:
        """Elements of the main instance that still wait for something."""
        found = [
            item.node
            for item in self.main.state.instances.values()
            if not item.children and item.node != self.main.graph.id
        ]
        return list(dict.fromkeys(found))

    def to_json(self) -> dict[str, Any]:
        """Return the result for programs."""
        return {
            "process": self.process,
            "status": self.status,
            "started_at": self.began.isoformat(),
            "ended_at": self.simulation.now.isoformat(),
            "variables": self.variables,
            "incidents": self.incidents(),
            "waiting": self.waiting(),
            "trace": [_entry_json(entry) for entry in self.simulation.trace],
        }

    def lines(self) -> Iterator[str]:
        """Return the result for people: a line per happening, then how it ended."""
        several = len(self.simulation.instances) > 1
        for entry in self.simulation.trace:
            text = _describe(entry.command)
            if text is not None:
                who = f"{entry.process}#{entry.instance}  " if several else ""
                yield f"{_elapsed(entry.at - self.began):>14}  {who}{text}"
        yield f"{self.process} {self.status} after {_elapsed(self.simulation.now - self.began)}"
        outcome = self.main.outcome
        if isinstance(outcome, out.Failed):
            yield f"error {outcome.code}: {outcome.message}"
        for incident in self.incidents():
            yield f"incident {incident['type']} at {incident['element']}: {incident['message']}"
        if self.status == "waiting":
            yield f"waiting at {', '.join(self.waiting())}"
        yield f"variables {json.dumps(self.variables, ensure_ascii=False, default=str)}"


def run_scenario(
    graphs: Mapping[str, Graph],
    process: str,
    variables: dict[str, Any],
    scenario: Scenario,
    *,
    start: str | None = None,
    clock: datetime | None = None,
    until: timedelta | None = None,
) -> SimulationResult:
    """Run a process through a scenario until nothing is due any more.

    Args:
        graphs: All processes of the deployment.
        process: Which to start.
        variables: It starts with these.
        scenario: What happens around it.
        start: Start event to enter by.
        clock: First value of the clock, UTC.
        until: Virtual time to stop at.

    Raises:
        FlowFileError: The scenario names unknown elements or no durations.
        StepRefusedError: The start event cannot be entered.
    """
    began = EPOCH if clock is None else clock.replace(tzinfo=UTC)
    simulation = Simulation(graphs, _Workers(scenario, graphs), start=began)
    main = simulation.begin(process, variables, start)
    for at, publish, arrival in _arrivals(scenario):
        if until is not None and at > until:
            break
        simulation.run(began + at)
        if publish:
            simulation.publish(arrival.name, arrival.key, arrival.variables)
        else:
            simulation.broadcast(arrival.name, arrival.variables)
    simulation.run(None if until is None else began + until)
    return SimulationResult(process, main, simulation, began)


def _arrivals(scenario: Scenario) -> list[tuple[timedelta, bool, Arrival]]:
    found = [(span(item.after) or timedelta(0), True, item) for item in scenario.messages]
    found += [(span(item.after) or timedelta(0), False, item) for item in scenario.signals]
    return sorted(found, key=lambda item: item[0])


class _Workers:
    """Answers jobs as the scenario says."""

    def __init__(self, scenario: Scenario, graphs: Mapping[str, Graph]) -> None:
        unknown = [
            name for name in scenario.jobs if not any(name in graph.nodes for graph in graphs.values())
        ]
        if unknown:
            raise FlowFileError(f"The scenario answers elements that are not there: {', '.join(unknown)}.")
        self._answers = {
            name: list(answer) if isinstance(answer, list) else [answer]
            for name, answer in scenario.jobs.items()
        }

    def __call__(self, job: out.StartJob) -> Outcome:
        answers = self._answers.get(job.element)
        if not answers:
            return Outcome()
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return Outcome(
            variables=answer.variables,
            error=answer.error,
            escalation=answer.escalation,
            failure=answer.failure,
            delay=span(answer.delay) or timedelta(0),
            hold=answer.hold,
        )


# --- showing ------------------------------------------------------------------------------------------


def _elapsed(span_: timedelta) -> str:
    """Return a time span as ``+1d 02:03:04``."""
    seconds = int(span_.total_seconds())
    days, rest = divmod(seconds, 86_400)
    text = f"{rest // 3600:02}:{rest % 3600 // 60:02}:{rest % 60:02}"
    return f"+{days}d {text}" if days else f"+{text}"


def _entry_json(entry: Entry) -> dict[str, Any]:
    return {
        "at": entry.at.isoformat(),
        "instance": entry.instance,
        "process": entry.process,
        **out.to_json(entry.command),
    }


def _describe(command: out.Command) -> str | None:
    """Return a command as one line of the trace, None for bookkeeping."""
    match command:
        case out.Trace(event=event, element=element, detail=detail):
            return None if event == "taken" else f"{event:<12} {element}{f' ({detail})' if detail else ''}"
        case out.StartJob(element=element, kind=kind, type=type_, attempt=attempt):
            again = f", attempt {attempt}" if attempt > 1 else ""
            return f"{'job':<12} {element} ({type_ or kind}{again})"
        case out.SetTimer(element=element, due=due):
            return f"{'timer':<12} {element} (due {due.isoformat(' ', 'seconds')})"
        case out.Subscribe(element=element, kind=kind, name=name, correlation=key):
            return f"{'waits':<12} {element} ({kind} {name}{f', key {key}' if key is not None else ''})"
        case out.ThrowMessage(element=element, name=name, correlation=key):
            return f"{'message':<12} {element} ({name}{f', key {key}' if key is not None else ''})"
        case out.RaiseIncident(element=element, type=type_, message=message):
            return f"{'incident':<12} {element} ({type_}: {message})"
        case out.Completed(variables=variables):
            return f"{'ended':<12} {json.dumps(variables, ensure_ascii=False, default=str)[:200]}"
        case out.Failed(element=element, code=code):
            return f"{'failed':<12} {element} (error {code})"
        case _:
            return None
