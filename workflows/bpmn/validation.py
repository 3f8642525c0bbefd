"""What a definition must fulfil to be executed; each rule has a stable identifier (docs/bpmn.md).

The parser has reported what it could not read; here the parts are held against each other.
"""

from collections.abc import Iterable

from workflows.bpmn.definition import (
    ACTIVITIES,
    GATEWAYS,
    SCOPES,
    EventDefinition,
    EventKind,
    Flow,
    FlowNode,
    NodeKind,
    ProcessDefinition,
)
from workflows.bpmn.diagnostics import Findings, Rule
from workflows.bpmn.event_rules import check_event
from workflows.bpmn.expression import Languages
from workflows.bpmn.expression_rules import check_expressions
from workflows.bpmn.parser import Parsed


def validate(parsed: Parsed, languages: Languages) -> None:
    """Add the findings of all rules to ``parsed.findings``."""
    for process in parsed.processes:
        Validator(process, parsed.lines, parsed.findings, languages).run()


class Validator:
    """Checks one process."""

    def __init__(
        self, process: ProcessDefinition, lines: dict[str, int], findings: Findings, languages: Languages
    ) -> None:
        self.process = process
        self.lines = lines
        self.findings = findings
        self.languages = languages
        self.nodes = {node.id: node for node in process.nodes}
        self.inner: dict[str | None, list[FlowNode]] = {}
        self.handlers = {node.handler for node in process.nodes}
        self.attached = {node.attached_to for node in process.nodes}
        self.outgoing: dict[str, list[Flow]] = {}
        self.incoming: dict[str, list[Flow]] = {}

    def run(self) -> None:
        """Apply all rules."""
        for node in self.process.nodes:
            self.inner.setdefault(node.parent, []).append(node)
        for flow in self.process.flows:
            self._check_flow(flow)
        for node in self.process.nodes:
            self._check_node(node)
        for scope in (None, *(node.id for node in self.process.nodes if node.kind in SCOPES)):
            self._check_scope(scope)
        check_expressions(self.process, self.languages, self.error)

    def error(self, rule: Rule, element: str, message: str, remedy: str) -> None:
        """Report an error at an element."""
        self.findings.error(rule, element, self.lines.get(element, 0), message, remedy)

    def warning(self, rule: Rule, element: str, message: str, remedy: str) -> None:
        """Report a warning at an element."""
        self.findings.warning(rule, element, self.lines.get(element, 0), message, remedy)

    # --- flows --------------------------------------------------------------------------------------

    def _check_flow(self, flow: Flow) -> None:
        ends = [(flow.source, "source"), (flow.target, "target")]
        missing = [f"{what} {name!r}" for name, what in ends if name not in self.nodes]
        if missing:
            self.error(
                Rule.DANGLING_REFERENCE,
                flow.id,
                f"The sequence flow {flow.id} has the {' and the '.join(missing)},"
                " no flow node of this process.",
                "Connect it to flow nodes of the same process; use a message flow between pools.",
            )
            return
        self.outgoing.setdefault(flow.source, []).append(flow)
        self.incoming.setdefault(flow.target, []).append(flow)
        source, target = self.nodes[flow.source], self.nodes[flow.target]
        if source.parent != target.parent:
            self.error(
                Rule.FLOW_CROSSES_SCOPE,
                flow.id,
                f"The sequence flow {flow.id} crosses the border of a sub-process.",
                "Leave a sub-process by its own flows or by a boundary event.",
            )
        bad_source = source.kind is NodeKind.END or source.triggered_by_event or source.for_compensation
        bad_target = target.kind in (NodeKind.START, NodeKind.BOUNDARY)
        bad_target = bad_target or target.triggered_by_event or target.for_compensation
        if bad_source or bad_target:
            end = source.id if bad_source else target.id
            self.error(
                Rule.FLOW_NOT_ALLOWED,
                flow.id,
                f"The sequence flow {flow.id} must not {'leave' if bad_source else 'enter'} {end}.",
                "End events have no outgoing flows, start and boundary events no incoming ones, event"
                " sub-processes and compensation activities neither.",
            )
        unconditional = source.kind in (NodeKind.PARALLEL, NodeKind.EVENT_BASED)
        if flow.condition is not None and unconditional:
            self.warning(
                Rule.CONDITION_NOT_ALLOWED,
                flow.id,
                f"The condition of {flow.id} is not evaluated: it leaves a {source.kind.value}.",
                "Remove the condition, or use an inclusive gateway.",
            )

    # --- nodes --------------------------------------------------------------------------------------

    def _check_node(self, node: FlowNode) -> None:
        outgoing = self.outgoing.get(node.id, [])
        if node.default is not None and node.default not in {flow.id for flow in outgoing}:
            self.error(
                Rule.DEFAULT_FLOW,
                node.id,
                f"The default flow {node.default!r} of {node.id} does not leave it.",
                "Choose one of its outgoing flows.",
            )
        if node.kind in GATEWAYS:
            self._check_gateway(node, outgoing)
        elif node.kind in ACTIVITIES:
            self._check_activity(node)
        else:
            check_event(self, node)

    def _check_gateway(self, node: FlowNode, outgoing: list[Flow]) -> None:
        incoming = self.incoming.get(node.id, [])
        if not outgoing and not incoming:
            self.error(
                Rule.GATEWAY_DIRECTION,
                node.id,
                f"The gateway {node.id} is not connected.",
                "Connect or remove it.",
            )
        choosing = node.kind in (NodeKind.EXCLUSIVE, NodeKind.INCLUSIVE)
        if choosing and len(outgoing) > 1:
            bare = [flow.id for flow in outgoing if flow.condition is None and flow.id != node.default]
            if bare and node.kind is NodeKind.EXCLUSIVE:
                self.warning(
                    Rule.CONDITION_NOT_ALLOWED,
                    node.id,
                    f"Flows of {node.id} have no condition and so always hold: {', '.join(bare[:5])}.",
                    "Give each a condition or make one the default flow.",
                )
        if node.kind is NodeKind.EVENT_BASED:
            self._check_event_gateway(node, outgoing, incoming)
        if node.kind is NodeKind.COMPLEX and len(incoming) > 1 and node.activation is None:
            self.warning(
                Rule.GATEWAY_DIRECTION,
                node.id,
                f"The complex gateway {node.id} joins without an activation condition: every token passes.",
                "Add one, such as activationCount >= 2.",
            )

    def _check_event_gateway(self, node: FlowNode, outgoing: list[Flow], incoming: list[Flow]) -> None:
        if not outgoing:
            self.error(
                Rule.EVENT_GATEWAY,
                node.id,
                f"The event-based gateway {node.id} waits for nothing.",
                "Connect it to catch events or receive tasks.",
            )
        for flow in outgoing:
            target = self.nodes[flow.target]
            waits = target.kind is NodeKind.RECEIVE and target.work is not None and target.work.message
            waits = waits or (
                target.kind is NodeKind.CATCH
                and target.events
                and all(event.kind is not EventKind.LINK for event in target.events)
            )
            if not waits:
                self.error(
                    Rule.EVENT_GATEWAY,
                    node.id,
                    f"The event-based gateway {node.id} leads to {target.id}, which catches nothing.",
                    "Lead it to intermediate catch events or receive tasks with a message.",
                )
            elif len(self.incoming.get(target.id, ())) > 1:
                self.error(
                    Rule.EVENT_GATEWAY,
                    node.id,
                    f"{target.id} has other incoming flows beside that of {node.id}.",
                    "Events behind an event-based gateway have one incoming flow.",
                )
            elif target.kind is NodeKind.RECEIVE and target.id in self.attached:
                self.error(
                    Rule.EVENT_GATEWAY,
                    node.id,
                    f"The receive task {target.id} behind {node.id} has boundary events.",
                    "Remove them, or add their events to the gateway.",
                )
        if node.instantiate and (incoming or node.parent is not None):
            self.error(
                Rule.EVENT_GATEWAY,
                node.id,
                f"The instantiating gateway {node.id} has incoming flows or lies in a sub-process.",
                "It starts the process and stands at its beginning.",
            )
        if node.parallel_events and not node.instantiate:
            self.error(
                Rule.EVENT_GATEWAY,
                node.id,
                f"The parallel event-based gateway {node.id} does not start the process.",
                "Set instantiate, or use a parallel gateway before the events.",
            )

    # --- activities ---------------------------------------------------------------------------------

    def _check_activity(self, node: FlowNode) -> None:
        work = node.work
        if node.triggered_by_event and node.kind is not NodeKind.SUB_PROCESS:
            self.error(
                Rule.EVENT_SUB_PROCESS,
                node.id,
                f"{node.id} is a {node.kind.value} and triggered by an event.",
                "Only plain sub-processes can be.",
            )
        if node.kind is NodeKind.SCRIPT and (work is None or (work.script is None and work.type is None)):
            self.error(Rule.TASK_INCOMPLETE, node.id, f"The script task {node.id} has no script.", "Add one.")
        if node.kind is NodeKind.RECEIVE and (work is None or work.message is None):
            self.error(
                Rule.TASK_INCOMPLETE,
                node.id,
                f"The receive task {node.id} waits for no message.",
                "Set messageRef, or an operation with a message.",
            )
        if node.kind is NodeKind.RECEIVE and work is not None and work.instantiate:
            self._check_instantiating(node)
        loop = node.loop
        if loop is not None and loop.multi and loop.cardinality is None and loop.collection is None:
            self.error(
                Rule.LOOP,
                node.id,
                f"The multi-instance activity {node.id} has neither a number nor a collection.",
                "Set loopCardinality or a collection.",
            )
        if loop is not None and not loop.multi and loop.condition is None and loop.maximum is None:
            self.warning(
                Rule.LOOP,
                node.id,
                f"The loop {node.id} has neither a condition nor a maximum and runs once.",
                "Add a loop condition.",
            )
        if node.for_compensation and node.id not in self.handlers:
            self.warning(
                Rule.COMPENSATION,
                node.id,
                f"The compensation activity {node.id} belongs to no boundary event.",
                "Connect it to a compensation boundary event by an association.",
            )

    def _check_instantiating(self, node: FlowNode) -> None:
        sources = [self.nodes[flow.source].kind for flow in self.incoming.get(node.id, ())]
        if node.parent is not None or any(kind is not NodeKind.START for kind in sources):
            self.error(
                Rule.TASK_INCOMPLETE,
                node.id,
                f"The instantiating receive task {node.id} is not at the start of the process.",
                "Remove its incoming flows, or its instantiate attribute.",
            )

    # --- scopes -------------------------------------------------------------------------------------

    def _check_scope(self, scope: str | None) -> None:
        inner = self.inner.get(scope, [])
        name = scope or self.process.id
        if not inner:
            node = self.nodes.get(scope or "")
            if node is None or node.kind is not NodeKind.AD_HOC:
                self.warning(
                    Rule.UNREACHABLE, name, f"{name} is empty.", "Add what it should do, or remove it."
                )
            return
        self._check_links(inner)
        self._check_starts(scope, name, inner)
        self._check_reachable(inner)
        self._check_duplicate_handlers(inner)

    def _check_starts(self, scope: str | None, name: str, inner: list[FlowNode]) -> None:
        starts = [node for node in inner if node.kind is NodeKind.START]
        node = self.nodes.get(scope or "")
        if node is not None and node.triggered_by_event:
            if len(starts) != 1 or not starts[0].events:
                self.error(
                    Rule.EVENT_SUB_PROCESS,
                    name,
                    f"The event sub-process {name} needs exactly one start event with a trigger.",
                    "Give it one.",
                )
            return
        if node is not None and node.kind is NodeKind.AD_HOC:
            for item in (*starts, *(i for i in inner if i.kind is NodeKind.END)):
                self.error(
                    Rule.AD_HOC,
                    item.id,
                    f"The ad-hoc sub-process {name} has the start or end event {item.id}.",
                    "Remove it: ad-hoc sub-processes have neither.",
                )
            return
        if node is not None:
            triggered = [item.id for item in starts if item.events]
            if triggered or len(starts) > 1:
                self.error(
                    Rule.START_EVENT,
                    name,
                    f"The sub-process {name} has start events with a trigger, or more than one.",
                    "An embedded sub-process has one none start event.",
                )
            return
        none = [item.id for item in starts if not item.events]
        if len(none) > 1:
            self.warning(
                Rule.START_EVENT,
                name,
                f"The process has {len(none)} none start events; without a name {none[0]} is used.",
                "Keep one, or name the start event when starting.",
            )

    def _check_links(self, inner: list[FlowNode]) -> None:
        throws: dict[str | None, list[str]] = {}
        catches: dict[str | None, list[str]] = {}
        for node in inner:
            for event in node.events:
                if event.kind is EventKind.LINK:
                    found = throws if node.kind is NodeKind.THROW else catches
                    found.setdefault(event.name, []).append(node.id)
        for name, nodes in throws.items():
            if name not in catches:
                self.error(
                    Rule.LINK_EVENT,
                    nodes[0],
                    f"The link {name!r} of {nodes[0]} leads nowhere in its scope.",
                    "Add a link catch event with the same name in the same scope.",
                )
        for name, nodes in catches.items():
            if len(nodes) > 1:
                self.error(
                    Rule.LINK_EVENT,
                    nodes[1],
                    f"The link {name!r} has several targets: {', '.join(nodes[:5])}.",
                    "Keep one target per link name.",
                )
            elif name not in throws:
                self.warning(
                    Rule.LINK_EVENT,
                    nodes[0],
                    f"Nothing leads to the link {name!r} of {nodes[0]}.",
                    "Add a link throw event, or remove it.",
                )

    def _check_reachable(self, inner: list[FlowNode]) -> None:
        """Warn of nodes that no token can come to."""
        by_id = {node.id: node for node in inner}
        reached: set[str] = set()
        boundaries: dict[str, list[str]] = {}
        for node in inner:
            if node.attached_to:
                boundaries.setdefault(node.attached_to, []).append(node.id)
        links = {
            event.name: node.id
            for node in inner
            if node.kind is NodeKind.CATCH
            for event in node.events
            if event.kind is EventKind.LINK
        }
        pending = [node.id for node in inner if not self.incoming.get(node.id) and not node.attached_to]
        while pending:
            name = pending.pop()
            if name in reached or name not in by_id:
                continue
            reached.add(name)
            pending.extend(flow.target for flow in self.outgoing.get(name, ()))
            pending.extend(boundaries.get(name, ()))
            pending.extend(
                links[event.name]
                for event in by_id[name].events
                if event.kind is EventKind.LINK and event.name in links
            )
        lost = [node.id for node in inner if node.id not in reached and node.attached_to is None]
        for name in lost[:20]:
            self.warning(
                Rule.UNREACHABLE,
                name,
                f"No token can reach {name}: it lies on a loop without an entrance.",
                "Connect it to the rest of the process.",
            )

    def _check_duplicate_handlers(self, inner: list[FlowNode]) -> None:
        """Refuse two catchers of the same error or escalation in one place: which one is undefined."""
        seen: set[tuple[str, EventKind, str | None]] = set()
        for place, event, node in _catchers(inner, self.inner):
            key = (place, event.kind, event.name)
            if key in seen:
                self.error(
                    Rule.BOUNDARY_EVENT if node.attached_to else Rule.EVENT_SUB_PROCESS,
                    node.id,
                    f"{node.id} catches the {event.kind.value} {event.name or 'of any code'} a second time.",
                    "Keep one catcher per code.",
                )
            seen.add(key)


def _catchers(
    inner: list[FlowNode], by_scope: dict[str | None, list[FlowNode]]
) -> Iterable[tuple[str, EventDefinition, FlowNode]]:
    kinds = (EventKind.ERROR, EventKind.ESCALATION)
    for node in inner:
        if node.attached_to:
            for event in node.events:
                if event.kind in kinds:
                    yield node.attached_to, event, node
        if node.triggered_by_event:
            for start in by_scope.get(node.id, ()):
                for event in start.events:
                    if start.kind is NodeKind.START and event.kind in kinds:
                        yield "", event, start
