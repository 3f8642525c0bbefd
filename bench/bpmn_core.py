"""The pure BPMN core against SpiffWorkflow on the same processes, and what its state weighs.

Run with ``python -m bench.bpmn_core``; SpiffWorkflow is needed only here (``uv pip install SpiffWorkflow``).
Both engines run whole instances in memory, nothing is stored; best of several rounds.
"""

import io
import json
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from lxml import etree

from workflows.bpmn import commands as out
from workflows.bpmn import inputs
from workflows.bpmn.deployment import deploy
from workflows.bpmn.graph import Graph
from workflows.bpmn.simulate import EPOCH
from workflows.bpmn.step import apply, new_state, step

_NS = "http://www.omg.org/spec/BPMN/20100524/MODEL"


def _bpmn(elements: str, flows: list[tuple[str, str, str]]) -> bytes:
    """Return a file that both engines read: with incoming and outgoing elements."""
    edges = "".join(
        f'<sequenceFlow id="{a}_{b}" sourceRef="{a}" targetRef="{b}">'
        + (f'<conditionExpression xsi:type="tFormalExpression">{c}</conditionExpression>' if c else "")
        + "</sequenceFlow>"
        for a, b, c in flows
    )
    text = (
        f'<definitions xmlns="{_NS}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        ' targetNamespace="bench"><process id="bench" isExecutable="true">'
        f'<startEvent id="s"/>{elements}<endEvent id="e"/>{edges}</process></definitions>'
    )
    root = etree.fromstring(text.encode())
    for element in root[0]:
        name = element.get("id")
        for a, b, _ in flows:
            if name in (a, b) and element.tag != f"{{{_NS}}}sequenceFlow":
                item = etree.SubElement(element, f"{{{_NS}}}{'outgoing' if name == a else 'incoming'}")
                item.text = f"{a}_{b}"
    return etree.tostring(root)


def sequence(kind: str, count: int) -> bytes:
    """``count`` tasks one after the other."""
    names = ["s", *(f"t{i}" for i in range(count)), "e"]
    elements = "".join(f'<{kind} id="{name}" name="{name}"/>' for name in names[1:-1])
    return _bpmn(elements, [(a, b, "") for a, b in pairwise(names)])


def branches(kind: str, blocks: int, width: int) -> bytes:
    """Parallel blocks one after the other."""
    elements, flows, last = "", [], "s"
    for block in range(blocks):
        split, join = f"g{block}", f"j{block}"
        elements += f'<parallelGateway id="{split}"/><parallelGateway id="{join}"/>'
        flows.append((last, split, ""))
        for branch in range(width):
            name = f"t{block}_{branch}"
            elements += f'<{kind} id="{name}" name="{name}"/>'
            flows += [(split, name, ""), (name, join, "")]
        last = join
    return _bpmn(elements, [*flows, (last, "e", "")])


# --- ours -----------------------------------------------------------------------------------------------


def ours(graph: Graph) -> int:
    """Run one instance; return how many elements it executed."""
    state = new_state(graph)
    commands = apply(graph, state, inputs.Start(EPOCH))
    executed = 0
    pending: list[out.StartJob] = []
    while True:
        for command in commands:
            if type(command) is out.Trace and command.event == "completed":
                executed += 1
            elif type(command) is out.StartJob:
                pending.append(command)
        if not pending:
            break
        commands = apply(graph, state, inputs.JobCompleted(EPOCH, pending.pop(0).key))
    if state.status != "completed":
        raise RuntimeError(state.status)
    return executed


def ours_pure(graph: Graph) -> int:
    """Like `ours`, through the pure `step` that copies the state."""
    state = new_state(graph)
    state, commands = step(graph, state, inputs.Start(EPOCH))
    executed = 0
    pending: list[out.StartJob] = []
    while True:
        for command in commands:
            if type(command) is out.Trace and command.event == "completed":
                executed += 1
            elif type(command) is out.StartJob:
                pending.append(command)
        if not pending:
            return executed
        state, commands = step(graph, state, inputs.JobCompleted(EPOCH, pending.pop(0).key))


# --- SpiffWorkflow --------------------------------------------------------------------------------------


def spiff_spec(data: bytes) -> Any:
    """Parse a file with SpiffWorkflow."""
    from SpiffWorkflow.bpmn.parser.BpmnParser import BpmnParser  # pyright: ignore[reportMissingImports]

    parser = BpmnParser()
    parser.add_bpmn_xml(etree.parse(io.BytesIO(data)))
    return parser.get_spec("bench")


def spiff(spec: Any) -> int:
    """Run one instance in SpiffWorkflow; return how many tasks it completed."""
    from SpiffWorkflow.bpmn.workflow import BpmnWorkflow  # pyright: ignore[reportMissingImports]
    from SpiffWorkflow.util.task import TaskState  # pyright: ignore[reportMissingImports]

    workflow = BpmnWorkflow(spec)
    workflow.do_engine_steps()
    while not workflow.is_completed():
        for task in workflow.get_tasks(state=TaskState.READY):
            task.run()
        workflow.do_engine_steps()
    return len(workflow.get_tasks(state=TaskState.COMPLETED))


# --- measuring ------------------------------------------------------------------------------------------


def seconds(run: Callable[[], object], least: float = 1.0) -> float:
    """Return the best time of one run, in seconds."""
    best, spent = float("inf"), 0.0
    while spent < least:
        begin = time.perf_counter()
        run()
        took = time.perf_counter() - begin
        best, spent = min(best, took), spent + took
    return best


def compare(title: str, data: bytes) -> None:
    """Print both engines' time for one process."""
    graph = deploy(data).graphs["bench"]
    count = ours(graph)
    mine = seconds(lambda: ours(graph))
    pure = seconds(lambda: ours_pure(graph))
    line = (
        f"{title:34} {count:5} elements  ours {mine * 1e3:8.2f} ms {count / mine:9.0f}/s"
        f"  pure step {pure * 1e3:8.2f} ms"
    )
    try:
        spec = spiff_spec(data)
        spiff(spec)
    except ImportError:
        sys.stdout.write(f"{line}  (SpiffWorkflow is not installed)\n")
        return
    theirs = seconds(lambda: spiff(spec))
    sys.stdout.write(
        f"{line}  SpiffWorkflow {theirs * 1e3:9.2f} ms"
        f"  ratio {theirs / mine:6.1f} (pure {theirs / pure:.1f})\n"
    )


def state_sizes() -> None:
    """Print the state's size over loop rounds and multi-instance items."""
    names = '<exclusiveGateway id="m"/><exclusiveGateway id="g" default="g_e"/><userTask id="t"/>'
    names += '<scriptTask id="a" scriptFormat="feel"><script>{n: n + 1}</script></scriptTask>'
    flows = [
        ("s", "m", ""),
        ("m", "a", ""),
        ("a", "t", ""),
        ("t", "g", ""),
        ("g", "m", "n &lt; 1000"),
        ("g", "e", ""),
    ]
    graph = deploy(_bpmn(names, flows)).graphs["bench"]
    state = new_state(graph)
    commands = apply(graph, state, inputs.Start(EPOCH, {"n": 0}))
    sizes: list[int] = []
    begin = time.perf_counter()
    while not state.ended:
        sizes.append(len(json.dumps(state.to_json())))
        key = next(command.key for command in commands if isinstance(command, out.StartJob))
        commands = apply(graph, state, inputs.JobCompleted(EPOCH, key))
    took = time.perf_counter() - begin
    sys.stdout.write(
        f"1000 loop rounds: state {sizes[0]} bytes after 1, {sizes[-1]} after 1000; {took * 1e3:.0f} ms\n"
    )
    task = '<userTask id="t"><multiInstanceLoopCharacteristics><loopCardinality>10000</loopCardinality>'
    task += "</multiInstanceLoopCharacteristics></userTask>"
    graph = deploy(_bpmn(task, [("s", "t", ""), ("t", "e", "")])).graphs["bench"]
    state = new_state(graph)
    begin = time.perf_counter()
    commands = apply(graph, state, inputs.Start(EPOCH))
    pending = [command.key for command in commands if isinstance(command, out.StartJob)]
    largest, done = 0, 0
    while pending:
        commands = apply(graph, state, inputs.JobCompleted(EPOCH, pending.pop(0)))
        pending += [command.key for command in commands if isinstance(command, out.StartJob)]
        done += 1
        if done % 500 == 0:
            largest = max(largest, len(json.dumps(state.to_json())))
    took = time.perf_counter() - begin
    sys.stdout.write(f"10000 multi-instance jobs: largest state {largest} bytes; {took * 1e3:.0f} ms\n")


def main() -> None:
    """Print all measurements."""
    compare("20 manual tasks in sequence", sequence("manualTask", 20))
    compare("200 manual tasks in sequence", sequence("manualTask", 200))
    compare("20 user tasks in sequence", sequence("userTask", 20))
    compare("200 user tasks in sequence", sequence("userTask", 200))
    # SpiffWorkflow predicts every path through blocks in a row: more of them would not end.
    compare("2 parallel blocks of 4 manual tasks", branches("manualTask", 2, 4))
    compare("2 parallel blocks of 4 user tasks", branches("userTask", 2, 4))
    state_sizes()


if __name__ == "__main__":
    main()
