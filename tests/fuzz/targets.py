"""What is fuzzed: each target makes one input of a random source, tells it, and lets it happen.

Typed refusals are answers; any other exception escapes and is a finding.
"""

import contextlib
import random
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache

from tests.bpmn.builders import bpmn, flows, tasks
from tests.bpmn.random_models import Modeller, exercise
from tests.fuzz.mutation import broken_copy, nearly_feel
from workflows.bpmn.deployment import check, deploy, load
from workflows.bpmn.diagnostics import DefinitionRefusedError
from workflows.bpmn.juel import NotTranslatableError, to_feel
from workflows.bpmn.simulate import Simulation
from workflows.bpmn.timing import TimerValueError, compute, following
from workflows.dmn import DecisionModelError, parse_decision_model
from workflows.dmn.model import Decision, DecisionService
from workflows.feel import (
    FeelBudgetError,
    FeelSyntaxError,
    evaluate,
    from_feel,
    parse_expression,
    parse_unary_tests,
    satisfies,
)
from workflows.feel import to_feel as values_of
from workflows.feel.printer import print_expression

Tell = Callable[[bytes], object]
"""Told each input before it is tried, so that one that kills or hangs the process is known."""

NOW = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
_VARIABLES = {
    "a": 3,
    "xs": [1, 2.5, "b", None, {"a": 1}],
    "order": {"items": [{"price": 3, "sku": "x"}], "customer": {"tier": "gold"}, "due": "2026-03-29"},
    "two words": True,
}


@cache
def _files() -> list[bytes]:
    """Good files to break: all elements of the random models, and every notation of the modellers."""
    vendor = bpmn(
        '<userTask id="a" camunda:assignee="${boss}" camunda:dueDate="${now}"><extensionElements>'
        '<zeebe:ioMapping><zeebe:input source="= a + 1" target="b.c"/></zeebe:ioMapping>'
        '<zeebe:assignmentDefinition candidateGroups="= [a]"/></extensionElements>'
        '<multiInstanceLoopCharacteristics isSequential="true" flowable:collection="${xs}"'
        ' flowable:elementVariable="x"><completionCondition>${nrOfCompletedInstances > 2}'
        "</completionCondition></multiInstanceLoopCharacteristics></userTask>"
        '<boundaryEvent id="b" attachedToRef="a" cancelActivity="false"><timerEventDefinition><timeCycle>'
        "R3/2026-01-01T00:00:00Z/PT1H</timeCycle></timerEventDefinition></boundaryEvent>",
        '<dataObject id="d"/><ioSpecification><dataInput id="i"/><inputSet/><outputSet/></ioSpecification>',
        tasks("c", "f"),
        flows("s>a>e", "b>c: a < 5"),
    )
    return [vendor, *(Modeller(seed, 0.0).model() for seed in range(40))]


_DMN = (
    b'<definitions xmlns="https://www.omg.org/spec/DMN/20230324/MODEL/" name="m" namespace="n">'
    b'<itemDefinition name="t"><typeRef>number</typeRef><allowedValues><text>[1..9]</text></allowedValues>'
    b'</itemDefinition><inputData id="x" name="a"><variable name="a" typeRef="number"/></inputData>'
    b'<decision id="d" name="D"><informationRequirement><requiredInput href="#x"/></informationRequirement>'
    b'<knowledgeRequirement><requiredKnowledge href="#k"/></knowledgeRequirement>'
    b'<decisionTable hitPolicy="COLLECT" aggregation="SUM"><input><inputExpression><text>a</text>'
    b"</inputExpression></input><output><defaultOutputEntry><text>0</text></defaultOutputEntry></output>"
    b"<rule><inputEntry><text>[1..5], not(3)</text></inputEntry><outputEntry><text>f(a)</text></outputEntry>"
    b"</rule><rule><inputEntry><text>-</text></inputEntry><outputEntry><text>2</text></outputEntry></rule>"
    b'</decisionTable></decision><businessKnowledgeModel id="k" name="f"><encapsulatedLogic>'
    b'<formalParameter name="n"/><context><contextEntry><variable name="r"/><literalExpression><text>n ** 2'
    b"</text></literalExpression></contextEntry><contextEntry><literalExpression><text>r + 1</text>"
    b"</literalExpression></contextEntry></context></encapsulatedLogic></businessKnowledgeModel>"
    b'<decision id="l" name="L"><informationRequirement><requiredDecision href="#d"/>'
    b"</informationRequirement>"
    b'<for iteratorVariable="i"><in><literalExpression><text>1..3</text></literalExpression></in><return>'
    b"<literalExpression><text>i * D</text></literalExpression></return></for></decision>"
    b'<decisionService id="s" name="S"><outputDecision href="#l"/><encapsulatedDecision href="#d"/>'
    b'<inputData href="#x"/></decisionService></definitions>'
)

_SAMPLES = [
    'order.customer.tier in ("gold", "platinum") and count(order.items[price > 10]) >= 2',
    'if a > 1000 then "director" else "manager"',
    'date(order.due) + duration("P1M") > @"2026-03-15"',
    "every item in order.items satisfies item.price < 100",
    "{f: function(n) if n < 2 then 1 else n * f(n - 1), r: f(10)}.r",
    'replace("abracadabra", "(a|b)+?", "[$1]")',
    "sort(xs, function(x, y) x < y)",
    "for i in 0..8 return if i = 0 then 1 else i * partial[-1]",
    '@"2026-03-29T02:30:00@Europe/Paris" - @"2026-03-28T00:00:00Z"',
    "< 10, [20..30), not(5), ? > 3",
]


def broken_models(pick: random.Random, tell: Tell) -> None:
    """BPMN files with something wrong: findings, or a graph that is the same after storing."""
    data = broken_copy(pick.choice(_files()), pick)
    tell(data)
    check(data)
    try:
        graphs = deploy(data).graphs
    except DefinitionRefusedError:
        return
    for graph in graphs.values():
        assert load(graph.definition.canonical).sha256 == graph.sha256


def random_processes(pick: random.Random, tell: Tell) -> None:
    """Whole models with random answers, operations, cuts and cancellations."""
    seed = pick.randrange(2**32)
    data = Modeller(seed, pick.choice([0.0, 0.0, 0.3, 1.0])).model()
    tell(data + f"<!-- seed {seed} -->".encode())
    exercise(data, seed)


def broken_models_run(pick: random.Random, tell: Tell) -> None:
    """Slightly broken models that are still accepted must run without harm."""
    data = broken_copy(Modeller(pick.randrange(2**32), 0.0).model(), pick)
    tell(data)
    try:
        graphs = deploy(data).graphs
    except DefinitionRefusedError:
        return
    simulation = Simulation(graphs)
    simulation.begin(next(iter(graphs)), {"x": 1, "list": [1, 2]})
    simulation.run_events(60)


def expressions(pick: random.Random, tell: Tell) -> None:
    """FEEL text: a value, a syntax error or a spent budget."""
    text = nearly_feel(pick, _SAMPLES)
    tell(text.encode("utf-8", "surrogatepass"))
    context = {name: values_of(value) for name, value in _VARIABLES.items()}
    try:
        expression = parse_expression(text, names=["two words"])
        from_feel(evaluate(expression, context, clock=NOW))
        print_expression(expression.root)
    except (FeelSyntaxError, FeelBudgetError):
        pass
    with contextlib.suppress(FeelSyntaxError, FeelBudgetError):
        satisfies(parse_unary_tests(text, names=["two words"]), values_of(5), context, clock=NOW)


def decision_models(pick: random.Random, tell: Tell) -> None:
    """Broken DMN files: refused, or every decision answers."""
    data = broken_copy(_DMN, pick)
    tell(data)
    try:
        model = parse_decision_model(data)
    except DecisionModelError:
        return
    for name, element in model.elements.items():
        if isinstance(element, Decision | DecisionService):
            with contextlib.suppress(FeelBudgetError):
                from_feel(model.evaluate(name, {"a": values_of(4)}, clock=NOW))


_JUEL = ["a", ".b", "==", "'x'", "!", "(", ")", " ? ", ":", "&&", "empty ", "1"]
_TIMER = [
    "R", "/", "P", "T", "1", "99999999", "Y", "M", "D", "H", "S", "W", "-", "2026-01-31", "T10:00Z", "*", " ",
    "0 0 * * MON", "@daily", ".5", "[Europe/Paris]",
]  # fmt: skip


def small_languages(pick: random.Random, tell: Tell) -> None:
    """JUEL and timer texts."""
    juel = "".join(pick.choice(_JUEL) for _ in range(pick.randrange(25)))
    juel = f"${{{juel}}}"
    timer = "".join(pick.choice(_TIMER) for _ in range(pick.randrange(12)))
    tell(f"{juel}\n{timer}".encode())
    with contextlib.suppress(NotTranslatableError):
        to_feel(juel)
    for kind in ("date", "duration", "cycle"):
        try:
            due = compute(kind, timer, NOW)
            for _ in range(3):
                due = following(due) or due
        except TimerValueError:
            pass


TARGETS: dict[str, Callable[[random.Random, Tell], None]] = {
    "broken models": broken_models,
    "random processes": random_processes,
    "broken models, run": broken_models_run,
    "FEEL": expressions,
    "DMN": decision_models,
    "JUEL and timers": small_languages,
}
