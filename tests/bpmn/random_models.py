"""Random models from BPMN's own vocabulary, and what a bad day does to their instances."""

import random
from datetime import timedelta

from tests.bpmn.builders import NAMESPACES, ROOT, through_json
from workflows.bpmn import commands as out
from workflows.bpmn import inputs
from workflows.bpmn.deployment import check, deploy
from workflows.bpmn.diagnostics import DefinitionRefusedError
from workflows.bpmn.refusals import StepRefusedError
from workflows.bpmn.simulate import Outcome, Simulated, Simulation

_ACTIVITIES = [
    "task", "manualTask", "userTask", "serviceTask", "scriptTask", "sendTask", "receiveTask",
    "businessRuleTask", "callActivity", "subProcess", "transaction", "adHocSubProcess",
]  # fmt: skip
_GATEWAYS = ["exclusiveGateway", "parallelGateway", "inclusiveGateway", "eventBasedGateway", "complexGateway"]
_EVENTS = ["startEvent", "endEvent", "intermediateCatchEvent", "intermediateThrowEvent", "boundaryEvent"]
_DEFINITIONS = [
    '<messageEventDefinition messageRef="msg"/>',
    "<timerEventDefinition><timeDuration>PT1M</timeDuration></timerEventDefinition>",
    "<timerEventDefinition><timeCycle>R3/PT1M</timeCycle></timerEventDefinition>",
    '<signalEventDefinition signalRef="sig"/>',
    "<conditionalEventDefinition><condition>x > 1</condition></conditionalEventDefinition>",
    '<errorEventDefinition errorRef="err"/>',
    "<errorEventDefinition/>",
    '<escalationEventDefinition escalationRef="esc"/>',
    "<compensateEventDefinition/>",
    '<linkEventDefinition name="L"/>',
    "<terminateEventDefinition/>",
    "<cancelEventDefinition/>",
    "",
]
_LOOPS = [
    "<multiInstanceLoopCharacteristics><loopCardinality>3</loopCardinality></multiInstanceLoopCharacteristics>",
    '<multiInstanceLoopCharacteristics isSequential="true" camunda:collection="list"/>',
    "<standardLoopCharacteristics><loopCondition>loopCounter &lt; 2</loopCondition>"
    "</standardLoopCharacteristics>",
    '<standardLoopCharacteristics loopMaximum="2"/>',
]
_CONDITIONS = ["true", "false", "x > 1", "x", "null", "=x = 2", "${x == 2}"]


class Modeller:
    """Draws models, sound ones more often than not."""

    def __init__(self, seed: int, wild: float) -> None:
        self.random = random.Random(seed)
        self._wild = wild
        self._next = 0

    def _name(self) -> str:
        self._next += 1
        if self.random.random() < self._wild / 10:
            return f"n{self.random.randint(1, self._next)}"
        return f"n{self._next}"

    def model(self) -> bytes:
        body = self._scope(0, "process")
        process = f'<process id="p" isExecutable="true">{body}</process>'
        return f"<definitions {NAMESPACES}>{ROOT}{process}</definitions>".encode()

    def _scope(self, depth: int, kind: str) -> str:
        pick = self.random
        xml, nodes, activities = "", [], []
        if kind not in ("adHocSubProcess", "event"):
            nodes.append(self._name())
            xml += f'<startEvent id="{nodes[0]}"/>'
        elif kind == "event":
            nodes.append(self._name())
            xml += f'<startEvent id="{nodes[0]}">{pick.choice(_DEFINITIONS[:9])}</startEvent>'
        for _ in range(pick.randint(1, 6)):
            name, tag = self._name(), pick.choice(_ACTIVITIES * 2 + _GATEWAYS * 2 + _EVENTS)
            nodes.append(name)
            xml += self._element(tag, name, depth)
            if tag in _ACTIVITIES:
                activities.append(name)
        for owner in activities:
            if pick.random() < 0.3:
                xml += self._boundary(owner, nodes)
        if pick.random() < 0.2 and depth < 2:
            handler = self._scope(depth + 1, "event")
            xml += f'<subProcess id="{self._name()}" triggeredByEvent="true">{handler}</subProcess>'
        for index, source in enumerate(nodes):
            for _ in range(pick.choice([1, 1, 1, 2, 3])):
                later = nodes[index + 1 :] if pick.random() < 0.85 else nodes
                if later:
                    xml += self._flow(source, pick.choice(later))
        return xml

    def _flow(self, source: str, target: str) -> str:
        condition = ""
        if self.random.random() < 0.3:
            condition = f"<conditionExpression>{self.random.choice(_CONDITIONS)}</conditionExpression>"
        ends = f'sourceRef="{source}" targetRef="{target}"'
        return f'<sequenceFlow id="{self._name()}" {ends}>{condition}</sequenceFlow>'

    def _boundary(self, owner: str, nodes: list[str]) -> str:
        pick, name = self.random, self._name()
        nodes.append(name)
        mode = pick.choice(["true", "false"])
        event = pick.choice(_DEFINITIONS[:8])
        attributes = f'attachedToRef="{owner}" cancelActivity="{mode}"'
        return f'<boundaryEvent id="{name}" {attributes}>{event}</boundaryEvent>'

    def _element(self, tag: str, name: str, depth: int) -> str:
        pick, inside, attributes = self.random, "", ""
        if tag in _EVENTS:
            inside = pick.choice(_DEFINITIONS)
            if tag == "boundaryEvent":
                attributes = f' attachedToRef="n{pick.randint(1, self._next)}"'
        elif tag == "scriptTask":
            attributes, inside = ' scriptFormat="feel"', "<script>{x: x + 1}</script>"
        elif tag in ("sendTask", "receiveTask"):
            attributes = ' messageRef="msg"'
        elif tag == "callActivity":
            attributes = pick.choice([' calledElement="p"', ' calledElement="nobody"'])
        elif tag == "complexGateway":
            inside = "<activationCondition>activationCount >= 2</activationCondition>"
        elif tag in ("subProcess", "transaction", "adHocSubProcess") and depth < 3:
            inside = self._scope(depth + 1, tag)
        if tag in _ACTIVITIES and pick.random() < 0.2:
            inside = pick.choice(_LOOPS) + inside
        if tag in _ACTIVITIES and pick.random() < 0.1:
            attributes += f' startQuantity="{pick.randint(1, 2)}" completionQuantity="{pick.randint(1, 2)}"'
        return f'<{tag} id="{name}"{attributes}>{inside}</{tag}>'


def exercise(data: bytes, seed: int) -> bool:
    """Run a model, if it can be deployed, with random answers and operations; tell whether it could."""
    check(data)
    try:
        graphs = deploy(data).graphs
    except DefinitionRefusedError:
        return False
    pick = random.Random(seed)

    def work(job: out.StartJob) -> Outcome:
        return pick.choice(
            [
                Outcome(),
                Outcome({"x": 2}),
                Outcome(error="E1"),
                Outcome(escalation="ESC"),
                Outcome(failure="broken"),
                Outcome(delay=timedelta(minutes=2)),
                Outcome(hold=True),
            ]
        )

    simulation = Simulation(graphs, work, cut=through_json)
    main = simulation.start("p", {"x": 1, "list": [1, 2]})
    for _ in range(8):
        simulation.run_events(25)
        if len(simulation.instances) > 20:
            break
        _operate(simulation, main, pick)
        _consistent(main)
    if not main.state.ended:
        simulation.interrupt(main, inputs.Cancel(simulation.now))
    assert main.state.ended
    assert (main.state.instances, main.state.subs) == ({}, {})
    return True


def _operate(simulation: Simulation, main: Simulated, pick: random.Random) -> None:
    now, state = simulation.now, main.state
    if state.ended or state.status == "new":
        return
    keys = list(state.instances)
    events: list[inputs.Input] = [
        inputs.SignalReceived(now, "alarm"),
        inputs.MessageReceived(now, "order"),
        inputs.VariablesChanged(now, {"x": pick.randint(0, 3)}),
        inputs.Modify(now, (inputs.Modification("cancel", key=pick.choice(keys)),)),
        inputs.Modify(now, (inputs.Modification("start_before", pick.choice(list(main.graph.nodes))),)),
        inputs.Modify(
            now, (inputs.Modification("move", pick.choice(list(main.graph.nodes)), pick.choice(keys)),)
        ),
        inputs.Suspend(now) if state.status == "active" else inputs.Resume(now),
    ]
    events += [
        inputs.ResolveIncident(now, key, pick.choice(["retry", "skip"])) for key in list(state.incidents)[:2]
    ]
    before = state.copy()
    try:
        simulation.interrupt(main, pick.choice(events))
    except StepRefusedError:
        main.state = before


def _consistent(main: Simulated) -> None:
    state = main.state
    for item in state.instances.values():
        assert item.parent == 0 or item.parent in state.instances
    for sub in state.subs.values():
        assert sub.owner in state.instances
    assert set(state.incidents) <= set(state.instances)
