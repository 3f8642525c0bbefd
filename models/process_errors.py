"""Every way processes say no."""

from models.errors import ConflictError, InvalidRequestError, NotFoundError


class ProcessDefinitionNotFoundError(NotFoundError):
    """There is no such deployed process in the caller's tenant."""

    code = "PROCESS_DEFINITION_NOT_FOUND"

    def __init__(self, reference: str) -> None:
        super().__init__(
            f"There is no process definition {reference}; deploy it, or list the deployed ones with "
            "GET /api/orchestrator/definitions.",
            details={"definition": reference},
        )


class DesignNotFoundError(NotFoundError):
    """The design to deploy is not known."""

    code = "DESIGN_NOT_FOUND"

    def __init__(self, design_id: str, version: int | None) -> None:
        super().__init__(
            f"There is no version {version} of a design {design_id}; send bpmnXml with the deployment, or "
            "store the design first.",
            details={"design_id": design_id, "version": version},
        )


class DesignVersionTakenError(ConflictError):
    """A version of a design is deployed once; this one holds something else."""

    code = "DESIGN_VERSION_TAKEN"

    def __init__(self, design_id: str, version: int) -> None:
        super().__init__(
            f"Version {version} of design {design_id} exists with other content. Deploy a new version.",
            details={"design_id": design_id, "version": version},
        )


class DefinitionNotActiveError(ConflictError):
    """The definition was suspended or retired."""

    code = "PROCESS_DEFINITION_NOT_ACTIVE"

    def __init__(self, definition_id: str, status: str) -> None:
        super().__init__(
            f"Process definition {definition_id} is {status}; start an active version.",
            details={"definition_id": definition_id, "status": status},
        )


class ProcessInstanceNotFoundError(NotFoundError):
    """There is no such instance in the caller's tenant."""

    code = "PROCESS_INSTANCE_NOT_FOUND"

    def __init__(self, instance_id: str) -> None:
        super().__init__(
            f"There is no process instance {instance_id}; list yours with GET /api/orchestrator/instances.",
            details={"instance_id": instance_id},
        )


class ProcessEndedError(ConflictError):
    """The instance has ended and takes no more operations."""

    code = "PROCESS_ENDED"

    def __init__(self, instance_id: str, status: str) -> None:
        super().__init__(
            f"Process instance {instance_id} is {status}; it takes no more operations.",
            details={"instance_id": instance_id, "status": status},
        )


class TaskNotWaitingError(ConflictError):
    """Nothing waits under that name in the instance."""

    code = "TASK_NOT_WAITING"

    def __init__(self, instance_id: str, task: str) -> None:
        super().__init__(
            f"Nothing waits at {task} in process instance {instance_id}; its currentTasks say what does.",
            details={"instance_id": instance_id, "task_id": task},
        )


class TaskNotFoundError(NotFoundError):
    """There is no such task in the caller's tenant."""

    code = "TASK_NOT_FOUND"

    def __init__(self, task_id: str) -> None:
        super().__init__(f"There is no task {task_id}.", details={"task_id": task_id})


class TaskClaimedError(ConflictError):
    """Somebody else has the task, or the caller is not among its candidates."""

    code = "TASK_NOT_CLAIMABLE"

    def __init__(self, task_id: str, why: str) -> None:
        super().__init__(f"Task {task_id} cannot be yours: {why}.", details={"task_id": task_id})


class JobNotFoundError(NotFoundError):
    """There is no such job in the caller's tenant."""

    code = "JOB_NOT_FOUND"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"There is no job {job_id}.", details={"job_id": job_id})


class JobNotLockedError(ConflictError):
    """The worker does not hold the job: its lock ran out, or the job has ended."""

    code = "JOB_NOT_LOCKED"

    def __init__(self, job_id: str, status: str) -> None:
        super().__init__(
            f"Job {job_id} is {status} and not locked by this worker; its result is not taken. Activate jobs "
            "again, and extend the lock of long ones.",
            details={"job_id": job_id, "status": status},
        )


class IncidentNotFoundError(NotFoundError):
    """There is no such incident in the caller's tenant."""

    code = "INCIDENT_NOT_FOUND"

    def __init__(self, incident_id: str) -> None:
        super().__init__(f"There is no incident {incident_id}.", details={"incident_id": incident_id})


class StateVersionConflictError(ConflictError):
    """Somebody else changed the state since it was read (flowgrid-level3 §3.3)."""

    code = "STATE_VERSION_CONFLICT"

    def __init__(self, subject: str, expected: int, actual: int) -> None:
        super().__init__(
            f"State version conflict on {subject}: expected {expected}, got {actual}. Read it again.",
            details={"subject": subject, "expected": expected, "actual": actual},
        )


class MessageConflictError(ConflictError):
    """A message id was used for another message."""

    code = "MESSAGE_ID_REUSED"

    def __init__(self, message_id: str) -> None:
        super().__init__(
            f"The message id {message_id} belongs to a message with another name or key. Use a new id.",
            details={"message_id": message_id},
        )


class SeqNotReachedError(InvalidRequestError):
    """Time travel beyond the last event."""

    code = "EVENT_NOT_REACHED"

    def __init__(self, instance_id: str, seq: int, last: int) -> None:
        super().__init__(
            f"Process instance {instance_id} has {last} events, so there is no state as of event {seq}.",
            details={
                "instance_id": instance_id,
                "last_seq": last,
                "fields": [{"field": "query.seq", "rule": f"1 to {last}"}],
            },
        )
