"""Tasks of people, jobs of outside workers, incidents of operators."""

import asyncio
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field, JsonValue
from starlette.responses import Response

from activities.process import process_workflow_id
from activities.records.process_instances import (
    claim_task,
    find_incident,
    find_task,
    list_incidents,
    list_tasks,
    release_task,
)
from activities.records.process_jobs import extend_lock, give_back, held_job, lock_jobs
from activities.records.runs import append_events
from api.authentication import requires
from api.camel import CamelAnswer, CamelBody
from api.envelope import errors
from api.errors import TemporalUnavailableError
from api.idempotency import OnceDep
from api.orchestrator import Reader, Runner, Variables, live_instance
from api.process import OPERATION_ERRORS, Done, Operator, TriedRequest, operate
from api.state import ServicesDep
from models.event import EventType, NewEvent
from models.identifiers import Identifier
from models.identity import Permission, Principal
from models.process import IncidentStatus, ProcessIncident, ProcessJob, TaskExecution, TaskStatus
from models.process_errors import (
    IncidentNotFoundError,
    JobNotFoundError,
    JobNotLockedError,
    ProcessEndedError,
    TaskClaimedError,
    TaskNotFoundError,
    TaskNotWaitingError,
)
from models.process_operation import CompleteTask, ResolveProblem
from models.process_run import TaskAnswer
from models.timeouts import UPDATE_RPC_TIMEOUT
from workflows.process import ProcessInstance

router = APIRouter(prefix="/api/orchestrator", tags=["processes"])

Worker = Annotated[Principal, Depends(requires(Permission.JOBS_WORK))]

POLL_PAUSES = (0.05, 0.1, 0.2, 0.4)
"""Seconds between looks of a long poll, the last one repeated."""


class Task(CamelAnswer):
    """One run of one task."""

    id: str
    instance_id: str
    task_id: str
    task_name: str | None
    task_type: str
    status: TaskStatus
    agent_slug: str | None
    job_type: str | None
    input_variables: dict[str, Any] | None
    output_variables: dict[str, Any] | None
    error_message: str | None
    attempt_count: int
    started_at: datetime | None
    completed_at: datetime | None
    duration_ms: int | None
    element_key: int
    assignee: str | None
    candidate_groups: list[str] | None
    candidate_users: list[str] | None
    form: str | None
    due_at: datetime | None
    claimed_at: datetime | None
    completed_by: str | None


class TaskList(CamelAnswer):
    """Tasks, oldest first."""

    tasks: list[Task]
    has_more: bool


class CompleteTaskRequest(CamelBody):
    """Results of a task, or the BPMN error it ends with."""

    variables: Variables = Field(default_factory=dict[str, JsonValue])
    error_code: str | None = Field(default=None, min_length=1, max_length=200)
    reason: str = Field(default="", max_length=500)


class ActivateJobsRequest(CamelBody):
    """Which jobs a worker wants, and for how long it locks them."""

    type: str = Field(min_length=1, max_length=200)
    worker: str = Field(min_length=1, max_length=200)
    max_jobs: int = Field(default=1, ge=1, le=100, strict=True)
    lock_seconds: int = Field(default=60, ge=1, le=86_400, strict=True)
    wait_seconds: float = Field(
        default=0, ge=0, le=8, strict=True, description="Wait so long for a job to come."
    )


class Job(CamelAnswer):
    """A job that is locked for a worker."""

    id: str
    instance_id: str
    element_key: int
    attempt: int
    task_id: str
    type: str
    variables: dict[str, Any]
    details: dict[str, Any]
    retries: int
    locked_by: str | None
    locked_until: datetime | None


class JobList(CamelAnswer):
    """Jobs for a worker."""

    jobs: list[Job]


class WorkerRequest(CamelBody):
    """Which worker speaks."""

    worker: str = Field(min_length=1, max_length=200)


class CompleteJobRequest(WorkerRequest):
    """A job's results."""

    variables: Variables = Field(default_factory=dict[str, JsonValue])


class FailJobRequest(WorkerRequest):
    """A technical failure: the job is offered again while attempts are left, then it is an incident."""

    message: str = Field(max_length=2000)
    retries: int | None = Field(
        default=None, ge=0, le=1000, strict=True, description="Attempts left; else one less."
    )
    backoff_seconds: int = Field(default=0, ge=0, le=86_400, strict=True)


class JobErrorRequest(WorkerRequest):
    """A BPMN error that the process may catch."""

    code: str = Field(min_length=1, max_length=200)
    message: str = Field(default="", max_length=2000)
    variables: Variables = Field(default_factory=dict[str, JsonValue])


class ExtendJobRequest(WorkerRequest):
    """How much longer the worker needs, from now."""

    lock_seconds: int = Field(ge=1, le=86_400, strict=True)


class JobStatusAnswer(CamelAnswer):
    """What became of a job."""

    status: str
    retries: int
    locked_until: datetime | None = None


class Incident(CamelAnswer):
    """A token that is stuck."""

    id: str
    instance_id: str
    element_key: int
    task_id: str
    type: str
    message: str
    status: IncidentStatus
    created_at: datetime
    resolved_at: datetime | None


class IncidentList(CamelAnswer):
    """Incidents, newest first."""

    incidents: list[Incident]
    has_more: bool


class ResolveRequest(TriedRequest):
    """How an incident is dealt with: ``retry``, or ``skip`` as if the element had completed."""

    action: Literal["retry", "skip"] = "retry"
    variables: Variables = Field(default_factory=dict[str, JsonValue])
    flow: str | None = Field(default=None, max_length=200, description="A skipped gateway's way.")


def _task(row: TaskExecution) -> Task:
    return Task.model_validate(row.model_dump())


def _job(row: ProcessJob) -> Job:
    return Job.model_validate(row.model_dump())


def _incident(row: ProcessIncident) -> Incident:
    return Incident.model_validate(row.model_dump())


def _groups(caller: Principal) -> list[str]:
    return sorted(role.value for role in caller.roles)


# --- tasks --------------------------------------------------------------------------------------------


@router.get("/tasks", response_model=TaskList)
async def get_tasks(
    caller: Reader,
    services: ServicesDep,
    instance_id: Annotated[Identifier | None, Query(alias="instanceId")] = None,
    status: TaskStatus | None = None,
    task_type: Annotated[str | None, Query(alias="taskType", max_length=50)] = None,
    mine: Annotated[bool, Query(description="Only those assigned to the caller.")] = False,
    claimable: Annotated[bool, Query(description="Only those the caller may claim.")] = False,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    offset: Annotated[int, Query(ge=0, le=100_000)] = 0,
) -> TaskList:
    """List tasks of instances, oldest first."""
    async with services.database.tenant(caller.tenant_id) as connection:
        rows = await list_tasks(
            connection,
            instance_id=instance_id,
            status=TaskStatus.WAITING if claimable else status,
            assignee=caller.user_id if mine else None,
            candidate=(caller.user_id, _groups(caller)) if claimable else None,
            task_type=task_type,
            limit=limit + 1,
            offset=offset,
        )
    return TaskList(tasks=[_task(row) for row in rows[:limit]], has_more=len(rows) > limit)


@router.post(
    "/tasks/{task_id}/claim", response_model=Task, responses=errors(TaskNotFoundError, TaskClaimedError)
)
async def claim(task_id: Identifier, caller: Runner, services: ServicesDep) -> Task:
    """Take a waiting task; claiming one's own again changes nothing."""
    operator = caller.may(Permission.RUNS_OPERATE)
    async with services.database.tenant(caller.tenant_id) as connection:
        return _task(
            await claim_task(connection, task_id, caller.user_id, _groups(caller), any_task=operator)
        )


@router.post(
    "/tasks/{task_id}/release", response_model=Task, responses=errors(TaskNotFoundError, TaskClaimedError)
)
async def release(task_id: Identifier, caller: Runner, services: ServicesDep) -> Task:
    """Give a claimed task back."""
    operator = caller.may(Permission.RUNS_OPERATE)
    async with services.database.tenant(caller.tenant_id) as connection:
        return _task(await release_task(connection, task_id, caller.user_id, any_task=operator))


@router.post(
    "/tasks/{task_id}/complete",
    response_model=Done,
    responses=OPERATION_ERRORS | errors(TaskNotFoundError, TaskClaimedError, TaskNotWaitingError),
)
async def complete_task(
    task_id: Identifier, body: CompleteTaskRequest, caller: Runner, services: ServicesDep, once: OnceDep
) -> Response:
    """Complete a waiting task, or end it with a BPMN error; who has it, a candidate, or an operator may."""
    operator = caller.may(Permission.RUNS_OPERATE)
    async with services.database.tenant(caller.tenant_id) as connection:
        task = await find_task(connection, task_id)
        if task.status == TaskStatus.WAITING and not (operator and task.assignee != caller.user_id):
            # Completing is claiming: two candidates cannot both do it.
            await claim_task(connection, task_id, caller.user_id, _groups(caller), any_task=operator)
    wish = CompleteTask(
        requested_by=caller.user_id,
        reason=body.reason,
        task_id=task.task_id,
        key=task.element_key,
        variables=body.variables,
        error_code=body.error_code,
    )
    return await operate(task.instance_id, wish, caller, services, once, dry_run=False)


# --- jobs ---------------------------------------------------------------------------------------------


@router.post("/jobs/activate", response_model=JobList)
async def activate_jobs(body: ActivateJobsRequest, caller: Worker, services: ServicesDep) -> JobList:
    """Lock jobs of a type for a worker, waiting for the first of them as long as the worker wants."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + body.wait_seconds
    looks = 0
    while True:
        async with services.database.tenant(caller.tenant_id) as connection:
            rows = await lock_jobs(
                connection,
                body.type,
                body.worker,
                limit=body.max_jobs,
                lock=timedelta(seconds=body.lock_seconds),
            )
        pause = POLL_PAUSES[min(looks, len(POLL_PAUSES) - 1)]
        if rows or loop.time() + pause > deadline:
            return JobList(jobs=[_job(row) for row in rows])
        looks += 1
        await asyncio.sleep(pause)


JOB_ERRORS = errors(
    JobNotFoundError, JobNotLockedError, TaskNotWaitingError, ProcessEndedError, TemporalUnavailableError
)


@router.post("/jobs/{job_id}/complete", response_model=JobStatusAnswer, responses=JOB_ERRORS)
async def complete_job(
    job_id: Identifier, body: CompleteJobRequest, caller: Worker, services: ServicesDep, once: OnceDep
) -> Response:
    """Give a job's results to its process."""

    async def complete(_: str) -> JobStatusAnswer:
        return await _answer(services, caller, job_id, body.worker, variables=body.variables)

    return await once.answer("event", complete, status=200)


@router.post("/jobs/{job_id}/error", response_model=JobStatusAnswer, responses=JOB_ERRORS)
async def raise_job_error(
    job_id: Identifier, body: JobErrorRequest, caller: Worker, services: ServicesDep, once: OnceDep
) -> Response:
    """End a job with a BPMN error that the process may catch."""

    async def refuse(_: str) -> JobStatusAnswer:
        return await _answer(
            services,
            caller,
            job_id,
            body.worker,
            error_code=body.code,
            message=body.message,
            variables=body.variables,
        )

    return await once.answer("event", refuse, status=200)


@router.post("/jobs/{job_id}/fail", response_model=JobStatusAnswer, responses=JOB_ERRORS)
async def fail_job(
    job_id: Identifier, body: FailJobRequest, caller: Worker, services: ServicesDep, once: OnceDep
) -> Response:
    """Report a technical failure: another attempt while any is left, else an incident."""

    async def fail(_: str) -> JobStatusAnswer:
        async with services.database.tenant(caller.tenant_id) as connection:
            job = await held_job(connection, job_id, body.worker)
        retries = job.retries - 1 if body.retries is None else body.retries
        if retries <= 0:
            return await _answer(services, caller, job_id, body.worker, failure=body.message or "failed")
        async with services.database.tenant(caller.tenant_id) as connection:
            retried = NewEvent(
                type=EventType.TASK_RETRIED,
                key=f"job:{job.id}:{retries}",
                source="api",
                data={"element": job.task_id, "key": job.element_key, "retries": retries},
            )
            await append_events(connection, job.instance_id, [retried])
            given = await give_back(
                connection,
                job_id,
                body.worker,
                retries=retries,
                message=body.message,
                pause=timedelta(seconds=body.backoff_seconds),
            )
        return JobStatusAnswer(status=given.status, retries=given.retries)

    return await once.answer("event", fail, status=200)


@router.post("/jobs/{job_id}/extend", response_model=JobStatusAnswer, responses=JOB_ERRORS)
async def extend_job(
    job_id: Identifier, body: ExtendJobRequest, caller: Worker, services: ServicesDep
) -> JobStatusAnswer:
    """Hold a job longer."""
    async with services.database.tenant(caller.tenant_id) as connection:
        job = await extend_lock(connection, job_id, body.worker, timedelta(seconds=body.lock_seconds))
    return JobStatusAnswer(status=job.status, retries=job.retries, locked_until=job.locked_until)


async def _answer(
    services: ServicesDep, caller: Principal, job_id: str, worker: str, **how: Any
) -> JobStatusAnswer:
    """Tell the process how a job ended; it marks the job itself, with what followed."""
    async with services.database.tenant(caller.tenant_id) as connection:
        job = await held_job(connection, job_id, worker)
    await live_instance(services, caller.tenant_id, job.instance_id)
    await services.temporal.get_workflow_handle(process_workflow_id(job.instance_id)).execute_update(
        ProcessInstance.answer_job,
        TaskAnswer(key=job.element_key, attempt=job.attempt, by=worker, **how),
        id=f"{job.id}:{job.attempt}:{job.retries}",
        rpc_timeout=UPDATE_RPC_TIMEOUT,
    )
    return JobStatusAnswer(status="failed" if "failure" in how else "completed", retries=0)


# --- incidents ----------------------------------------------------------------------------------------


@router.get("/incidents", response_model=IncidentList)
async def get_incidents(
    caller: Reader,
    services: ServicesDep,
    instance_id: Annotated[Identifier | None, Query(alias="instanceId")] = None,
    status: IncidentStatus | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    offset: Annotated[int, Query(ge=0, le=100_000)] = 0,
) -> IncidentList:
    """List incidents, newest first."""
    async with services.database.tenant(caller.tenant_id) as connection:
        rows = await list_incidents(
            connection, instance_id=instance_id, status=status, limit=limit + 1, offset=offset
        )
    return IncidentList(incidents=[_incident(row) for row in rows[:limit]], has_more=len(rows) > limit)


@router.post(
    "/incidents/{incident_id}/resolve",
    response_model=Done,
    responses=OPERATION_ERRORS | errors(IncidentNotFoundError),
)
async def resolve_incident(
    incident_id: Identifier, body: ResolveRequest, caller: Operator, services: ServicesDep, once: OnceDep
) -> Response:
    """Retry or skip what is stuck, with other variables if need be; the other branches never stopped."""
    async with services.database.tenant(caller.tenant_id) as connection:
        incident = await find_incident(connection, incident_id)
    wish = ResolveProblem(
        requested_by=caller.user_id,
        reason=body.reason,
        key=incident.element_key,
        action=body.action,
        variables=body.variables,
        flow=body.flow,
    )
    return await operate(incident.instance_id, wish, caller, services, once, dry_run=body.dry_run)
