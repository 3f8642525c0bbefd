"""Measurements: every event is added once, and what they say can be made anew from the log."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.monitoring import Measurer
from activities.records.database import Database
from activities.records.monitoring import read_measurements, read_today
from activities.streams.publisher import Publisher
from activities.telemetry.fold import Fold, LoggedEvent
from models.event import EventType, NewEvent
from models.identifiers import new_identifier
from models.monitoring import InvalidPeriodError as PeriodRefused
from models.monitoring import (
    Measure,
    Period,
    Resolution,
    bucket_middle,
    bucket_of,
    day_of,
    period_of,
    quantile,
)
from models.run import RunKind, RunStatus
from tests.monitoring.conftest import Measured, Story

NOW = datetime(2026, 3, 4, 15, 30, tzinfo=UTC)


def event(kind: str, *, seq: int = 2, seconds: float = 0, data: Any = None, **changes: Any) -> LoggedEvent:
    facts: dict[str, Any] = {
        "position": 1,
        "run_id": "inst_1",
        "seq": seq,
        "tenant_id": "tenant",
        "type": kind,
        "timestamp": NOW + timedelta(seconds=seconds),
        "data": data or {},
        "kind": RunKind.FLOW.value,
        "subject": "incident",
        "created_at": NOW,
        "started_at": NOW,
    }
    return LoggedEvent(**(facts | changes))


def counted(fold: Fold, measure: Measure) -> dict[tuple[str, str, str], tuple[int, int]]:
    return {
        (key.scope, key.subject, key.detail): (amount.count, amount.total)
        for key, amount in fold.added.items()
        if key.measure is measure and key.resolution is not Resolution.HOUR
    }


def folded(*events: LoggedEvent) -> Fold:
    fold = Fold()
    for each in events:
        fold.take(each)
    return fold


def test_a_step_counts_its_waiting_and_its_work_apart() -> None:
    step = {"element": "classify", "key": 3}
    fold = folded(
        event("flow.started", data={"definition_id": "flow_9"}),
        event("task.dispatched", data=step, seconds=1),
        event("task.started", data=step, seconds=3),
        event("task.completed", data=step, seconds=8),
    )
    waiting, duration = str(bucket_of(2000)), str(bucket_of(5000))
    assert counted(fold, Measure.ELEMENT_WAITING) == {("flow_9", "classify", waiting): (1, 2000)}
    assert counted(fold, Measure.ELEMENT_DURATION) == {("flow_9", "classify", duration): (1, 5000)}
    assert counted(fold, Measure.ELEMENT_ENDED) == {("flow_9", "classify", "completed"): (1, 0)}


def test_an_attempt_that_fails_does_not_end_the_step_and_a_flow_says_why_it_failed() -> None:
    step = {"element": "classify", "key": 3, "kind": "serviceTask"}
    fold = folded(
        event("flow.started", data={"definition_id": "flow_9"}),
        event("task.started", data=step),
        event("task.failed", data=step, seconds=1),
        event("task.completed", data=step, seconds=4),
        event("flow.failed", data={"code": "TIMEOUT"}, seconds=5),
        event("run.failed", seconds=5),
    )
    assert counted(fold, Measure.ELEMENT_ENDED) == {
        ("flow_9", "classify", "failed"): (1, 0),
        ("flow_9", "classify", "completed"): (1, 0),
    }
    assert counted(fold, Measure.ELEMENT_DURATION)["flow_9", "classify", str(bucket_of(4000))] == (1, 4000)
    assert counted(fold, Measure.RUN_ERROR) == {
        ("flow", "flow_9", "TIMEOUT"): (1, 0),
        ("flow", "incident", "TIMEOUT"): (1, 0),
    }


def test_repetitions_are_counted_and_not_what_holds_them() -> None:
    body = {"element": "each", "key": 1, "detail": "multi-instance"}
    one = {"element": "each", "key": 2}
    fold = folded(
        event("task.started", data=body),
        event("task.started", data=one),
        event("task.completed", data=one, seconds=2),
        event("task.completed", data=body, seconds=2),
    )
    assert counted(fold, Measure.ELEMENT_ENDED) == {("incident", "each", "completed"): (1, 0)}


def test_an_approval_that_its_run_leaves_behind_is_no_longer_pending() -> None:
    fold = folded(
        event("approval.created", data={"approvalId": "apr_1"}),
        event("approval.created", data={"approvalId": "apr_2"}),
        event("approval.completed", data={"approvalId": "apr_1", "result": "approved"}, seconds=60),
        event("run.canceled", seconds=90),
    )
    assert counted(fold, Measure.PENDING_APPROVALS) == {("", "", ""): (0, 0)}
    assert counted(fold, Measure.APPROVAL_COMPLETED) == {("", "", "approved"): (1, 0)}
    assert fold.spans == {}


def test_a_models_cost_is_kept_to_the_billionth() -> None:
    said = {"agent": "classifier", "model": "m", "cost_usd": "0.000000123", "input_tokens": 7}
    fold = folded(event("agent.completed", data=said), event("agent.completed", data=said))
    assert counted(fold, Measure.COST) == {("classifier", "m", "USD"): (2, 246)}
    assert counted(fold, Measure.AGENT_TOKENS) == {("classifier", "m", "input"): (2, 14)}


WORDS = st.sampled_from(
    [
        "taskId",
        "approvalId",
        "agentSlug",
        "model",
        "costUsd",
        "inputTokens",
        "amount",
        "currency",
        "durationMs",
    ]
)
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(["x"])


@given(st.lists(st.tuples(st.sampled_from(list(EventType)), st.dictionaries(WORDS, VALUES)), max_size=12))
def test_no_events_data_stops_the_fold(said: list[tuple[EventType, dict[str, Any]]]) -> None:
    folded(*(event(kind, seq=seq, data=data) for seq, (kind, data) in enumerate(said, start=1)))


@given(st.lists(st.integers(0, 10**9), min_size=1), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_is_off_by_at_most_a_twentieth(sample: list[int], share: float) -> None:
    buckets: dict[int, int] = {}
    for each in sample:
        buckets[bucket_of(each)] = buckets.get(bucket_of(each), 0) + 1
    found = quantile(buckets, share)
    exact = sorted(sample)[max(0, -(-len(sample) * share // 1).__trunc__() - 1)]
    assert found is not None
    assert abs(found - exact) <= max(1, exact * 0.05)


@given(st.floats(1.01, 1e9))
def test_a_buckets_middle_is_in_the_bucket(milliseconds: float) -> None:
    assert bucket_of(bucket_middle(bucket_of(milliseconds))) == bucket_of(milliseconds)


@pytest.mark.parametrize("given_period", ["", "7", "0d", "-1d", "49h", "401d", "1w", "1 d", "९d", "1000d"])
def test_a_period_that_is_not_measured_is_refused(given_period: str) -> None:
    with pytest.raises(PeriodRefused):
        period_of(given_period, NOW)


def test_a_period_of_days_begins_at_midnight_utc() -> None:
    assert period_of("7d", NOW) == Period(Resolution.DAY, day_of(NOW) - timedelta(days=6))
    assert period_of("24h", NOW).since == datetime(2026, 3, 3, 16, tzinfo=UTC)


async def standing(store: Database, tenant: str) -> dict[str, int]:
    today = Period(Resolution.DAY, day_of(datetime.now(UTC)))
    async with store.tenant(tenant) as connection:
        rows = await read_today(connection, today, kinds=[])
    return {f"{row['measure']} {row['scope']}".strip(): row["count"] for row in rows}


async def figures(store: Database, tenant: str) -> dict[tuple[str, ...], tuple[int, int]]:
    period = period_of("7d", datetime.now(UTC))
    async with store.tenant(tenant) as connection:
        rows = await read_measurements(connection, period, list(Measure))
    return {
        (row["measure"], row["scope"], row["subject"], row["detail"]): (row["count"], row["total"])
        for row in rows
    }


async def test_the_same_log_gives_the_same_measurements_however_often_it_is_read(
    store: Database, story: Story, measured: Measured
) -> None:
    tenant = new_identifier("tenant")
    for ends in (RunStatus.SUCCEEDED, RunStatus.SUCCEEDED, RunStatus.FAILED, None):
        await story(
            tenant,
            RunKind.FLOW,
            "incident",
            [
                NewEvent(type=EventType.FLOW_STARTED, key="flow", data={"definition_id": "flow_1"}),
                NewEvent(type=EventType.APPROVAL_CREATED, key="asked", data={"approvalId": "apr_1"}),
            ],
            ends=ends,
        )
    await measured()
    first, standing_first = await figures(store, tenant), await standing(store, tenant)
    assert first["run_ended", "flow", "", "SUCCEEDED"][0] == 2
    assert first["run_ended", "flow", "flow_1", "FAILED"][0] == 1
    assert standing_first == {"active_runs flow": 1, "pending_approvals": 1}

    await Measurer(store).rebuild()
    assert (await figures(store, tenant), await standing(store, tenant)) == (first, standing_first)


async def test_several_workers_add_each_event_once(store: Database, story: Story) -> None:
    tenant = new_identifier("tenant")
    for _ in range(20):
        await story(tenant, RunKind.AGENT_EXECUTION, "coupons", ends=RunStatus.SUCCEEDED)
    publisher = Publisher(store)
    while await publisher.pass_once():
        continue
    workers = [Measurer(store) for _ in range(4)]
    while any(await asyncio.gather(*(worker.pass_once(limit=7) for worker in workers))):
        continue
    assert (await figures(store, tenant))["run_started", "agent_execution", "coupons", ""] == (20, 0)
    assert await standing(store, tenant) == {"active_runs agent_execution": 0}
