"""What time does to a request: warnings, reminders, breaches, escalation, and its end (research §1.2)."""

from datetime import datetime, timedelta

from models.approval import ApprovalState, NoticeKind, RemarkKind, Result, Via
from models.approval_policy import BreachAction, Default, FinalAction
from models.event import EventType
from workflows.approvals.deadlines import (
    CLAIM,
    EXPIRY,
    FINAL,
    LEVEL,
    RESOLUTION,
    RESPONSE,
    VETO_WINDOW,
    Due,
    begin_chain,
    upcoming,
)
from workflows.approvals.quorum import Verdict
from workflows.approvals.standing import Standing

BY_POLICY = "policy"
"""Who closes a request that nobody decided."""


class PassingTime(Standing):
    """A request over which time passes."""

    def next_at(self) -> datetime | None:
        """Return when time will bring something next; None where it never does."""
        due = self.due()
        return due[0][0] if due else None

    def elapse(self, now: datetime) -> None:
        """Let everything happen that is due by ``now``: each thing once, in its order."""
        while not self.closed and self.clock.running_since is not None:
            policy = self.spec.policy
            waiting = upcoming(
                self.spec.sla,
                self.spec.escalation,
                self.marks,
                expire_after=policy.expire_after,
                veto_window=policy.veto_window,
                claim_expires_after=policy.claim_expires_after,
            )
            if not waiting or waiting[0].mark > self.clock.at(now):
                return
            self.marks.fired.add(waiting[0].name)
            self._happen(waiting[0], now)

    def _happen(self, due: Due, now: datetime) -> None:
        name, _, detail = due.name.partition(":")
        if name == "warning":
            self.tell(EventType.SLA_WARNING, now, clock=detail, **self._due_at(due.mark))
            self.notify(NoticeKind.REMINDER, self.people.waiting())
        elif name == "reminder":
            self.tell(EventType.APPROVAL_REMINDED, now, afterSeconds=int(detail), **self._due_at(due.mark))
            self.notify(NoticeKind.REMINDER, self.people.waiting())
        elif name in (RESPONSE, RESOLUTION):
            self._breach(name, due.mark, now)
        elif name == LEVEL:
            self._escalate(now, **self._due_at(due.mark))
        elif name == CLAIM:
            self.note(RemarkKind.CHANGE, BY_POLICY, Via.API, f"The claim of {self.claimed_by} expired.", now)
            self.claimed_by, self.marks.claimed_at = None, None
            self.assign(now, "claim_expired")
        elif name == VETO_WINDOW:
            reason = "nobody vetoed within the window"
            self.close(ApprovalState.DECIDED, Result.APPROVED, now, reason=reason)
        elif name == EXPIRY:
            self._by_default(self.spec.policy.default, now, "nobody decided in time")
        elif name == FINAL:
            self._end_of_chain(now)

    def _due_at(self, mark: timedelta) -> dict[str, str]:
        moment = self.clock.moment(mark)
        return {} if moment is None else {"dueAt": moment.isoformat()}

    def _breach(self, clock: str, mark: timedelta, now: datetime) -> None:
        action = self.spec.sla.breach_action
        self.tell(
            EventType.SLA_BREACHED, now, breachType=clock, breachAction=action.value, **self._due_at(mark)
        )
        self.notify(NoticeKind.BREACH, self.people.waiting())
        reason = f"the {clock} time was missed"
        if action is BreachAction.ESCALATE:
            begin_chain(self.marks, self.spec.escalation, mark, clock)
        elif action is BreachAction.AUTO_APPROVE:
            self._by_default(Default.APPROVE, now, reason)
        elif action is BreachAction.AUTO_REJECT:
            self._by_default(Default.REJECT, now, reason)

    def _escalate(self, now: datetime, **data: str) -> None:
        """Ask the next level's people; the resolution clock goes on as it did."""
        level = self.spec.escalation.levels[self.marks.level]
        pool = self.opened.levels[self.marks.level]
        self.marks.level += 1
        # Whatever brought it about, this level is behind us.
        self.marks.fired.add(f"{LEVEL}:{level.level}")
        self.claimed_by, self.marks.claimed_at = None, None
        before = set(self.people.waiting())
        self.people.add(pool)
        if not level.keep_previous and pool.role is None and self.people.could_do(pool.members):
            self.people.replace(pool.members)
        asked = [name for name in self.people.waiting() if name not in before or name in pool.members]
        self.tell(
            EventType.APPROVAL_ESCALATED,
            now,
            level=level.level,
            assignedTo=asked[0] if len(asked) == 1 else None,
            assignees=asked[:50],
            **data,
        )
        self.notify(NoticeKind.ESCALATION, asked, level.notify_channels)

    def relieve(self, now: datetime) -> bool:
        """Ask the next level at once where those asked cannot suffice."""
        while self.marks.level < len(self.spec.escalation.levels):
            self._escalate(now, cause="nobody left to decide")
            if self.people.verdict() is not Verdict.IMPOSSIBLE:
                return True
        return False

    def _end_of_chain(self, now: datetime) -> None:
        action = self.spec.escalation.final_action
        reason = "the escalation chain ended without a decision"
        if action is FinalAction.AUTO_APPROVE:
            self._by_default(Default.APPROVE, now, reason)
        elif action is FinalAction.AUTO_REJECT:
            self._by_default(Default.REJECT, now, reason)
        else:
            self.cancel_flow = True
            self._by_default(Default.CANCEL, now, reason)

    def _by_default(self, default: Default, now: datetime, reason: str) -> None:
        if default is Default.CANCEL:
            self.close(ApprovalState.CANCELLED, Result.CANCELLED, now, reason=reason)
        else:
            result = Result.APPROVED if default is Default.APPROVE else Result.REJECTED
            self.close(ApprovalState.EXPIRED, result, now, reason=reason)
