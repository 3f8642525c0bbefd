"""What may be asked of a run while it goes on (run-events-flowchart, "States")."""

from enum import StrEnum

from models.errors import ConflictError
from models.run import RunKind, RunStatus


class RunCommand(StrEnum):
    """A command to a run; also the name of the update that its workflow answers."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


COMMANDS: dict[RunKind, frozenset[RunCommand]] = {
    RunKind.AGENT_EXECUTION: frozenset({RunCommand.CANCEL}),
}
"""The commands that each kind's workflow has an update for; none for a kind that is not here."""


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
