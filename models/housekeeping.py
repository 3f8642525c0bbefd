"""What the nightly housekeeping does and reports."""

from datetime import date

from pydantic import BaseModel, Field

HOUSEKEEPING_SCHEDULE_ID = "housekeeping-nightly"


class MonthsDue(BaseModel):
    """Months of events that are old enough to leave the store, oldest first."""

    months: list[date]


class MonthToArchive(BaseModel):
    """One of them."""

    month: date


class ArchiveSummary(BaseModel):
    """What became of a month.

    Attributes:
        month: Its first day.
        runs: Runs whose events were archived.
        events: Events that were archived.
        objects: Objects written to S3.
        carried: Runs that go on, or ended lately, and moved to the present month.
        dropped: Whether the month has left the store.
        waits_for: Consumer groups (``tenant/name``) that have not handled all of it; then nothing was done.
    """

    month: date
    runs: int = 0
    events: int = 0
    objects: int = 0
    carried: int = 0
    dropped: bool = False
    waits_for: list[str] = Field(default_factory=list[str])


class HousekeepingSummary(BaseModel):
    """What one night did.

    Attributes:
        months: The months that were due.
        requests_forgotten: Remembered answers under an Idempotency-Key that were removed.
        uploads_removed: Submitted bytes in quarantine that no submission uses.
    """

    months: list[ArchiveSummary] = Field(default_factory=list[ArchiveSummary])
    requests_forgotten: int = 0
    uploads_removed: int = 0
