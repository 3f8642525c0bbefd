"""What the interpreter asks of its adapter. Every command is a plain value that serialises to JSON."""

from datetime import datetime
from typing import Any, NamedTuple


class StartJob(NamedTuple):
    """Start work outside; the answer is `JobCompleted`, `JobFailed`, `JobError` or `JobEscalated`.

    Attributes:
        key: Key of the activity instance, unique in the instance: with the attempt the idempotency key.
        element: Identifier of the flow node (of the global task's caller, for global tasks).
        kind: BPMN kind of the task, or ``call`` for a called process, ``ad_hoc`` for a choosing agent.
        type: Job type, None where the kind says all.
        variables: What the work may see.
        attempt: 1, plus one for every retry after an incident.
        retries: Attempts the author allows, None for the adapter's default.
        details: Form, assignee, script source, decision, called process, headers: by kind.
    """

    key: int
    element: str
    kind: str
    type: str | None
    variables: dict[str, Any]
    attempt: int = 1
    retries: int | None = None
    details: dict[str, Any] = {}


class CancelJob(NamedTuple):
    """Stop the work; an answer that still comes is ignored."""

    key: int
    element: str
    kind: str


class SetTimer(NamedTuple):
    """Send `TimerFired` with the key at the due time or later."""

    key: int
    element: str
    due: datetime


class CancelTimer(NamedTuple):
    """The timer is not needed any more."""

    key: int


class Subscribe(NamedTuple):
    """Send `MessageReceived` or `SignalReceived` with the key when one arrives.

    Attributes:
        key: Key of the subscription.
        element: The waiting event.
        kind: ``message`` or ``signal``.
        name: Of the message or signal.
        correlation: Correlation key of a message; None takes any.
        once: The subscription ends with its first delivery.
    """

    key: int
    element: str
    kind: str
    name: str
    correlation: str | None
    once: bool


class Unsubscribe(NamedTuple):
    """The subscription is closed."""

    key: int
    kind: str
    name: str


class ThrowMessage(NamedTuple):
    """Publish a message; also to this instance if it subscribes."""

    element: str
    key: int
    name: str
    correlation: str | None
    variables: dict[str, Any]


class ThrowSignal(NamedTuple):
    """Broadcast a signal to other instances; this one has received it already."""

    element: str
    key: int
    name: str
    variables: dict[str, Any]


class ThrowEscalation(NamedTuple):
    """An escalation left the process: a caller may catch it."""

    element: str
    code: str | None
    variables: dict[str, Any]


class RaiseIncident(NamedTuple):
    """A token is stuck and needs an operator; other branches go on."""

    key: int
    element: str
    type: str
    message: str


class CloseIncident(NamedTuple):
    """The incident is resolved or its element is gone."""

    key: int
    element: str


class Trace(NamedTuple):
    """Something happened, for the log, the event store and the simulator.

    Attributes:
        event: ``started``, ``completed``, ``cancelled``, ``taken``, ``thrown``, ``caught``, ``ignored``, ….
        element: Identifier of the element or flow.
        key: Key of the element instance, 0 where there is none.
        detail: A name, code or reason.
    """

    event: str
    element: str
    key: int = 0
    detail: str | None = None


class Continue(NamedTuple):
    """The step's budget is spent; send `Continued` to go on at once."""


class Completed(NamedTuple):
    """The instance ended normally, with its final variables."""

    variables: dict[str, Any]


class Failed(NamedTuple):
    """The instance ended by an error that nobody caught."""

    code: str | None
    message: str
    element: str


class Terminated(NamedTuple):
    """The instance was cancelled from outside."""

    reason: str


Command = (
    StartJob
    | CancelJob
    | SetTimer
    | CancelTimer
    | Subscribe
    | Unsubscribe
    | ThrowMessage
    | ThrowSignal
    | ThrowEscalation
    | RaiseIncident
    | CloseIncident
    | Trace
    | Continue
    | Completed
    | Failed
    | Terminated
)


def to_json(command: Command) -> dict[str, Any]:
    """Return the command as JSON, tagged with its name."""
    fields: dict[str, Any] = {"command": type(command).__name__}
    for name, value in command._asdict().items():
        fields[name] = value.isoformat() if isinstance(value, datetime) else value
    return fields
