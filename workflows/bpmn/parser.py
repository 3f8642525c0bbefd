"""BPMN XML to the typed model (BPMN 2.0.2 clauses 8 to 10).

Everything executable is read or refused by name and line; the drawing, lanes, pools without a process,
annotations, choreographies and conversations say nothing about execution and are left out.
"""

from typing import Any, NamedTuple

from workflows.bpmn.definition import (
    ACTIVITIES,
    EVENTS,
    SCOPES,
    Assignment,
    Expression,
    Flow,
    FlowNode,
    GlobalTask,
    NodeKind,
    ProcessDefinition,
)
from workflows.bpmn.diagnostics import Diagnostic, Findings, Rule
from workflows.bpmn.event_parser import EventParser, reference
from workflows.bpmn.extensions import Reader, language_key
from workflows.bpmn.source import (
    XmlElement,
    child,
    children,
    is_bpmn,
    line_of,
    local_name,
    read_document,
    text_of,
)
from workflows.bpmn.task_parser import TaskParser, collect_data_names

MAX_ELEMENTS = 20_000
MAX_SCOPE_DEPTH = 40

_KINDS = {kind.value: kind for kind in NodeKind}
_GLOBAL = {
    "globalTask": NodeKind.TASK,
    "globalManualTask": NodeKind.MANUAL,
    "globalUserTask": NodeKind.USER,
    "globalScriptTask": NodeKind.SCRIPT,
    "globalBusinessRuleTask": NodeKind.RULE,
}
_SILENT = frozenset(
    {
        "documentation", "extensionElements", "laneSet", "association", "textAnnotation", "group",
        "sequenceFlow", "incoming", "outgoing", "dataObject", "dataObjectReference", "dataStoreReference",
        "property", "ioSpecification", "ioBinding", "auditing", "monitoring", "resourceRole", "performer",
        "humanPerformer", "potentialOwner", "supportedInterfaceRef", "supports", "correlationSubscription",
        "dataInputAssociation", "dataOutputAssociation", "standardLoopCharacteristics",
        "multiInstanceLoopCharacteristics", "completionCondition", "categoryValueRef",
    }
)  # fmt: skip


class Parsed(NamedTuple):
    """What a file holds.

    Attributes:
        processes: The executable processes, in document order.
        lines: Line of every element by its identifier.
        findings: Diagnostics so far; validation adds to them.
    """

    processes: tuple[ProcessDefinition, ...]
    lines: dict[str, int]
    findings: Findings

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """All findings."""
        return tuple(self.findings.items)


def parse(data: bytes) -> Parsed:
    """Read a BPMN file into typed processes; problems inside it are findings, not exceptions.

    Raises:
        DefinitionRefusedError: The file as a whole cannot be read.
    """
    root = read_document(data)
    return _FileParser(root).parse()


class _FileParser:
    def __init__(self, root: XmlElement) -> None:
        self._root = root
        self._findings = Findings()
        language = language_key(root.get("expressionLanguage")) or "feel"
        self._reader = Reader(self._findings, language)
        self._events = EventParser(root, self._reader)
        self._data = collect_data_names(root)
        self._tasks = TaskParser(self._reader, self._events, self._data)
        self._lines: dict[str, int] = {}
        self._count = 0

    def parse(self) -> Parsed:
        self._index_identifiers()
        processes: list[ProcessDefinition] = []
        global_tasks = tuple(self._global_tasks())
        found = children(self._root, "process")
        for element in found:
            executable = element.get("isExecutable", "").strip()
            if executable in ("false", "0") and len(found) >= 1:
                continue
            process = self._process(element, global_tasks)
            if process is not None:
                processes.append(process)
        if not processes:
            self._findings.error(
                Rule.NO_PROCESS,
                "",
                line_of(self._root),
                "The file has no executable process.",
                'Add a process with isExecutable="true".',
            )
        return Parsed(tuple(processes), self._lines, self._findings)

    def _index_identifiers(self) -> None:
        for element in self._root.iter():
            if not is_bpmn(element):
                continue
            identifier = element.get("id")
            if identifier is None:
                continue
            if identifier in self._lines:
                self._findings.error(
                    Rule.DUPLICATE_ID,
                    identifier[:200],
                    line_of(element),
                    f"The identifier {identifier[:200]!r} is used twice, first on line"
                    f" {self._lines[identifier]}.",
                    "Give each element its own identifier.",
                )
            else:
                self._lines[identifier] = line_of(element)

    def _global_tasks(self) -> list[GlobalTask]:
        tasks: list[GlobalTask] = []
        for element in self._root:
            kind = _GLOBAL.get(local_name(element)) if is_bpmn(element) else None
            identifier = element.get("id")
            if kind is None or identifier is None:
                continue
            work = self._tasks.work(element, kind, identifier)
            tasks.append(GlobalTask(id=identifier, kind=kind, name=element.get("name"), work=work))
        return tasks

    def _process(self, element: XmlElement, tasks: tuple[GlobalTask, ...]) -> ProcessDefinition | None:
        identifier = element.get("id")
        if not identifier:
            self._missing_id(element)
            return None
        nodes: list[FlowNode] = []
        flows: list[Flow] = []
        self._reader.report_listeners(element, identifier)
        self._scope(element, None, nodes, flows, 0)
        if self._count > MAX_ELEMENTS:
            self._findings.error(
                Rule.TOO_LARGE,
                identifier,
                line_of(element),
                f"The file has more than {MAX_ELEMENTS} flow elements.",
                "Split the model into processes that call each other.",
            )
            return None
        handlers = self._handlers(element)
        tag = self._reader.extension(element, "versionTag")
        return ProcessDefinition(
            id=identifier,
            name=element.get("name"),
            documentation=text_of(child(element, "documentation")),
            version_tag=tag.get("value")
            if tag is not None
            else self._reader.attribute(element, "versionTag"),
            nodes=tuple(
                node.model_copy(update={"handler": handlers[node.id]}) if node.id in handlers else node
                for node in nodes
            ),
            flows=tuple(flows),
            data=self._declared_data(element),
            global_tasks=tasks,
            message_keys=self._events.correlation.keys(
                {identifier: named.name for identifier, named in self._events.messages.items()}
            ),
        )

    def _scope(
        self, element: XmlElement, parent: str | None, nodes: list[FlowNode], flows: list[Flow], depth: int
    ) -> None:
        if depth > MAX_SCOPE_DEPTH:
            self._findings.error(
                Rule.TOO_DEEP,
                parent or "",
                line_of(element),
                f"Sub-processes are nested deeper than {MAX_SCOPE_DEPTH} levels.",
                "Move the inner levels to processes of their own and call them.",
            )
            return
        for item in element:
            if self._count > MAX_ELEMENTS:
                return
            if not is_bpmn(item):
                continue
            name = local_name(item)
            kind = _KINDS.get(name)
            if kind is not None:
                self._node(item, kind, parent, nodes, flows, depth)
            elif name == "sequenceFlow":
                self._flow(item, flows)
            elif name not in _SILENT:
                self._unsupported(item, name)

    def _unsupported(self, item: XmlElement, name: str) -> None:
        identifier = item.get("id") or name
        self._findings.error(
            Rule.UNSUPPORTED_ELEMENT,
            identifier,
            line_of(item),
            f"{name} {identifier} cannot be executed.",
            "Replace it by an element of the coverage table in docs/bpmn.md.",
        )

    def _missing_id(self, element: XmlElement) -> None:
        self._findings.error(
            Rule.MISSING_ID,
            "",
            line_of(element),
            f"A {local_name(element)} has no identifier.",
            "Give it an id attribute.",
        )

    def _flow(self, element: XmlElement, flows: list[Flow]) -> None:
        self._count += 1
        identifier = element.get("id")
        source, target = reference(element.get("sourceRef")), reference(element.get("targetRef"))
        if not identifier:
            self._missing_id(element)
            return
        if source is None or target is None:
            self._findings.error(
                Rule.DANGLING_REFERENCE,
                identifier,
                line_of(element),
                f"The sequence flow {identifier} has no {'source' if source is None else 'target'}.",
                "Connect it at both ends.",
            )
            return
        condition = self._reader.expression(child(element, "conditionExpression"), identifier)
        flows.append(
            Flow(id=identifier, source=source, target=target, name=element.get("name"), condition=condition)
        )

    def _node(
        self,
        element: XmlElement,
        kind: NodeKind,
        parent: str | None,
        nodes: list[FlowNode],
        flows: list[Flow],
        depth: int,
    ) -> None:
        self._count += 1
        identifier = element.get("id")
        if not identifier:
            self._missing_id(element)
            return
        self._reader.report_listeners(element, identifier)
        values: dict[str, Any] = {
            "id": identifier,
            "kind": kind,
            "name": element.get("name") or None,
            "documentation": text_of(child(element, "documentation")),
            "parent": parent,
            "default": reference(element.get("default")),
        }
        inputs, outputs = self._reader.mappings(element, identifier)
        values["inputs"], values["outputs"] = inputs, outputs
        values["data_inputs"] = self._tasks.associations(element, "dataInputAssociation", identifier)
        values["data_outputs"] = self._tasks.associations(element, "dataOutputAssociation", identifier)
        if kind in EVENTS:
            self._read_event(element, kind, identifier, values)
        elif kind in ACTIVITIES:
            self._read_activity(element, kind, identifier, values)
        else:
            values["instantiate"] = element.get("instantiate", "").strip() in ("true", "1")
            values["parallel_events"] = element.get("eventGatewayType", "").strip() == "Parallel"
            values["activation"] = self._reader.expression(child(element, "activationCondition"), identifier)
        nodes.append(FlowNode(**values))
        if kind in SCOPES:
            self._scope(element, identifier, nodes, flows, depth + 1)

    def _read_event(
        self, element: XmlElement, kind: NodeKind, identifier: str, values: dict[str, Any]
    ) -> None:
        values["events"] = self._events.definitions(element, identifier)
        values["parallel_multiple"] = element.get("parallelMultiple", "").strip() in ("true", "1")
        if kind is NodeKind.START:
            values["interrupting"] = element.get("isInterrupting", "true").strip() not in ("false", "0")
        elif kind is NodeKind.BOUNDARY:
            values["interrupting"] = element.get("cancelActivity", "true").strip() not in ("false", "0")
            values["attached_to"] = reference(element.get("attachedToRef"))
        values["work"] = self._tasks.work(element, NodeKind.SERVICE, identifier)

    def _read_activity(
        self, element: XmlElement, kind: NodeKind, identifier: str, values: dict[str, Any]
    ) -> None:
        values["triggered_by_event"] = element.get("triggeredByEvent", "").strip() in ("true", "1")
        values["for_compensation"] = element.get("isForCompensation", "").strip() in ("true", "1")
        values["start_quantity"] = self._tasks.quantity(element, "startQuantity", identifier)
        values["completion_quantity"] = self._tasks.quantity(element, "completionQuantity", identifier)
        values["loop"] = self._tasks.loop(element, identifier)
        values["work"] = self._tasks.work(element, kind, identifier)
        values["data"] = self._declared_data(element)
        if kind is NodeKind.AD_HOC:
            values["ad_hoc"] = self._tasks.ad_hoc(element, identifier)

    def _declared_data(self, element: XmlElement) -> tuple[Assignment, ...]:
        """Return the data objects and properties of a scope: variables that start as null."""
        null = Expression(text="null")
        found: list[Assignment] = []
        for item in element:
            if is_bpmn(item) and local_name(item) in ("dataObject", "property") and item.get("id"):
                value = self._initial_value(item) or null
                found.append(Assignment(target=self._data[item.get("id", "")], source=value))
        return tuple(found)

    def _initial_value(self, item: XmlElement) -> Expression | None:
        """Return Flowable's valued data object: an extension ``value``."""
        value = text_of(self._reader.extension(item, "value"))
        if value is None:
            return None
        kind = (item.get("itemSubjectRef") or "").rpartition(":")[2].lower()
        if kind in ("int", "integer", "long", "double", "boolean", "decimal", "float"):
            return Expression(text=value)
        return Expression(text=value, language="literal")

    def _handlers(self, element: XmlElement) -> dict[str, str]:
        """Return the compensation activity of each boundary event by the association between them."""
        boundaries = {item.get("id") for item in element.iter(f"{{{_NS}}}boundaryEvent")}
        found: dict[str, str] = {}
        for item in element.iter(f"{{{_NS}}}association"):
            source, target = reference(item.get("sourceRef")), reference(item.get("targetRef"))
            if source in boundaries and target is not None and source is not None:
                found[source] = target
            elif target in boundaries and source is not None and target is not None:
                found[target] = source
        return found


_NS = "http://www.omg.org/spec/BPMN/20100524/MODEL"
