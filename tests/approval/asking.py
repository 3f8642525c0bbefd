"""Requests for approval without a server, for the pure machine."""

from datetime import UTC, datetime, timedelta
from typing import Any

from models.approval import (
    Action,
    Actor,
    ApprovalRequest,
    ApprovalSpec,
    Changes,
    Decide,
    Decided,
    NoticeKind,
    Opened,
    Order,
    Pool,
    Via,
)
from models.calendar import PinnedCalendar
from models.event import EventType
from workflows.approvals.machine import ApprovalMachine

T0 = datetime(2026, 3, 2, 9, tzinfo=UTC)
"""A Monday."""


def spec(**changes: Any) -> ApprovalSpec:
    """A request to group ``ops`` unless ``changes`` say otherwise."""
    return ApprovalSpec.model_validate(
        {"title": "Deploy", "assignmentRule": {"type": "group", "value": "ops"}, **changes}
    )


def after(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


class Desk:
    """One machine with its records, driven by hand."""

    def __init__(
        self,
        members: list[str] | list[list[list[str]]],
        *,
        levels: list[list[str]] | None = None,
        calendar: PinnedCalendar | None = None,
        requested_by: str = "requester",
        excluded: list[str] | None = None,
        role: str | None = None,
        **changes: Any,
    ) -> None:
        """Open a request.

        Args:
            members: Of the only group, or of each stage's groups.
            levels: People of each escalation level.
            calendar: Of the clock.
            requested_by: Who asks.
            excluded: Who may not decide.
            role: Whose holders belong to the only group.
            changes: Fields of the specification.
        """
        nested: Any = members if members and isinstance(members[0], list) else [[members]]
        self.request = ApprovalRequest(
            approval_id="apr_" + "0" * 32,
            tenant_id="t",
            run_id="inst_" + "0" * 32,
            task_id="Approve",
            requested_by=requested_by,
            excluded=excluded or [],
            correlation_id="c",
            spec=spec(**changes),
        )
        stages = [[Pool(members=group, role=role) for group in stage] for stage in nested]
        opened = Opened(
            stages=stages, levels=[Pool(members=each) for each in levels or []], calendar=calendar
        )
        self.machine = ApprovalMachine(self.request, opened, T0)
        self.records: list[Changes] = []
        self.machine.open(T0)
        self._take()

    def _take(self) -> None:
        changes = self.machine.take()
        if changes is not None:
            self.records.append(changes)

    def decide(
        self,
        who: str,
        action: Action = Action.APPROVE,
        *,
        at: datetime = T0,
        key: str | None = None,
        via: Via = Via.WEB,
        for_: list[str] | None = None,
        roles: list[str] | None = None,
        seen: str | None = None,
        comment: str | None = "because",
        **more: Any,
    ) -> Decided:
        command = Decide(
            actor=Actor(user_id=who, via=via, stands_in_for=for_ or [], roles=roles or []),
            action=action,
            key=key or f"{who}:{action}:{len(self.records)}",
            payload_hash=seen or self.machine.payload_hash,
            comment=comment,
            **more,
        )
        self.machine.check_decide(command)
        answer = self.machine.decide(command, at)
        self._take()
        return answer

    def acknowledge(self, who: str, at: datetime = T0) -> None:
        order = Order(actor=Actor(user_id=who))
        self.machine.check_acknowledge(order)
        self.machine.acknowledge(order, at)
        self._take()

    def run(self, until: datetime) -> None:
        """Let time pass, waking up exactly when the machine wants to be woken."""
        while (moment := self.machine.next_at()) is not None and moment <= until:
            self.machine.elapse(moment)
            self._take()

    def events(self, *kinds: EventType) -> list[tuple[str, float, dict[str, Any]]]:
        """Type, seconds since the opening and data of what was told."""
        return [
            (event.type.value, (event.timestamp - T0).total_seconds(), event.data)
            for record in self.records
            for event in record.events
            if event.timestamp is not None and (not kinds or event.type in kinds)
        ]

    def times(self, kind: EventType) -> list[float]:
        return [seconds for _, seconds, _ in self.events(kind)]

    def notices(self, kind: NoticeKind) -> list[list[str]]:
        return [n.recipients for record in self.records for n in record.notices if n.kind is kind]

    @property
    def decisions(self) -> int:
        return sum(len(record.decisions) for record in self.records)
