import pytest

from tests.bpmn.builders import NAMESPACES, bpmn, definition, diagnostics, errors, flows, tasks
from workflows.bpmn.deployment import deploy
from workflows.bpmn.diagnostics import DefinitionRefusedError, Rule
from workflows.bpmn.juel import NotTranslatableError, to_feel

TIMER = "<timerEventDefinition><timeDuration>PT1H</timeDuration></timerEventDefinition>"


def _catch(inside: str) -> bytes:
    return bpmn(f'<intermediateCatchEvent id="c">{inside}</intermediateCatchEvent>', flows("s>c>e"))


@pytest.mark.parametrize(
    ("data", "rule", "element"),
    [
        (
            bpmn('<task id="s1"/>', '<sequenceFlow id="f" sourceRef="s1" targetRef="x"/>'),
            Rule.DANGLING_REFERENCE,
            "f",
        ),
        (bpmn('<task id="s1"/><task id="s1"/>'), Rule.DUPLICATE_ID, "s1"),
        (bpmn('<choreographyTask id="ch"/>'), Rule.UNSUPPORTED_ELEMENT, "ch"),
        (bpmn('<subChoreography id="ch"/>'), Rule.UNSUPPORTED_ELEMENT, "ch"),
        (bpmn("<task/>"), Rule.MISSING_ID, ""),
        (bpmn('<task id="a" startQuantity="0"/>'), Rule.QUANTITY, "a"),
        (bpmn('<task id="a" startQuantity="many"/>'), Rule.QUANTITY, "a"),
        (
            bpmn(f'<subProcess id="u">{tasks("i")}</subProcess>', tasks("a"), flows("s>a", "a>i")),
            Rule.FLOW_CROSSES_SCOPE,
            "a_i",
        ),
        (bpmn(tasks("a"), flows("s>a>e>a")), Rule.FLOW_NOT_ALLOWED, "e_a"),
        (bpmn('<exclusiveGateway id="g" default="zz"/>', flows("s>g>e")), Rule.DEFAULT_FLOW, "g"),
        (bpmn('<exclusiveGateway id="g"/>'), Rule.GATEWAY_DIRECTION, "g"),
        (_catch(""), Rule.EVENT_INCOMPLETE, "c"),
        (_catch("<messageEventDefinition/>"), Rule.EVENT_INCOMPLETE, "c"),
        (_catch('<messageEventDefinition messageRef="zz"/>'), Rule.DANGLING_REFERENCE, "c"),
        (_catch("<errorEventDefinition/>"), Rule.EVENT_NOT_ALLOWED, "c"),
        (_catch("<timerEventDefinition/>"), Rule.EVENT_INCOMPLETE, "c"),
        (_catch(TIMER.replace("PT1H", "P1H")), Rule.TIMER, "c"),
        (_catch(TIMER.replace("PT1H", "soon enough(")), Rule.EXPRESSION, "c"),
        (_catch("<madeUpEventDefinition/>"), Rule.UNSUPPORTED_ELEMENT, "c"),
        (
            bpmn(
                tasks("a"),
                f'<boundaryEvent id="b" attachedToRef="zz">{TIMER}</boundaryEvent>',
                flows("s>a>e"),
            ),
            Rule.BOUNDARY_EVENT,
            "b",
        ),
        (
            bpmn(
                tasks("a", "x"),
                '<boundaryEvent id="b" attachedToRef="a" cancelActivity="false"><errorEventDefinition/>'
                "</boundaryEvent>",
                flows("s>a>e", "b>x"),
            ),
            Rule.EVENT_NOT_ALLOWED,
            "b",
        ),
        (
            bpmn(
                tasks("a", "x"),
                '<boundaryEvent id="b" attachedToRef="a"><cancelEventDefinition/></boundaryEvent>',
                flows("s>a>e", "b>x"),
            ),
            Rule.TRANSACTION,
            "b",
        ),
        (
            bpmn('<endEvent id="e"><cancelEventDefinition/></endEvent>', flows("s>e")),
            Rule.TRANSACTION,
            "e",
        ),
        (
            bpmn(
                tasks("a"),
                '<boundaryEvent id="b" attachedToRef="a"><compensateEventDefinition/></boundaryEvent>',
                flows("s>a>e"),
            ),
            Rule.COMPENSATION,
            "b",
        ),
        (
            bpmn(
                '<intermediateThrowEvent id="t"><linkEventDefinition name="L"/></intermediateThrowEvent>',
                flows("s>t"),
            ),
            Rule.LINK_EVENT,
            "t",
        ),
        (bpmn('<eventBasedGateway id="g"/>', tasks("a"), flows("s>g>a")), Rule.EVENT_GATEWAY, "g"),
        (bpmn('<subProcess id="h" triggeredByEvent="true"/>', flows("s>e")), None, ""),
        (
            bpmn(f'<subProcess id="h" triggeredByEvent="true">{tasks("a")}</subProcess>', flows("s>e")),
            Rule.EVENT_SUB_PROCESS,
            "h",
        ),
        (
            bpmn(f'<subProcess id="u"><startEvent id="us">{TIMER}</startEvent></subProcess>', flows("s>u>e")),
            Rule.START_EVENT,
            "u",
        ),
        (bpmn('<scriptTask id="a"/>', flows("s>a>e")), Rule.TASK_INCOMPLETE, "a"),
        (bpmn('<receiveTask id="a"/>', flows("s>a>e")), Rule.TASK_INCOMPLETE, "a"),
        (bpmn('<callActivity id="a"/>', flows("s>a>e")), Rule.CALL_ACTIVITY, "a"),
        (
            bpmn('<task id="a"><multiInstanceLoopCharacteristics/></task>', flows("s>a>e")),
            Rule.LOOP,
            "a",
        ),
        (
            bpmn('<adHocSubProcess id="a"><startEvent id="as"/></adHocSubProcess>', flows("s>a>e")),
            Rule.AD_HOC,
            "as",
        ),
        (bpmn('<exclusiveGateway id="g"/>', flows("s>g", "g>e: x >")), Rule.EXPRESSION, "g_e"),
        (bpmn('<exclusiveGateway id="g"/>', flows("s>g", "g>e: ${bean.call(x)}")), Rule.EXPRESSION, "g_e"),
        (
            bpmn('<scriptTask id="a" scriptFormat="ruby"><script>1</script></scriptTask>', flows("s>a>e")),
            Rule.EXPRESSION_LANGUAGE,
            "a",
        ),
        (
            bpmn(
                '<task id="a"><extensionElements><camunda:executionListener class="x"/>'
                "</extensionElements></task>",
                flows("s>a>e"),
            ),
            Rule.UNSUPPORTED_ELEMENT,
            "a",
        ),
    ],
)
def test_what_cannot_be_executed_is_refused_with_rule_and_element(
    data: bytes, rule: Rule | None, element: str
):
    if rule is None:
        assert errors(data) == []
        return
    assert (rule, element) in errors(data)
    with pytest.raises(DefinitionRefusedError) as refused:
        deploy(data)
    assert refused.value.details["diagnostics"]


def test_a_diagnostic_names_rule_element_line_message_and_remedy():
    data = bpmn("\n\n", tasks("a"), '\n<sequenceFlow id="f" sourceRef="a" targetRef="zz"/>')
    found = next(item for item in diagnostics(data) if item.element == "f")
    line = data.decode().split('id="f"')[0].count("\n") + 1
    assert found.to_json() == {
        "rule": "BPMN-012",
        "severity": "error",
        "element": "f",
        "line": line,
        "message": found.message,
        "remedy": found.remedy,
    }
    assert "'zz'" in found.message
    assert found.remedy


def test_rule_identifiers_are_unique_and_documented():
    from pathlib import Path

    text = Path(__file__).parents[2].joinpath("docs", "bpmn.md").read_text()
    assert len({rule.value for rule in Rule}) == len(Rule)
    for rule in Rule:
        assert rule.value in text, rule


def test_all_problems_of_a_file_are_reported_together():
    found = errors(bpmn('<task id="a" startQuantity="0"/><scriptTask id="b"/><callActivity id="c"/>'))
    assert {rule for rule, _ in found} == {Rule.QUANTITY, Rule.TASK_INCOMPLETE, Rule.CALL_ACTIVITY}


def test_doubtful_models_are_accepted_with_warnings():
    data = bpmn('<exclusiveGateway id="g"/><task id="lost"/>', flows("s>g", "g>e: true", "lost>lost"))
    found = diagnostics(data)
    assert {item.severity.value for item in found} == {"warning"}
    assert Rule.UNREACHABLE in {item.rule for item in found}


def test_pools_without_a_process_and_processes_not_meant_to_run_are_left_out():
    more = (
        '<process id="black" isExecutable="false"><choreographyTask id="x"/></process>'
        '<collaboration id="co"><participant id="pa" processRef="p"/><participant id="pb"/>'
        '<messageFlow id="mf" sourceRef="pa" targetRef="pb"/></collaboration>'
    )
    assert list(deploy(bpmn(tasks("a"), flows("s>a>e"), more=more)).graphs) == ["p"]


def test_several_pools_are_deployed_together():
    more = '<process id="q" isExecutable="true"><startEvent id="qs"/></process>'
    assert list(deploy(bpmn(tasks("a"), flows("s>a>e"), more=more)).graphs) == ["p", "q"]


def test_a_file_without_an_executable_process_is_refused():
    data = f'<definitions {NAMESPACES}><process id="p" isExecutable="false"/></definitions>'.encode()
    assert errors(data) == [(Rule.NO_PROCESS, "")]


@pytest.mark.parametrize(
    ("juel", "feel"),
    [
        ("${amount > 100}", "amount > 100"),
        ("${status == 'open' && amount ge 5}", 'status = "open" and amount >= 5'),
        ("#{not approved || empty list}", 'not(approved) or (list = null or list = "" or list = [])'),
        ("${order.customer.vip ? 1 : 2}", "if order.customer.vip then 1 else 2"),
        ("${(a + b) % 2 != 0}", "modulo((a + b), 2) != 0"),
        ("${x == null}", "x = null"),
    ],
)
def test_simple_juel_is_translated_to_feel(juel: str, feel: str):
    assert to_feel(juel) == feel


@pytest.mark.parametrize("juel", ["${bean.run()}", "${a[0]}", "${", "${a b}", "${a ? b}", "a ${b} c", "${}"])
def test_juel_without_an_equivalent_is_refused(juel: str):
    with pytest.raises(NotTranslatableError):
        to_feel(juel)


def test_the_extension_attributes_of_other_modellers_are_understood():
    model = definition(
        bpmn(
            '<serviceTask id="c7" camunda:type="external" camunda:topic="charge"/>',
            '<serviceTask id="java" camunda:delegateExpression="${mailer}"/>',
            '<serviceTask id="http" flowable:type="http"/>',
            '<serviceTask id="c8"><extensionElements><zeebe:taskDefinition type="t" retries="2"/>'
            "</extensionElements></serviceTask>",
            '<businessRuleTask id="rule" camunda:decisionRef="dish" camunda:resultVariable="r"/>',
            '<businessRuleTask id="rule8"><extensionElements><zeebe:calledDecision decisionId="dish"'
            ' resultVariable="r"/></extensionElements></businessRuleTask>',
            '<callActivity id="call"><extensionElements><zeebe:calledElement processId="q"'
            ' propagateAllChildVariables="false"/></extensionElements></callActivity>',
            '<userTask id="own" sy:assignee="eve" sy:dueDate="= now() + duration(&quot;P1D&quot;)"/>',
            '<serviceTask id="retry" sy:taskType="x"><extensionElements>'
            "<camunda:failedJobRetryTimeCycle>R4/PT1M"
            "</camunda:failedJobRetryTimeCycle></extensionElements></serviceTask>",
        )
    )
    work = {node.id: node.work for node in model.nodes if node.work is not None}
    assert [work[name].type for name in ("c7", "java", "http", "c8")] == ["charge", "mailer", "http", "t"]
    assert (work["rule"].decision, work["rule"].result_variable) == ("dish", "r")
    assert (work["rule8"].decision, work["rule8"].result_variable) == ("dish", "r")
    assert (work["call"].called, work["call"].pass_all_out) == ("q", False)
    assert work["own"].due_date is not None
    assert work["own"].due_date.language == "feel"
    assert (work["retry"].retries, work["retry"].retry_backoff) != (None, None)


def test_a_scope_that_duplicate_identifiers_make_its_own_parent_is_refused():
    cancel = '<endEvent id="c"><cancelEventDefinition/></endEvent>'
    data = bpmn(f'<subProcess id="a"><subProcess id="a">{cancel}</subProcess></subProcess>')
    assert (Rule.DUPLICATE_ID, "a") in errors(data)
