"""The trace of a run: in order, with durations, totals, and nothing of another tenant."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from hypothesis import given
from hypothesis import strategies as st

from activities.telemetry.trace import trace_of
from models.event import EventType, NewEvent, RunEvent
from models.identifiers import new_identifier
from models.run import Run, RunKind, RunStatus
from tests.api.calling import TokenFor, bearer
from tests.monitoring.conftest import Story

NOW = datetime(2026, 3, 4, 15, 30, tzinfo=UTC)


def a_run(**changes: Any) -> Run:
    facts: dict[str, Any] = {
        "id": "inst_1",
        "tenant_id": "t",
        "kind": RunKind.FLOW,
        "status": RunStatus.RUNNING,
        "subject": "incident",
        "correlation_id": "c",
        "workflow_id": "process/inst_1",
        "created_at": NOW,
        "started_at": NOW,
    }
    return Run(**(facts | changes))


def said(*events: tuple[EventType, float, dict[str, Any]]) -> list[RunEvent]:
    return [
        RunEvent(
            run_id="inst_1",
            seq=seq,
            month=NOW.date().replace(day=1),
            id=f"evt_{seq}",
            key=str(seq),
            tenant_id="t",
            type=kind,
            source="worker",
            timestamp=NOW + timedelta(seconds=seconds),
            data=data,
            correlation_id="c",
        )
        for seq, (kind, seconds, data) in enumerate(events, start=1)
    ]


def test_steps_have_their_durations_and_totals_add_up() -> None:
    step, other = {"element": "classify", "key": 1}, {"element": "resolve", "key": 2}
    events = said(
        (EventType.FLOW_STARTED, 0, {"definition_id": "flow_1"}),
        (EventType.TASK_STARTED, 1, step),
        (EventType.TASK_STARTED, 1, other),
        (EventType.TASK_FAILED, 2, step),
        (EventType.TASK_COMPLETED, 4, step),
        (EventType.AGENT_COMPLETED, 5, {"model": "m", "input_tokens": 3, "cost_usd": "0.5"}),
        (EventType.APPROVAL_CREATED, 5, {"approvalId": "apr_1"}),
        (EventType.APPROVAL_COMPLETED, 9, {"approvalId": "apr_1", "result": "approved"}),
        (EventType.TASK_COMPLETED, 10, other),
        (EventType.FLOW_COMPLETED, 10, {}),
        (EventType.RUN_SUCCEEDED, 10, {}),
    )
    run = a_run(status=RunStatus.SUCCEEDED, ended_at=NOW + timedelta(seconds=10), last_seq=len(events))
    trace = trace_of(run, events, [], from_seq=1, limit=100, now=NOW)
    lengths = [(step.type, step.duration_ms) for step in trace.timeline if step.duration_ms is not None]
    assert lengths == [
        ("task.failed", 1000),
        ("task.completed", 3000),
        ("approval.completed", 4000),
        ("task.completed", 9000),
        ("flow.completed", 10_000),
        ("run.succeeded", 10_000),
    ]
    assert (trace.duration, trace.agent_calls, trace.approvals) == (10_000, 1, 1)
    assert [step.type for step in trace.errors] == ["task.failed"]
    totals = trace.totals
    assert (totals.steps, totals.step_duration_ms, totals.approval_wait_ms) == (2, 12_000, 4000)
    assert (totals.input_tokens, totals.cost[0].amount, totals.complete) == (3, "0.500000000", True)


@given(st.integers(1, 12), st.integers(1, 12))
def test_pages_of_a_timeline_join_without_gap(from_seq: int, limit: int) -> None:
    events = said(*((EventType.LOG, float(number), {}) for number in range(10)))
    trace = trace_of(a_run(last_seq=10), events, [], from_seq=from_seq, limit=limit, now=NOW)
    assert [step.seq for step in trace.timeline] == list(range(from_seq, min(11, from_seq + limit)))
    assert trace.has_more == (trace.next_seq <= 10)
    assert trace.totals.events == 10


async def test_a_trace_is_read_by_its_tenant_only(
    web: httpx.AsyncClient, token: TokenFor, story: Story
) -> None:
    tenant = new_identifier("tenant")
    logged = NewEvent(type=EventType.LOG, key="log", data={"text": "hello"})
    run = await story(tenant, RunKind.FLOW, "incident", [logged], ends=RunStatus.FAILED)
    plain = await web.get(f"/api/orchestrator/instances/{run.id}/trace", headers=bearer(token(tenant)))
    assert plain.status_code == 200, plain.text
    found = plain.json()
    assert [step["seq"] for step in found["timeline"]] == [1, 2, 3, 4, 5]
    assert (found["instanceId"], found["status"], found["hasMore"]) == (run.id, "FAILED", False)
    assert [step["type"] for step in found["errors"]] == ["run.failed"]
    wrapped = await web.get(f"/runs/{run.id}/trace?fromSeq=4&limit=1", headers=bearer(token(tenant)))
    assert [step["seq"] for step in wrapped.json()["data"]["timeline"]] == [4]
    other = await web.get(f"/runs/{run.id}/trace", headers=bearer(token(new_identifier("tenant"))))
    assert other.status_code == 404
