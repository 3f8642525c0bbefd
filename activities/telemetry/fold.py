"""From events to measurements: a pure function over what the log says, in the order of the log.

Data of events is written by many hands and may be old: a field that is missing or of another type is left out
of the figures, it never stops the fold.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from models.event import STATUS_EVENTS, EventType
from models.money import EXPONENTS
from models.monitoring import (
    ALL_TIME,
    NANOS,
    Measure,
    Resolution,
    bucket_of,
    day_of,
    hour_of,
)
from models.run import TERMINAL_STATUSES, RunKind

MAX_WORD = 200
"""Longest scope, subject or detail: what an event says is not trusted to be short."""

FLOW_SPAN = "flow"

_ENDINGS = {STATUS_EVENTS[status].value: status for status in TERMINAL_STATUSES}
_ELEMENT_OUTCOMES = {
    EventType.TASK_COMPLETED.value: "completed",
    EventType.TASK_FAILED.value: "failed",
    EventType.TASK_RETRIED.value: "retried",
    EventType.TASK_CANCELLED.value: "cancelled",
    EventType.ELEMENT_COMPLETED.value: "completed",
    EventType.ELEMENT_CANCELLED.value: "cancelled",
    "node.completed": "completed",
    "node.succeeded": "completed",
    "node.failed": "failed",
    "node.retried": "retried",
    "node.skipped": "skipped",
}
_ELEMENT_DISPATCHED = frozenset({EventType.TASK_DISPATCHED.value, "node.dispatched", "node.queued"})
_ELEMENT_STARTED = frozenset({EventType.TASK_STARTED.value, EventType.ELEMENT_STARTED.value, "node.started"})
_ATTEMPTS = frozenset({"failed", "retried"})
"""Outcomes after which a step may still go on."""

_BODIES = frozenset({"multi-instance", "loop"})
"""Details of an activity that only holds its repetitions, which are counted themselves."""

_APPROVAL_ENDED = frozenset(
    {EventType.APPROVAL_COMPLETED.value, EventType.APPROVAL_EXPIRED.value, "approval.cancelled"}
)


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """One published event with what its run's row says for good.

    Attributes:
        position: Its place in the whole log.
        run_id: Its run.
        seq: Its number in the run.
        tenant_id: Whose it is.
        type: Its type.
        timestamp: When the fact happened.
        data: What it says.
        kind: The run's kind.
        subject: The run's subject.
        created_at: When the run was created.
        started_at: When it started, if it has.
    """

    position: int
    run_id: str
    seq: int
    tenant_id: str
    type: str
    timestamp: datetime
    data: Mapping[str, Any]
    kind: str
    subject: str
    created_at: datetime
    started_at: datetime | None


@dataclass(frozen=True, slots=True)
class Span:
    """Something of a run that has begun and not ended; see `models.monitoring.OpenSpan`."""

    run_id: str
    key: str
    tenant_id: str
    subject: str
    opened_at: datetime
    started_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """Identity of a measurement."""

    tenant_id: str
    resolution: Resolution
    measure: Measure
    scope: str
    subject: str
    bucket: datetime
    detail: str


@dataclass
class Amount:
    """What is added under a key."""

    count: int = 0
    total: int = 0


@dataclass
class Fold:
    """Adds events up.

    Attributes:
        spans: Open spans of the runs concerned, by run and key; kept up to date.
        added: What the events add to the measurements.
        touched: Spans that were opened or changed, by run and key; None: closed.
        hours_since: Facts before this are added to their day only: their hour would not be kept anyway.
    """

    spans: dict[tuple[str, str], Span] = field(default_factory=dict[tuple[str, str], Span])
    added: dict[Key, Amount] = field(default_factory=dict[Key, Amount])
    touched: dict[tuple[str, str], Span | None] = field(default_factory=dict[tuple[str, str], Span | None])
    hours_since: datetime = ALL_TIME
    _keys_of_run: dict[str, set[str]] = field(default_factory=dict[str, set[str]])

    def open(self, spans: Iterable[Span]) -> None:
        """Take in spans that were open before."""
        for span in spans:
            self.spans[span.run_id, span.key] = span
            self._keys_of_run.setdefault(span.run_id, set()).add(span.key)

    def take(self, event: LoggedEvent) -> None:
        """Add one event."""
        if event.seq == 1:
            self._run_begins(event)
        if event.type == EventType.FLOW_STARTED:
            self._begin(event, FLOW_SPAN, _word(event.data, "definitionId", "definition_id") or event.subject)
        elif event.type in _ELEMENT_OUTCOMES or event.type in _ELEMENT_STARTED | _ELEMENT_DISPATCHED:
            self._element(event)
        elif event.type.startswith("approval.") or event.type == EventType.SLA_BREACHED:
            self._approval(event)
        elif event.type in (EventType.AGENT_COMPLETED, EventType.AGENT_TOOL_CALLED):
            self._agent(event)
        elif event.type == EventType.PAYMENT_SETTLED:
            self._payment(event)
        elif event.type == EventType.FLOW_FAILED:
            self._error(event, _word(event.data, "code") or "UNKNOWN")
        if event.type in _ENDINGS:
            self._run_ends(event)

    def _add(self, event: LoggedEvent, measure: Measure, words: tuple[str, str, str], total: int = 0) -> None:
        buckets = [(Resolution.DAY, day_of(event.timestamp))]
        if event.timestamp >= self.hours_since:
            buckets.append((Resolution.HOUR, hour_of(event.timestamp)))
        scope, subject, detail = words
        for resolution, bucket in buckets:
            key = Key(event.tenant_id, resolution, measure, scope, subject, bucket, detail)
            amount = self.added.setdefault(key, Amount())
            amount.count += 1
            amount.total += total

    def _time(
        self, event: LoggedEvent, measure: Measure, scope: str, subject: str, length: timedelta
    ) -> None:
        milliseconds = max(0, length // timedelta(milliseconds=1))
        self._add(event, measure, (scope, subject, str(bucket_of(milliseconds))), milliseconds)

    def _stand(self, tenant_id: str, measure: Measure, scope: str, change: int) -> None:
        key = Key(tenant_id, Resolution.ALL, measure, scope, "", ALL_TIME, "")
        self.added.setdefault(key, Amount()).count += change

    # -- Runs -----------------------------------------------------------------------------------------

    def _run_begins(self, event: LoggedEvent) -> None:
        self._stand(event.tenant_id, Measure.ACTIVE_RUNS, event.kind, 1)
        for subject in {"", event.subject[:MAX_WORD]}:
            self._add(event, Measure.RUN_STARTED, (event.kind, subject, ""))

    def _run_ends(self, event: LoggedEvent) -> None:
        status = _ENDINGS[event.type]
        self._stand(event.tenant_id, Measure.ACTIVE_RUNS, event.kind, -1)
        for subject in self._subjects(event) | {""}:
            self._add(event, Measure.RUN_ENDED, (event.kind, subject, status.value))
            if event.started_at is not None:
                queued = max(0, (event.started_at - event.created_at) // timedelta(milliseconds=1))
                self._add(event, Measure.RUN_QUEUED, (event.kind, subject, ""), queued)
            if event.type == EventType.RUN_SUCCEEDED:
                began = event.started_at or event.created_at
                self._time(event, Measure.RUN_DURATION, event.kind, subject, event.timestamp - began)
        code = _word(event.data, "code", "error_code", "errorCode")
        if event.type == EventType.RUN_FAILED and (code or event.kind != RunKind.FLOW):
            # A process says why in `flow.failed`.
            self._error(event, code or "UNKNOWN")
        for key in list(self._keys_of_run.get(event.run_id, ())):
            span = self._end(event.run_id, key)
            if span is not None and key.startswith("approval:"):
                self._stand(event.tenant_id, Measure.PENDING_APPROVALS, "", -1)

    def _subjects(self, event: LoggedEvent) -> set[str]:
        """Return what the run is counted under: its subject and, for a process, its definition."""
        flow = self.spans.get((event.run_id, FLOW_SPAN))
        return {event.subject[:MAX_WORD]} | ({flow.subject} if flow is not None else set())

    def _error(self, event: LoggedEvent, code: str) -> None:
        for subject in self._subjects(event):
            self._add(event, Measure.RUN_ERROR, (event.kind, subject, code))

    # -- Steps of processes ---------------------------------------------------------------------------

    def _element(self, event: LoggedEvent) -> None:
        data = event.data
        element = _word(
            data, "element", "elementId", "element_id", "node", "nodeId", "node_id", "taskId", "task_id"
        )
        if not element or data.get("detail") in _BODIES:
            return
        visit = data.get("key")
        if isinstance(visit, bool) or not isinstance(visit, int):
            visit = _word(data, "key", "taskExecutionId", "task_execution_id", "activation") or element
        key = f"element:{visit}"
        if event.type in _ELEMENT_DISPATCHED:
            self._begin(event, key, element)
            return
        span = self.spans.get((event.run_id, key))
        if event.type in _ELEMENT_STARTED:
            if span is None:
                self._begin(event, key, element, started=True)
            elif span.started_at is None:
                self._put(replace(span, started_at=event.timestamp))
            return
        flow = self.spans.get((event.run_id, FLOW_SPAN))
        definition = flow.subject if flow is not None else event.subject[:MAX_WORD]
        outcome = _ELEMENT_OUTCOMES[event.type]
        self._add(event, Measure.ELEMENT_ENDED, (definition, element, outcome))
        kind = _word(data, "kind", "elementType", "nodeType", "node_type", "taskType", "task_type")
        if kind:
            self._add(event, Measure.ELEMENT_TYPE, (definition, element, kind))
        if outcome in _ATTEMPTS:
            return
        self._end(event.run_id, key)
        length = _milliseconds(data)
        if span is not None:
            began = span.started_at or span.opened_at
            if span.started_at is not None:
                waited = span.started_at - span.opened_at
                self._time(event, Measure.ELEMENT_WAITING, definition, element, waited)
            length = length if length is not None else event.timestamp - began
        if length is not None and outcome == "completed":
            self._time(event, Measure.ELEMENT_DURATION, definition, element, length)

    # -- Approvals ------------------------------------------------------------------------------------

    def _approval(self, event: LoggedEvent) -> None:
        if event.type == EventType.SLA_BREACHED:
            self._add(event, Measure.SLA_BREACHED, ("", "", ""))
            return
        approval = _word(event.data, "approvalId", "approval_id", "id")
        if not approval:
            return
        key = f"approval:{approval}"
        if event.type == EventType.APPROVAL_CREATED:
            if (event.run_id, key) not in self.spans:
                self._begin(event, key, approval)
                self._add(event, Measure.APPROVAL_CREATED, ("", "", ""))
                self._stand(event.tenant_id, Measure.PENDING_APPROVALS, "", 1)
        elif event.type in _APPROVAL_ENDED:
            span = self._end(event.run_id, key)
            if span is None:
                return
            self._stand(event.tenant_id, Measure.PENDING_APPROVALS, "", -1)
            result = event.type.removeprefix("approval.")
            if event.type == EventType.APPROVAL_COMPLETED:
                result = _word(event.data, "result", "decision", "status", "action") or result
                self._time(event, Measure.APPROVAL_RESPONSE, "", "", event.timestamp - span.opened_at)
            self._add(event, Measure.APPROVAL_COMPLETED, ("", "", result))

    # -- Agents and costs -----------------------------------------------------------------------------

    def _agent(self, event: LoggedEvent) -> None:
        data = event.data
        agent = _word(data, "agentSlug", "agent_slug", "agent") or event.subject[:MAX_WORD]
        if event.type == EventType.AGENT_TOOL_CALLED:
            self._add(
                event, Measure.TOOL_CALLS, (agent, _word(data, "toolName", "tool_name", "tool", "name"), "")
            )
            return
        model = _word(data, "model")
        for direction in ("input", "output"):
            tokens = _number(data, f"{direction}Tokens", f"{direction}_tokens")
            if tokens is not None and tokens >= 0:
                self._add(event, Measure.AGENT_TOKENS, (agent, model, direction), int(tokens))
        cost = _number(data, "costUsd", "cost_usd", "cost")
        if cost is not None and cost >= 0:
            self._add(event, Measure.COST, (agent, model, "USD"), round(cost * NANOS))

    def _payment(self, event: LoggedEvent) -> None:
        amount, currency = event.data.get("amount"), _word(event.data, "currency")
        if isinstance(amount, int) and amount > 0 and currency in EXPONENTS:
            nanos = amount * NANOS // 10 ** EXPONENTS[currency]
            self._add(event, Measure.COST, (event.subject[:MAX_WORD], "", currency), nanos)

    # -- Spans ----------------------------------------------------------------------------------------

    def _begin(self, event: LoggedEvent, key: str, subject: str, *, started: bool = False) -> None:
        self._put(
            Span(
                run_id=event.run_id,
                key=key,
                tenant_id=event.tenant_id,
                subject=subject,
                opened_at=event.timestamp,
                started_at=event.timestamp if started else None,
            )
        )

    def _put(self, span: Span) -> None:
        self.spans[span.run_id, span.key] = self.touched[span.run_id, span.key] = span
        self._keys_of_run.setdefault(span.run_id, set()).add(span.key)

    def _end(self, run_id: str, key: str) -> Span | None:
        span = self.spans.pop((run_id, key), None)
        if span is not None:
            self.touched[run_id, key] = None
            self._keys_of_run[run_id].discard(key)
        return span


def _word(data: Mapping[str, Any], *names: str) -> str:
    for name in names:
        value = data.get(name)
        if isinstance(value, str) and value:
            return value[:MAX_WORD]
    return ""


def _number(data: Mapping[str, Any], *names: str) -> Decimal | None:
    for name in names:
        value = data.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            continue
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            continue
        if number.is_finite() and abs(number) < NANOS:
            return number
    return None


def _milliseconds(data: Mapping[str, Any]) -> timedelta | None:
    number = _number(data, "durationMs", "duration_ms")
    return None if number is None or number < 0 else timedelta(milliseconds=float(number))
