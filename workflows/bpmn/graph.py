"""The executable graph: a definition with every reference resolved and every expression compiled.

Immutable once built, so one graph serves all instances of its definition; the reachability tables of
inclusive and complex joins are filled on first use and depend on nothing but the definition.
"""

from datetime import datetime
from typing import Any, NamedTuple

from workflows.bpmn.definition import (
    ACTIVITIES,
    SCOPES,
    Assignment,
    DataAssociation,
    EventDefinition,
    EventKind,
    Expression,
    Flow,
    FlowNode,
    Loop,
    NodeKind,
    ProcessDefinition,
    Work,
)
from workflows.bpmn.expression import (
    CompiledExpression,
    ExpressionEvaluationError,
    Languages,
    Literal,
)

MAX_REACH = 400_000
"""Entries of reachability tables kept at once; the oldest are computed again when needed."""


class Mapping(NamedTuple):
    """A compiled assignment."""

    target: str
    source: CompiledExpression


class Association(NamedTuple):
    """A compiled data association."""

    sources: tuple[str, ...]
    target: str | None
    transformation: CompiledExpression | None
    assignments: tuple[Mapping, ...]


class Event:
    """A compiled event definition."""

    __slots__ = ("correlation", "definition", "kind", "literal", "name", "name_expression", "value")

    def __init__(self, definition: EventDefinition, compiler: "Compiler") -> None:
        self.definition = definition
        self.kind = definition.kind
        self.name = definition.name
        self.name_expression = compiler.optional(definition.name_expression)
        self.correlation = compiler.optional(definition.correlation)
        self.value = compiler.optional(definition.value)
        self.literal = (
            definition.value.text
            if definition.value is not None and definition.value.language == "literal"
            else None
        )


class WorkSpec:
    """Compiled `Work`."""

    __slots__ = (
        "assignee", "business_key", "called_expression", "candidate_groups", "candidate_users", "decision",
        "decision_expression", "definition", "due_date", "follow_up_date", "message", "priority", "retries",
        "rule", "script", "type_expression",
    )  # fmt: skip

    def __init__(self, work: Work, compiler: "Compiler") -> None:
        self.definition = work
        self.type_expression = compiler.optional(work.type_expression)
        self.retries = compiler.optional(work.retries)
        self.script = compiler.script(work.script)
        self.decision = work.decision
        self.decision_expression = compiler.optional(work.decision_expression)
        self.rule = compiler.rule(work.decision)
        self.called_expression = compiler.optional(work.called_expression)
        self.business_key = compiler.optional(work.business_key)
        self.message = Event(work.message, compiler) if work.message else None
        self.assignee = compiler.optional(work.assignee)
        self.candidate_groups = compiler.optional(work.candidate_groups)
        self.candidate_users = compiler.optional(work.candidate_users)
        self.due_date = compiler.optional(work.due_date)
        self.follow_up_date = compiler.optional(work.follow_up_date)
        self.priority = compiler.optional(work.priority)


class LoopSpec:
    """Compiled `Loop`."""

    __slots__ = (
        "cardinality", "collection", "completion", "complexes", "condition", "definition", "event", "local",
        "maximum", "output",
    )  # fmt: skip

    def __init__(self, loop: Loop, compiler: "Compiler") -> None:
        self.definition = loop
        self.cardinality = compiler.optional(loop.cardinality)
        self.collection = compiler.optional(loop.collection)
        self.output = compiler.optional(loop.output)
        # A result that is collected belongs to its instance: side by side they must not share a variable.
        output = loop.output.text if loop.output is not None else ""
        self.local = output if loop.multi and output.isidentifier() else None
        self.completion = compiler.optional(loop.completion)
        self.event = Event(loop.event, compiler) if loop.event else None
        self.complexes = tuple(
            (compiler.expression(item.condition), Event(item.event, compiler))
            for item in loop.complex_behaviors
        )
        self.maximum = compiler.optional(loop.maximum)
        self.condition = compiler.optional(loop.condition)


class FlowEdge:
    """A sequence flow between two nodes of one scope."""

    __slots__ = ("condition", "definition", "id", "source", "target")

    def __init__(self, definition: Flow, source: "Node", target: "Node", compiler: "Compiler") -> None:
        self.definition = definition
        self.id = definition.id
        self.source = source
        self.target = target
        self.condition = compiler.optional(definition.condition)


class Node:
    """A flow node, or the process itself as the outermost scope."""

    __slots__ = (
        "activation", "active_elements", "ad_hoc_completion", "boundaries", "compensation",
        "completion_quantity", "conditional", "data", "data_inputs", "data_outputs", "default", "defers",
        "definition", "event_scopes", "events", "for_compensation", "handler", "id", "incoming",
        "initial", "inner", "inputs", "interrupting", "kind", "link", "loop", "name", "order",
        "outgoing", "outputs", "parallel_multiple", "parent", "plain", "reach", "start_quantity",
        "triggered_by_event", "work",
    )  # fmt: skip

    def __init__(self, definition: FlowNode, order: int, compiler: "Compiler") -> None:
        self.definition = definition
        self.id = definition.id
        self.kind = definition.kind
        self.name = definition.name
        self.order = order
        self.parent: Node | None = None
        self.incoming: tuple[FlowEdge, ...] = ()
        self.outgoing: tuple[FlowEdge, ...] = ()
        self.default: FlowEdge | None = None
        self.conditional = False
        self.events = tuple(Event(event, compiler) for event in definition.events)
        self.interrupting = definition.interrupting
        self.parallel_multiple = definition.parallel_multiple
        self.boundaries: tuple[Node, ...] = ()
        self.event_scopes: tuple[Node, ...] = ()
        self.initial: tuple[Node, ...] = ()
        self.inner: tuple[Node, ...] = ()
        self.handler: Node | None = None
        self.link: Node | None = None
        self.compensation: Node | None = None
        self.triggered_by_event = definition.triggered_by_event
        self.for_compensation = definition.for_compensation
        self.start_quantity = definition.start_quantity
        self.completion_quantity = definition.completion_quantity
        self.work = WorkSpec(definition.work, compiler) if definition.work else None
        self.loop = LoopSpec(definition.loop, compiler) if definition.loop else None
        self.inputs = compiler.mappings(definition.inputs)
        self.outputs = compiler.mappings(definition.outputs)
        self.data_inputs = compiler.associations(definition.data_inputs)
        self.data_outputs = compiler.associations(definition.data_outputs)
        self.data = compiler.mappings(definition.data)
        self.activation = compiler.optional(definition.activation)
        ad_hoc = definition.ad_hoc
        self.ad_hoc_completion = compiler.optional(ad_hoc.completion) if ad_hoc else None
        self.active_elements = compiler.optional(ad_hoc.active_elements) if ad_hoc else None
        self.reach: dict[str, int] | None = None
        self.plain = False
        self.defers = self.kind in (NodeKind.THROW, NodeKind.END) and any(
            event.kind is EventKind.SIGNAL for event in self.events
        )

    @property
    def start_events(self) -> tuple["Node", ...]:
        """Start events of a scope."""
        return tuple(node for node in self.inner if node.kind is NodeKind.START)


class StartTrigger(NamedTuple):
    """What may start an instance from outside.

    Attributes:
        node: Start event, receive task or event-based gateway's event that it enters by.
        kind: ``none`` or an event kind.
        name: Message or signal name, None where computed or absent.
        event: The event definition, None for a none start.
        part: Its position among the definitions of the event.
    """

    node: str
    kind: str
    name: str | None
    event: EventDefinition | None
    part: int = 0


class Graph:
    """A process, ready to be executed.

    Args:
        definition: The process.
        languages: Expression languages and decisions it may use.

    Raises:
        ExpressionSyntaxError: An expression does not compile; validation reports it with its element.
    """

    def __init__(self, definition: ProcessDefinition, languages: Languages) -> None:
        compiler = Compiler(languages)
        self.definition = definition
        self.id = definition.id
        self.sha256 = definition.sha256
        self.languages = languages
        root = FlowNode(id=definition.id, kind=NodeKind.SUB_PROCESS, data=definition.data)
        self.root = Node(root, -1, compiler)
        self.nodes: dict[str, Node] = {definition.id: self.root}
        for order, node in enumerate(definition.nodes):
            self.nodes[node.id] = Node(node, order, compiler)
        self.flows: dict[str, FlowEdge] = {}
        self._connect(compiler)
        self.global_tasks = {
            task.id: Node(FlowNode(id=task.id, kind=task.kind, name=task.name, work=task.work), -1, compiler)
            for task in definition.global_tasks
        }
        self.compensates = any(
            event.kind in (EventKind.COMPENSATION, EventKind.CANCEL)
            for node in self.nodes.values()
            if node.kind in (NodeKind.THROW, NodeKind.END)
            for event in node.events
        )
        self.has_conditions = any(
            event.kind is EventKind.CONDITIONAL for node in self.nodes.values() for event in node.events
        )
        self.message_keys = {
            item.target: compiler.expression(item.source) for item in definition.message_keys
        }
        self.start_triggers = tuple(self._triggers())
        self._reached: list[Node] = []
        self._before: dict[str, dict[str, list[Node]]] = {}

    def _connect(self, compiler: "Compiler") -> None:
        nodes = self.nodes
        ordered = [nodes[node.id] for node in self.definition.nodes]
        incoming: dict[str, list[FlowEdge]] = {}
        outgoing: dict[str, list[FlowEdge]] = {}
        for flow in self.definition.flows:
            edge = FlowEdge(flow, nodes[flow.source], nodes[flow.target], compiler)
            self.flows[flow.id] = edge
            outgoing.setdefault(flow.source, []).append(edge)
            incoming.setdefault(flow.target, []).append(edge)
        inner: dict[str, list[Node]] = {}
        boundaries: dict[str, list[Node]] = {}
        for node in ordered:
            node.incoming = tuple(incoming.get(node.id, ()))
            node.outgoing = tuple(outgoing.get(node.id, ()))
            node.default = self.flows.get(node.definition.default or "")
            node.conditional = any(edge.condition is not None for edge in node.outgoing)
            node.parent = nodes[node.definition.parent] if node.definition.parent else self.root
            inner.setdefault(node.parent.id, []).append(node)
            if node.definition.attached_to:
                boundaries.setdefault(node.definition.attached_to, []).append(node)
            if node.definition.handler:
                node.handler = nodes[node.definition.handler]
        for node in (self.root, *ordered):
            node.inner = tuple(inner.get(node.id, ()))
            node.boundaries = tuple(boundaries.get(node.id, ()))
            node.event_scopes = tuple(item for item in node.inner if item.triggered_by_event)
            node.initial = tuple(item for item in node.inner if _starts_by_itself(item))
            node.compensation = next(
                (item for item in node.boundaries if _has(item, EventKind.COMPENSATION)), None
            )
            targets = {
                item.events[0].name: item
                for item in node.inner
                if item.kind is NodeKind.CATCH and _has(item, EventKind.LINK)
            }
            for item in node.inner:
                if item.kind is NodeKind.THROW and _has(item, EventKind.LINK):
                    item.link = targets.get(item.events[0].name)
        for node in ordered:
            node.plain = _is_plain(node)

    def message_key(self, name: str, variables: dict[str, Any], now: datetime) -> str | None:
        """Return the correlation key of a message that came without one, read from what it carries."""
        expression = self.message_keys.get(name)
        if expression is None:
            return None
        try:
            value = expression.evaluate(variables, now)
        except ExpressionEvaluationError:
            return None
        return None if value is None or isinstance(value, bool | list | dict) else str(value)

    def _triggers(self) -> list[StartTrigger]:
        found: list[StartTrigger] = []
        for node in self.root.inner:
            if node.kind is NodeKind.START:
                found.extend(
                    StartTrigger(node.id, event.kind.value, event.name, event.definition, part)
                    for part, event in enumerate(node.events)
                )
                if not node.events:
                    found.append(StartTrigger(node.id, "none", None, None))
            elif node.kind is NodeKind.RECEIVE and not node.incoming and _instantiates(node):
                message = node.work.message if node.work else None
                if message is not None:
                    found.append(StartTrigger(node.id, "message", message.name, message.definition))
            elif node.kind is NodeKind.EVENT_BASED and node.definition.instantiate and not node.incoming:
                for edge in node.outgoing:
                    target = edge.target
                    message = target.work.message if target.work else None
                    events = (message,) if message is not None else target.events
                    found.extend(
                        StartTrigger(target.id, event.kind.value, event.name, event.definition, part)
                        for part, event in enumerate(events)
                    )
        return found

    def reach(self, join: Node) -> dict[str, int]:
        """Return, per node of the join's scope, which incoming flows of the join a token there can reach.

        Bit *i* of a node stands for the join's *i*-th incoming flow; paths go over sequence flows,
        boundary events and links and do not visit the join (BPMN 2.0.2 clause 13.4.3).
        """
        if join.reach is not None:
            return join.reach
        while self._reached and sum(len(other.reach or ()) for other in self._reached) > MAX_REACH:
            self._reached.pop(0).reach = None
        before = self._predecessors(join.parent or self.root)
        table: dict[str, int] = {}
        for index, edge in enumerate(join.incoming):
            bit = 1 << index
            stack = [edge.source]
            while stack:
                node = stack.pop()
                if node is join or table.get(node.id, 0) & bit:
                    continue
                table[node.id] = table.get(node.id, 0) | bit
                stack.extend(before.get(node.id, ()))
        join.reach = table
        self._reached.append(join)
        return table

    def _predecessors(self, scope: Node) -> dict[str, list[Node]]:
        """Return, per node of a scope, where a token can come from in one move."""
        found = self._before.get(scope.id)
        if found is not None:
            return found
        before: dict[str, list[Node]] = {}
        for node in scope.inner:
            targets = [edge.target for edge in node.outgoing]
            if node.link is not None:
                targets.append(node.link)
            for target in (*targets, *node.boundaries):
                before.setdefault(target.id, []).append(node)
        self._before[scope.id] = before
        return before


class Compiler:
    """Compiles expressions of a definition."""

    def __init__(self, languages: Languages) -> None:
        self._languages = languages

    def expression(self, source: Expression) -> CompiledExpression:
        """Compile one expression."""
        if source.text == "null" and source.language != "literal":
            return Literal(None)
        return self._languages.compile(source)

    def optional(self, source: Expression | None) -> CompiledExpression | None:
        """Compile an expression where there is one."""
        return None if source is None else self.expression(source)

    def script(self, source: Expression | None) -> CompiledExpression | None:
        """Compile a script in an expression language; scripts that run outside compile to None."""
        if source is None or source.language in self._languages.scripts:
            return None
        return self.expression(source)

    def rule(self, decision: str | None) -> CompiledExpression | None:
        """Resolve a decision that is evaluated in place."""
        rules = self._languages.rules
        return rules.resolve(decision) if rules is not None and decision is not None else None

    def mappings(self, items: tuple[Assignment, ...]) -> tuple[Mapping, ...]:
        """Compile assignments."""
        return tuple(Mapping(item.target, self.expression(item.source)) for item in items)

    def associations(self, items: tuple[DataAssociation, ...]) -> tuple[Association, ...]:
        """Compile data associations."""
        return tuple(
            Association(
                item.sources, item.target, self.optional(item.transformation), self.mappings(item.assignments)
            )
            for item in items
        )


def _has(node: Node, kind: EventKind) -> bool:
    return any(event.kind is kind for event in node.events)


def _instantiates(node: Node) -> bool:
    return node.work is not None and node.work.definition.instantiate


def _starts_by_itself(node: Node) -> bool:
    """Tell whether a node gets a token when its scope starts without a trigger (clause 13.3.1)."""
    if node.incoming or node.triggered_by_event or node.for_compensation or node.kind is NodeKind.BOUNDARY:
        return False
    if node.kind is NodeKind.START:
        return not node.events
    return not (node.kind is NodeKind.CATCH and _has(node, EventKind.LINK))


_INSTANT = frozenset({NodeKind.TASK, NodeKind.MANUAL})


def _is_plain(node: Node) -> bool:
    """Tell whether passing the node changes nothing but the token's place."""
    definition = node.definition
    return node.kind in _INSTANT and not (
        node.loop
        or node.boundaries
        or node.inputs
        or node.outputs
        or node.data_inputs
        or node.data_outputs
        or node.data
        or node.start_quantity != 1
        or definition.for_compensation
        or (definition.work is not None and definition.work.type is not None)
    )


def is_activity(node: Node) -> bool:
    """Tell whether the node is an activity (task, call activity or sub-process)."""
    return node.kind in ACTIVITIES


def is_scope(node: Node) -> bool:
    """Tell whether the node contains other nodes."""
    return node.kind in SCOPES
