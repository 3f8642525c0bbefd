"""Approvals on a real Temporal server whose clock the test moves, per request."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError

from activities.records.approval import decisions_of
from activities.temporal.failures import refusal_of
from models.approval import Action, ApprovalState, ApprovalStatus, Result
from models.event import EventType
from models.run import RunStatus
from tests.approval.office import Office, Question
from tests.approval.test_working_time import office as working_hours
from tests.histories.record import check_history

DAY = 86_400

CHAIN: dict[str, Any] = {
    "sla": {"responseTime": 3600, "resolutionTime": 3 * 3600, "breachAction": "escalate"},
    "escalation": {
        "levels": [
            {"level": 1, "afterSeconds": 0, "assignTo": "lead"},
            {"level": 2, "afterSeconds": 1800, "assignTo": "boss"},
        ]
    },
}


async def test_a_decision_reaches_who_waits_the_row_the_audit_and_the_events(office: Office) -> None:
    question = await office.ask(["ann", "ben"])
    assert (await question.row()).assignees == ["ann", "ben"]
    answer = await question.decide("ben")
    assert answer.closed
    outcome = await question.handle.result()
    assert outcome.approved
    row = await question.row()
    assert (row.status, row.completed_by, row.result) == (ApprovalStatus.APPROVED, "ben", Result.APPROVED)
    async with office.services.database.tenant(question.request.tenant_id) as connection:
        (decision,) = await decisions_of(connection, question.id)
    assert (decision.approver, decision.payload_hash) == ("ben", outcome.payload_hash)
    kinds = [kind for kind, _ in await question.told()]
    assert kinds[-2:] == [EventType.APPROVAL_COMPLETED, EventType.RUN_SUCCEEDED]
    await check_history(question.handle, "approval/decided", office.services.settings)


async def test_an_idle_request_costs_at_most_eight_events_of_history(office: Office) -> None:
    question = await office.ask(["ann"], **CHAIN)
    assert await question.history_events() <= 8


async def test_a_repeated_click_counts_once_whatever_its_update_is_called(office: Office) -> None:
    need: dict[str, Any] = {
        "policy": {
            "stages": [{"groups": [{"members": {"type": "group", "value": "ops"}, "need": {"value": 2}}]}]
        }
    }
    question = await office.ask(["ann", "ben"], **need)
    answers = await asyncio.gather(*(question.decide("ann", key="click") for _ in range(5)))
    assert all(answer == answers[0] for answer in answers)
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await question.decide("ann", key="another click")
    refusal = refusal_of(refused.value)
    assert refusal is not None
    assert refusal.code == "ALREADY_DECIDED"
    assert (await question.decide("ben")).closed
    async with office.services.database.tenant(question.request.tenant_id) as connection:
        assert len(await decisions_of(connection, question.id)) == 2


async def test_levels_fire_once_and_at_their_second_and_the_chain_ends_in_a_rejection(office: Office) -> None:
    question = await office.ask(["ann"], **CHAIN)
    await question.pass_time(10 * 3600)
    outcome = await question.handle.result()
    assert (outcome.state, outcome.result) == (ApprovalState.EXPIRED, Result.REJECTED)
    assert await question.seconds(EventType.APPROVAL_ESCALATED) == [3600, 5400]
    assert await question.seconds(EventType.SLA_BREACHED) == [3600, 10_800]
    assert await question.seconds(EventType.APPROVAL_EXPIRED) == [10_800]
    await check_history(question.handle, "approval/escalated", office.services.settings)


@pytest.mark.parametrize(
    ("action", "state", "result"),
    [
        ("auto_approve", ApprovalState.EXPIRED, Result.APPROVED),
        ("auto_reject", ApprovalState.EXPIRED, Result.REJECTED),
    ],
)
async def test_a_missed_time_decides_where_the_policy_says_so(
    office: Office, action: str, state: ApprovalState, result: Result
) -> None:
    question = await office.ask(["ann"], risk="low", sla={"responseTime": 60, "breachAction": action})
    await question.pass_time(DAY)
    outcome = await question.handle.result()
    assert (outcome.state, outcome.result) == (state, result)
    assert await question.seconds(EventType.APPROVAL_EXPIRED) == [60]


async def test_reminders_and_warnings_come_and_a_breach_may_only_notify(office: Office) -> None:
    sla = {
        "resolutionTime": 3600,
        "warnBefore": 600,
        "reminders": [900, 1800],
        "breachAction": "notify",
    }
    question = await office.ask(["ann"], sla=sla)
    assert await question.pass_time(DAY)
    assert await question.seconds(EventType.APPROVAL_REMINDED) == [900, 1800]
    assert await question.seconds(EventType.SLA_WARNING) == [3000]
    assert await question.seconds(EventType.SLA_BREACHED) == [3600]
    assert (await question.row()).state is ApprovalState.OPEN


async def test_a_veto_proceeds_only_after_somebody_has_seen_it(office: Office) -> None:
    seen = await office.ask(["ann"], type="veto", policy={"vetoWindow": 300}, sla={"responseTime": 600})
    await seen.pass_time(100)
    await seen.acknowledge("ann")
    await seen.pass_time(1000)
    outcome = await seen.handle.result()
    assert (outcome.state, outcome.result) == (ApprovalState.DECIDED, Result.APPROVED)
    (acknowledged,) = await seen.seconds(EventType.APPROVAL_ACKNOWLEDGED)
    (completed,) = await seen.seconds(EventType.APPROVAL_COMPLETED)
    assert completed - acknowledged in (300, 301)
    await check_history(seen.handle, "approval/vetoed_by_nobody", office.services.settings)


async def test_a_veto_that_nobody_saw_escalates_and_is_rejected(office: Office) -> None:
    asked: dict[str, Any] = {**CHAIN, "sla": {"responseTime": 600, "breachAction": "escalate"}}
    question = await office.ask(["ann"], type="veto", policy={"vetoWindow": 300}, **asked)
    await question.pass_time(DAY)
    assert (await question.handle.result()).result is Result.REJECTED
    assert await question.seconds(EventType.APPROVAL_ESCALATED) == [600, 2400]


async def test_a_veto_stops_what_was_announced(office: Office) -> None:
    question = await office.ask(["ann"], type="veto", policy={"vetoWindow": 300})
    assert (await question.decide("ann", Action.REJECT)).result is Result.REJECTED


async def test_a_clock_in_working_time_crosses_summer_time_and_a_chain_of_holidays(office: Office) -> None:
    request = office.request(
        sla={"resolutionTime": 21 * 3600, "breachAction": "auto_reject", "calendar": "berlin"}
    )
    year = datetime.now(UTC).year
    hours = working_hours(holidays={"closed": [f"{year + 1}-03-{day:02d}" for day in (29, 30, 31)]})
    await office.calendar(request.tenant_id, "berlin", hours)
    await office.group(request.tenant_id, "ops", "ann")
    # The request opens in the last days of March: clocks change in that night, and the days after are free.
    opening = datetime(year + 1, 3, 26, 9, tzinfo=UTC)
    question = await _opened_at(office, request, opening)
    row = await question.row()
    assert row.due_at is not None
    from workflows.approvals.working_time import add_working_time

    calendar = (await _pinned(office, question)).calendar
    assert calendar is not None
    created = (await question.told(EventType.APPROVAL_CREATED))[0][1]
    assert row.due_at == add_working_time(calendar, created, timedelta(hours=21))
    assert row.due_at - created > timedelta(days=5)
    await question.pass_time(20 * DAY)
    assert (await question.handle.result()).result is Result.REJECTED
    ((_, expired),) = await question.told(EventType.APPROVAL_EXPIRED)
    assert abs(expired - row.due_at) < timedelta(seconds=1)


async def _opened_at(office: Office, request: Any, opening: datetime) -> Question:
    """Start a request whose own clock stands at ``opening``."""
    delay = opening - datetime.now(UTC)
    question = await office.start(request, start_delay=delay)
    await question.pass_time(delay.total_seconds() + 1)
    await question.facts()
    return question


async def _pinned(office: Office, question: Question) -> Any:
    from activities.approval import find_people

    async with office.services.database.tenant(question.request.tenant_id) as connection:
        return await find_people(connection, question.request)


async def test_cancelling_who_waits_cancels_the_request(office: Office) -> None:
    question = await office.ask(["ann"])
    await question.handle.cancel()
    with pytest.raises(WorkflowFailureError):
        await question.handle.result()
    row = await question.row()
    assert (row.state, row.status) == (ApprovalState.CANCELLED, ApprovalStatus.CANCELLED)
    assert (await question.told())[-1][0] is EventType.RUN_CANCELED
    await check_history(question.handle, "approval/cancelled", office.services.settings)


async def test_a_group_that_does_not_exist_is_a_refusal(office: Office) -> None:
    request = office.request()
    with pytest.raises(WorkflowFailureError) as failure:
        await (await office.start(request, start_delay=timedelta(milliseconds=1))).handle.result()
    refusal = refusal_of(failure.value)
    assert refusal is not None
    assert refusal.code == "UNKNOWN_ASSIGNEE"


async def test_round_robin_takes_turns_and_the_least_busy_is_asked(office: Office) -> None:
    first = await office.ask(["ann", "ben"], assignmentRule={"type": "round_robin", "value": "ops"})
    tenant = first.request.tenant_id
    again = office.request(tenant, assignmentRule={"type": "round_robin", "value": "ops"})
    second = await office.start(again)
    assert {(await first.row()).assigned_to, (await second.row()).assigned_to} == {"ann", "ben"}
    await first.decide((await first.row()).assigned_to or "")
    idle = (await first.row()).completed_by
    third = await office.start(office.request(tenant, assignmentRule={"type": "least_busy", "value": "ops"}))
    assert (await third.row()).assigned_to == idle


async def test_the_run_of_a_request_ends_with_it(office: Office) -> None:
    question = await office.ask(["ann"])
    await question.decide("ann", Action.REJECT)
    await question.handle.result()
    async with office.services.database.tenant(question.request.tenant_id) as connection:
        from activities.records.runs import find_run

        assert (await find_run(connection, question.id)).status is RunStatus.SUCCEEDED
