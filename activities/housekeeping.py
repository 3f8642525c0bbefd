"""What is tidied up every night: old events, remembered answers, uploads that nobody uses."""

from datetime import timedelta

from temporalio import activity

from activities.publishing import upload_key
from activities.records.archives import due_months, prepare_months
from activities.records.idempotency import forget_keys
from activities.records.publishing import versions_being_scanned
from activities.services import Services
from activities.streams.archive import archive_month
from activities.temporal.heartbeat import heartbeating
from models.housekeeping import ArchiveSummary, MonthsDue, MonthToArchive
from models.table import utc_now

MONTHS_AHEAD = 2
UPLOAD_REST = timedelta(days=2)
"""An upload is scanned within minutes; one that is older and not being scanned was left behind."""

FORGOTTEN_AT_ONCE = 5_000


class HousekeepingActivities:
    """The activities of ``Housekeeping``."""

    def __init__(self, services: Services) -> None:
        """Work on ``services``."""
        self._services = services

    @activity.defn(name="prepare_event_months")
    async def prepare_event_months(self) -> MonthsDue:
        """Make the partitions that the next months need and tell which months are due to leave."""
        retention = self._services.settings.event_retention_months
        async with self._services.database.platform() as connection:
            await prepare_months(connection, ahead=MONTHS_AHEAD)
            return MonthsDue(months=await due_months(connection, retention_months=retention))

    @activity.defn(name="archive_event_month")
    async def archive_event_month(self, wanted: MonthToArchive) -> ArchiveSummary:
        """Move one month's events to S3; safe to repeat.

        Raises:
            UnavailableError: Database or S3 are away; retryable.
        """
        return await archive_month(
            self._services.database, self._services.objects, wanted.month, beat=activity.heartbeat
        )

    @activity.defn(name="forget_requests")
    async def forget_requests(self) -> int:
        """Remove answers remembered under an Idempotency-Key for longer than the settings say."""
        age = timedelta(days=self._services.settings.idempotency_retention_days)
        forgotten = 0
        async with heartbeating():
            while True:
                async with self._services.database.platform() as connection:
                    count = await forget_keys(connection, older_than=age, limit=FORGOTTEN_AT_ONCE)
                forgotten += count
                if count < FORGOTTEN_AT_ONCE:
                    return forgotten

    @activity.defn(name="sweep_uploads")
    async def sweep_uploads(self) -> int:
        """Remove submitted bytes whose submission never began or has ended.

        Raises:
            UnavailableError: Database or S3 are away; retryable.
        """
        objects = self._services.objects
        async with heartbeating():
            old = await objects.list(upload_key(""), before=utc_now() - UPLOAD_REST)
            async with self._services.database.platform() as connection:
                used = {upload_key(each) for each in await versions_being_scanned(connection)}
            left = [key for key in old if key not in used]
            for key in left:
                await objects.delete(key)
        return len(left)
