"""What happens to an instance: the events that `step` takes. Each carries the clock value ``now``."""

from datetime import datetime
from typing import Any, NamedTuple


class Start(NamedTuple):
    """Begin: with ``variables``; ``node`` names the start trigger where it is not the none start.

    ``part`` is the position of the trigger among the event's definitions (`StartTrigger.part`).
    """

    now: datetime
    variables: dict[str, Any] = {}
    node: str | None = None
    business_key: str | None = None
    part: int = 0


class JobCompleted(NamedTuple):
    """Work is done, with its results."""

    now: datetime
    key: int
    variables: dict[str, Any] = {}


class JobFailed(NamedTuple):
    """Work failed for technical reasons and is not retried any more: an incident."""

    now: datetime
    key: int
    message: str


class JobError(NamedTuple):
    """Work ended with a BPMN error that boundary events and event sub-processes can catch."""

    now: datetime
    key: int
    code: str
    message: str = ""
    variables: dict[str, Any] = {}


class JobEscalated(NamedTuple):
    """Work escalated and goes on."""

    now: datetime
    key: int
    code: str
    variables: dict[str, Any] = {}


class TimerFired(NamedTuple):
    """A timer's due time has come."""

    now: datetime
    key: int


class MessageReceived(NamedTuple):
    """A message arrived, for the subscription ``key`` or, without it, the oldest that matches."""

    now: datetime
    name: str
    correlation: str | None = None
    variables: dict[str, Any] = {}
    key: int | None = None


class SignalReceived(NamedTuple):
    """A signal was broadcast."""

    now: datetime
    name: str
    variables: dict[str, Any] = {}


class VariablesChanged(NamedTuple):
    """Variables are set from outside, in the scope of ``key`` or at the top."""

    now: datetime
    variables: dict[str, Any]
    key: int | None = None


class Continued(NamedTuple):
    """Go on after `commands.Continue`."""

    now: datetime


class Cancel(NamedTuple):
    """End the instance now."""

    now: datetime
    reason: str = ""


class Suspend(NamedTuple):
    """Hold the instance: what happens is kept and handled on `Resume`."""

    now: datetime


class Resume(NamedTuple):
    """Go on after `Suspend`."""

    now: datetime


class Modification(NamedTuple):
    """One change of the token distribution.

    Attributes:
        action: ``start_before`` (element, scope), ``cancel`` (key, or a join's element for the tokens that
            wait before it) or ``move`` (key, element).
        element: Where a token is placed.
        key: Element instance that is cancelled or moved.
        scope: Key of the scope instance to place the token in where several exist.
    """

    action: str
    element: str | None = None
    key: int | None = None
    scope: int | None = None


class Modify(NamedTuple):
    """Place, cancel and move tokens; all changes or none."""

    now: datetime
    changes: tuple[Modification, ...]
    variables: dict[str, Any] = {}


class ResolveIncident(NamedTuple):
    """Deal with an incident.

    Attributes:
        key: Key of the element instance with the incident.
        action: ``retry`` or ``skip`` (go on as if it had completed).
        variables: Set before, in the scope of the element.
        flow: When a gateway is skipped: the flow to take.
    """

    now: datetime
    key: int
    action: str = "retry"
    variables: dict[str, Any] = {}
    flow: str | None = None


class ActivateElements(NamedTuple):
    """Activate inner elements of an ad-hoc sub-process, all in its one scope."""

    now: datetime
    key: int
    elements: tuple[str, ...]
    variables: dict[str, Any] = {}


class CompleteAdHoc(NamedTuple):
    """End an ad-hoc sub-process: what still runs is cancelled or awaited as the model says."""

    now: datetime
    key: int
    variables: dict[str, Any] = {}


Input = (
    Start
    | JobCompleted
    | JobFailed
    | JobError
    | JobEscalated
    | TimerFired
    | MessageReceived
    | SignalReceived
    | VariablesChanged
    | Continued
    | Cancel
    | Suspend
    | Resume
    | Modify
    | ResolveIncident
    | ActivateElements
    | CompleteAdHoc
)

_TYPES: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        Start, JobCompleted, JobFailed, JobError, JobEscalated, TimerFired, MessageReceived, SignalReceived,
        VariablesChanged, Continued, Cancel, Suspend, Resume, Modify, ResolveIncident, ActivateElements,
        CompleteAdHoc,
    )
}  # fmt: skip


def to_json(event: Input) -> dict[str, Any]:
    """Return the event as JSON, tagged with its name."""
    fields: dict[str, Any] = {"event": type(event).__name__}
    for name, value in event._asdict().items():
        if isinstance(value, datetime):
            value = value.isoformat()
        elif name == "changes":
            value = [change._asdict() for change in value]
        elif isinstance(value, tuple):
            value = list(value)
        fields[name] = value
    return fields


def from_json(fields: dict[str, Any]) -> Input:
    """Return the event that `to_json` wrote."""
    values = dict(fields)
    kind = _TYPES[values.pop("event")]
    values["now"] = datetime.fromisoformat(values["now"])
    if "changes" in values:
        values["changes"] = tuple(Modification(**change) for change in values["changes"])
    if "elements" in values:
        values["elements"] = tuple(values["elements"])
    return kind(**values)
