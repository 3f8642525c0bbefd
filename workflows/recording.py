"""How workflow code tells the run's story: buffered, then written as one local activity (DESIGN §3)."""

from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.recording import RecordingActivities
    from models.event import EventType, NewEvent
    from models.recording import RunRecord
    from models.run import RunStatus
    from models.search_attributes import RUN_STATUS
    from models.timeouts import RECORD_RETRY, RECORD_TIMEOUT


class RunRecorder:
    """Collects the events and the status change of one activation and flushes them together.

    Keys are made from the workflow's run and a counter, so they are the same when the workflow replays
    and differ after a reset or continue-as-new, which are new history.
    """

    def __init__(self, run_id: str, tenant_id: str) -> None:
        """Record for the run ``run_id`` of ``tenant_id``."""
        self._run_id = run_id
        self._tenant_id = tenant_id
        self._count = 0
        self._events: list[NewEvent] = []
        self._status: RunStatus | None = None

    def event(self, event_type: EventType, data: dict[str, Any] | None = None) -> None:
        """Add an event, stamped with the workflow's clock."""
        self._count += 1
        self._events.append(
            NewEvent(
                type=event_type,
                key=f"{workflow.info().run_id}/{self._count}",
                data=data or {},
                source=workflow.info().workflow_type,
                timestamp=workflow.now(),
            )
        )

    def status(self, status: RunStatus, event_type: EventType, data: dict[str, Any] | None = None) -> None:
        """Change the run's status, reported by an event of ``event_type``."""
        self.event(event_type, data)
        self._status = status

    async def flush(self) -> None:
        """Write what was collected; nothing when nothing was.

        Cancellation of the workflow cannot tear a decision from its record: callers that compensate
        shield this call.
        """
        if not self._events:
            return
        record = RunRecord(
            run_id=self._run_id, tenant_id=self._tenant_id, events=self._events, status=self._status
        )
        changed = self._status
        self._events, self._status = [], None
        await workflow.execute_local_activity_method(
            RecordingActivities.record_run,
            record,
            start_to_close_timeout=RECORD_TIMEOUT,
            retry_policy=RECORD_RETRY,
            summary=changed.value if changed else None,
        )
        if changed is not None:
            workflow.upsert_search_attributes([RUN_STATUS.value_set(changed.value)])
