"""Processes: what the interpreter costs beside the same tasks written by hand, on real servers.

Both run in one process and one run, in alternating rounds of concurrent instances; the hand-written workflow
is measured twice, recording what it does as the interpreter must, and recording nothing.
"""

import argparse
import asyncio
import gc
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from temporalio.client import Client

from activities.agent_call import AgentCallActivities
from activities.process import ProcessActivities, process_workflow_id, serving_processes
from activities.records.process_definitions import insert_definition
from activities.services import Services, open_services
from activities.temporal.client import connect
from api.process_deployment import check_deployment
from bench.figures import Figure, report
from bench.process_baseline import ByHand, ByHandRequest
from cli.stack.embedded import EmbeddedStack
from models.identifiers import new_identifier
from models.process_run import ProcessResult, StartProcess
from models.settings import Settings
from models.task_queues import TaskQueue
from tests.bpmn.builders import bpmn, flows
from tests.builders import unique
from worker import QueueWork, create_worker
from workflows.agent_call import AgentCall
from workflows.process import ProcessInstance

TASKS = 20
ELEMENTS = TASKS + 2
DEFAULT_SERVER = {
    "history.transferProcessorMaxPollRPS": "20",
    "history.timerProcessorMaxPollRPS": "20",
    "history.visibilityProcessorMaxPollRPS": "20",
    "history.timerProcessorMaxTimeShift": '"1s"',
    "matching.numTaskqueueReadPartitions": "4",
    "matching.numTaskqueueWritePartitions": "4",
}
"""What a development server does by itself; the embedded one is tuned."""

SEQUENCE = bpmn(
    "".join(f'<serviceTask id="t{n}" sy:taskType="connector:nothing"/>' for n in range(1, TASKS + 1)),
    flows("s>" + ">".join(f"t{n}" for n in range(1, TASKS + 1)) + ">e"),
    name="sequence",
)
ITEMS = bpmn(
    '<serviceTask id="t" sy:taskType="connector:nothing"><multiInstanceLoopCharacteristics>'
    "<loopCardinality>= n</loopCardinality></multiInstanceLoopCharacteristics></serviceTask>",
    flows("s>t>e"),
    name="items",
)
LONG = bpmn(
    '<serviceTask id="t" sy:taskType="connector:nothing">'
    '<multiInstanceLoopCharacteristics isSequential="true">'
    "<loopCardinality>= n</loopCardinality></multiInstanceLoopCharacteristics></serviceTask>"
    '<userTask id="u"/>',
    flows("s>t>u>e"),
    name="long",
)


@dataclass
class Bench:
    """Servers, a tenant and a client."""

    services: Services
    temporal: Client
    tenant: str = field(default_factory=lambda: unique("tenant"))

    async def deploy(self, file: bytes) -> str:
        """Deploy a file; returns the definition's id."""
        (checked,) = check_deployment(file.decode(), [])
        async with self.services.database.tenant(self.tenant) as connection:
            row = await insert_definition(
                connection,
                tenant_id=self.tenant,
                design_id=checked.definition.id,
                version=None,
                process_key=checked.definition.id,
                name=checked.definition.id,
                version_tag=None,
                bpmn_xml=file.decode(),
                dmn_xml=[],
                parsed_model=checked.definition.to_json(),
                content_hash=checked.content_hash,
                diagnostics=[],
                deployed_by="bench",
            )
        return row.id

    def request(self, definition: str, **variables: int) -> StartProcess:
        """Return the start of a new instance."""
        return StartProcess(
            instance_id=new_identifier("process_instance"),
            tenant_id=self.tenant,
            definition_id=definition,
            started_by="bench",
            correlation_id="bench",
            variables=dict(variables),
        )

    async def start_worker(self, stack: AsyncExitStack) -> None:
        """Start a worker that lives as long as the stack."""
        process = ProcessActivities(self.services)
        calls = AgentCallActivities(self.services)
        work = QueueWork(
            workflows=[ProcessInstance, AgentCall, ByHand],
            activities=[
                process.open_instance,
                process.record_changes,
                process.work_on_task,
                calls.prepare_execution,
                calls.answer_of_execution,
            ],
        )
        await stack.enter_async_context(serving_processes(self.services.database, self.temporal))
        await stack.enter_async_context(create_worker(self.temporal, TaskQueue.CORE, work))

    async def interpret(self, request: StartProcess) -> ProcessResult:
        """Run an instance to its end."""
        return await self.temporal.execute_workflow(
            ProcessInstance.run,
            request,
            id=process_workflow_id(request.instance_id),
            task_queue=TaskQueue.CORE,
        )

    async def by_hand(self, request: StartProcess, *, recorded: bool) -> None:
        """Run the hand-written workflow to its end."""
        await self.temporal.execute_workflow(
            ByHand.run,
            ByHandRequest(start=request, tasks=TASKS, recorded=recorded),
            id=process_workflow_id(request.instance_id),
            task_queue=TaskQueue.CORE,
        )

    async def events(self, request: StartProcess) -> int:
        """Count the history events of an instance's last run."""
        handle = self.temporal.get_workflow_handle(process_workflow_id(request.instance_id))
        return len((await handle.fetch_history()).events)


@dataclass
class Sample:
    """What rounds of one kind took."""

    seconds: float = 0.0
    cpu: float = 0.0
    runs: int = 0
    events: int = 0


async def overhead(bench: Bench, rounds: int, concurrent: int) -> list[Figure]:
    """Compare the interpreter with the hand-written workflow."""
    definition = await bench.deploy(SEQUENCE)

    async def interpreted(request: StartProcess) -> None:
        await bench.interpret(request)

    async def recorded(request: StartProcess) -> None:
        await bench.by_hand(request, recorded=True)

    async def bare(request: StartProcess) -> None:
        await bench.by_hand(request, recorded=False)

    kinds: dict[str, Callable[[StartProcess], Awaitable[None]]] = {
        "interpreter": interpreted,
        "by hand": recorded,
        "by hand, nothing recorded": bare,
    }
    samples = {name: Sample() for name in kinds}
    for name, run in kinds.items():
        await asyncio.gather(*(run(bench.request(definition)) for _ in range(5)))
        del name
    for _ in range(rounds):
        for name, run in kinds.items():
            requests = [bench.request(definition) for _ in range(concurrent)]
            gc.collect()
            begun, cpu = time.perf_counter(), time.process_time()
            await asyncio.gather(*(run(request) for request in requests))
            sample = samples[name]
            sample.seconds += time.perf_counter() - begun
            sample.cpu += time.process_time() - cpu
            sample.runs += concurrent
            sample.events = await bench.events(requests[0])
    ours, theirs, nothing = samples.values()
    figures = [
        Figure(f"{name}: seconds per round of {concurrent}", sample.seconds / rounds, "s")
        for name, sample in samples.items()
    ]
    figures += [
        Figure(f"{name}: Python CPU per instance", sample.cpu / sample.runs * 1000, "ms")
        for name, sample in samples.items()
    ]
    figures += [Figure(f"{name}: history events", sample.events, "") for name, sample in samples.items()]
    return [
        *figures,
        Figure("history events beside by hand", ours.events / theirs.events, "x", "at most 1.10"),
        Figure("history events beside by hand, nothing recorded", ours.events / nothing.events, "x", "1.10"),
        Figure("time beside by hand", ours.seconds / theirs.seconds, "x", "at most 1.15"),
        Figure("time beside by hand, nothing recorded", ours.seconds / nothing.seconds, "x"),
        Figure(
            "Python CPU per element more than by hand",
            (ours.cpu - theirs.cpu) / ours.runs / ELEMENTS * 1000,
            "ms",
            "at most 1",
        ),
        Figure(
            "Python CPU per element more than recording nothing",
            (ours.cpu - nothing.cpu) / ours.runs / ELEMENTS * 1000,
            "ms",
        ),
    ]


async def many_items(bench: Bench, items: int) -> list[Figure]:
    """Run a multi-instance task over many items and look at what is handed over."""
    definition = await bench.deploy(ITEMS)
    request = bench.request(definition, n=items)
    handle = await bench.temporal.start_workflow(
        ProcessInstance.run, request, id=process_workflow_id(request.instance_id), task_queue=TaskQueue.CORE
    )
    begun = time.perf_counter()
    sizes: list[int] = []
    runs: set[str] = set()
    waiting = asyncio.create_task(handle.result())
    while not waiting.done():
        described = await handle.describe()
        if described.run_id and described.run_id not in runs:
            runs.add(described.run_id)
            run = bench.temporal.get_workflow_handle(handle.id, run_id=described.run_id)
            first = (await run.fetch_history()).events[0]
            (start,) = await bench.temporal.data_converter.decode(
                first.workflow_execution_started_event_attributes.input.payloads, [StartProcess]
            )
            if start.carry is not None:
                sizes.append(len(json.dumps(start.carry.state)))
        await asyncio.wait([waiting], timeout=2)
    await waiting
    elapsed = time.perf_counter() - begun
    async with bench.services.database.platform() as connection:
        cursor = await connection.execute(
            "SELECT count(*) AS done FROM task_executions WHERE instance_id = %s AND status = 'completed'",
            [request.instance_id],
        )
        row = await cursor.fetchone()
    return [
        Figure("items completed", row["done"] if row else 0, "", str(items)),
        Figure("seconds", elapsed, "s"),
        Figure("runs (continue-as-new)", len(runs), ""),
        Figure("largest state handed over", max(sizes, default=0) / 1024, "KiB"),
        Figure("last state handed over", (sizes or [0])[-1] / 1024, "KiB"),
    ]


async def cold_start(settings: Settings, events: int) -> list[Figure]:
    """Answer an instance with a long history by a worker that never saw it."""
    async with open_services(settings, name="bench") as services:
        temporal = await connect(settings, services.objects)
        bench = Bench(services, temporal)
        first = AsyncExitStack()
        await bench.start_worker(first)
        definition = await bench.deploy(LONG)
        request = bench.request(definition, n=events // 6)
        handle = await temporal.start_workflow(
            ProcessInstance.run,
            request,
            id=process_workflow_id(request.instance_id),
            task_queue=TaskQueue.CORE,
        )
        while True:
            view = await handle.query(ProcessInstance.look)
            if any(element.element == "u" for element in view.elements):
                break
            await asyncio.sleep(1)
        length = await bench.events(request)
        await first.aclose()
        second = AsyncExitStack()
        temporal = await connect(settings, services.objects)
        bench = Bench(services, temporal, bench.tenant)
        begun = time.perf_counter()
        await bench.start_worker(second)
        handle = temporal.get_workflow_handle(handle.id)
        await handle.query(ProcessInstance.look)
        elapsed = time.perf_counter() - begun
        begun = time.perf_counter()
        await handle.query(ProcessInstance.look)
        warm = time.perf_counter() - begun
        await handle.terminate()
        await second.aclose()
    return [
        Figure("history events", length, ""),
        Figure("first answer after a worker restart, replay included", elapsed * 1000, "ms"),
        Figure("answer of a warm worker", warm * 1000, "ms"),
    ]


async def on_server(settings: Settings, measure: Callable[[Bench], Awaitable[list[Figure]]]) -> list[Figure]:
    """Take a measurement with a worker in this process."""
    async with open_services(settings, name="bench") as services, AsyncExitStack() as stack:
        bench = Bench(services, await connect(settings, services.objects))
        await bench.start_worker(stack)
        return await measure(bench)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrent", type=int, default=50)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=5_000)
    parser.add_argument("--only", choices=("tuned", "default", "items", "cold"), default=None)
    arguments = parser.parse_args()
    parts = ["postgres", "temporal", "s3", "migrations"]

    async def compare(bench: Bench) -> list[Figure]:
        return await overhead(bench, arguments.rounds, arguments.concurrent)

    async def items(bench: Bench) -> list[Figure]:
        return await many_items(bench, arguments.items)

    for name, options in (("tuned", {}), ("default", DEFAULT_SERVER)):
        if arguments.only in (None, name):
            with EmbeddedStack(parts=parts, temporal_options=options) as settings:
                title = f"A sequence of {TASKS} service tasks, {name} server"
                report(title, asyncio.run(on_server(settings, compare)))
    if arguments.only in (None, "items"):
        with EmbeddedStack(parts=parts) as settings:
            report("A multi-instance task", asyncio.run(on_server(settings, items)))
    if arguments.only in (None, "cold"):
        # Longer histories than the server suggests: what is measured is a replay, not its avoidance.
        long = {"limit.historyCount.suggestContinueAsNew": "50000"}
        with EmbeddedStack(parts=parts, temporal_options=long) as settings:
            report("Cold start", asyncio.run(cold_start(settings, arguments.events)))


if __name__ == "__main__":
    main()
