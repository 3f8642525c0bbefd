"""How a request stands, and what of it has still to be written down."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from models.approval import (
    Action,
    ApprovalOutcome,
    ApprovalRequest,
    ApprovalState,
    ApprovalStatus,
    ApprovalType,
    Changes,
    Decided,
    DecisionRecord,
    Evidence,
    Facts,
    Notice,
    NoticeKind,
    Opened,
    Remark,
    RemarkKind,
    Result,
    Via,
)
from models.approval_errors import ApprovalClosedError
from models.approval_policy import Channel
from models.event import EventType, NewEvent
from workflows.approvals.deadlines import Clock, Marks, upcoming
from workflows.approvals.people import People
from workflows.approvals.quorum import Verdict

_CLOSED_STATUS = {Result.APPROVED: ApprovalStatus.APPROVED, Result.REJECTED: ApprovalStatus.REJECTED}
_CLOSING_EVENT = {
    ApprovalState.DECIDED: EventType.APPROVAL_COMPLETED,
    ApprovalState.EXPIRED: EventType.APPROVAL_EXPIRED,
    ApprovalState.CANCELLED: EventType.APPROVAL_CANCELLED,
    ApprovalState.SUPERSEDED: EventType.APPROVAL_CANCELLED,
}


class Standing:
    """State and facts of one request; what changes is collected until it is taken."""

    def __init__(self, request: ApprovalRequest, opened: Opened, now: datetime) -> None:
        """Stand as at the opening; nothing has been told yet."""
        self.request = request
        self.spec = request.spec
        self.opened = opened
        self.state = ApprovalState.OPEN
        self.result: Result | None = None
        self.close_reason: str | None = None
        self.cancel_flow = False
        self.completed_at: datetime | None = None
        self.completed_by: str | None = None
        self.comment: str | None = None
        self.acknowledged_at: datetime | None = None
        self.acknowledged_by: str | None = None
        self.claimed_by: str | None = None
        self.information_awaited = False
        self.payload: dict[str, Any] = dict(self.spec.payload)
        self.payload_hash = self.spec.content_hash()
        self.patch: list[dict[str, Any]] = []
        self.evidence: list[Evidence] = []
        self.revision = 1
        self.people = People(request, opened)
        self.clock = Clock(opened.calendar, now)
        self.marks = Marks()
        self.answers: dict[str, Decided] = {}
        self._number = 0
        self._told = 0
        self._changed = False
        self._events: list[NewEvent] = []
        self._decisions: list[DecisionRecord] = []
        self._remarks: list[Remark] = []
        self._notices: list[Notice] = []

    @property
    def closed(self) -> bool:
        """Whether nothing more can happen."""
        return self.state is not ApprovalState.OPEN

    @property
    def number(self) -> int:
        """Number of the last changes taken."""
        return self._number

    @property
    def changed(self) -> bool:
        """Whether something has to be written down."""
        return self._changed

    def require_open(self) -> None:
        """Refuse where the request is closed.

        Raises:
            ApprovalClosedError: It is.
        """
        if self.closed:
            raise ApprovalClosedError(self.request.approval_id, self.state, self.result, self.completed_by)

    def status(self) -> ApprovalStatus:
        """Derive the documented word."""
        if self.state is ApprovalState.EXPIRED:
            return ApprovalStatus.EXPIRED
        if self.state is ApprovalState.DECIDED and self.result is not None:
            return _CLOSED_STATUS[self.result]
        if self.closed:
            return ApprovalStatus.CANCELLED
        if self.claimed_by is not None or self.acknowledged_at is not None:
            return ApprovalStatus.IN_PROGRESS
        if self.marks.level:
            return ApprovalStatus.ESCALATED
        return ApprovalStatus.ASSIGNED if self.assigned_to() is not None else ApprovalStatus.PENDING

    def assigned_to(self) -> str | None:
        """Return the one person who is asked, where it is one."""
        if self.claimed_by is not None:
            return self.claimed_by
        waiting = self.people.waiting()
        return waiting[0] if len(waiting) == 1 and not self.people.waiting_roles() else None

    def due(self) -> list[tuple[datetime, str]]:
        """List what time will bring, with the moments as things stand; none while the clock stands still."""
        if self.closed:
            return []
        policy = self.spec.policy
        found: list[tuple[datetime, str]] = []
        for due in upcoming(
            self.spec.sla,
            self.spec.escalation,
            self.marks,
            expire_after=policy.expire_after,
            veto_window=policy.veto_window,
            claim_expires_after=policy.claim_expires_after,
        ):
            moment = self.clock.moment(due.mark)
            if moment is not None:
                found.append((moment, due.name))
        return found

    def facts(self) -> Facts:
        """Return how the request stands, for its row."""
        due = self.due()
        moments = {name: moment for moment, name in reversed(due)}
        closed = self.closed
        return Facts(
            state=self.state,
            status=self.status(),
            result=self.result,
            stage=self.people.stage,
            assignees=[] if closed else self.people.waiting(),
            assignee_roles=[] if closed else self.people.waiting_roles(),
            assigned_to=self.completed_by if closed else self.assigned_to(),
            claimed_by=self.claimed_by,
            escalation_level=self._level(),
            acknowledged_at=self.acknowledged_at,
            acknowledged_by=self.acknowledged_by,
            information_awaited=self.information_awaited,
            response_due_at=moments.get("response"),
            due_at=moments.get("resolution") or moments.get("expiry"),
            proceeds_at=moments.get("veto_window"),
            next_at=due[0][0] if due else None,
            completed_at=self.completed_at,
            completed_by=self.completed_by,
            close_reason=self.close_reason,
            revision=self.revision,
            payload=self.payload,
            payload_hash=self.payload_hash,
            state_updates=self.patch,
        )

    def _level(self) -> int:
        return self.spec.escalation.levels[self.marks.level - 1].level if self.marks.level else 0

    def tell(self, event: EventType, now: datetime, **data: Any) -> None:
        """Note an event; its key counts up, so that a repeated record is recognised."""
        self._told += 1
        self._changed = True
        facts: dict[str, Any] = {
            "approvalId": self.request.approval_id,
            "instanceId": self.request.run_id,
            "taskId": self.request.task_id,
            "approvalType": self.spec.type.value,
            "title": self.spec.title,
            "priority": self.spec.priority.value,
            "status": self.status().value,
            **data,
        }
        self._events.append(
            NewEvent(
                type=event,
                key=f"{self.request.approval_id}:{self._told}",
                data=facts,
                source="approval",
                timestamp=now,
            )
        )

    def note(self, kind: RemarkKind, author: str, via: Via, text: str, now: datetime) -> None:
        """Note a line of the conversation."""
        self._changed = True
        self._remarks.append(Remark(kind=kind, author=author, via=via, text=text, at=now))

    def count(self, record: DecisionRecord) -> None:
        """Note a decision for the audit."""
        self._changed = True
        self._decisions.append(record)

    def notify(self, kind: NoticeKind, recipients: Sequence[str], channels: Sequence[Channel] = ()) -> None:
        """Let people be written to, by the request's channels unless others are named."""
        if recipients:
            self._changed = True
            self._notices.append(
                Notice(
                    kind=kind,
                    recipients=list(recipients),
                    channels=list(channels) or list(self.spec.channels),
                )
            )

    def close(
        self,
        state: ApprovalState,
        result: Result,
        now: datetime,
        *,
        by: str | None = None,
        reason: str | None = None,
        **data: Any,
    ) -> None:
        """End the request."""
        self.state, self.result, self.close_reason = state, result, reason
        self.completed_at, self.completed_by = now, by
        self.clock.pause(now)
        self.tell(
            _CLOSING_EVENT[state],
            now,
            result=result.value,
            completedBy=by,
            reason=reason,
            payloadHash=self.payload_hash,
            **data,
        )

    def settle(self, now: datetime, *, by: str | None, via: Via | None = None) -> None:
        """See what the votes have come to, and go on to the next stage or to the end."""
        said = {} if via is None else {"via": via.value}
        while not self.closed:
            verdict = self.people.verdict()
            if verdict is Verdict.APPROVED:
                if self.people.next_stage():
                    self.claimed_by, self.marks.claimed_at = None, None
                    self.assign(now, "stage")
                    continue
                self.close(ApprovalState.DECIDED, Result.APPROVED, now, by=by, **said)
            elif verdict is Verdict.REJECTED:
                self.close(ApprovalState.DECIDED, Result.REJECTED, now, by=by, **said)
            elif verdict is Verdict.IMPOSSIBLE and self.spec.policy.end_early:
                if not self.relieve(now):
                    reason = "the approvals it needs can no longer come together"
                    self.close(ApprovalState.DECIDED, Result.REJECTED, now, by=by, reason=reason, **said)
            else:
                return

    def relieve(self, now: datetime) -> bool:
        """Ask others where those asked cannot suffice; False where there is nobody left to ask."""
        raise AssertionError("told by the class that knows the escalation chain")

    def assign(self, now: datetime, how: str, **data: Any) -> None:
        """Tell whose decision is awaited, and write to them."""
        waiting = self.people.waiting()
        self.tell(
            EventType.APPROVAL_ASSIGNED,
            now,
            how=how,
            stage=self.people.stage,
            assignedTo=self.assigned_to(),
            assignees=waiting[:50],
            roles=self.people.waiting_roles(),
            **data,
        )
        self.notify(NoticeKind.APPROVAL, waiting)

    def take(self) -> Changes | None:
        """Return what has to be written down since the last time, if anything."""
        if not self._changed:
            return None
        self._number += 1
        changes = Changes(
            approval_id=self.request.approval_id,
            tenant_id=self.request.tenant_id,
            run_id=self.request.run_id,
            own_run=self.request.own_run,
            number=self._number,
            facts=self.facts(),
            events=self._events,
            decisions=self._decisions,
            remarks=self._remarks,
            notices=self._notices,
        )
        self._events, self._decisions, self._remarks, self._notices = [], [], [], []
        self._changed = False
        return changes

    def outcome(self) -> ApprovalOutcome:
        """Return what the one who waits gets; the request is closed."""
        assert self.result is not None, "asked for before the end"
        assert self.completed_at is not None, "asked for before the end"
        return ApprovalOutcome(
            approval_id=self.request.approval_id,
            state=self.state,
            result=self.result,
            completed_by=self.completed_by,
            completed_at=self.completed_at,
            comment=self.comment,
            payload=self.payload,
            payload_hash=self.payload_hash,
            state_updates=self.patch,
            evidence=self.evidence,
            cancel_flow=self.cancel_flow,
        )

    def verb(self, action: Action) -> str:
        """Return the word for an action that fits the request's type."""
        if self.spec.type is ApprovalType.VETO:
            return "veto" if action is Action.REJECT else "proceed"
        if self.spec.type is ApprovalType.MANUAL_TASK:
            return "decline" if action is Action.REJECT else "complete"
        return action.value
