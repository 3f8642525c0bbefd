"""Who does the work of a task: an activity, an agent, another process, an outside worker, a person."""

from enum import Enum
from typing import Any

from workflows.bpmn.commands import StartJob
from workflows.bpmn.state import Instance

AGENT = "agent:"
WORKER = "job:"
_ACTIVITY_PREFIXES = ("http:", "connector:")
_PREFIXES = (AGENT, WORKER, *_ACTIVITY_PREFIXES)
_PERSON_KINDS = frozenset({"user", "manual", "task", "receive"})


class Route(Enum):
    """Where a job goes."""

    ACTIVITY = "activity"
    AGENT = "agent"
    PROCESS = "process"
    WORKER = "worker"
    PERSON = "person"


def type_of(job: StartJob) -> str:
    """Return the job's type, or its ``implementation`` where that names one (flowgrid-level3 §1.3)."""
    if job.type:
        return job.type
    implementation = job.details.get("implementation")
    if isinstance(implementation, str) and implementation.startswith(_PREFIXES):
        return implementation
    return ""


def route(job: StartJob) -> Route:
    """Say who does a job."""
    name = type_of(job)
    if job.kind == "call":
        return Route.PROCESS
    if job.kind == "user":
        return Route.PERSON
    if name.startswith(AGENT):
        return Route.AGENT
    if name == "http" or name.startswith(_ACTIVITY_PREFIXES):
        return Route.ACTIVITY
    if name:
        return Route.WORKER
    if job.kind in _PERSON_KINDS:
        return Route.PERSON
    return Route.ACTIVITY


def waits_for_person(instance: Instance, job_kind: str, type_: str | None) -> bool:
    """Tell whether an element instance is a job that a signal from outside may complete."""
    return bool(instance.data and "job" in instance.data) and (
        job_kind == "user" or (job_kind in _PERSON_KINDS and not type_)
    )


def job_type(job: StartJob) -> str:
    """Return the type under which outside workers find a job."""
    return type_of(job).removeprefix(WORKER)


def agent_of(job: StartJob) -> str | None:
    """Return the slug of the agent that does a job."""
    name = type_of(job)
    return name.removeprefix(AGENT) if name.startswith(AGENT) else None


def names(value: Any) -> list[str] | None:
    """Read a list of names, or names with commas between."""
    if isinstance(value, str):
        found = [name.strip() for name in value.split(",") if name.strip()]
        return found or None
    if isinstance(value, list):
        return [str(name) for name in value] or None
    return None
