"""The clocks of a request on one axis: seconds of its calendar since it was opened, pauses left out.

Everything that time does stands on that axis, so pausing, a new calendar and reassigning only change where
the axis lies in wall time; what has been used up stays used up (research §1.2, rule 4 and 5).
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from models.approval_policy import Escalation, Sla
from models.calendar import PinnedCalendar
from workflows.approvals.working_time import add_working_time, working_time_between

SECOND = timedelta(seconds=1)


@dataclass(slots=True)
class Clock:
    """How much time has been used, and since when it runs again.

    Attributes:
        calendar: Whose working time it counts; None: wall time.
        running_since: None while it stands still.
        used: What ran before ``running_since``.
    """

    calendar: PinnedCalendar | None
    running_since: datetime | None
    used: timedelta = timedelta(0)

    def at(self, now: datetime) -> timedelta:
        """Return the time used up to ``now``."""
        if self.running_since is None:
            return self.used
        return self.used + working_time_between(self.calendar, self.running_since, now)

    def moment(self, mark: timedelta) -> datetime | None:
        """Return when ``mark`` is reached; None while the clock stands still."""
        if self.running_since is None:
            return None
        return add_working_time(self.calendar, self.running_since, mark - self.used)

    def pause(self, now: datetime) -> None:
        """Stand still from ``now`` on."""
        self.used, self.running_since = self.at(now), None

    def resume(self, now: datetime) -> None:
        """Run on from ``now``."""
        if self.running_since is None:
            self.running_since = now

    def change_calendar(self, calendar: PinnedCalendar | None, now: datetime) -> None:
        """Count by another calendar from ``now`` on."""
        running = self.running_since is not None
        self.pause(now)
        self.calendar = calendar
        if running:
            self.resume(now)


@dataclass(slots=True)
class Chain:
    """The escalation chain once a breach has begun it.

    Attributes:
        anchor: Mark from which levels count.
        base: ``after_seconds`` that stands for the anchor; what was fired before a halt is behind it.
        cause: Which breach began it, ``response`` or ``resolution``.
        asks: Whether it had a level left to ask when it began.
    """

    anchor: timedelta
    base: int
    cause: str
    asks: bool


@dataclass(slots=True)
class Marks:
    """What has happened on the axis, so that nothing of it happens twice.

    Attributes:
        fired: Names of marks that are behind us.
        level: Levels fired so far.
        chain: The chain while it runs.
        extended: Time that was granted.
        acknowledged_at: Mark of the first acknowledgement.
        claimed_at: Mark of the present claim.
    """

    fired: set[str] = field(default_factory=set[str])
    level: int = 0
    chain: Chain | None = None
    extended: timedelta = timedelta(0)
    acknowledged_at: timedelta | None = None
    claimed_at: timedelta | None = None


RESPONSE, RESOLUTION, EXPIRY, FINAL = "response", "resolution", "expiry", "final"
VETO_WINDOW, CLAIM, LEVEL = "veto_window", "claim", "level"


@dataclass(frozen=True, slots=True)
class Due:
    """Something that time brings.

    Attributes:
        mark: When, on the axis.
        name: What; unique within the request.
    """

    mark: timedelta
    name: str


def _seconds(count: int) -> timedelta:
    return count * SECOND


def resolution_mark(sla: Sla, marks: Marks) -> timedelta | None:
    """Return when it must be decided; granted time is added."""
    return None if sla.resolution_time is None else _seconds(sla.resolution_time) + marks.extended


def upcoming(
    sla: Sla,
    escalation: Escalation,
    marks: Marks,
    *,
    expire_after: int | None,
    veto_window: int | None,
    claim_expires_after: int | None,
) -> list[Due]:
    """List what time will bring if nobody does anything, earliest first.

    Of two at the same mark the one that ends the request comes last, so that nothing is left out: a
    warning, a reminder, a breach, a level, the end.
    """
    found: list[Due] = []
    # Once somebody watches, a veto's own window decides; there is nothing else to wait for.
    vetoing = veto_window is not None and marks.acknowledged_at is not None
    if sla.response_time is not None and marks.acknowledged_at is None:
        _clock(found, sla, RESPONSE, _seconds(sla.response_time))
    resolution = resolution_mark(sla, marks)
    if resolution is not None and not vetoing:
        _clock(found, sla, RESOLUTION, resolution)
    if not vetoing:
        found += [Due(_seconds(after), f"reminder:{after}") for after in sla.reminders]
        found += _chain(sla, escalation, marks)
    if claim_expires_after is not None and marks.claimed_at is not None:
        found.append(Due(marks.claimed_at + _seconds(claim_expires_after), f"{CLAIM}:{marks.claimed_at}"))
    if veto_window is not None and marks.acknowledged_at is not None:
        window = marks.acknowledged_at + _seconds(veto_window) + marks.extended
        found.append(Due(window, VETO_WINDOW))
    if expire_after is not None:
        found.append(Due(_seconds(expire_after) + marks.extended, EXPIRY))
    return sorted(
        (due for due in found if due.name not in marks.fired), key=lambda due: (due.mark, _rank(due))
    )


def _clock(found: list[Due], sla: Sla, name: str, mark: timedelta) -> None:
    if sla.warn_before is not None and _seconds(sla.warn_before) < mark:
        found.append(Due(mark - _seconds(sla.warn_before), f"warning:{name}"))
    found.append(Due(mark, name))


def _chain(sla: Sla, escalation: Escalation, marks: Marks) -> list[Due]:
    chain = marks.chain
    if chain is None:
        return []

    def mark_of(after: int) -> timedelta:
        return chain.anchor + _seconds(max(0, after - chain.base))

    rest = escalation.levels[marks.level :]
    found = [Due(mark_of(level.after_seconds), f"{LEVEL}:{level.level}") for level in rest]
    if escalation.final_after_seconds is not None:
        end = mark_of(escalation.final_after_seconds)
    else:
        last = mark_of(escalation.levels[-1].after_seconds) if escalation.levels else chain.anchor
        # Whoever was asked last gets the time to respond that the first one had.
        end = last + _seconds(sla.response_time or 0) if chain.cause == RESPONSE or chain.asks else last
        resolution = resolution_mark(sla, marks)
        end = end if resolution is None else max(end, resolution)
    return [*found, Due(end, FINAL)]


def _rank(due: Due) -> int:
    order = ("warning", "reminder", CLAIM, RESPONSE, RESOLUTION, LEVEL, VETO_WINDOW, EXPIRY, FINAL)
    return order.index(due.name.partition(":")[0])


def begin_chain(marks: Marks, escalation: Escalation, mark: timedelta, cause: str) -> None:
    """Begin the chain at a breach, or go on with what is left of one that was halted."""
    if marks.chain is not None:
        return
    base = escalation.levels[marks.level - 1].after_seconds if marks.level else 0
    marks.chain = Chain(anchor=mark, base=base, cause=cause, asks=marks.level < len(escalation.levels))


def halt_chain(marks: Marks) -> None:
    """Stop a chain that nobody's answer began: somebody has answered now."""
    if marks.chain is not None and marks.chain.cause == RESPONSE:
        marks.chain = None


def grant(sla: Sla, marks: Marks, seconds: int, reached: timedelta) -> None:
    """Give more time to decide; a resolution time that lies ahead again can be missed again."""
    marks.extended += _seconds(seconds)
    resolution = resolution_mark(sla, marks)
    if resolution is not None and resolution > reached and RESOLUTION in marks.fired:
        marks.fired -= {RESOLUTION, f"warning:{RESOLUTION}"}
        if marks.chain is not None and marks.chain.cause == RESOLUTION:
            marks.chain = None
