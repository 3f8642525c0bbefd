"""A world for processes: real PostgreSQL, S3 and Temporal, a worker and the API in this process."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
from temporalio.client import Client, WorkflowHandle

from activities.agent_call import AgentCallActivities
from activities.connectors import Connector, HttpConnector, ServiceFailedError, TaskWorkError
from activities.process import ProcessActivities, process_workflow_id, serving_processes
from activities.sandbox.egress_policy import EgressSettings
from activities.services import Services
from activities.trigger import TriggerActivities
from models.process_run import ServiceTask
from models.task_queues import TaskQueue
from tests.builders import Person, RefusedError
from tests.conformance.temporal import CorpusScripts
from tests.eventually import eventually
from worker import QueueWork, create_worker
from workflows.agent_call import AgentCall
from workflows.process import ProcessInstance
from workflows.trigger import TriggeredStart

API = "/api/orchestrator"


@dataclass
class Works:
    """Connectors whose behaviour a test chooses, and what they were asked."""

    calls: list[ServiceTask] = field(default_factory=list[ServiceTask])
    broken: set[str] = field(default_factory=set[str])
    """Elements whose work fails for technical reasons."""
    held: dict[str, asyncio.Event] = field(default_factory=dict[str, asyncio.Event])
    """Elements whose work lasts until the event is set."""

    async def work(self, task: ServiceTask) -> dict[str, Any]:
        """``connector:work``: sets ``done_<element>``."""
        self.calls.append(task)
        if task.task_id in self.broken:
            raise ServiceFailedError(task, "it is broken")
        if task.task_id in self.held:
            await self.held[task.task_id].wait()
        return {f"done_{task.task_id}": True}

    async def refuse(self, task: ServiceTask) -> dict[str, Any]:
        """``connector:refuse``: ends with the BPMN error E1."""
        raise TaskWorkError("E1", "Refused.", {"why": "on purpose"})

    def connectors(self) -> Mapping[str, Connector]:
        return {"work": self.work, "refuse": self.refuse}

    def count(self, element: str) -> int:
        """How often an element's work was begun."""
        return sum(task.task_id == element for task in self.calls)


class RestartableWorker:
    """A worker that a test may stop and start again."""

    def __init__(
        self, services: Services, temporal: Client, works: Works, scripts: Connector | None = None
    ) -> None:
        self._services = services
        self._temporal = temporal
        self._works = works
        self._scripts = scripts
        self._running = AsyncExitStack()

    async def start(self) -> None:
        loopback = EgressSettings(permitted_addresses=frozenset({"127.0.0.1"}))
        process = ProcessActivities(
            self._services,
            connectors=self._works.connectors(),
            http=HttpConnector(loopback),
            scripts=self._scripts,
        )
        calls = AgentCallActivities(self._services)
        work = QueueWork(
            workflows=[ProcessInstance, TriggeredStart, AgentCall],
            activities=[
                process.open_instance,
                process.record_changes,
                process.work_on_task,
                TriggerActivities(self._services).claim_period,
                calls.prepare_execution,
                calls.answer_of_execution,
            ],
        )
        await self._running.enter_async_context(serving_processes(self._services.database, self._temporal))
        await self._running.enter_async_context(create_worker(self._temporal, TaskQueue.CORE, work))

    async def stop(self) -> None:
        await self._running.aclose()


@dataclass
class ProcessWorld:
    """What a process test needs."""

    services: Services
    temporal: Client
    worker: RestartableWorker
    works: Works
    scripts: CorpusScripts
    client: httpx.AsyncClient
    user: Person
    operator: Person

    async def call(
        self, method: str, path: str, body: Any = None, *, who: Person | None = None, **options: Any
    ) -> Any:
        """Call the API of processes and return its answer.

        Raises:
            RefusedError: It refuses.
        """
        answer = await (who or self.user).call(method, API + path, body, **options)
        if answer.status_code >= 300:
            raise RefusedError(f"{answer.status_code} {answer.text[:2000]}")
        return answer.json() if answer.content else None

    async def refusal(
        self, method: str, path: str, body: Any = None, *, who: Person | None = None
    ) -> tuple[int, str]:
        """Call the API and return the status and code of its refusal."""
        answer = await (who or self.user).call(method, API + path, body)
        assert answer.status_code >= 400, answer.text
        return answer.status_code, answer.json()["error"]["code"]

    async def deploy(self, bpmn: bytes, dmn: list[str] | None = None) -> str:
        """Deploy a file; returns the id of its first definition."""
        body = {"bpmnXml": bpmn.decode(), "dmnXml": dmn or []}
        return (await self.call("POST", "/deploy", body))["definitionId"]

    async def start(self, bpmn: bytes, variables: dict[str, Any] | None = None, **more: Any) -> str:
        """Deploy and start; returns the instance's id."""
        return await self.begin(await self.deploy(bpmn), variables, **more)

    async def begin(self, definition_id: str, variables: dict[str, Any] | None = None, **more: Any) -> str:
        """Start a deployed process; returns the instance's id."""
        body = {"definitionId": definition_id, "variables": variables or {}, **more}
        return (await self.call("POST", "/instances", body))["instanceId"]

    async def show(self, instance: str) -> dict[str, Any]:
        return await self.call("GET", f"/instances/{instance}")

    async def ended(self, instance: str, status: str = "completed") -> dict[str, Any]:
        """Wait until an instance has ended so."""

        async def look() -> dict[str, Any] | None:
            try:
                shown = await self.show(instance)
            except RefusedError as refusal:
                # A trigger names the instance before its workflow has opened it.
                if "PROCESS_INSTANCE_NOT_FOUND" in str(refusal):
                    return None
                raise
            if shown["status"] in ("completed", "failed", "cancelled"):
                assert shown["status"] == status, shown
                return shown
            return None

        return await eventually(look)

    async def waiting(self, instance: str, *tasks: str) -> dict[str, Any]:
        """Wait until exactly these tasks are active."""

        async def look() -> dict[str, Any] | None:
            shown = await self.show(instance)
            return shown if sorted(shown["currentTasks"]) == sorted(tasks) else None

        return await eventually(look)

    def handle(self, instance: str) -> WorkflowHandle[Any, Any]:
        return self.temporal.get_workflow_handle(process_workflow_id(instance))

    async def rows(self, query: str, *parameters: Any) -> list[dict[str, Any]]:
        """Read the store as the platform."""
        async with self.services.database.platform() as connection:
            cursor = await connection.execute(query, list(parameters))  # pyright: ignore[reportArgumentType]
            return await cursor.fetchall()

    async def event_types(self, instance: str) -> list[str]:
        rows = await self.rows("SELECT seq, type FROM run_events WHERE run_id = %s ORDER BY seq", instance)
        assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
        return [row["type"] for row in rows]
