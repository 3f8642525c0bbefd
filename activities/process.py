"""What a process instance does to the world: open itself, report its changes, do the work of its tasks."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import structlog
from temporalio import activity
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.connectors import (
    Connector,
    HttpConnector,
    TaskRefusedError,
    TaskWorkError,
    standard_connectors,
)
from activities.definition_sources import SOURCES, read_source
from activities.records.database import Database, DatabaseUnavailableError
from activities.records.process_changes import apply_batch
from activities.records.process_definitions import find_definition, find_process
from activities.records.process_instances import insert_instance
from activities.records.process_messages import Delivery, claimed_messages, expire_messages
from activities.records.process_state import write_state
from activities.records.runs import create_run
from activities.services import Services
from activities.temporal.failures import cut
from models.errors import PlatformError, UnavailableError
from models.process import DefinitionStatus
from models.process_errors import DefinitionNotActiveError, ProcessDefinitionNotFoundError
from models.process_run import Batch, InstanceOpened, ServiceTask, StartProcess, StateChange, TaskAnswer
from models.run import Run, RunKind, RunStatus

log: structlog.stdlib.BoundLogger = structlog.get_logger("process")

HEARTBEAT_SECONDS = 2.0
"""Work that is done sooner sends none."""

RESEND_AFTER = timedelta(seconds=10)
RESEND_PAUSE_SECONDS = 2.0
RESEND_AT_ONCE = 100


class ChangesRefusedError(UnavailableError):
    """The store contradicts an instance's report: a fault of ours or a hand in the tables.

    The instance must not fail for it, so the report is repeated until the contradiction is gone.
    """

    code = "PROCESS_CHANGES_REFUSED"

    def __init__(self, instance_id: str, refused: PlatformError) -> None:
        super().__init__(
            f"The changes of process instance {instance_id} are not taken: {refused.message}",
            details={"instance_id": instance_id, "refused": refused.code},
        )


def process_workflow_id(instance_id: str) -> str:
    """Return the id of an instance's workflow."""
    return f"process/{instance_id}"


class ProcessActivities:
    """The activities of ``ProcessInstance``."""

    def __init__(
        self,
        services: Services,
        *,
        connectors: Mapping[str, Connector] | None = None,
        http: Connector | None = None,
        scripts: Connector | None = None,
    ) -> None:
        """Work on ``services``.

        Args:
            services: The store.
            connectors: Functions behind ``connector:<name>``, beside the standard ones.
            http: Sends the requests of ``http:`` tasks; by default to public addresses only.
            scripts: Runs script tasks in languages that the interpreter does not evaluate.
        """
        self._database = services.database
        self._connectors = {**standard_connectors(), **(connectors or {})}
        self._http = http or HttpConnector()
        self._scripts = scripts

    @activity.defn(name="open_instance")
    async def open_instance(self, start: StartProcess) -> InstanceOpened:
        """Create run and instance and make the definition known here; safe to repeat.

        Raises:
            ProcessDefinitionNotFoundError: There is no such definition, or none of the called process.
            DefinitionNotActiveError: The definition was suspended or retired.
        """
        async with self._database.tenant(start.tenant_id) as connection:
            if start.definition_id is not None:
                definition = await find_definition(connection, start.definition_id)
            else:
                definition = await find_process(connection, start.called or "", start.binding)
            if definition.status != DefinitionStatus.ACTIVE:
                raise DefinitionNotActiveError(definition.id, definition.status)
            parent = start.caller.instance_id if start.caller is not None else None
            await create_run(
                connection,
                Run(
                    id=start.instance_id,
                    tenant_id=start.tenant_id,
                    kind=RunKind.FLOW,
                    status=RunStatus.RUNNING,
                    parent_run_id=parent,
                    subject=definition.process_key,
                    correlation_id=start.correlation_id,
                    workflow_id=process_workflow_id(start.instance_id),
                ),
            )
            fresh = await insert_instance(
                connection,
                instance_id=start.instance_id,
                tenant_id=start.tenant_id,
                definition_id=definition.id,
                started_by=start.started_by,
                variables=start.variables,
                correlation_id=start.correlation_id,
                business_key=start.business_key,
                parent_instance_id=parent,
            )
            first = StateChange(
                n=0, version=1, variables=start.variables, changed_by=start.started_by, reason="start"
            )
            if fresh:
                await write_state(connection, start.instance_id, start.tenant_id, first, 0)
        if not SOURCES.has(definition.content_hash):
            source = await read_source(self._database, definition.content_hash)
            if source is None:
                raise ProcessDefinitionNotFoundError(definition.id)
            SOURCES.put(definition.content_hash, source)
        return InstanceOpened(
            instance_id=start.instance_id,
            definition_id=definition.id,
            content_hash=definition.content_hash,
            process_key=definition.process_key,
        )

    @activity.defn(name="record_changes")
    async def record_changes(self, batch: Batch) -> None:
        """Write an instance's changes and send the messages that they set going; safe to repeat.

        Raises:
            ChangesRefusedError: The store refuses them; retried until somebody has looked.
        """
        try:
            async with self._database.tenant(batch.tenant_id) as connection:
                deliveries = await apply_batch(connection, batch)
        except PlatformError as refused:
            if refused.retryable:
                raise
            raise ChangesRefusedError(batch.instance_id, refused) from refused
        await send(activity.client(), deliveries)

    @activity.defn(name="work_on_task")
    async def work_on_task(self, task: ServiceTask) -> TaskAnswer:
        """Record that the task begins, and do its work.

        Raises:
            PlatformError: The work failed for technical reasons; retried when the error is retryable.
        """
        if task.batch is not None:
            await self.record_changes(task.batch)
        try:
            async with _heartbeats():
                variables = await self._connector(task)(task)
        except TaskWorkError as error:
            return TaskAnswer(
                key=task.key,
                attempt=task.attempt,
                error_code=error.code,
                message=cut(error.message),
                variables=error.variables,
            )
        name = task.details.get("result_variable")
        results = {str(name): _only(variables)} if name else variables
        return TaskAnswer(key=task.key, attempt=task.attempt, variables=results)

    def _connector(self, task: ServiceTask) -> Connector:
        prefix, _, name = task.type.partition(":")
        if prefix == "http":
            return self._http
        if prefix == "connector":
            found = self._connectors.get(name)
            if found is None:
                known = ", ".join(sorted(self._connectors))
                raise TaskRefusedError(task, f"there is no connector {name[:80]!r}; there are {known}")
            return found
        if task.kind == "script" and self._scripts is not None:
            return self._scripts
        raise TaskRefusedError(task, f"nothing here does the work of a {task.kind} task of this type")


def _only(variables: dict[str, Any]) -> Any:
    """Return what a result variable gets: the one result, or all of them as a context."""
    return next(iter(variables.values())) if len(variables) == 1 else variables


@asynccontextmanager
async def _heartbeats() -> AsyncGenerator[None]:
    """Send heartbeats once the work takes longer: a dead worker is noticed, a cancellation heard."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None

    def beat() -> None:
        nonlocal timer
        activity.heartbeat()
        timer = loop.call_later(HEARTBEAT_SECONDS, beat)

    timer = loop.call_later(HEARTBEAT_SECONDS, beat)
    try:
        yield
    finally:
        timer.cancel()


async def send(client: Client, deliveries: Sequence[Delivery]) -> None:
    """Tell instances of messages; one that has ended meanwhile is told nothing."""
    for delivery in deliveries:
        handle = client.get_workflow_handle(process_workflow_id(delivery.instance_id))
        try:
            await handle.signal("message_arrived", delivery.arrival)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                # Claimed and not confirmed: the messenger sends it again.
                log.warning("message not sent", instance=delivery.instance_id, status=error.status.name)


class Messenger:
    """Sends messages again that were claimed and never confirmed, and ends those that nobody took."""

    def __init__(self, database: Database, client: Client) -> None:
        """Prepare."""
        self._database = database
        self._client = client

    async def pass_once(self, older_than: timedelta = RESEND_AFTER) -> int:
        """Send what is due; returns how many were sent.

        Raises:
            DatabaseUnavailableError: PostgreSQL is away.
        """
        async with self._database.platform() as connection:
            await expire_messages(connection)
            due = await claimed_messages(connection, older_than, RESEND_AT_ONCE)
        await send(self._client, due)
        return len(due)

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            try:
                await self.pass_once()
            except (DatabaseUnavailableError, RPCError) as error:
                log.warning("messenger rests", reason=type(error).__name__)
            await asyncio.sleep(RESEND_PAUSE_SECONDS)


@asynccontextmanager
async def serving_processes(database: Database, client: Client) -> AsyncGenerator[None]:
    """Serve workflow code with definitions and keep a messenger running for as long as the block lasts."""
    async with SOURCES.reading(database):
        task = asyncio.create_task(Messenger(database, client).run(), name="process-messenger")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
