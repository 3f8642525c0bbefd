"""Decision models: hit policies, boxed expressions, the requirements graph, and refusals."""

from decimal import Decimal
from typing import Any

import pytest

from workflows.dmn import DecisionModel, DecisionModelError, parse_decision_model
from workflows.feel import Diagnostic, FeelBudgetError, from_feel, to_feel

NAMESPACE = "https://www.omg.org/spec/DMN/20230324/MODEL/"


def model(body: str, namespace: str = NAMESPACE) -> DecisionModel:
    return parse_decision_model(f'<definitions xmlns="{namespace}" name="m">{body}</definitions>'.encode())


def text(tag: str, content: str) -> str:
    escaped = content.replace("&", "&amp;").replace("<", "&lt;")
    return f"<{tag}><text>{escaped}</text></{tag}>"


def literal(content: str) -> str:
    return text("literalExpression", content)


def table(rules: list[tuple[str, str]], attributes: str = "", values: str = "", default: str = "") -> str:
    clauses = text("outputValues", values) if values else ""
    clauses += text("defaultOutputEntry", default) if default else ""
    rows = "".join(
        f"<rule>{text('inputEntry', test)}{text('outputEntry', output)}</rule>" for test, output in rules
    )
    return (
        f'<inputData id="x" name="x"/><decision id="d" name="D">'
        f'<informationRequirement><requiredInput href="#x"/></informationRequirement>'
        f"<decisionTable {attributes}><input>{text('inputExpression', 'x')}</input>"
        f"<output>{clauses}</output>{rows}</decisionTable></decision>"
    )


def decide(xml: str, decision: str = "D", **inputs: Any) -> Any:
    values = {name: to_feel(value) for name, value in inputs.items()}
    return from_feel(model(xml).evaluate(decision, values))


def offer(xml: str, age: int, member: bool) -> Any:
    return from_feel(model(xml).evaluate("D", {"Customer Age": Decimal(age), "member": member}))


RULES = [("< 10", "1"), ("[5..20]", "3"), ("> 7", "2")]
OVERLAPPING = [("< 10", '"low"'), ("[5..20]", '"high"'), ("> 7", '"mid"')]


@pytest.mark.parametrize(
    ("attributes", "x", "expected"),
    [
        ('hitPolicy="UNIQUE"', 1, 1),
        ("", 1, 1),
        ('hitPolicy="UNIQUE"', 6, None),
        ('hitPolicy="FIRST"', 8, 1),
        ('hitPolicy="ANY"', 8, None),
        ('hitPolicy="RULE ORDER"', 8, [1, 3, 2]),
        ('hitPolicy="COLLECT"', 8, [1, 3, 2]),
        ('hitPolicy="COLLECT" aggregation="SUM"', 8, 6),
        ('hitPolicy="COLLECT" aggregation="COUNT"', 8, 3),
        ('hitPolicy="COLLECT" aggregation="MIN"', 8, 1),
        ('hitPolicy="COLLECT" aggregation="MAX"', 8, 3),
        ('hitPolicy="COLLECT" aggregation="SUM"', None, None),
    ],
)
def test_a_hit_policy_decides_which_rules_count(attributes: str, x: Any, expected: Any) -> None:
    assert decide(table(RULES, attributes), x=x) == expected


def test_priority_and_output_order_follow_the_output_values() -> None:
    values = '"high", "mid", "low"'
    assert decide(table(OVERLAPPING, 'hitPolicy="PRIORITY"', values), x=8) == "high"
    assert decide(table(OVERLAPPING, 'hitPolicy="OUTPUT ORDER"', values), x=8) == ["high", "mid", "low"]


def test_any_gives_the_common_output_and_the_default_fills_in() -> None:
    assert decide(table([("< 10", "1"), ("< 5", "1.0")], 'hitPolicy="ANY"'), x=1) == 1
    assert decide(table([("< 0", "1")], default="7"), x=1) == 7


def test_a_broken_unique_table_says_so() -> None:
    notes: list[Diagnostic] = []
    assert model(table(RULES)).evaluate("d", {"x": Decimal(6)}, diagnostics=notes) is None
    assert [note.reason for note in notes] == ["hit_policy"]


def test_several_inputs_and_outputs_make_a_context() -> None:
    xml = f"""
      <inputData id="a" name="Customer Age"/><inputData id="b" name="member"/>
      <decision id="d" name="D">
        <variable name="D" typeRef="tOffer"/>
        <informationRequirement><requiredInput href="#a"/></informationRequirement>
        <informationRequirement><requiredInput href="#b"/></informationRequirement>
        <decisionTable hitPolicy="FIRST">
          <input>{text("inputExpression", "Customer Age")}</input>
          <input>{text("inputExpression", "member")}</input>
          <output name="discount" typeRef="number"/><output name="label" typeRef="string"/>
          <rule>{text("inputEntry", ">= 65")}{text("inputEntry", "")}
            {text("outputEntry", "0.5")}{text("outputEntry", '"senior"')}</rule>
          <rule>{text("inputEntry", "not(< 18)")}{text("inputEntry", "true")}
            {text("outputEntry", "0.2")}{text("outputEntry", '"member " + string(Customer Age)')}</rule>
        </decisionTable>
      </decision>
      <itemDefinition name="tOffer"><itemComponent name="discount"><typeRef>number</typeRef></itemComponent>
      </itemDefinition>"""
    assert offer(xml, 70, False) == {"discount": 0.5, "label": "senior"}
    assert offer(xml, 30, True) == {"discount": 0.2, "label": "member 30"}
    assert offer(xml, 30, False) is None


BOXED = f"""
  <inputData id="i" name="orders"><variable name="orders" typeRef="tOrders"/></inputData>
  <itemDefinition name="tOrders" isCollection="true">
    <itemComponent name="net price"><typeRef>number</typeRef></itemComponent></itemDefinition>
  <businessKnowledgeModel id="tax" name="add tax"><encapsulatedLogic>
    <formalParameter name="amount" typeRef="number"/><formalParameter name="rate" typeRef="number"/>
    {literal("amount * (1 + rate)")}</encapsulatedLogic></businessKnowledgeModel>
  <decision id="total" name="Total"><variable name="Total" typeRef="number"/>
    <informationRequirement><requiredInput href="#i"/></informationRequirement>
    <knowledgeRequirement><requiredKnowledge href="#tax"/></knowledgeRequirement>
    <context>
      <contextEntry><variable name="sum of orders"/>{literal("sum(orders.net price)")}</contextEntry>
      <contextEntry><variable name="gross"/><invocation>{literal("add tax")}
        <binding><parameter name="amount"/>{literal("sum of orders")}</binding>
        <binding><parameter name="rate"/>{literal("0.2")}</binding></invocation></contextEntry>
      <contextEntry>{literal("gross")}</contextEntry>
    </context></decision>
  <decision id="shapes" name="Shapes">
    <informationRequirement><requiredInput href="#i"/></informationRequirement>
    <informationRequirement><requiredDecision href="#total"/></informationRequirement>
    <list>
      <relation><column name="k"/><column name="v"/>
        <row>{literal('"t"')}{literal("Total")}</row></relation>
      <conditional><if>{literal("Total > 100")}</if>
        <then>{literal('"big"')}</then>
        <else>{literal('"small"')}</else></conditional>
      <filter><in>{literal("orders")}</in>
        <match>{literal("net price > 50")}</match></filter>
      <for iteratorVariable="o"><in>{literal("orders")}</in>
        <return>{literal("o.net price * 2")}</return></for>
      <every iteratorVariable="o"><in>{literal("orders")}</in>
        <satisfies>{literal("o.net price > 0")}</satisfies></every>
      <some iteratorVariable="o"><in>{literal("orders")}</in>
        <satisfies>{literal("o.net price > 1000")}</satisfies></some>
    </list></decision>
  <decisionService id="s" name="Pricing">
    <outputDecision href="#total"/><inputData href="#i"/></decisionService>
  <decision id="calls" name="Calls">
    <knowledgeRequirement><requiredKnowledge href="#s"/></knowledgeRequirement>
    {literal("Pricing([{net price: 10}])")}</decision>
"""
ORDERS = [{"net price": 100}, {"net price": 50}]


def test_requirements_functions_and_contexts_work_together() -> None:
    assert decide(BOXED, "Total", orders=ORDERS) == 180


def test_every_boxed_expression_is_executed() -> None:
    assert decide(BOXED, "Shapes", orders=ORDERS) == [
        [{"k": "t", "v": 180}],
        "big",
        [{"net price": 100}],
        [200, 100],
        True,
        False,
    ]


def test_a_decision_service_is_evaluated_and_invoked() -> None:
    assert decide(BOXED, "Pricing", orders=ORDERS) == 180
    assert decide(BOXED, "Calls") == 12


def test_an_input_of_another_type_is_null() -> None:
    assert decide(BOXED, "Total", orders="many") is None


LITERAL = literal("1")


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (f'<decision id="d" name="D">{literal("1 +")}</decision>', "feel"),
        (
            f'<decision id="d" name="D">{LITERAL}</decision><decision id="d" name="E">{LITERAL}</decision>',
            "identifier",
        ),
        (
            '<decision id="d" name="D"><informationRequirement><requiredDecision href="#d"/>'
            f"</informationRequirement>{LITERAL}</decision>",
            "cycle",
        ),
        (
            '<decision id="d" name="D"><informationRequirement><requiredInput href="#nowhere"/>'
            f"</informationRequirement>{LITERAL}</decision>",
            "reference",
        ),
        (table(RULES, 'hitPolicy="WHATEVER"'), "decision-table"),
        (table(RULES, 'hitPolicy="UNIQUE" aggregation="SUM"'), "decision-table"),
        ('<decision id="d" name="D"><literalExpression/></decision>', "boxed-expression"),
        (
            '<decision id="d" name="D"><literalExpression expressionLanguage="groovy"><text>1</text>'
            "</literalExpression></decision>",
            "language",
        ),
        ('<import namespace="x" importType="y" name="z"/>', "import"),
        ("<decision id='d' name='D'>" + "<list>" * 60 + "</list>" * 60 + "</decision>", "boxed-expression"),
    ],
)
def test_a_model_that_cannot_run_is_refused_with_its_rule(body: str, rule: str) -> None:
    with pytest.raises(DecisionModelError) as caught:
        model(body)
    assert caught.value.rule == rule


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "not-xml"),
        (b"<a/>", "not-dmn"),
        (b"<a>" * 200_000, "not-xml"),
        (b"<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>", "doctype"),
        (b" " * (5 * 1024 * 1024 + 1), "too-large"),
        (b"<?xml version='1.0' encoding='nonsense'?><a/>", "not-xml"),
    ],
)
def test_hostile_files_get_a_typed_refusal(data: bytes, rule: str) -> None:
    with pytest.raises(DecisionModelError) as caught:
        parse_decision_model(data)
    assert caught.value.rule == rule


def test_older_versions_and_other_encodings_are_read() -> None:
    old = model(
        f'<decision id="d" name="D">{LITERAL}</decision>', "http://www.omg.org/spec/DMN/20151101/dmn.xsd"
    )
    assert old.evaluate("d", {}) == Decimal(1)
    umlaut = f'<?xml version="1.0" encoding="windows-1252"?><definitions xmlns="{NAMESPACE}" name="m">'
    umlaut += f'<decision id="d" name="Größe">{LITERAL}</decision></definitions>'
    assert parse_decision_model(umlaut.encode("windows-1252")).evaluate("Größe", {}) == Decimal(1)


def test_the_budget_covers_the_whole_model() -> None:
    endless = literal("count(for i in 1..100000000 return i)")
    with pytest.raises(FeelBudgetError):
        decide(f'<decision id="d" name="D">{endless}</decision>')
