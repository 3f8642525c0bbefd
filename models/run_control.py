"""What may be asked of a run while it goes on (run-events-flowchart, "States")."""

from enum import StrEnum

from pydantic import BaseModel, Field

from models.errors import ConflictError
from models.run import RunKind, RunStatus


class RunCommand(StrEnum):
    """A command to a run; also the name of the update that its workflow answers."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


COMMANDS: dict[RunKind, frozenset[RunCommand]] = {
    RunKind.FLOW: frozenset({RunCommand.PAUSE, RunCommand.RESUME, RunCommand.CANCEL}),
    RunKind.AGENT_EXECUTION: frozenset(RunCommand),
}
"""The commands that each kind's workflow has an update for; none for a kind that is not here."""


class RunOrder(BaseModel):
    """Who commands a run, and why: the argument of each command's update."""

    requested_by: str
    reason: str = Field(default="", max_length=500)


class RunOrderRecord(BaseModel):
    """A pause or resumption to be written down.

    Attributes:
        run_id: The run.
        order: Who wants it, and why.
        holdable: Statuses in which this run can be held.
    """

    run_id: str
    order: RunOrder
    holdable: list[RunStatus] = Field(default_factory=list[RunStatus])


class RunCommandRefusedError(ConflictError):
    """A run of this kind cannot be told to do this, or the run has ended."""

    code = "RUN_COMMAND_REFUSED"

    def __init__(self, run_id: str, kind: RunKind, status: RunStatus, command: RunCommand) -> None:
        allowed = sorted(COMMANDS.get(kind, frozenset()))
        why = (
            f"A run of kind {kind} knows no {command}; it knows: {', '.join(allowed) or 'no command'}."
            if command not in allowed
            else f"The run is {status}."
        )
        super().__init__(
            f"Run {run_id} cannot {command}. {why}",
            details={"run_id": run_id, "kind": kind, "status": status, "command": command},
        )


class RunNotPausableError(ConflictError):
    """The run is at a point where holding it would do harm or have no effect."""

    code = "RUN_NOT_PAUSABLE"

    def __init__(self, run_id: str, status: str) -> None:
        super().__init__(
            f"Run {run_id} is {status} and cannot be held there. An execution is held before its container "
            "starts; once its agent runs, cancel it or let it finish.",
            details={"run_id": run_id, "status": status},
        )


class RunNotPausedError(ConflictError):
    """The run is not paused, so it cannot be resumed."""

    code = "RUN_NOT_PAUSED"

    def __init__(self, run_id: str, status: str) -> None:
        super().__init__(
            f"Run {run_id} is {status}, not paused; there is nothing to resume.",
            details={"run_id": run_id, "status": status},
        )
