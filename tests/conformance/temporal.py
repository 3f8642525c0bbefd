"""Runs the BPMN cases of a corpus through the Temporal adapter, on real servers.

The server suggests to continue as new at every step, so each state is serialised, cut and reloaded wherever
an instance is quiet. Time is real: what takes ten seconds in a case takes ten seconds here.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from temporalio.client import Client
from temporalio.service import RPCError

from activities.agent_call import AgentCallActivities
from activities.connectors import ServiceFailedError, TaskWorkError
from activities.process import ProcessActivities, process_workflow_id, serving_processes
from activities.records.process_definitions import insert_definition
from activities.records.process_instances import list_incidents, list_instances
from activities.services import Services, open_services
from activities.temporal.client import connect
from api.orchestrator import start_process
from cli.stack.embedded import EmbeddedStack
from models.identifiers import new_identifier
from models.process import ENDED, InstanceStatus
from models.process import ProcessInstance as InstanceRow
from models.process_run import ServiceTask, StartProcess
from models.settings import Settings
from models.task_queues import TaskQueue
from tests.conformance.bpmn import CaseResult, Report, ScriptTokens, judge, languages
from worker import QueueWork, create_worker
from workflows.agent_call import AgentCall
from workflows.bpmn import commands as out
from workflows.bpmn.definition import EventKind
from workflows.bpmn.deployment import deploy
from workflows.bpmn.diagnostics import DefinitionRefusedError
from workflows.bpmn.graph import Graph
from workflows.bpmn.timing import TimerValueError, compute
from workflows.process import ProcessInstance
from workflows.process_graphs import keep_graph

CUT_ALWAYS = {"limit.historyCount.suggestContinueAsNew": "1"}
QUIET_SECONDS = 1.5
LIMIT_SECONDS = 60.0
AT_ONCE = 12


class CorpusScripts:
    """Does what the scripts of each case say; a case is known by its tenant."""

    def __init__(self) -> None:
        self._tokens: dict[str, ScriptTokens] = {}

    def of(self, tenant: str) -> ScriptTokens:
        """Return the log-keeping worker of a case."""
        return self._tokens.setdefault(tenant, ScriptTokens())

    async def __call__(self, task: ServiceTask) -> dict[str, Any]:
        """Do one script."""
        job = out.StartJob(
            task.key, task.task_id, task.kind, None, task.variables, task.attempt, None, task.details
        )
        outcome = self.of(task.tenant_id)(job)
        if outcome.delay:
            await asyncio.sleep(outcome.delay.total_seconds())
        if outcome.error is not None:
            raise TaskWorkError(outcome.error, "", outcome.variables)
        if outcome.failure is not None:
            raise ServiceFailedError(task, outcome.failure)
        return outcome.variables


class CaseRunner:
    """Runs cases on servers that are up."""

    def __init__(self, services: Services, temporal: Client, scripts: CorpusScripts) -> None:
        self._services = services
        self._temporal = temporal
        self._scripts = scripts

    async def run(self, folder: Path, case: dict[str, Any]) -> CaseResult:
        """Run one case in a tenant of its own and judge what it logged."""
        tenant = f"{Path(case['file']).stem}-{case.get('n', 1)}-{new_identifier('tenant')}"
        path = folder / case["file"]
        data = await asyncio.to_thread(path.read_bytes)
        try:
            graphs = deploy(data, languages()).graphs
        except DefinitionRefusedError:
            return judge(folder, case, ["GenericError"])
        definitions = {name: await self._deploy(tenant, graph) for name, graph in graphs.items()}
        if case["parallel_process"] and "ParallelProcess" in graphs:
            await self._start(tenant, graphs["ParallelProcess"], definitions, {}, by_trigger=False)
        main = await self._start(tenant, graphs[path.stem], definitions, case["inputs"], by_trigger=True)
        delay = case["delay_ms"]
        if delay:
            await asyncio.sleep(delay / 1000)
        else:
            await self._until_quiet(tenant)
        log = [*self._scripts.of(tenant).log, *await self._failures(tenant, main)]
        await self._end(tenant)
        return judge(folder, case, log)

    async def _deploy(self, tenant: str, graph: Graph) -> str:
        async with self._services.database.tenant(tenant) as connection:
            row = await insert_definition(
                connection,
                tenant_id=tenant,
                design_id=graph.id,
                version=None,
                process_key=graph.id,
                name=graph.id,
                version_tag=None,
                bpmn_xml="",
                dmn_xml=[],
                parsed_model=graph.definition.to_json(),
                content_hash=graph.sha256,
                diagnostics=[],
                deployed_by="conformance",
            )
        # Compiled with the corpus's own languages, which deployments do not know.
        keep_graph(graph.sha256, graph)
        return row.id

    async def _start(
        self,
        tenant: str,
        graph: Graph,
        definitions: dict[str, str],
        variables: dict[str, Any],
        *,
        by_trigger: bool,
    ) -> str | None:
        """Start a process as its start events want it, as the simulating runner does."""
        triggers = graph.start_triggers
        node = None
        started = any(item.kind == "startEvent" for item in graph.root.inner)
        if started and not any(trigger.kind == "none" for trigger in triggers):
            timed = [trigger for trigger in triggers if trigger.kind == EventKind.TIMER.value]
            if timed:
                await self._wait_for_timer(timed[0])
                node = timed[0].node
            elif not by_trigger:
                return None
            else:
                node = triggers[0].node
        request = StartProcess(
            instance_id=new_identifier("process_instance"),
            tenant_id=tenant,
            definition_id=definitions[graph.id],
            started_by="conformance",
            correlation_id=tenant,
            variables=variables,
            start_node=node,
        )
        await start_process(self._temporal, request, graph.id)
        return request.instance_id

    async def _wait_for_timer(self, trigger: Any) -> None:
        try:
            now = datetime.now(UTC)
            due = compute(trigger.event.timer or "duration", trigger.event.value.text, now)
        except TimerValueError:
            return
        await asyncio.sleep(max((due.at - now) / timedelta(seconds=1), 0))

    async def _instances(self, tenant: str) -> list[InstanceRow]:
        async with self._services.database.tenant(tenant) as connection:
            rows, _ = await list_instances(connection, limit=100)
        return rows

    async def _until_quiet(self, tenant: str) -> None:
        """Wait until every instance has ended or waits for what never comes."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LIMIT_SECONDS
        still_since: float | None = None
        before: list[Any] = []
        while loop.time() < deadline:
            rows = await self._instances(tenant)
            if rows and all(row.status in ENDED for row in rows):
                return
            seen = [(row.id, row.status, row.recorded) for row in rows]
            still = seen == before and not await self._is_working(rows)
            before = seen
            if not still:
                still_since = None
            elif still_since is None:
                still_since = loop.time()
            elif loop.time() - still_since > QUIET_SECONDS:
                return
            await asyncio.sleep(0.2)

    async def _is_working(self, rows: Sequence[InstanceRow]) -> bool:
        """Tell whether any live instance waits for a script or a timer."""
        for row in rows:
            if row.status in ENDED:
                continue
            try:
                view = await self._temporal.get_workflow_handle(process_workflow_id(row.id)).query(
                    ProcessInstance.look
                )
            except RPCError:
                return True
            for element in view.elements:
                waits = element.waiting if element.incident is None else []
                if any(entry == "script" or entry.startswith("timer") for entry in waits):
                    return True
        return False

    async def _failures(self, tenant: str, main: str | None) -> list[str]:
        async with self._services.database.tenant(tenant) as connection:
            incidents = await list_incidents(connection)
        log = ["RuntimeException"] if any(item.type != "DEADLOCK" for item in incidents) else []
        failed = [row for row in await self._instances(tenant) if row.status == InstanceStatus.FAILED]
        return log + ["ErrorThrownErrorEvent" for row in failed if row.id == main]

    async def _end(self, tenant: str) -> None:
        for row in await self._instances(tenant):
            if row.status not in ENDED:
                await self._temporal.get_workflow_handle(process_workflow_id(row.id)).terminate(
                    "case is over"
                )


async def run_cases(settings: Settings, folder: Path, cases: Sequence[dict[str, Any]]) -> list[CaseResult]:
    """Run cases with a worker in this process, some at a time; the results are in the cases' order."""
    scripts = CorpusScripts()
    async with open_services(settings, name="conformance") as services, AsyncExitStack() as stack:
        temporal = await connect(settings, services.objects)
        process = ProcessActivities(services, scripts=scripts)
        calls = AgentCallActivities(services)
        work = QueueWork(
            workflows=[ProcessInstance, AgentCall],
            activities=[
                process.open_instance,
                process.record_changes,
                process.work_on_task,
                calls.prepare_execution,
                calls.answer_of_execution,
            ],
        )
        await stack.enter_async_context(serving_processes(services.database, temporal))
        await stack.enter_async_context(create_worker(temporal, TaskQueue.CORE, work))
        runner = CaseRunner(services, temporal, scripts)
        places = asyncio.Semaphore(AT_ONCE)
        return await asyncio.gather(*(_placed(places, runner.run, folder, case) for case in cases))


async def _placed(
    places: asyncio.Semaphore,
    run: Callable[[Path, dict[str, Any]], Awaitable[CaseResult]],
    folder: Path,
    case: dict[str, Any],
) -> CaseResult:
    async with places:
        return await run(folder, case)


def run_bpmn_on_temporal(corpus: Path) -> Report:
    """Run all cases of ``<corpus>/bpmn`` on servers of their own."""
    folder = corpus / "bpmn"
    cases: list[dict[str, Any]] = json.loads((folder / "cases.json").read_text())
    with EmbeddedStack(
        parts=["postgres", "temporal", "s3", "migrations"], durable=False, temporal_options=CUT_ALWAYS
    ) as settings:
        return Report(asyncio.run(run_cases(settings, folder, cases)))
