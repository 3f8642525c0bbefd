"""The activity behind every workflow's ``RunRecorder``."""

from temporalio import activity

from activities.records.database import Database
from activities.records.runs import append_events
from models.recording import RunRecord


class RecordingActivities:
    """Writes runs' events; a local activity of a few milliseconds."""

    def __init__(self, database: Database) -> None:
        """Write to ``database``."""
        self._database = database

    @activity.defn(name="record_run")
    async def record_run(self, record: RunRecord) -> None:
        """Append the record's events and change the run's status in one transaction; safe to repeat.

        Raises:
            RunNotFoundError: There is no such run in the tenant.
            RunTransitionError: The run's state machine has no such arrow.
        """
        async with self._database.tenant(record.tenant_id) as connection:
            await append_events(connection, record.run_id, record.events, status=record.status)
