"""The trace of a run, from its events: what happened, how long each step took, what it comes to.

Source: flowgrid-level3 §8.4, with the order of ``seq`` instead of clocks, which may tie or differ.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

from activities.telemetry.fold import Fold, LoggedEvent
from models.event import EventType, RunEvent
from models.monitoring import NANOS, Measure, Resolution
from models.monitoring_views import MoneyAmount, Trace, TraceChild, TraceStep, TraceTotals
from models.run import Run

_OPENED_BY_RUN = frozenset({EventType.RUN_SUCCEEDED, EventType.RUN_FAILED, EventType.RUN_CANCELED})
_OPENED_BY_FLOW = frozenset({EventType.FLOW_COMPLETED, EventType.FLOW_FAILED, EventType.FLOW_CANCELLED})

MILLISECOND = timedelta(milliseconds=1)


def decimal_of(nanos: int) -> str:
    """Write billionths as a decimal number of the major unit: ``1_500_000_000`` is ``1.500000000``."""
    return f"{nanos // NANOS}.{nanos % NANOS:09d}"


def is_error(event_type: str) -> bool:
    """Tell whether an event reports that something failed."""
    return event_type.endswith((".failed", ".error")) or event_type in (
        EventType.INCIDENT_RAISED,
        EventType.PAYMENT_DECLINED,
        EventType.SLA_BREACHED,
    )


def trace_of(
    run: Run, events: Sequence[RunEvent], children: Sequence[Run], *, from_seq: int, limit: int, now: datetime
) -> Trace:
    """Put a run's trace together.

    Args:
        run: The run.
        events: Its events from the first on, in order: totals are over all of them.
        children: Runs that it began.
        from_seq: First event of the timeline.
        limit: Longest timeline.
        now: What a run that goes on is measured to.
    """
    durations = _durations(run, events)
    shown = [event for event in events if event.seq >= from_seq][:limit]
    timeline = [_step(run, event, durations) for event in shown]
    length = ((run.ended_at or now) - run.created_at) // MILLISECOND
    next_seq = shown[-1].seq + 1 if shown else from_seq
    return Trace(
        instance_id=run.id,
        kind=run.kind,
        status=run.status,
        correlation_id=run.correlation_id,
        timeline=timeline,
        duration=length,
        total_duration=length,
        agent_calls=sum(event.type == EventType.AGENT_COMPLETED for event in events),
        approvals=sum(event.type == EventType.APPROVAL_CREATED for event in events),
        errors=[_step(run, event, durations) for event in events if is_error(event.type)],
        totals=_totals(run, events),
        children=[_child(child) for child in children],
        has_more=bool(events) and next_seq <= events[-1].seq,
        next_seq=next_seq,
    )


def _durations(run: Run, events: Sequence[RunEvent]) -> dict[int, int]:
    """Return, for each event that ends something, how long that took, by the event's number."""
    opened: dict[str, datetime] = {}
    durations: dict[int, int] = {}
    for event in events:
        beginning, ending = _span_of(event)
        if beginning is not None:
            opened.setdefault(beginning, event.timestamp)
        if ending is not None and ending in opened:
            durations[event.seq] = (event.timestamp - opened[ending]) // MILLISECOND
            # A failed attempt is not the end of its step.
            if not event.type.endswith((".failed", ".retried")):
                del opened[ending]
        elif event.type in _OPENED_BY_RUN:
            durations[event.seq] = (event.timestamp - (run.started_at or run.created_at)) // MILLISECOND
        given = event.data.get("duration_ms", event.data.get("durationMs"))
        if event.seq not in durations and isinstance(given, int) and given >= 0:
            durations[event.seq] = given
    return durations


def _span_of(event: RunEvent) -> tuple[str | None, str | None]:
    """Name what an event begins and what it ends; each is None for an event that does not."""
    family, _, fact = event.type.partition(".")
    if family in ("task", "element", "node"):
        word = event.data.get("key", event.data.get("element", event.data.get("nodeId")))
        name = f"element:{word}"
        if fact in ("started", "dispatched"):
            return name, None
        return (None, name) if fact in ("completed", "failed", "cancelled", "retried") else (None, None)
    if family == "approval":
        name = f"approval:{event.data.get('approvalId', event.data.get('approval_id'))}"
        if event.type == EventType.APPROVAL_CREATED:
            return name, None
        ends = fact in ("completed", "expired", "cancelled", "acknowledged")
        return (None, name) if ends else (None, None)
    if event.type in (EventType.FLOW_STARTED, EventType.AGENT_INVOKED):
        return family, None
    if event.type in _OPENED_BY_FLOW | {EventType.AGENT_COMPLETED, EventType.AGENT_ERROR}:
        return None, family
    return None, None


def _step(run: Run, event: RunEvent, durations: dict[int, int]) -> TraceStep:
    return TraceStep(
        seq=event.seq,
        id=event.id,
        type=event.type,
        timestamp=event.timestamp,
        source=event.source,
        data=event.data,
        duration_ms=durations.get(event.seq),
        elapsed_ms=max(0, (event.timestamp - run.created_at) // MILLISECOND),
    )


def _totals(run: Run, events: Sequence[RunEvent]) -> TraceTotals:
    """Add the events up as the measurements do: the same rules give the same figures."""
    fold = Fold()
    for event in events:
        fold.take(
            LoggedEvent(
                position=event.seq,
                run_id=run.id,
                seq=event.seq,
                tenant_id=run.tenant_id,
                type=event.type,
                timestamp=event.timestamp,
                data=event.data,
                kind=run.kind,
                subject=run.subject,
                created_at=run.created_at,
                started_at=run.started_at,
            )
        )
    counts: defaultdict[tuple[Measure, str], int] = defaultdict(int)
    totals: defaultdict[tuple[Measure, str], int] = defaultdict(int)
    for key, amount in fold.added.items():
        if key.resolution is Resolution.DAY:
            counts[key.measure, key.detail] += amount.count
            counts[key.measure, ""] += amount.count if key.detail else 0
            totals[key.measure, key.detail] += amount.total
            totals[key.measure, ""] += amount.total if key.detail else 0
    return TraceTotals(
        events=len(events),
        complete=len(events) >= run.last_seq,
        steps=counts[Measure.ELEMENT_ENDED, "completed"],
        step_duration_ms=totals[Measure.ELEMENT_DURATION, ""],
        approval_wait_ms=totals[Measure.APPROVAL_RESPONSE, ""],
        tool_calls=counts[Measure.TOOL_CALLS, ""],
        input_tokens=totals[Measure.AGENT_TOKENS, "input"],
        output_tokens=totals[Measure.AGENT_TOKENS, "output"],
        cost=[
            MoneyAmount(currency=currency, amount=decimal_of(nanos))
            for (measure, currency), nanos in sorted(totals.items())
            if measure is Measure.COST and currency
        ],
    )


def _child(run: Run) -> TraceChild:
    length = None if run.ended_at is None else (run.ended_at - run.created_at) // MILLISECOND
    return TraceChild(
        run_id=run.id, kind=run.kind, subject=run.subject, status=run.status, duration_ms=length
    )
