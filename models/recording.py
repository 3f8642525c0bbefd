"""What a workflow asks the store to remember of its run in one go."""

from pydantic import BaseModel, Field

from models.event import NewEvent
from models.run import RunStatus


class RunRecord(BaseModel):
    """Events of one run, in order, and the status they lead to."""

    run_id: str
    tenant_id: str
    events: list[NewEvent] = Field(default_factory=list[NewEvent])
    status: RunStatus | None = None
    """The run's new status, or None where it stays."""
