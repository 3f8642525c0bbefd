"""A process on a virtual clock: minutes of timers in milliseconds, for authors, tests and conformance.

Jobs are answered by handlers, messages and signals travel between the simulated instances, called
processes run as instances of their own, and time jumps to the next thing that is due.
"""

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from workflows.bpmn import commands as out
from workflows.bpmn import inputs
from workflows.bpmn.definition import EventKind
from workflows.bpmn.graph import Graph, StartTrigger
from workflows.bpmn.inputs import Input
from workflows.bpmn.state import State
from workflows.bpmn.step import apply, new_state
from workflows.bpmn.timing import TimerValueError, compute

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
MAX_EVENTS = 200_000
MAX_TRACE = 100_000
"""Lines of a trace that are kept; an endless loop writes a million."""


class Outcome(NamedTuple):
    """What a job handler answers.

    Attributes:
        variables: Results.
        error: BPMN error code.
        escalation: Escalation code thrown before completing.
        failure: Technical failure: an incident.
        delay: Virtual time the work takes.
        hold: The work never ends by itself.
    """

    variables: dict[str, Any] = {}
    error: str | None = None
    escalation: str | None = None
    failure: str | None = None
    delay: timedelta = timedelta(0)
    hold: bool = False


JobHandler = Callable[[out.StartJob], Outcome]
"""Answers a job; the default completes it at once without results."""


class Entry(NamedTuple):
    """A line of the trace.

    Attributes:
        at: Virtual time.
        instance: Number of the simulated instance, from 1.
        process: Its process.
        command: What happened.
    """

    at: datetime
    instance: int
    process: str
    command: out.Command


class Simulated:
    """One simulated instance."""

    def __init__(self, number: int, graph: Graph) -> None:
        self.number = number
        self.graph = graph
        self.state: State = new_state(graph)
        self.caller: tuple[int, int] | None = None
        self.outcome: out.Completed | out.Failed | out.Terminated | None = None
        self.called: dict[int, int] = {}


class Simulation:
    """Simulated instances on one virtual clock.

    Args:
        graphs: Processes that may be called or started by messages and signals, by identifier.
        handler: Answers jobs.
        start: The first clock value.
        cut: Called with each state after each event; what it returns replaces the state (a test
            serialises and reloads here).
    """

    def __init__(
        self,
        graphs: Mapping[str, Graph],
        handler: JobHandler | None = None,
        start: datetime = EPOCH,
        cut: Callable[[State], State] | None = None,
    ) -> None:
        self.graphs = dict(graphs)
        self.handler: JobHandler = handler or (lambda job: Outcome())
        self.now = start
        self.cut = cut
        self.instances: dict[int, Simulated] = {}
        self.trace: list[Entry] = []
        self.events = 0
        self._ready: deque[tuple[int, Input]] = deque()
        self._later: list[tuple[datetime, int, int, Input]] = []
        self._order = 0
        self._messages: list[out.ThrowMessage] = []

    # --- driving ------------------------------------------------------------------------------------

    def start(
        self,
        process: str,
        variables: dict[str, Any] | None = None,
        node: str | None = None,
        part: int = 0,
    ) -> Simulated:
        """Start an instance; `run` moves it."""
        simulated = Simulated(len(self.instances) + 1, self.graphs[process])
        self.instances[simulated.number] = simulated
        begin = inputs.Start(self.now, dict(variables or {}), node, part=part)
        self._ready.append((simulated.number, begin))
        return simulated

    def begin(
        self, process: str, variables: dict[str, Any] | None = None, node: str | None = None
    ) -> Simulated:
        """Start a process as the outside world would: by its none start, else by its first trigger.

        A timer start waits for its due time on the virtual clock.
        """
        graph = self.graphs[process]
        kinds = {trigger.kind for trigger in graph.start_triggers}
        if node is not None or not kinds or "none" in kinds:
            return self.start(process, variables, node)
        if EventKind.TIMER.value in kinds:
            due = self.schedule_timer_starts(process, variables)
            if due:
                return due[0]
        return self.start(process, variables, graph.start_triggers[0].node)

    def send(self, simulated: Simulated, event: Input) -> None:
        """Let something happen to an instance and run on."""
        self._ready.append((simulated.number, event))

    def interrupt(self, simulated: Simulated, event: Input) -> None:
        """Let something happen to an instance before anything that waits in line."""
        self._happen(simulated, event)

    def run(self, until: datetime | None = None) -> None:
        """Run until nothing is due any more, or up to ``until`` of the virtual clock."""
        while self.events < MAX_EVENTS and self._advance(until):
            pass
        if until is not None and until > self.now:
            self.now = until

    def run_events(self, count: int) -> None:
        """Run at most so many more events."""
        last = self.events + count
        while self.events < last and self._advance(None):
            pass

    def _advance(self, until: datetime | None) -> bool:
        """Let the next thing happen or time pass; tell whether there was anything to do."""
        if self._ready:
            number, event = self._ready.popleft()
            self._happen(self.instances[number], event)
            return True
        if not self._later or (until is not None and self._later[0][0] > until):
            return False
        at, _, number, event = heapq.heappop(self._later)
        self.now = max(self.now, at)
        self._ready.append((number, event))
        return True

    def _happen(self, simulated: Simulated, event: Input) -> None:
        self.events += 1
        if isinstance(event, inputs.TimerFired):
            sub = simulated.state.subs.get(event.key)
            if sub is None or sub.due is None or sub.due > self.now:
                return
        found = apply(simulated.graph, simulated.state, event._replace(now=self.now))
        if self.cut is not None:
            simulated.state = self.cut(simulated.state)
        for command in found:
            if len(self.trace) < MAX_TRACE:
                self.trace.append(Entry(self.now, simulated.number, simulated.graph.id, command))
            self._obey(simulated, command)

    def _obey(self, simulated: Simulated, command: out.Command) -> None:
        if isinstance(command, out.StartJob):
            self._job(simulated, command)
        elif isinstance(command, out.SetTimer):
            self._at(command.due, simulated, inputs.TimerFired(self.now, command.key))
        elif isinstance(command, out.ThrowMessage):
            self._publish(command)
        elif isinstance(command, out.ThrowSignal):
            self._broadcast(simulated, command)
        elif isinstance(command, out.Subscribe):
            if command.kind == "message":
                self._offer_buffered(simulated, command)
        elif isinstance(command, out.CancelJob):
            self._cancel_call(simulated, command.key)
        elif isinstance(command, out.Continue):
            self._ready.appendleft((simulated.number, inputs.Continued(self.now)))
        elif isinstance(command, out.ThrowEscalation):
            self._escalate_to_caller(simulated, command)
        elif isinstance(command, out.Completed | out.Failed | out.Terminated):
            simulated.outcome = command
            self._answer_caller(simulated)

    def _at(self, due: datetime, simulated: Simulated, event: Input) -> None:
        self._order += 1
        heapq.heappush(self._later, (max(due, self.now), self._order, simulated.number, event))

    # --- jobs and calls -----------------------------------------------------------------------------

    def _job(self, simulated: Simulated, job: out.StartJob) -> None:
        if job.kind == "call":
            self._call(simulated, job)
            return
        outcome = self.handler(job)
        if outcome.hold:
            return
        answers: list[Input] = []
        if outcome.escalation is not None:
            answers.append(inputs.JobEscalated(self.now, job.key, outcome.escalation))
        if outcome.failure is not None:
            answers.append(inputs.JobFailed(self.now, job.key, outcome.failure))
        elif outcome.error is not None:
            answers.append(inputs.JobError(self.now, job.key, outcome.error, "", outcome.variables))
        else:
            answers.append(inputs.JobCompleted(self.now, job.key, outcome.variables))
        for answer in answers:
            if outcome.delay > timedelta(0):
                self._at(self.now + outcome.delay, simulated, answer)
            else:
                self._ready.append((simulated.number, answer))

    def _call(self, simulated: Simulated, job: out.StartJob) -> None:
        called = str(job.details.get("called"))
        if called not in self.graphs:
            failure = inputs.JobFailed(self.now, job.key, f"There is no process {called!r}.")
            self._ready.append((simulated.number, failure))
            return
        child = self.start(called, job.variables)
        child.caller = (simulated.number, job.key)
        simulated.called[job.key] = child.number

    def _cancel_call(self, simulated: Simulated, key: int) -> None:
        number = simulated.called.pop(key, None)
        if number is not None and not self.instances[number].state.ended:
            self._ready.append((number, inputs.Cancel(self.now, "the caller was cancelled")))

    def _answer_caller(self, simulated: Simulated) -> None:
        if simulated.caller is None:
            return
        number, key = simulated.caller
        outcome = simulated.outcome
        if isinstance(outcome, out.Completed):
            self._ready.append((number, inputs.JobCompleted(self.now, key, outcome.variables)))
        elif isinstance(outcome, out.Failed):
            answer = inputs.JobError(self.now, key, outcome.code or "", outcome.message)
            self._ready.append((number, answer))

    def _escalate_to_caller(self, simulated: Simulated, command: out.ThrowEscalation) -> None:
        if simulated.caller is not None:
            number, key = simulated.caller
            event = inputs.JobEscalated(self.now, key, command.code or "", command.variables)
            self._ready.append((number, event))

    # --- messages and signals -------------------------------------------------------------------------

    def publish(
        self, name: str, correlation: str | None = None, variables: dict[str, Any] | None = None
    ) -> None:
        """Publish a message from outside."""
        self._publish(out.ThrowMessage("", 0, name, correlation, dict(variables or {})))

    def broadcast(self, name: str, variables: dict[str, Any] | None = None) -> None:
        """Broadcast a signal from outside."""
        self._broadcast(None, out.ThrowSignal("", 0, name, dict(variables or {})))

    def _publish(self, message: out.ThrowMessage) -> None:
        if message.correlation is None:
            keys = (
                graph.message_key(message.name, message.variables, self.now) for graph in self.graphs.values()
            )
            message = message._replace(correlation=next((key for key in keys if key is not None), None))
        for simulated in self.instances.values():
            for sub in simulated.state.subs.values():
                if sub.kind != "message" or sub.name != message.name:
                    continue
                if sub.correlation is None or sub.correlation == message.correlation:
                    event = inputs.MessageReceived(
                        self.now, message.name, message.correlation, message.variables, sub.key
                    )
                    self._ready.append((simulated.number, event))
                    return
        for graph, trigger in self._starts(EventKind.MESSAGE, message.name):
            self.start(graph.id, message.variables, trigger.node, trigger.part)
            return
        self._messages.append(message)

    def _offer_buffered(self, simulated: Simulated, command: out.Subscribe) -> None:
        for message in self._messages:
            if message.name == command.name and command.correlation in (None, message.correlation):
                self._messages.remove(message)
                event = inputs.MessageReceived(
                    self.now, message.name, message.correlation, message.variables, command.key
                )
                self._ready.append((simulated.number, event))
                return

    def _broadcast(self, source: Simulated | None, signal: out.ThrowSignal) -> None:
        for simulated in list(self.instances.values()):
            if simulated is not source and any(
                sub.kind == "signal" and sub.name == signal.name for sub in simulated.state.subs.values()
            ):
                event = inputs.SignalReceived(self.now, signal.name, signal.variables)
                self._ready.append((simulated.number, event))
        for graph, trigger in self._starts(EventKind.SIGNAL, signal.name):
            self.start(graph.id, signal.variables, trigger.node, trigger.part)

    def _starts(self, kind: EventKind, name: str) -> list[tuple[Graph, StartTrigger]]:
        return [
            (graph, trigger)
            for graph in self.graphs.values()
            for trigger in graph.start_triggers
            if trigger.kind == kind.value and trigger.name == name
        ]

    def schedule_timer_starts(self, process: str, variables: dict[str, Any] | None = None) -> list[Simulated]:
        """Start an instance at the first due time of each timer start event of the process."""
        graph = self.graphs[process]
        found: list[Simulated] = []
        for trigger in graph.start_triggers:
            if trigger.kind != EventKind.TIMER.value or trigger.event is None or trigger.event.value is None:
                continue
            try:
                due = compute(trigger.event.timer or "duration", trigger.event.value.text, self.now)
            except TimerValueError:
                continue
            simulated = Simulated(len(self.instances) + 1, graph)
            self.instances[simulated.number] = simulated
            begin = inputs.Start(self.now, dict(variables or {}), trigger.node, part=trigger.part)
            self._at(due.at, simulated, begin)
            found.append(simulated)
        return found


def simulate(
    graph: Graph,
    variables: dict[str, Any] | None = None,
    handler: JobHandler | None = None,
    *,
    graphs: Mapping[str, Graph] | None = None,
    until: timedelta | None = None,
) -> Simulation:
    """Run one instance to its end, or until nothing is due.

    Args:
        graph: What to run.
        variables: It starts with these.
        handler: Answers its jobs; without one they complete at once without results.
        graphs: Other processes it may call or send to.
        until: Virtual time to stop at.
    """
    known = {**(graphs or {}), graph.id: graph}
    simulation = Simulation(known, handler)
    simulation.begin(graph.id, variables)
    simulation.run(None if until is None else simulation.now + until)
    return simulation
