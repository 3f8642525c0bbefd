"""The same service tasks as a hand-written workflow: what the interpreter is measured against."""

from datetime import timedelta

from pydantic import BaseModel
from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.process import ProcessActivities
    from models.event import EventType
    from models.process import InstanceStatus, TaskStatus
    from models.process_run import Batch, FlowEvent, ServiceTask, StartProcess, StatusChange, TaskChange
    from models.timeouts import RECORD_RETRY, RECORD_TIMEOUT, SERVICE_HEARTBEAT, SERVICE_TIMEOUT


class ByHandRequest(BaseModel):
    """What the hand-written workflow starts with.

    Attributes:
        start: The instance that it writes its record under.
        tasks: How many service tasks it does, one after the other.
        recorded: Whether it records what it does, as the interpreter has to.
    """

    start: StartProcess
    tasks: int
    recorded: bool


@workflow.defn(name="ByHand")
class ByHand:
    """Twenty service tasks in sequence, written out."""

    @workflow.init
    def __init__(self, request: ByHandRequest) -> None:
        """Count changes from one."""
        self._request = request
        self._n = 0
        self._batch = self._empty()

    @workflow.run
    async def run(self, request: ByHandRequest) -> None:
        """Do one task after the other."""
        if request.recorded:
            await workflow.execute_local_activity_method(
                ProcessActivities.open_instance,
                request.start,
                start_to_close_timeout=RECORD_TIMEOUT,
                retry_policy=RECORD_RETRY,
            )
        for key in range(1, request.tasks + 1):
            if request.recorded:
                self._note(EventType.TASK_STARTED, key, TaskStatus.RUNNING)
            await workflow.execute_activity_method(
                ProcessActivities.work_on_task,
                ServiceTask(
                    instance_id=request.start.instance_id,
                    tenant_id=request.start.tenant_id,
                    key=key,
                    attempt=1,
                    task_id=f"t{key}",
                    type="connector:nothing",
                    kind="service",
                    batch=self._batch if request.recorded else None,
                ),
                start_to_close_timeout=SERVICE_TIMEOUT,
                heartbeat_timeout=SERVICE_HEARTBEAT,
                retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=3),
                summary=f"t{key}",
            )
            self._batch = self._empty()
            if request.recorded:
                self._note(EventType.TASK_COMPLETED, key, TaskStatus.COMPLETED)
        if request.recorded:
            self._n += 1
            self._batch.statuses.append(StatusChange(n=self._n, status=InstanceStatus.COMPLETED))
            self._batch.last = self._n
            await workflow.execute_local_activity_method(
                ProcessActivities.record_changes,
                self._batch,
                start_to_close_timeout=RECORD_TIMEOUT,
                retry_policy=RECORD_RETRY,
            )

    def _empty(self) -> Batch:
        start = self._request.start
        return Batch(instance_id=start.instance_id, tenant_id=start.tenant_id, last=self._n)

    def _note(self, kind: EventType, key: int, status: TaskStatus) -> None:
        self._n += 2
        now = workflow.now()
        self._batch.events.append(FlowEvent(n=self._n - 1, type=kind, at=now, data={"key": key}))
        self._batch.tasks.append(
            TaskChange(n=self._n, key=key, task_id=f"t{key}", task_type="service_task", status=status, at=now)
        )
        self._batch.last = self._n
