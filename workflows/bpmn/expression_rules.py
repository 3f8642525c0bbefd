"""Every expression of a definition must compile, and every literal time must be one."""

from collections.abc import Callable, Iterator

from workflows.bpmn.definition import EventDefinition, Expression, FlowNode, ProcessDefinition, Work
from workflows.bpmn.diagnostics import Rule
from workflows.bpmn.expression import ExpressionSyntaxError, Languages
from workflows.bpmn.timing import TimerValueError, check

Report = Callable[[Rule, str, str, str], None]


def check_expressions(process: ProcessDefinition, languages: Languages, error: Report) -> None:
    """Report expressions that do not compile, languages that nobody knows and times that are none."""
    known = ", ".join(sorted(languages.expressions))
    for element, expression, is_script in _all(process):
        if is_script and expression.language in languages.scripts:
            continue
        if expression.language != "literal" and expression.language not in languages.expressions:
            name = expression.language or "none"
            error(
                Rule.EXPRESSION_LANGUAGE,
                element,
                f"{element} uses the language {name[:80]!r}, which is not known here.",
                f"Use one of: {known}.",
            )
            continue
        if expression.text == "null":
            continue
        try:
            languages.compile(expression)
        except ExpressionSyntaxError as problem:
            error(
                Rule.EXPRESSION,
                element,
                f"The expression {expression.text[:80]!r} of {element} does not parse: {str(problem)[:300]}",
                "Correct it.",
            )
    for node in process.nodes:
        for event in node.events:
            _check_time(node.id, event, error)


def _check_time(element: str, event: EventDefinition, error: Report) -> None:
    if event.timer is None or event.value is None or event.value.language != "literal":
        return
    try:
        check(event.timer, event.value.text)
    except TimerValueError as problem:
        error(
            Rule.TIMER,
            element,
            f"The time of {element}: {problem}.",
            "Write ISO 8601, or an expression with a leading =.",
        )


def _all(process: ProcessDefinition) -> Iterator[tuple[str, Expression, bool]]:
    """Return every expression with its element and whether it is a script."""
    for flow in process.flows:
        if flow.condition is not None:
            yield flow.id, flow.condition, False
    for item in process.data:
        yield process.id, item.source, False
    for task in process.global_tasks:
        yield from _of_work(task.id, task.work)
    for node in process.nodes:
        yield from _of_work(node.id, node.work)
        for expression in _of_node(node):
            yield node.id, expression, False


def _of_node(node: FlowNode) -> Iterator[Expression]:
    for item in (*node.inputs, *node.outputs, *node.data):
        yield item.source
    for association in (*node.data_inputs, *node.data_outputs):
        if association.transformation is not None:
            yield association.transformation
        for item in association.assignments:
            yield item.source
    for event in node.events:
        yield from _of_event(event)
    if node.activation is not None:
        yield node.activation
    candidates: list[Expression | None] = []
    if node.ad_hoc is not None:
        candidates += [node.ad_hoc.completion, node.ad_hoc.active_elements]
    if node.loop is not None:
        loop = node.loop
        candidates += [loop.cardinality, loop.collection, loop.output, loop.completion]
        candidates += [loop.maximum, loop.condition]
        for item in loop.complex_behaviors:
            candidates.append(item.condition)
            yield from _of_event(item.event)
        if loop.event is not None:
            yield from _of_event(loop.event)
    yield from (expression for expression in candidates if expression is not None)


def _of_event(event: EventDefinition) -> Iterator[Expression]:
    for expression in (event.name_expression, event.correlation, event.value):
        if expression is not None:
            yield expression


def _of_work(element: str, work: Work | None) -> Iterator[tuple[str, Expression, bool]]:
    if work is None:
        return
    if work.script is not None:
        yield element, work.script, True
    for expression in (
        work.type_expression, work.retries, work.decision_expression, work.called_expression,
        work.business_key, work.assignee, work.candidate_groups, work.candidate_users, work.due_date,
        work.follow_up_date, work.priority,
    ):  # fmt: skip
        if expression is not None:
            yield element, expression, False
    if work.message is not None:
        for expression in _of_event(work.message):
            yield element, expression, False
