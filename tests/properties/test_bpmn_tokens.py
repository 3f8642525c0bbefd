"""Random block-structured processes with a known outcome: no token is ever lost or invented."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.bpmn.builders import HOLD, Ran, bpmn, flows, orphans, run, through_json
from workflows.bpmn import commands as out
from workflows.bpmn import inputs
from workflows.bpmn.deployment import deploy
from workflows.bpmn.simulate import Outcome, Simulation

# --- blocks: XML between an entry and an exit, and how often each task must run --------------------------


@dataclass
class Block:
    """A piece of a process with one way in and one way out.

    Attributes:
        xml: Its elements and flows.
        entry: First node.
        exit: Last node.
        runs: How often each task runs per token that comes in.
        answers: What workers answer to some of them.
    """

    xml: str
    entry: str
    exit: str
    runs: Counter[str]
    answers: dict[str, Outcome] = field(default_factory=dict)


class Names:
    def __init__(self) -> None:
        self._next = 0

    def __call__(self, prefix: str) -> str:
        self._next += 1
        return f"{prefix}{self._next}"


def _task(names: Names, draw: Any) -> Block:
    name = names("t")
    answer = {name: Outcome(delay=timedelta(minutes=draw(st.integers(0, 3))))}
    return Block(f'<serviceTask id="{name}" sy:taskType="w"/>', name, name, Counter({name: 1}), answer)


def _times(runs: Counter[str], factor: int) -> Counter[str]:
    return Counter({name: count * factor for name, count in runs.items()})


def _merge(blocks: list[Block]) -> tuple[str, dict[str, Outcome]]:
    answers: dict[str, Outcome] = {}
    for block in blocks:
        answers.update(block.answers)
    return "".join(block.xml for block in blocks), answers


def _sequence(names: Names, blocks: list[Block]) -> Block:
    xml, answers = _merge(blocks)
    links = [f"{a.exit}>{b.entry}" for a, b in pairwise(blocks)]
    runs = sum((block.runs for block in blocks), Counter[str]())
    return Block(xml + flows(*links), blocks[0].entry, blocks[-1].exit, runs, answers)


def _split(names: Names, blocks: list[Block], draw: Any) -> Block:
    """Split and join of one of four kinds; conditions are constants, so the outcome is known."""
    kind = draw(st.sampled_from(["exclusive", "parallel", "inclusive", "inclusive-parallel", "complex"]))
    split, join = names("g"), names("j")
    xml, answers = _merge(blocks)
    chosen = [True] * len(blocks)
    if kind == "exclusive":
        index = draw(st.integers(0, len(blocks) - 1))
        chosen = [i == index for i in range(len(blocks))]
    elif kind in ("inclusive", "complex"):
        chosen = [draw(st.booleans()) for _ in blocks]
        if not any(chosen):
            chosen[0] = True
    # "inclusive-parallel" splits by a parallel gateway and joins by an inclusive one.
    tag = {"exclusive": "exclusive", "parallel": "parallel", "inclusive-parallel": "parallel"}.get(
        kind, "inclusive"
    )
    closing = {"exclusive": "exclusive", "parallel": "parallel", "complex": "complex"}.get(kind, "inclusive")
    condition = f"<activationCondition>activationCount >= {sum(chosen)}</activationCondition>"
    xml += f'<{tag}Gateway id="{split}"/>'
    xml += f'<{closing}Gateway id="{join}">{condition if closing == "complex" else ""}</{closing}Gateway>'
    for block, taken in zip(blocks, chosen, strict=True):
        text = "" if tag == "parallel" else f": {str(taken).lower()}"
        xml += flows(f"{split}>{block.entry}{text}", f"{block.exit}>{join}")
    runs = sum((b.runs for b, taken in zip(blocks, chosen, strict=True) if taken), Counter[str]())
    return Block(xml, split, join, runs, answers)


def _scope(names: Names, block: Block, draw: Any) -> Block:
    """A sub-process: plain, looping, multi-instance, transaction, or left by a boundary event."""
    kind = draw(st.sampled_from(["plain", "transaction", "multi", "sequential", "loop", "error", "timer"]))
    name, start, end = names("u"), names("us"), names("ue")
    tag = "transaction" if kind == "transaction" else "subProcess"
    factor = draw(st.integers(0, 3)) if kind in ("multi", "sequential", "loop") else 1
    head = ""
    if kind in ("multi", "sequential"):
        head = (
            f'<multiInstanceLoopCharacteristics isSequential="{str(kind == "sequential").lower()}">'
            f"<loopCardinality>{factor}</loopCardinality></multiInstanceLoopCharacteristics>"
        )
    elif kind == "loop":
        head = (
            f'<standardLoopCharacteristics testBefore="true"><loopCondition>loopCounter &lt; {factor}'
            "</loopCondition></standardLoopCharacteristics>"
        )
    inside = f'<startEvent id="{start}"/>{block.xml}'
    answers = dict(block.answers)
    if kind == "error":
        inside += f'<endEvent id="{end}"><errorEventDefinition errorRef="err"/></endEvent>'
    else:
        inside += f'<endEvent id="{end}"/>'
    inside += flows(f"{start}>{block.entry}", f"{block.exit}>{end}")
    runs = _times(block.runs, factor)
    xml = f'<{tag} id="{name}">{head}{inside}</{tag}>'
    if kind not in ("error", "timer"):
        return Block(xml, name, name, runs, answers)
    merge, boundary, handler = names("m"), names("b"), names("t")
    if kind == "error":
        event = '<errorEventDefinition errorRef="err"/>'
    else:
        # Something inside never ends, so only the timer can lead out; what ran before stays counted.
        stuck = names("h")
        inside_stuck = f'<startEvent id="{start}"/><serviceTask id="{stuck}" sy:taskType="w"/>' + flows(
            f"{start}>{stuck}"
        )
        xml = f'<{tag} id="{name}">{inside_stuck}</{tag}>'
        runs = Counter({stuck: 1})
        answers = {stuck: HOLD}
        event = "<timerEventDefinition><timeDuration>PT5M</timeDuration></timerEventDefinition>"
    xml += (
        f'<boundaryEvent id="{boundary}" attachedToRef="{name}">{event}</boundaryEvent>'
        f'<serviceTask id="{handler}" sy:taskType="w"/><exclusiveGateway id="{merge}"/>'
        + flows(f"{name}>{merge}", f"{boundary}>{handler}>{merge}")
    )
    return Block(xml, name, merge, runs + Counter({handler: 1}), answers)


def _loop(names: Names, block: Block, draw: Any) -> Block:
    """A loop by gateways that goes round a fixed number of times."""
    rounds = draw(st.integers(1, 3))
    top, bottom, count, variable = names("m"), names("x"), names("c"), names("v")
    xml = block.xml + (
        f'<exclusiveGateway id="{top}"/><exclusiveGateway id="{bottom}" default="{bottom}_{count}z"/>'
        f'<scriptTask id="{count}" scriptFormat="feel" sy:resultVariable="{variable}">'
        f"<script>if {variable} = null then 1 else {variable} + 1</script></scriptTask>"
        f'<scriptTask id="{count}z" scriptFormat="feel" sy:resultVariable="{variable}">'
        "<script>0</script></scriptTask>"
    )
    xml += flows(
        f"{top}>{block.entry}",
        f"{block.exit}>{count}>{bottom}",
        f"{bottom}>{top}: {variable} &lt; {rounds}",
        f"{bottom}>{count}z",
    )
    return Block(xml, top, f"{count}z", _times(block.runs, rounds), block.answers)


def _block(names: Names, draw: Any, depth: int, loops: bool) -> Block:
    if depth == 0:
        return _task(names, draw)
    kind = draw(st.sampled_from(["task", "sequence", "split", "scope", "loop"]))
    if kind == "task":
        return _task(names, draw)
    if kind in ("sequence", "split"):
        blocks = [_block(names, draw, depth - 1, loops) for _ in range(draw(st.integers(1, 3)))]
        return _sequence(names, blocks) if kind == "sequence" else _split(names, blocks, draw)
    inner = _block(names, draw, depth - 1, loops)
    if kind == "scope":
        return _scope(names, inner, draw)
    # Loops count in a variable of the process: inside parallel instances they would share it.
    return _loop(names, inner, draw) if loops else inner


@st.composite
def processes(draw: Any) -> tuple[bytes, Block]:
    """A process and its known outcome."""
    names = Names()
    block = _block(names, draw, draw(st.integers(1, 4)), loops=False)
    if draw(st.booleans()):
        block = _loop(names, block, draw)
    return bpmn(block.xml, flows(f"s>{block.entry}", f"{block.exit}>e")), block


CAMPAIGN = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def _run(data: bytes, block: Block) -> Ran:
    return run(data, outcomes=dict(block.answers))


@CAMPAIGN
@given(processes())
def test_every_task_runs_exactly_as_often_as_the_blocks_say(process: tuple[bytes, Block]):
    data, block = process
    ran = _run(data, block)
    assert ran.completed, (ran.state.to_json(), data)
    assert Counter(ran.log) == +block.runs
    assert orphans(ran) == []


@settings(CAMPAIGN, max_examples=80)
@given(processes(), st.integers(0, 40))
def test_a_cancelled_instance_leaves_no_job_timer_or_subscription(process: tuple[bytes, Block], after: int):
    data, block = process
    graphs = deploy(data).graphs
    simulation = Simulation(graphs, lambda job: block.answers.get(job.element, Outcome()), cut=through_json)
    main = simulation.start("p")
    simulation.run_events(after)
    if main.state.status == "new":
        return
    if not main.state.ended:
        simulation.interrupt(main, inputs.Cancel(simulation.now, "property"))
        simulation.run()
    ran = Ran(simulation, main, [])
    assert orphans(ran) == []
    assert (main.state.instances, main.state.subs, main.state.queue) == ({}, {}, [])
    assert isinstance(main.outcome, out.Terminated | out.Completed)


@settings(CAMPAIGN, max_examples=60)
@given(processes(), st.data())
def test_a_cancelled_token_takes_only_its_own_work_with_it(process: tuple[bytes, Block], data: st.DataObject):
    xml, block = process
    graphs = deploy(xml).graphs
    simulation = Simulation(graphs, lambda job: block.answers.get(job.element, Outcome()), cut=through_json)
    main = simulation.start("p")
    simulation.run_events(data.draw(st.integers(1, 20)))
    living = [key for key, item in main.state.instances.items() if item.parent != 0]
    if not living or main.state.ended:
        return
    key = data.draw(st.sampled_from(living))
    changes = (inputs.Modification("cancel", key=key),)
    simulation.interrupt(main, inputs.Modify(simulation.now, changes))
    simulation.run()
    # The instance either ends, or says why it cannot: no token waits without a reason.
    assert (
        main.state.ended
        or main.state.incidents
        or any(item.role == "task" for item in main.state.instances.values())
    )
    for sub in main.state.subs.values():
        assert sub.owner in main.state.instances
    for item in main.state.instances.values():
        assert item.parent == 0 or item.parent in main.state.instances
