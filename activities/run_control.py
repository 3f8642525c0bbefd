"""Holding a run and letting it go on, as its row and its events tell it."""

from temporalio import activity

from activities.records.database import Database
from activities.records.runs import append_events, lock_run
from models.event import EventType, NewEvent
from models.run import RunStatus
from models.run_control import RunNotPausableError, RunNotPausedError, RunOrderRecord


class RunControlActivities:
    """The activities behind the updates ``pause`` and ``resume`` of every kind of run."""

    def __init__(self, database: Database) -> None:
        """Work in ``database`` as the platform."""
        self._database = database

    @activity.defn(name="pause_run")
    async def pause_run(self, record: RunOrderRecord) -> None:
        """Mark a run as paused; safe to repeat.

        The run's row lock decides: a step that takes the run on locks the same row first.

        Raises:
            RunNotPausableError: The run has gone past where it can be held.
        """
        async with self._database.platform() as connection:
            run = await lock_run(connection, record.run_id)
            if run.status is RunStatus.PAUSED:
                return
            if run.status not in record.holdable:
                raise RunNotPausableError(record.run_id, run.status)
            event = NewEvent(
                type=EventType.RUN_PAUSED,
                key=f"paused:{run.last_seq + 1}",
                data={**record.order.model_dump(), "paused_from": run.status},
            )
            await append_events(connection, run.id, [event], status=RunStatus.PAUSED)

    @activity.defn(name="resume_run")
    async def resume_run(self, record: RunOrderRecord) -> RunStatus:
        """Put a paused run back to the status it was paused from, and return that; safe to repeat.

        Raises:
            RunNotPausedError: It has ended.
        """
        async with self._database.platform() as connection:
            run = await lock_run(connection, record.run_id)
            if run.status is not RunStatus.PAUSED:
                if run.status in record.holdable:
                    return run.status
                raise RunNotPausedError(record.run_id, run.status)
            back = RunStatus(run.paused_from or RunStatus.PENDING)
            event = NewEvent(
                type=EventType.RUN_RESUMED,
                key=f"resumed:{run.last_seq + 1}",
                data={**record.order.model_dump(), "status": back},
            )
            await append_events(connection, run.id, [event], status=back)
            return back
