"""Who decides and until when: the policy of an approval (flowgrid-level3 §2.3; research §1.2)."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from models.calendar import CalendarName, CamelModel

Name = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\s\x00-\x1f][^\x00-\x1f]*$")
]
"""A user's id, a group's or a role's name."""

Seconds = Annotated[int, Field(ge=1, le=5 * 366 * 86_400)]
"""At most five years: calendars are pinned for that long."""


class AssignmentType(StrEnum):
    """How those who may decide are found."""

    USER = "user"
    GROUP = "group"
    ROLE = "role"
    ROUND_ROBIN = "round_robin"
    LEAST_BUSY = "least_busy"


class AssignmentRule(CamelModel):
    """``user`` names a person; ``round_robin`` and ``least_busy`` choose one member of the group."""

    type: AssignmentType
    value: Name


class NeedType(StrEnum):
    """How many of a group must approve."""

    NUMBER = "number"
    ALL = "all"
    PERCENTAGE = "percentage"


class Need(CamelModel):
    """So many approvals; a percentage is rounded up, and at least one is needed."""

    type: NeedType = NeedType.NUMBER
    value: int = Field(default=1, ge=1, le=1000)

    @model_validator(mode="after")
    def _percentage(self) -> Self:
        if self.type is NeedType.PERCENTAGE and self.value > 100:
            raise ValueError("a percentage is at most 100")
        return self

    def of(self, members: int) -> int:
        """Return how many of ``members`` people that is."""
        if self.type is NeedType.ALL:
            return max(1, members)
        if self.type is NeedType.PERCENTAGE:
            return max(1, -(-members * self.value // 100))
        return self.value


class RejectionType(StrEnum):
    """When rejections end the request."""

    ANY = "any"
    NUMBER = "number"
    PERCENTAGE = "percentage"
    NONE = "none"
    """Only when the approvals that are needed can no longer come together."""


class Rejection(CamelModel):
    """The rule for rejections, apart from the one for approvals."""

    type: RejectionType = RejectionType.ANY
    value: int = Field(default=1, ge=1, le=1000)

    def of(self, members: int) -> int | None:
        """Return how many rejections of a stage of ``members`` people reject; None: no number does."""
        if self.type is RejectionType.NONE:
            return None
        if self.type is RejectionType.ANY:
            return 1
        if self.type is RejectionType.PERCENTAGE:
            return max(1, -(-members * min(self.value, 100) // 100))
        return self.value


class Group(CamelModel):
    """People of whom so many must approve."""

    members: AssignmentRule
    need: Need = Field(default_factory=Need)


class Stage(CamelModel):
    """Groups that decide at the same time; all of them must be satisfied."""

    groups: list[Group] = Field(min_length=1, max_length=20)
    rejection: Rejection = Field(default_factory=Rejection)


class Default(StrEnum):
    """What a request comes to that nobody decided."""

    REJECT = "reject"
    APPROVE = "approve"
    CANCEL = "cancel"


class RiskClass(StrEnum):
    """How bad a wrong approval is; approval without a person is possible for ``low`` only."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class ReasonFor(StrEnum):
    """Decisions that may need a reason."""

    APPROVE = "approve"
    REJECT = "reject"
    EDIT = "edit"


class Policy(CamelModel):
    """How decisions are counted."""

    stages: list[Stage] = Field(
        default_factory=list[Stage],
        max_length=10,
        description="One after the other; none: one approval by those the assignment rule names.",
    )
    distinct: bool = Field(
        default=True,
        description="Each person counts once in the whole request, not once per group and stage.",
    )
    exclude: list[Name] = Field(
        default_factory=list[Name], max_length=100, description="People who may not decide."
    )
    self_approval: bool = Field(default=False, description="Whether whoever asks may decide.")
    delegation: bool = Field(default=True, description="Whether substitutes and delegates may decide.")
    reason_required_on: list[ReasonFor] = Field(
        default_factory=lambda: [ReasonFor.REJECT, ReasonFor.EDIT], max_length=3
    )
    end_early: bool = Field(
        default=True, description="Reject as soon as the approvals can no longer come together."
    )
    evidence_required: int = Field(
        default=0, ge=0, le=20, description="Attachments that a manual task needs before it is done."
    )
    email_decisions: bool = Field(
        default=True, description="Whether an e-mail's signed link may decide; possession is all it proves."
    )
    default: Default = Field(default=Default.REJECT, description="What `expireAfter` comes to.")
    expire_after: Seconds | None = Field(
        default=None, description="Seconds of the clock after which the default applies."
    )
    claim_expires_after: Seconds | None = Field(
        default=None, description="Seconds of the clock after which a claim is given back."
    )
    veto_window: Seconds | None = Field(
        default=None, description="Of type `veto`: seconds between the first acknowledgement and the action."
    )


class BreachAction(StrEnum):
    """What a missed time leads to."""

    ESCALATE = "escalate"
    AUTO_APPROVE = "auto_approve"
    AUTO_REJECT = "auto_reject"
    NOTIFY = "notify"


class FinalAction(StrEnum):
    """What the end of the escalation chain leads to."""

    AUTO_APPROVE = "auto_approve"
    AUTO_REJECT = "auto_reject"
    CANCEL_FLOW = "cancel_flow"


class Channel(StrEnum):
    """Ways to reach a person."""

    SLACK = "slack"
    TEAMS = "teams"
    EMAIL = "email"
    WEB = "web"


class Sla(CamelModel):
    """The two clocks. They stand still while information is awaited."""

    response_time: Seconds | None = Field(
        default=None, description="Seconds until somebody must acknowledge."
    )
    resolution_time: Seconds | None = Field(default=None, description="Seconds until it must be decided.")
    breach_action: BreachAction = BreachAction.NOTIFY
    warn_before: Seconds | None = Field(
        default=None, description="Seconds before either time at which `sla.warning` is reported."
    )
    reminders: list[Seconds] = Field(
        default_factory=list[Seconds], max_length=50, description="Seconds after which to remind."
    )
    fallback_after: Seconds = Field(
        default=900,
        description="Seconds of wall time without an acknowledgement after which the next channel is tried.",
    )
    calendar: CalendarName | None = Field(
        default=None, description="Name of the calendar whose working time counts; none: wall time."
    )


class EscalationLevel(CamelModel):
    """A step of the chain, so many seconds after the breach that began it."""

    level: int = Field(ge=1, le=100)
    after_seconds: int = Field(ge=0, le=5 * 366 * 86_400)
    assign_to: AssignmentRule | Name = Field(description="A rule, or the name of a group or else a user.")
    notify_channels: list[Channel] = Field(default_factory=list[Channel], max_length=4)
    keep_previous: bool = Field(default=True, description="Whether those asked before may still decide.")


class Escalation(CamelModel):
    """The chain and what its end leads to."""

    levels: list[EscalationLevel] = Field(default_factory=list[EscalationLevel], max_length=20)
    final_action: FinalAction = FinalAction.AUTO_REJECT
    final_after_seconds: int | None = Field(
        default=None,
        ge=0,
        le=5 * 366 * 86_400,
        description="Seconds after the breach. By default at the resolution time, or one response time after "
        "the last level where that is later.",
    )

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        for former, level in zip(self.levels, self.levels[1:], strict=False):
            if level.level <= former.level or level.after_seconds < former.after_seconds:
                raise ValueError("levels count up, and each comes no earlier than the one before")
        if (
            self.final_after_seconds is not None
            and self.levels
            and self.final_after_seconds < self.levels[-1].after_seconds
        ):
            raise ValueError("the final action comes no earlier than the last level")
        return self
