"""Small BPMN files and what happens when they run."""

import json
import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from itertools import pairwise
from typing import Any

from workflows.bpmn import commands as out
from workflows.bpmn.definition import ProcessDefinition
from workflows.bpmn.deployment import deploy
from workflows.bpmn.diagnostics import Diagnostic, Rule
from workflows.bpmn.graph import Graph
from workflows.bpmn.parser import parse
from workflows.bpmn.simulate import Outcome, Simulated, Simulation
from workflows.bpmn.state import State

NAMESPACES = " ".join(
    (
        'xmlns="http://www.omg.org/spec/BPMN/20100524/MODEL"',
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"',
        'xmlns:sy="https://switchyard.dev/schema/bpmn/1.0"',
        'xmlns:zeebe="http://camunda.org/schema/zeebe/1.0"',
        'xmlns:camunda="http://camunda.org/schema/1.0/bpmn"',
        'xmlns:flowable="http://flowable.org/bpmn"',
    )
)

ROOT = """
<message id="msg" name="order"/><message id="msg2" name="other"/>
<signal id="sig" name="alarm"/><signal id="sig2" name="second"/>
<error id="err" errorCode="E1"/><error id="err2" errorCode="E2"/>
<escalation id="esc" escalationCode="ESC"/>
"""


def flows(*specs: str) -> str:
    """Sequence flows from ``a>b`` and ``a>b: condition``; the identifier is ``a_b``."""
    found: list[str] = []
    for spec in specs:
        path, _, condition = spec.partition(":")
        names = [name.strip() for name in path.split(">")]
        for source, target in pairwise(names):
            inside = f"<conditionExpression>{condition.strip()}</conditionExpression>" if condition else ""
            inside = inside.replace("< ", "&lt; ")
            found.append(
                f'<sequenceFlow id="{source}_{target}" sourceRef="{source}" targetRef="{target}">'
                f"{inside}</sequenceFlow>"
            )
    return "".join(found)


def tasks(*names: str) -> str:
    """Service tasks that the worker logs."""
    return "".join(f'<serviceTask id="{name}" sy:taskType="work"/>' for name in names)


def bpmn(*parts: str, root: str = ROOT, name: str = "p", more: str = "") -> bytes:
    """A file with one process; ``s`` and ``e`` are its start and end unless the parts define them."""
    body = "".join(parts)
    start = "" if re.search(r"<startEvent id=\"s\"", body) or "s_" not in body else '<startEvent id="s"/>'
    end = (
        ""
        if re.search(r"<endEvent id=\"e\"", body) or not re.search(r'targetRef="e"', body)
        else ('<endEvent id="e"/>')
    )
    return (
        f'<definitions {NAMESPACES} targetNamespace="t">{root}'
        f'<process id="{name}" isExecutable="true">{start}{body}{end}</process>{more}</definitions>'
    ).encode()


class Ran:
    """What happened in a simulation."""

    def __init__(self, simulation: Simulation, main: Simulated, log: list[str]) -> None:
        self.simulation = simulation
        self.main = main
        self.log = log

    @property
    def state(self) -> State:
        return self.main.state

    @property
    def completed(self) -> bool:
        return isinstance(self.main.outcome, out.Completed)

    @property
    def variables(self) -> dict[str, Any]:
        outcome = self.main.outcome
        return outcome.variables if isinstance(outcome, out.Completed) else self.state.variables

    @property
    def failed(self) -> str | None:
        return self.main.outcome.code if isinstance(self.main.outcome, out.Failed) else None

    @property
    def incidents(self) -> list[str]:
        return [incident[0] for incident in self.state.incidents.values()]

    def key_of(self, element: str) -> int:
        """The key of the living instance of an element."""
        return next(key for key, item in self.state.instances.items() if item.node == element)

    def go_on(self, event: Any = None, after: timedelta | None = None) -> "Ran":
        """Let something happen and run on; by default nothing more than is due now."""
        if event is not None:
            self.simulation.send(self.main, event)
        self.simulation.run(self.simulation.now + (after or timedelta(0)))
        return self


def through_json(state: State) -> State:
    """Serialise a state to text and read it back, as continue-as-new does."""
    return State.from_json(json.loads(json.dumps(state.to_json())))


def run(
    data: bytes,
    variables: dict[str, Any] | None = None,
    *,
    outcomes: dict[str, Outcome | Callable[[out.StartJob], Outcome]] | None = None,
    until: timedelta | None = None,
    others: Iterable[str] = (),
    node: str | None = None,
) -> Ran:
    """Run the first process of a file; its state is cut and reloaded after every event.

    Args:
        data: The file.
        variables: It starts with these.
        outcomes: What workers answer by element; by default they complete.
        until: Stop at this virtual time instead of when nothing is due.
        others: Processes of the file to start first.
        node: Start trigger.
    """
    graphs = deploy(data).graphs
    # What runs is the stored form, read back.
    graphs = {name: Graph(reloaded(graph.definition), graph.languages) for name, graph in graphs.items()}
    log: list[str] = []

    def work(job: out.StartJob) -> Outcome:
        log.append(job.element)
        answer = (outcomes or {}).get(job.element, Outcome())
        return answer(job) if callable(answer) else answer

    simulation = Simulation(graphs, work, cut=through_json)
    for other in others:
        simulation.start(other)
        simulation.run(simulation.now)
    main = simulation.start(next(iter(graphs)), variables, node)
    simulation.run(None if until is None else simulation.now + until)
    return Ran(simulation, main, log)


def reloaded(definition: ProcessDefinition) -> ProcessDefinition:
    """The definition as a worker reads it from the store."""
    twin = ProcessDefinition.model_validate_json(definition.canonical)
    assert twin.sha256 == definition.sha256
    return twin


def diagnostics(data: bytes) -> tuple[Diagnostic, ...]:
    """All findings about a file."""
    from workflows.bpmn.deployment import check

    return check(data)


def errors(data: bytes) -> list[tuple[Rule, str]]:
    """Rule and element of each error."""
    return [(item.rule, item.element) for item in diagnostics(data) if item.severity == "error"]


def definition(data: bytes) -> ProcessDefinition:
    """The typed model of the first process."""
    return parse(data).processes[0]


HOLD = Outcome(hold=True)


def variables(**values: Any) -> Outcome:
    """A worker's results."""
    return Outcome(values)


def orphans(ran: Ran) -> list[str]:
    """Jobs, timers and subscriptions that were opened and neither ended nor cancelled.

    Call it on an instance that has ended: nothing may be left.
    """
    jobs: dict[int, str] = {}
    timers: dict[int, str] = {}
    subs: dict[int, str] = {}
    for entry in ran.simulation.trace:
        if entry.instance != ran.main.number:
            continue
        command = entry.command
        if isinstance(command, out.StartJob):
            jobs[command.key] = command.element
        elif isinstance(command, out.CancelJob) or (
            isinstance(command, out.Trace) and command.event == "completed"
        ):
            jobs.pop(command.key, None)
        elif isinstance(command, out.SetTimer):
            timers[command.key] = command.element
        elif isinstance(command, out.CancelTimer):
            timers.pop(command.key, None)
        elif isinstance(command, out.Subscribe):
            subs[command.key] = command.element
        elif isinstance(command, out.Unsubscribe):
            subs.pop(command.key, None)
    return [*jobs.values(), *subs.values()]
