"""The typed model of an executable process: what a BPMN file says, without its drawing.

A `ProcessDefinition` is self-contained (messages, signals, errors and global tasks are resolved into
it), so its canonical JSON is its identity and all that a worker needs to execute it.
"""

import hashlib
from enum import StrEnum
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict

from models.canonical import canonical_json

SEMANTICS = 1
"""Version of the interpreter's behaviour that a state was made with."""


class NodeKind(StrEnum):
    """Flow nodes that the interpreter executes (BPMN 2.0.2 clause 13)."""

    START = "startEvent"
    CATCH = "intermediateCatchEvent"
    THROW = "intermediateThrowEvent"
    BOUNDARY = "boundaryEvent"
    END = "endEvent"
    TASK = "task"
    MANUAL = "manualTask"
    USER = "userTask"
    SERVICE = "serviceTask"
    SCRIPT = "scriptTask"
    RULE = "businessRuleTask"
    SEND = "sendTask"
    RECEIVE = "receiveTask"
    CALL = "callActivity"
    SUB_PROCESS = "subProcess"
    TRANSACTION = "transaction"
    AD_HOC = "adHocSubProcess"
    EXCLUSIVE = "exclusiveGateway"
    PARALLEL = "parallelGateway"
    INCLUSIVE = "inclusiveGateway"
    EVENT_BASED = "eventBasedGateway"
    COMPLEX = "complexGateway"


SCOPES = frozenset({NodeKind.SUB_PROCESS, NodeKind.TRANSACTION, NodeKind.AD_HOC})
GATEWAYS = frozenset(
    {NodeKind.EXCLUSIVE, NodeKind.PARALLEL, NodeKind.INCLUSIVE, NodeKind.EVENT_BASED, NodeKind.COMPLEX}
)
EVENTS = frozenset({NodeKind.START, NodeKind.CATCH, NodeKind.THROW, NodeKind.BOUNDARY, NodeKind.END})
ACTIVITIES = frozenset(NodeKind) - GATEWAYS - EVENTS


class EventKind(StrEnum):
    """Event definitions (BPMN 2.0.2 clause 10.5.5)."""

    MESSAGE = "message"
    TIMER = "timer"
    SIGNAL = "signal"
    CONDITIONAL = "conditional"
    ERROR = "error"
    ESCALATION = "escalation"
    COMPENSATION = "compensation"
    LINK = "link"
    TERMINATE = "terminate"
    CANCEL = "cancel"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Expression(_Value):
    """Source text in an expression language, or a literal.

    Attributes:
        text: The source, or the literal text itself.
        language: Key of an `ExpressionLanguage`; ``literal`` means the text is the value.
    """

    text: str
    language: str = "feel"


class Assignment(_Value):
    """``target`` receives the value of ``source``; a dotted target writes inside a context."""

    target: str
    source: Expression


class EventDefinition(_Value):
    """One trigger or result of an event.

    Attributes:
        kind: What happens.
        name: Message or signal name, error or escalation code, link name; None for "any".
        any_code: An error or escalation that has no code: who catches it catches any (clause 10.5.5).
        name_expression: Instead of ``name``, evaluated when the event is subscribed or thrown.
        correlation: Key of a message subscription or of a thrown message.
        timer: ``date``, ``duration`` or ``cycle``; with ``value`` the ISO 8601 text or expression.
        value: Timer value or condition.
        activity: Compensation: the activity to compensate, None for the whole scope.
        wait: Compensation: whether the thrower waits for the handlers.
        code_variable: Variable that receives the error or escalation code.
        message_variable: Variable that receives the payload or the error's message.
    """

    kind: EventKind
    name: str | None = None
    any_code: bool = False
    name_expression: Expression | None = None
    correlation: Expression | None = None
    timer: str | None = None
    value: Expression | None = None
    activity: str | None = None
    wait: bool = True
    code_variable: str | None = None
    message_variable: str | None = None


class ComplexBehavior(_Value):
    """A condition of a multi-instance activity and the event it throws (clause 10.3.7)."""

    condition: Expression
    event: EventDefinition


class Loop(_Value):
    """Loop characteristics (clauses 10.3.7, 13.3.6 and 13.3.7).

    Attributes:
        multi: Multi-instance, else a standard loop.
        sequential: One instance after the other.
        cardinality: Number of instances.
        collection: Expression of the list; one instance per item.
        item: Variable of the item inside an instance.
        output_collection: Variable that receives the list of results, in the order of the items.
        output: Result of one instance, evaluated when it completes.
        completion: Evaluated after each instance; true ends the activity.
        behavior: ``All``, ``None``, ``One`` or ``Complex``: which events are thrown as instances complete.
        event: The event of ``None`` and ``One``.
        complex_behaviors: The conditions of ``Complex``.
        window: At most so many instances at once.
        test_before: Standard loop: the condition is tested before the first round.
        maximum: Standard loop: no more rounds than this.
        condition: Standard loop: goes on while true.
    """

    multi: bool = True
    sequential: bool = False
    cardinality: Expression | None = None
    collection: Expression | None = None
    item: str | None = None
    output_collection: str | None = None
    output: Expression | None = None
    completion: Expression | None = None
    behavior: str = "All"
    event: EventDefinition | None = None
    complex_behaviors: tuple[ComplexBehavior, ...] = ()
    window: int = 100
    test_before: bool = False
    maximum: Expression | None = None
    condition: Expression | None = None


class Work(_Value):
    """What an activity asks of the outside world.

    Attributes:
        type: Job type (``http:…``, ``agent:…``, ``connector:…``, ``job:…`` or a bare name).
        retries: Attempts before an incident.
        script: Source of a script task, with its language.
        result_variable: Variable that receives the result of a script, decision or service.
        decision: Identifier of the decision of a business rule task.
        called: Process or global task of a call activity.
        called_expression: Instead of ``called``, evaluated when the activity starts.
        binding: Which deployed version is called: ``latest``, ``deployment`` or a number.
        pass_all_in: A called process receives all visible variables beside the mapped ones.
        pass_all_out: All variables of a called process come back beside the mapped ones.
        business_key: Business key of a called process.
        message: Message of a send or receive task.
        instantiate: A receive task or event-based gateway that starts the process.
        assignee: User task: the person; with candidate groups and users, the form and the dates.
        headers: Free key-value pairs for the worker.
        implementation: The ``implementation`` attribute, a hint for the adapter.
    """

    type: str | None = None
    type_expression: Expression | None = None
    retries: Expression | None = None
    retry_backoff: str | None = None
    script: Expression | None = None
    result_variable: str | None = None
    decision: str | None = None
    decision_expression: Expression | None = None
    called: str | None = None
    called_expression: Expression | None = None
    binding: str | None = None
    pass_all_in: bool = True
    pass_all_out: bool = True
    business_key: Expression | None = None
    message: EventDefinition | None = None
    instantiate: bool = False
    assignee: Expression | None = None
    candidate_groups: Expression | None = None
    candidate_users: Expression | None = None
    form: str | None = None
    due_date: Expression | None = None
    follow_up_date: Expression | None = None
    priority: Expression | None = None
    headers: dict[str, str] = {}
    implementation: str | None = None


class AdHoc(_Value):
    """How an ad-hoc sub-process chooses and ends (clause 10.3.5).

    Attributes:
        sequential: One inner activity at a time.
        completion: Evaluated after each inner activity; true ends the sub-process.
        cancel_remaining: What still runs then is cancelled, else awaited.
        active_elements: Identifiers to activate on entry; without it every element without an incoming flow.
        manual: Nothing is activated on entry: a person or an agent chooses.
    """

    sequential: bool = False
    completion: Expression | None = None
    cancel_remaining: bool = True
    active_elements: Expression | None = None
    manual: bool = False


class DataAssociation(_Value):
    """Data that flows into or out of an activity or event (clause 10.4.2)."""

    sources: tuple[str, ...] = ()
    target: str | None = None
    transformation: Expression | None = None
    assignments: tuple[Assignment, ...] = ()


class Flow(_Value):
    """A sequence flow, possibly conditional."""

    id: str
    source: str
    target: str
    name: str | None = None
    condition: Expression | None = None


class FlowNode(_Value):
    """A flow node with everything that its kind can carry.

    Attributes:
        parent: Identifier of the enclosing sub-process, None at the top level.
        default: The default flow.
        events: Triggers or results of an event; empty for a none event.
        parallel_multiple: All triggers are needed.
        interrupting: Boundary events and start events of event sub-processes.
        attached_to: Boundary events: the activity.
        handler: Compensation boundary events: the compensating activity.
        triggered_by_event: Event sub-processes.
        for_compensation: The activity is a compensation handler and outside the normal flow.
        data: Names of data objects and properties that the scope declares, with their defaults.
    """

    id: str
    kind: NodeKind
    name: str | None = None
    documentation: str | None = None
    parent: str | None = None
    default: str | None = None
    events: tuple[EventDefinition, ...] = ()
    parallel_multiple: bool = False
    interrupting: bool = True
    attached_to: str | None = None
    handler: str | None = None
    triggered_by_event: bool = False
    for_compensation: bool = False
    start_quantity: int = 1
    completion_quantity: int = 1
    work: Work | None = None
    loop: Loop | None = None
    ad_hoc: AdHoc | None = None
    inputs: tuple[Assignment, ...] = ()
    outputs: tuple[Assignment, ...] = ()
    data_inputs: tuple[DataAssociation, ...] = ()
    data_outputs: tuple[DataAssociation, ...] = ()
    data: tuple[Assignment, ...] = ()
    instantiate: bool = False
    parallel_events: bool = False
    activation: Expression | None = None


class GlobalTask(_Value):
    """A task that call activities use from anywhere in the file (clause 10.3.6)."""

    id: str
    kind: NodeKind
    name: str | None = None
    work: Work | None = None


class ProcessDefinition(_Value):
    """One executable process.

    Attributes:
        id: Identifier of the process.
        name: For people.
        version_tag: The author's label of this version.
        nodes: In document order.
        flows: In document order.
        data: Data objects, data inputs and properties of the process with their initial values.
        global_tasks: Callable tasks of the same file.
        message_keys: How a message's correlation key is read from what it carries, by message name
            (clause 8.4.2); for messages that arrive without a key.
        semantics: Interpreter behaviour that the definition was compiled for.
    """

    id: str
    name: str | None = None
    documentation: str | None = None
    version_tag: str | None = None
    nodes: tuple[FlowNode, ...]
    flows: tuple[Flow, ...]
    data: tuple[Assignment, ...] = ()
    global_tasks: tuple[GlobalTask, ...] = ()
    message_keys: tuple[Assignment, ...] = ()
    semantics: int = SEMANTICS

    @cached_property
    def canonical(self) -> bytes:
        """RFC 8785 canonical JSON without defaults: the stored form."""
        return canonical_json(self.to_json())

    @cached_property
    def sha256(self) -> str:
        """Identity of the definition: SHA-256 of `canonical`, hexadecimal."""
        return hashlib.sha256(self.canonical).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return the definition as plain JSON; `ProcessDefinition.model_validate` reads it back."""
        return self.model_dump(mode="json", exclude_defaults=True)
