"""What activities carry: work for the outside world, loops, quantities, data."""

from typing import Any

from workflows.bpmn.definition import (
    AdHoc,
    Assignment,
    ComplexBehavior,
    DataAssociation,
    EventDefinition,
    Expression,
    Loop,
    NodeKind,
    Work,
)
from workflows.bpmn.diagnostics import Findings, Rule
from workflows.bpmn.event_parser import EventParser, reference
from workflows.bpmn.extensions import Reader, language_key
from workflows.bpmn.juel import is_juel
from workflows.bpmn.source import XmlElement, child, children, is_bpmn, line_of, local_name, text_of


class TaskParser:
    """Reads the inside of activities."""

    def __init__(self, reader: Reader, events: EventParser, data_names: dict[str, str]) -> None:
        self._reader = reader
        self._findings: Findings = reader.findings
        self._events = events
        self._data = data_names

    def quantity(self, element: XmlElement, name: str, identifier: str) -> int:
        """Return ``startQuantity`` or ``completionQuantity``, 1 where it is missing or wrong."""
        text = element.get(name)
        if text is None:
            return 1
        try:
            value = int(text.strip()[:10])
        except ValueError:
            value = 0
        if not 1 <= value <= 100:
            self._findings.error(
                Rule.QUANTITY,
                identifier,
                line_of(element),
                f"The {name} of {identifier} is {text[:40]!r}.",
                "Give a whole number from 1 to 100.",
            )
            return 1
        return value

    def work(self, element: XmlElement, kind: NodeKind, identifier: str) -> Work | None:
        """Read what the activity asks of the outside world."""
        values: dict[str, Any] = {}
        self._read_job(element, identifier, values)
        if kind in (NodeKind.USER, NodeKind.MANUAL):
            self._read_assignment(element, identifier, values)
        elif kind is NodeKind.SCRIPT:
            self._read_script(element, identifier, values)
        elif kind is NodeKind.RULE:
            self._read_decision(element, identifier, values)
        elif kind is NodeKind.CALL:
            self._read_call(element, identifier, values)
        elif kind in (NodeKind.SEND, NodeKind.RECEIVE):
            message = element.get("messageRef")
            operation = element.get("operationRef")
            if message or operation:
                values["message"] = self._events.message(element, identifier, message, operation)
            values["instantiate"] = element.get("instantiate", "").strip() in ("true", "1")
        result = self._reader.attribute(element, "resultVariable", "resultVariableName")
        if result:
            values["result_variable"] = result
        return Work(**values) if values else None

    def _read_job(self, element: XmlElement, identifier: str, values: dict[str, Any]) -> None:
        reader, line = self._reader, line_of(element)
        definition = reader.extension(element, "taskDefinition")
        kind, retries = None, None
        if definition is not None:
            kind, retries = definition.get("type"), definition.get("retries")
        topic = reader.attribute(element, "topic")
        delegate = reader.attribute(element, "delegateExpression")
        kind = kind or reader.attribute(element, "taskType") or topic or reader.attribute(element, "class")
        kind = kind or (delegate.strip("${#} ") if delegate else None)
        connector = reader.extension(element, "connectorId")
        if kind is None and connector is not None:
            kind = f"connector:{text_of(connector) or ''}"
        own = reader.attribute(element, "type")
        if kind is None and own and own != "external":
            kind = own
        expression = reader.attribute(element, "expression")
        if kind is None and expression is not None:
            values["script"] = reader.source(expression, identifier, line)
        elif kind is not None:
            found = reader.value(kind, identifier, line)
            if found is not None and found.language != "literal":
                values["type_expression"] = found
            else:
                values["type"] = kind.strip()
        retries = retries or reader.attribute(element, "retries")
        cycle = text_of(reader.extension(element, "failedJobRetryTimeCycle"))
        if cycle and cycle.startswith("R") and "/" in cycle:
            count, _, backoff = cycle[1:].partition("/")
            retries, values["retry_backoff"] = retries or count, backoff
        if retries:
            values["retries"] = reader.value(retries, identifier, line)
        headers = {
            item.get("key", ""): item.get("value", "")
            for container in reader.extensions(element, "taskHeaders")
            for item in container
            if item.get("key")
        }
        if headers:
            values["headers"] = headers
        implementation = element.get("implementation")
        if implementation and not implementation.startswith("##"):
            values["implementation"] = implementation

    def _read_assignment(self, element: XmlElement, identifier: str, values: dict[str, Any]) -> None:
        reader, line = self._reader, line_of(element)
        definition = reader.extension(element, "assignmentDefinition")
        schedule = reader.extension(element, "taskSchedule")
        priority = reader.extension(element, "priorityDefinition")
        form = reader.extension(element, "formDefinition")
        sources: tuple[tuple[str, str, XmlElement | None], ...] = (
            ("assignee", "assignee", definition),
            ("candidate_groups", "candidateGroups", definition),
            ("candidate_users", "candidateUsers", definition),
            ("due_date", "dueDate", schedule),
            ("follow_up_date", "followUpDate", schedule),
            ("priority", "priority", priority),
        )
        for field, name, container in sources:
            text = container.get(name) if container is not None else None
            found = reader.value(text or reader.attribute(element, name), identifier, line)
            if found is not None:
                values[field] = found
        form_key = reader.attribute(element, "formKey", "formRef")
        if form is not None:
            form_key = form.get("formId") or form.get("formKey") or form.get("externalReference") or form_key
        if form_key:
            values["form"] = form_key
        for role, field in (("humanPerformer", "assignee"), ("potentialOwner", "candidate_groups")):
            for item in children(element, role):
                text = text_of(item.find(".//{*}formalExpression"))
                found = reader.value(text, identifier, line_of(item))
                if found is not None and field not in values:
                    values[field] = found

    def _read_script(self, element: XmlElement, identifier: str, values: dict[str, Any]) -> None:
        reader, line = self._reader, line_of(element)
        feel = reader.extension(element, "script")
        if feel is not None and feel.get("expression") is not None:
            values["script"] = reader.source(feel.get("expression", ""), identifier, line_of(feel), "feel")
            if feel.get("resultVariable"):
                values["result_variable"] = feel.get("resultVariable")
            return
        text = text_of(child(element, "script"))
        if text is not None:
            format_ = (element.get("scriptFormat") or element.get("scriptLanguage") or "").strip().lower()
            language = language_key(format_) or ""
            if format_ == "juel" or is_juel(text):
                values["script"] = reader.source(text, identifier, line)
            elif language == "feel" or format_.endswith("/feel"):
                values["script"] = reader.source(text, identifier, line, "feel")
            else:
                values["script"] = Expression(text=text, language=language)

    def _read_decision(self, element: XmlElement, identifier: str, values: dict[str, Any]) -> None:
        reader = self._reader
        called = reader.extension(element, "calledDecision")
        decision = called.get("decisionId") if called is not None else None
        decision = decision or reader.attribute(element, "decisionRef", "decision")
        found = reader.value(decision, identifier, line_of(element))
        if found is not None and found.language != "literal":
            values["decision_expression"] = found
        elif decision:
            values["decision"] = decision
        if called is not None and called.get("resultVariable"):
            values["result_variable"] = called.get("resultVariable")

    def _read_call(self, element: XmlElement, identifier: str, values: dict[str, Any]) -> None:
        reader, line = self._reader, line_of(element)
        extension = reader.extension(element, "calledElement")
        called = reference(element.get("calledElement"))
        raw = element.get("calledElement") or ""
        if is_juel(raw.strip()):
            called = raw.strip()
        if extension is not None:
            called = extension.get("processId") or called
            values["pass_all_in"] = extension.get("propagateAllParentVariables", "true") != "false"
            values["pass_all_out"] = extension.get("propagateAllChildVariables", "true") != "false"
            if extension.get("bindingType"):
                values["binding"] = extension.get("versionTag") or extension.get("bindingType")
        ins = list(reader.extensions(element, "in"))
        outs = list(reader.extensions(element, "out"))
        if ins:
            values["pass_all_in"] = any(item.get("variables") == "all" for item in ins)
            key = next((item.get("businessKey") for item in ins if item.get("businessKey")), None)
            if key:
                values["business_key"] = reader.value(key, identifier, line)
        if outs:
            values["pass_all_out"] = any(item.get("variables") == "all" for item in outs)
        binding = reader.attribute(element, "calledElementVersion", "calledElementBinding")
        if binding:
            values["binding"] = binding
        found = reader.value(called, identifier, line)
        if found is None:
            self._findings.error(
                Rule.CALL_ACTIVITY,
                identifier,
                line,
                f"The call activity {identifier} calls nothing.",
                "Set calledElement to the identifier of a process or global task.",
            )
        elif found.language == "literal":
            values["called"] = found.text
        else:
            values["called_expression"] = found

    def loop(self, element: XmlElement, identifier: str) -> Loop | None:
        """Read standard or multi-instance loop characteristics."""
        standard = child(element, "standardLoopCharacteristics")
        if standard is not None:
            maximum = standard.get("loopMaximum")
            return Loop(
                multi=False,
                test_before=standard.get("testBefore", "").strip() in ("true", "1"),
                maximum=self._reader.source(maximum, identifier, line_of(standard)) if maximum else None,
                condition=self._reader.expression(child(standard, "loopCondition"), identifier),
            )
        multi = child(element, "multiInstanceLoopCharacteristics")
        return None if multi is None else self._multi_instance(element, multi, identifier)

    def _multi_instance(self, element: XmlElement, multi: XmlElement, identifier: str) -> Loop:
        reader, line = self._reader, line_of(multi)
        collection, item, output_collection, output = self._collections(element, multi, identifier)
        behavior = multi.get("behavior", "All").strip()
        if behavior not in ("All", "None", "One", "Complex"):
            self._findings.error(
                Rule.LOOP,
                identifier,
                line,
                f"The multi-instance behavior of {identifier} is {behavior[:40]!r}.",
                "Use All, None, One or Complex.",
            )
        event: EventDefinition | None = None
        target = multi.get(f"{behavior.lower()}BehaviorEventRef") if behavior in ("None", "One") else None
        if target:
            event = self._events.shared(reference(target), identifier, line)
        complexes: list[ComplexBehavior] = []
        for rule in children(multi, "complexBehaviorDefinition"):
            condition = reader.expression(child(rule, "condition"), identifier)
            thrown = child(rule, "event")
            events = self._events.definitions(thrown, identifier) if thrown is not None else ()
            if condition is not None and events:
                complexes.append(ComplexBehavior(condition=condition, event=events[0]))
        window = reader.attribute(multi, "window") or ""
        return Loop(
            sequential=multi.get("isSequential", "").strip() in ("true", "1"),
            cardinality=reader.expression(child(multi, "loopCardinality"), identifier),
            collection=collection,
            item=item,
            output_collection=output_collection,
            output=output,
            completion=reader.expression(child(multi, "completionCondition"), identifier),
            behavior=behavior,
            event=event,
            complex_behaviors=tuple(complexes),
            window=min(int(window), 2000) if window.isdecimal() and int(window[:6]) > 0 else 100,
        )

    def _collections(
        self, element: XmlElement, multi: XmlElement, identifier: str
    ) -> tuple[Expression | None, str | None, str | None, Expression | None]:
        reader, line = self._reader, line_of(multi)
        zeebe = reader.extension(multi, "loopCharacteristics")
        if zeebe is not None:
            source, result = zeebe.get("inputCollection"), zeebe.get("outputElement")
            return (
                reader.source(source, identifier, line) if source else None,
                zeebe.get("inputElement"),
                zeebe.get("outputCollection"),
                reader.source(result, identifier, line) if result else None,
            )
        text = reader.attribute(multi, "collection")
        collection = reader.source(text, identifier, line) if text else None
        item = reader.attribute(multi, "elementVariable")
        input_ref = reference(text_of(child(multi, "loopDataInputRef")))
        if collection is None and input_ref:
            collection = Expression(text=self._fed_by(element, input_ref))
        input_item = child(multi, "inputDataItem")
        if item is None and input_item is not None:
            item = input_item.get("name") or input_item.get("id")
        output_ref = reference(text_of(child(multi, "loopDataOutputRef")))
        output_item = child(multi, "outputDataItem")
        output = None
        if output_item is not None:
            output = Expression(text=output_item.get("name") or output_item.get("id") or "null")
        return collection, item, self._data.get(output_ref or "", output_ref), output

    def _fed_by(self, element: XmlElement, data_input: str) -> str:
        """Return the variable behind a data input: the source of its association where there is one."""
        for association in children(element, "dataInputAssociation"):
            if reference(text_of(child(association, "targetRef"))) == data_input:
                source = reference(text_of(child(association, "sourceRef")))
                if source:
                    return self._data.get(source, source)
        return self._data.get(data_input, data_input)

    def ad_hoc(self, element: XmlElement, identifier: str) -> AdHoc:
        """Read how an ad-hoc sub-process chooses and ends."""
        reader = self._reader
        extension = reader.extension(element, "adHoc")
        active = extension.get("activeElementsCollection") if extension is not None else None
        return AdHoc(
            sequential=element.get("ordering", "Parallel").strip() == "Sequential",
            completion=reader.expression(child(element, "completionCondition"), identifier),
            cancel_remaining=element.get("cancelRemainingInstances", "true").strip() not in ("false", "0"),
            active_elements=reader.source(active, identifier, line_of(element)) if active else None,
            manual=reader.attribute(element, "activation") == "manual",
        )

    def associations(self, element: XmlElement, name: str, identifier: str) -> tuple[DataAssociation, ...]:
        """Read ``dataInputAssociation`` or ``dataOutputAssociation`` elements."""
        found: list[DataAssociation] = []
        for item in children(element, name):
            sources = [reference(text_of(source)) for source in children(item, "sourceRef")]
            target = reference(text_of(child(item, "targetRef")))
            assignments: list[Assignment] = []
            for part in children(item, "assignment"):
                source = self._reader.expression(child(part, "from"), identifier)
                to = text_of(child(part, "to"))
                if source is not None and to:
                    assignments.append(Assignment(target=self._data.get(to, to), source=source))
            found.append(
                DataAssociation(
                    sources=tuple(self._data.get(source, source) for source in sources if source),
                    target=self._data.get(target, target) if target else None,
                    transformation=self._reader.expression(child(item, "transformation"), identifier),
                    assignments=tuple(assignments),
                )
            )
        return tuple(found)


def collect_data_names(root: XmlElement) -> dict[str, str]:
    """Return the variable name of every data object, reference, property, data input and output by its id."""
    names: dict[str, str] = {}
    references: list[tuple[str, str]] = []
    for element in root.iter():
        if not is_bpmn(element):
            continue
        identifier, kind = element.get("id"), local_name(element)
        if identifier is None:
            continue
        if kind in ("dataObject", "property", "dataInput", "dataOutput", "dataStore"):
            names[identifier] = element.get("name") or identifier
        elif kind == "dataObjectReference":
            references.append((identifier, element.get("dataObjectRef") or ""))
        elif kind == "dataStoreReference":
            references.append((identifier, element.get("dataStoreRef") or ""))
    objects = dict(names)
    for identifier, target in references:
        names[identifier] = objects.get(reference(target) or "", reference(target) or identifier)
    return names
