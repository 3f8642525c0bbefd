from datetime import timedelta
from typing import Any

import pytest

from models.approval import Actor, ApprovalState, Comment, Extend, NoticeKind, Order, Result, SetCalendar
from models.event import EventType
from tests.approval.asking import T0, Desk, after
from tests.approval.calendars import pinned
from tests.approval.test_working_time import office

LEVELS = [
    {"level": 1, "afterSeconds": 0, "assignTo": "lead"},
    {"level": 2, "afterSeconds": 30, "assignTo": "boss"},
]
PEOPLE = [["lead"], ["boss"]]


def chain(**changes: Any) -> dict[str, Any]:
    return {
        "sla": {"responseTime": 60, "resolutionTime": 600, "breachAction": "escalate"},
        "escalation": {"levels": LEVELS, **changes},
        "levels": PEOPLE,
    }


def test_each_level_fires_once_and_at_its_second() -> None:
    desk = Desk(["ann"], **chain())
    desk.run(after(10_000))
    assert desk.times(EventType.APPROVAL_ESCALATED) == [60.0, 90.0]
    assert desk.notices(NoticeKind.ESCALATION) == [["lead"], ["boss"]]
    assert desk.times(EventType.SLA_BREACHED) == [60.0, 600.0]
    # The end of the chain waits for the resolution time, and by default rejects.
    assert desk.machine.state is ApprovalState.EXPIRED
    assert desk.times(EventType.APPROVAL_EXPIRED) == [600.0]
    assert desk.machine.outcome().result is Result.REJECTED


def test_a_worker_that_was_away_fires_everything_once_and_in_order() -> None:
    desk = Desk(["ann"], **chain())
    desk.machine.elapse(after(5_000))
    changes = desk.machine.take()
    assert changes is not None
    kinds = [event.type for event in changes.events]
    assert kinds == [
        EventType.SLA_BREACHED,
        EventType.APPROVAL_ESCALATED,
        EventType.APPROVAL_ESCALATED,
        EventType.SLA_BREACHED,
        EventType.APPROVAL_EXPIRED,
    ]


def test_the_final_action_has_a_time_of_its_own_where_it_is_given() -> None:
    desk = Desk(["ann"], **chain(finalAfterSeconds=45, finalAction="cancel_flow"))
    desk.run(after(10_000))
    outcome = desk.machine.outcome()
    assert (outcome.state, outcome.cancel_flow) == (ApprovalState.CANCELLED, True)
    assert desk.times(EventType.APPROVAL_CANCELLED) == [105.0]


def test_acknowledging_halts_the_chain_until_the_resolution_time_is_missed() -> None:
    desk = Desk(["ann"], **chain())
    desk.run(after(70))
    desk.acknowledge("lead", after(70))
    desk.run(after(10_000))
    # Level 1 came after the response time; level 2 stands 30 s behind it in the chain that goes on at 600.
    assert desk.times(EventType.APPROVAL_ESCALATED) == [60.0, 630.0]
    assert desk.times(EventType.APPROVAL_EXPIRED) == [690.0]


@pytest.mark.parametrize(
    ("action", "result"), [("auto_approve", Result.APPROVED), ("auto_reject", Result.REJECTED)]
)
def test_a_breach_may_decide(action: str, result: Result) -> None:
    desk = Desk(["ann"], risk="low", sla={"responseTime": 60, "breachAction": action})
    desk.run(after(1_000))
    assert (desk.machine.state, desk.machine.outcome().result) == (ApprovalState.EXPIRED, result)
    assert desk.times(EventType.APPROVAL_EXPIRED) == [60.0]


def test_a_breach_may_only_notify_and_does_so_once_per_clock() -> None:
    desk = Desk(["ann"], sla={"responseTime": 60, "resolutionTime": 90, "breachAction": "notify"})
    desk.run(after(10_000))
    assert desk.times(EventType.SLA_BREACHED) == [60.0, 90.0]
    assert desk.notices(NoticeKind.BREACH) == [["ann"], ["ann"]]
    assert not desk.machine.closed
    assert desk.machine.next_at() is None


def test_warnings_and_reminders_come_before_the_breach() -> None:
    sla = {"responseTime": 100, "resolutionTime": 200, "warnBefore": 10, "reminders": [50, 150]}
    desk = Desk(["ann"], sla=sla)
    desk.run(after(10_000))
    assert desk.times(EventType.SLA_WARNING) == [90.0, 190.0]
    assert desk.times(EventType.APPROVAL_REMINDED) == [50.0, 150.0]


def test_the_default_ends_what_nobody_decided() -> None:
    desk = Desk(["ann"], policy={"expireAfter": 30})
    desk.run(after(100))
    assert desk.machine.outcome().result is Result.REJECTED
    cancelled = Desk(["ann"], policy={"expireAfter": 30, "default": "cancel"})
    cancelled.run(after(100))
    assert cancelled.machine.state is ApprovalState.CANCELLED


def test_a_claim_that_expires_is_given_back() -> None:
    desk = Desk(["ann", "ben"], policy={"claimExpiresAfter": 30})
    desk.machine.claim(Order(actor=Actor(user_id="ann")), after(10))
    desk.run(after(1_000))
    assert desk.machine.claimed_by is None
    assert desk.decide("ben", at=after(1_000)).closed


def test_a_question_stops_every_clock_until_it_is_answered() -> None:
    desk = Desk(["ann"], sla={"resolutionTime": 100, "breachAction": "auto_reject"})
    desk.machine.comment_on(Comment(actor=Actor(user_id="ann"), text="?", question=True), after(40))
    assert desk.machine.next_at() is None
    answer = Comment(actor=Actor(user_id="requester"), text="!", answers=True)
    desk.machine.comment_on(answer, after(1_000))
    assert desk.machine.next_at() == after(1_060)


def test_extending_gives_more_time_and_a_missed_time_can_be_missed_again() -> None:
    desk = Desk(["ann"], sla={"resolutionTime": 100, "breachAction": "notify"})
    desk.run(after(100))
    desk.machine.extend(Extend(actor=Actor(user_id="ann"), seconds=50), after(120))
    desk.run(after(1_000))
    assert desk.times(EventType.SLA_BREACHED) == [100.0, 150.0]


def test_a_veto_window_begins_when_somebody_has_seen_it() -> None:
    desk = Desk(["ann"], type="veto", policy={"vetoWindow": 300}, sla={"responseTime": 60})
    desk.run(after(50))
    desk.acknowledge("ann", after(50))
    assert desk.machine.facts().proceeds_at == after(350)
    desk.run(after(10_000))
    outcome = desk.machine.outcome()
    assert (outcome.state, outcome.result, outcome.completed_by) == (
        ApprovalState.DECIDED,
        Result.APPROVED,
        None,
    )
    assert desk.times(EventType.APPROVAL_COMPLETED) == [350.0]


def test_a_veto_that_nobody_saw_escalates_and_never_proceeds() -> None:
    sla = {"responseTime": 60, "breachAction": "escalate"}
    asked: dict[str, Any] = {
        "type": "veto",
        "policy": {"vetoWindow": 300},
        "sla": sla,
        "escalation": {"levels": LEVELS},
        "levels": PEOPLE,
    }
    silent = Desk(["ann"], **asked)
    silent.run(after(100_000))
    assert silent.times(EventType.APPROVAL_ESCALATED) == [60.0, 90.0]
    assert silent.machine.outcome().result is Result.REJECTED
    seen = Desk(["ann"], **asked)
    seen.run(after(95))
    seen.acknowledge("boss", after(100))
    seen.run(after(100_000))
    assert seen.times(EventType.APPROVAL_COMPLETED) == [400.0]
    unwatched = Desk(["ann"], type="veto", policy={"vetoWindow": 300}, sla={"responseTime": 60})
    unwatched.run(after(10**7))
    assert not unwatched.machine.closed


def test_a_clock_in_working_time_stops_over_the_weekend() -> None:
    calendar = pinned(office("UTC"))
    friday = timedelta(days=4, hours=7)
    desk = Desk(["ann"], calendar=calendar, sla={"resolutionTime": 36 * 3600, "breachAction": "auto_reject"})
    # Seven working hours a day: 35 of them end on Friday 17:00, the last one on Monday 10:00.
    assert desk.machine.next_at() == T0 + timedelta(days=7, hours=1)
    assert (T0 + friday).weekday() == 4


def test_another_calendar_counts_from_now_on_and_resets_nothing() -> None:
    desk = Desk(["ann"], sla={"resolutionTime": 10 * 3600, "breachAction": "auto_reject"})
    order = SetCalendar(actor=Actor(user_id="root", manages=True), calendar=pinned(office("UTC")))
    desk.machine.set_calendar(order, T0 + timedelta(hours=4))
    # Six hours are left: 13:00 to 17:00, then 9:00 to 11:00 of Tuesday.
    assert desk.machine.next_at() == T0 + timedelta(days=1, hours=2)
