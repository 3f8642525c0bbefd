"""A request for approval as a pure machine: commands and time go in, facts and things to record come out.

Each command has a check, which changes nothing and refuses what may not be, and the command itself, which
is only called after its check. The workflow puts the checks into validators.
"""

from datetime import datetime

from models.approval import (
    Action,
    ApprovalState,
    ApprovalType,
    Cancel,
    Comment,
    Decide,
    Decided,
    DecisionRecord,
    Delegate,
    Extend,
    NoticeKind,
    Order,
    Reassign,
    RemarkKind,
    Result,
    SetCalendar,
)
from models.approval_errors import (
    ActionNotPossibleError,
    ClaimedByOtherError,
    DecisionReasonRequiredError,
    EvidenceMissingError,
    NotAnApproverError,
    PayloadChangedError,
)
from models.approval_policy import ReasonFor
from models.event import EventType
from workflows.approvals.deadlines import grant, halt_chain
from workflows.approvals.edits import apply_edits
from workflows.approvals.passing_time import PassingTime

_ACTIONS: dict[ApprovalType, frozenset[Action]] = {
    ApprovalType.APPROVE_REJECT: frozenset({Action.APPROVE, Action.REJECT}),
    ApprovalType.REVIEW_EDIT: frozenset(Action),
    ApprovalType.INFORM: frozenset({Action.APPROVE}),
    ApprovalType.MANUAL_TASK: frozenset({Action.APPROVE, Action.REJECT}),
    ApprovalType.VETO: frozenset({Action.APPROVE, Action.REJECT}),
}


class ApprovalMachine(PassingTime):
    """One request from its opening to its end."""

    def open(self, now: datetime) -> None:
        """Tell that the request is there and whom it asks; one that nobody could grant ends at once."""
        self.tell(
            EventType.APPROVAL_CREATED,
            now,
            requestedBy=self.request.requested_by,
            taskExecutionId=self.request.task_execution_id,
            payloadHash=self.payload_hash,
            channels=[channel.value for channel in self.spec.channels],
        )
        if self.people.waiting() or self.people.waiting_roles():
            self.assign(now, "opened")
        self.settle(now, by=None)

    # -- Deciding -------------------------------------------------------------------------------------

    def check_decide(self, command: Decide) -> None:
        """Refuse a verdict that cannot count; a click that was answered before always passes.

        Raises:
            PlatformError: Says why not.
        """
        if command.key in self.answers:
            return
        self.require_open()
        name, action, spec = self.request.approval_id, command.action, self.spec
        if action not in _ACTIONS[spec.type]:
            raise ActionNotPossibleError(name, action, f"its type is {spec.type}")
        self.people.seat_of(command.actor)
        if self.claimed_by is not None and self.claimed_by != command.actor.user_id:
            raise ClaimedByOtherError(name, self.claimed_by)
        if command.payload_hash != self.payload_hash:
            raise PayloadChangedError(name, command.payload_hash, self.payload_hash)
        if ReasonFor(action.value) in spec.policy.reason_required_on and not (command.comment or "").strip():
            raise DecisionReasonRequiredError(action)
        if command.edits and action is not Action.EDIT:
            raise ActionNotPossibleError(name, action, "edits come with the action `edit`")
        if action is Action.EDIT:
            if self.people.approvals_so_far:
                raise ActionNotPossibleError(
                    name, "be edited", "others have approved what it says; reject it instead"
                )
            apply_edits(self.payload, command.edits, spec.editable_fields)
        if spec.type is ApprovalType.MANUAL_TASK and action is Action.APPROVE:
            given = len({each.evidence_id for each in command.evidence})
            if given < spec.policy.evidence_required:
                raise EvidenceMissingError(spec.policy.evidence_required, given)

    def decide(self, command: Decide, now: datetime) -> Decided:
        """Count a verdict; a repeated click gets the first answer."""
        known = self.answers.get(command.key)
        if known is not None:
            return known
        actor = command.actor
        seat = self.people.seat_of(actor)
        approves = command.action is not Action.REJECT
        if command.action is Action.EDIT:
            self.payload, patch = apply_edits(self.payload, command.edits, self.spec.editable_fields)
            self.patch = [*self.patch, *patch]
        else:
            patch = []
        self._acknowledge(actor.user_id, now)
        self.count(
            DecisionRecord(
                stage=self.people.stage,
                approver=actor.user_id,
                on_behalf_of=None if seat == actor.user_id else seat,
                via=actor.via,
                channel_user_id=actor.channel_user_id,
                action=command.action,
                reason=command.comment,
                edits=patch,
                evidence=command.evidence,
                payload_hash=command.payload_hash,
                revision=self.revision,
                decided_at=now,
                key=command.key,
            )
        )
        if patch:
            self.revision += 1
            self.payload_hash = self.spec.content_hash(self.payload)
        self.comment = command.comment or self.comment
        self.evidence += command.evidence
        self.people.vote(actor, seat, approves=approves)
        self.settle(now, by=actor.user_id, via=actor.via)
        if not self.closed:
            self.tell(
                EventType.APPROVAL_VOTED,
                now,
                action=command.action.value,
                approver=actor.user_id,
                onBehalfOf=None if seat == actor.user_id else seat,
                via=actor.via.value,
                stage=self.people.stage,
            )
        answer = Decided(
            approval_id=self.request.approval_id,
            action=command.action,
            approver=actor.user_id,
            on_behalf_of=None if seat == actor.user_id else seat,
            closed=self.closed,
            result=self.result,
            decided_at=now,
            decided_by=self.completed_by,
        )
        self.answers[command.key] = answer
        return answer

    # -- Seeing to it ---------------------------------------------------------------------------------

    def check_acknowledge(self, order: Order) -> None:
        """Refuse who is not asked.

        Raises:
            PlatformError: Says why not.
        """
        self.require_open()
        self.people.seat_of(order.actor)

    def acknowledge(self, order: Order, now: datetime) -> None:
        """Somebody has seen it: the response clock stops, and a veto's window begins."""
        self._acknowledge(order.actor.user_id, now)
        if self.spec.type is ApprovalType.INFORM:
            key = f"acknowledge:{order.actor.user_id}"
            self.decide(
                Decide(actor=order.actor, action=Action.APPROVE, key=key, payload_hash=self.payload_hash), now
            )

    def _acknowledge(self, by: str, now: datetime) -> None:
        if self.acknowledged_at is not None:
            return
        self.acknowledged_at, self.acknowledged_by = now, by
        self.marks.acknowledged_at = self.clock.at(now)
        halt_chain(self.marks)
        window = {name: moment.isoformat() for moment, name in self.due() if name == "veto_window"}
        self.tell(
            EventType.APPROVAL_ACKNOWLEDGED, now, acknowledgedBy=by, proceedsAt=window.get("veto_window")
        )

    def check_claim(self, order: Order) -> None:
        """Refuse a claim by who is not asked, of what needs several, or of what is claimed.

        Raises:
            PlatformError: Says why not.
        """
        self.require_open()
        if self.claimed_by == order.actor.user_id:
            return
        self.people.seat_of(order.actor)
        if self.claimed_by is not None:
            raise ClaimedByOtherError(self.request.approval_id, self.claimed_by)
        if self.people.needs_several:
            raise ActionNotPossibleError(self.request.approval_id, "be claimed", "it needs several people")

    def claim(self, order: Order, now: datetime) -> None:
        """Keep the others off."""
        if self.claimed_by == order.actor.user_id:
            return
        self._acknowledge(order.actor.user_id, now)
        self.claimed_by, self.marks.claimed_at = order.actor.user_id, self.clock.at(now)
        self._change(order, "claimed it.", now, how="claimed", notify=False)

    def check_release(self, order: Order) -> None:
        """Refuse where nothing is claimed, or somebody else has claimed it.

        Raises:
            PlatformError: Says why not.
        """
        self.require_open()
        if self.claimed_by is None:
            raise ActionNotPossibleError(self.request.approval_id, "be released", "nobody has claimed it")
        if self.claimed_by != order.actor.user_id and not order.actor.manages:
            raise ClaimedByOtherError(self.request.approval_id, self.claimed_by)

    def release(self, order: Order, now: datetime) -> None:
        """Give a claim back."""
        self.claimed_by, self.marks.claimed_at = None, None
        self._change(order, "released it.", now, how="released", notify=False)

    def check_reassign(self, order: Reassign) -> None:
        """Refuse who has no part in it, and whoever cannot take its place.

        Raises:
            PlatformError: Says why not.
        """
        self._check_part(order)
        self.people.replaced(order.members)

    def reassign(self, order: Reassign, now: datetime) -> None:
        """Let others decide; the clocks go on."""
        self.people.replace(order.members)
        self.claimed_by, self.marks.claimed_at = None, None
        self._change(
            order, f"reassigned it to {order.assign_to}. {order.reason}".strip(), now, how="reassigned"
        )
        # Votes that stay may suffice for what the new people's number makes of the quorum.
        self.settle(now, by=order.actor.user_id)

    def check_delegate(self, order: Delegate) -> None:
        """Refuse a delegation by who may not, or that could not count.

        Raises:
            PlatformError: Says why not.
        """
        self._check_part(order)
        principal = order.principal or order.actor.user_id
        if principal != order.actor.user_id and not order.actor.manages:
            raise NotAnApproverError(self.request.approval_id)
        self.people.check_delegation(principal, order.delegate)

    def delegate(self, order: Delegate, now: datetime) -> None:
        """Let one more person decide in somebody's place."""
        principal = order.principal or order.actor.user_id
        self.people.delegations[principal] = order.delegate
        text = f"delegated {principal}'s decision to {order.delegate}. {order.reason}".strip()
        self._change(
            order, text, now, how="delegated", notify=False, delegate=order.delegate, principal=principal
        )
        self.notify(NoticeKind.APPROVAL, [order.delegate])

    def _check_part(self, order: Order) -> None:
        self.require_open()
        if not self.people.concerns(order.actor):
            raise NotAnApproverError(self.request.approval_id)

    def _change(
        self, order: Order, what: str, now: datetime, *, how: str, notify: bool = True, **data: str
    ) -> None:
        actor = order.actor
        self.note(RemarkKind.CHANGE, actor.user_id, actor.via, f"{actor.user_id} {what}", now)
        waiting = self.people.waiting()
        self.tell(
            EventType.APPROVAL_ASSIGNED,
            now,
            how=how,
            by=actor.user_id,
            stage=self.people.stage,
            assignedTo=self.assigned_to(),
            assignees=waiting[:50],
            **data,
        )
        if notify:
            self.notify(NoticeKind.APPROVAL, waiting)

    # -- Talking, time, the end -----------------------------------------------------------------------

    def check_comment(self, order: Comment) -> None:
        """Refuse who neither asks nor is asked.

        Raises:
            PlatformError: Says why not.
        """
        self.require_open()
        asker = (
            order.actor.user_id == self.request.requested_by or order.actor.user_id in self.people.excluded
        )
        if not asker and not self.people.concerns(order.actor):
            raise NotAnApproverError(self.request.approval_id)
        if order.answers and not self.information_awaited:
            raise ActionNotPossibleError(self.request.approval_id, "be answered", "no question is open")

    def comment_on(self, order: Comment, now: datetime) -> None:
        """Keep a remark; a question stops the clocks until it is answered."""
        actor = order.actor
        kind = RemarkKind.COMMENT
        if order.question:
            kind, self.information_awaited = RemarkKind.QUESTION, True
            self.clock.pause(now)
            self.notify(NoticeKind.QUESTION, [self.request.requested_by])
        elif order.answers:
            kind, self.information_awaited = RemarkKind.ANSWER, False
            self.clock.resume(now)
            self.notify(NoticeKind.QUESTION, self.people.waiting())
        self.note(kind, actor.user_id, actor.via, order.text, now)
        self.tell(
            EventType.APPROVAL_COMMENTED, now, kind=kind.value, author=actor.user_id, via=actor.via.value
        )

    def check_extend(self, order: Extend) -> None:
        """Refuse who has no part in it.

        Raises:
            PlatformError: Says why not.
        """
        self._check_part(order)

    def extend(self, order: Extend, now: datetime) -> None:
        """Give more time to decide, or to veto."""
        grant(self.spec.sla, self.marks, order.seconds, self.clock.at(now))
        self._change(
            order,
            f"gave {order.seconds} seconds more. {order.reason}".strip(),
            now,
            how="extended",
            notify=False,
        )

    def check_cancel(self, order: Cancel) -> None:
        """Refuse who neither asks nor manages.

        Raises:
            PlatformError: Says why not.
        """
        self.require_open()
        if order.actor.user_id != self.request.requested_by and not order.actor.manages:
            raise NotAnApproverError(self.request.approval_id)

    def cancel(self, order: Cancel, now: datetime) -> None:
        """Withdraw the request, or put it aside because what it was about has changed."""
        state = ApprovalState.SUPERSEDED if order.superseded else ApprovalState.CANCELLED
        result = Result.SUPERSEDED if order.superseded else Result.CANCELLED
        self.close(state, result, now, by=order.actor.user_id, reason=order.reason or None)

    def check_calendar(self, order: SetCalendar) -> None:
        """Refuse who does not manage.

        Raises:
            PlatformError: Says why not.
        """
        self.require_open()
        if not order.actor.manages:
            raise NotAnApproverError(self.request.approval_id)

    def set_calendar(self, order: SetCalendar, now: datetime) -> None:
        """Count by another calendar from now on; what was used up stays used up."""
        self.clock.change_calendar(order.calendar, now)
        name = order.calendar.name if order.calendar else "wall time"
        self._change(order, f"set the calendar {name}.", now, how="calendar", notify=False)
