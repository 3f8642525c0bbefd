"""What can go wrong with the embedded stack, each with its remedy.

The tree::

    PlatformError
    ├── UnavailableError
    │   └── NotRunningError          no supervisor holds the data directory
    └── StackError
        ├── AlreadyRunningError      a supervisor holds the data directory
        ├── PortTakenError           somebody else listens there
        ├── PartFailedError          a part does not start, or keeps dying
        └── MissingRequirementError  the machine lacks something we may not or cannot install
"""

from pathlib import Path

from models.errors import PlatformError, UnavailableError


class StackError(PlatformError):
    """The embedded stack cannot do what was asked."""

    code = "STACK_ERROR"


class AlreadyRunningError(StackError):
    """A supervisor holds the data directory already."""

    code = "STACK_ALREADY_RUNNING"

    def __init__(self, root: Path, pid: int | None) -> None:
        process = f" (process {pid})" if pid else ""
        super().__init__(
            f"Switchyard is already running on {root}{process}. "
            "See `switchyard status`; stop it with `switchyard down`.",
            details={"data_dir": str(root), "pid": pid},
        )


class NotRunningError(UnavailableError):
    """No supervisor holds the data directory."""

    code = "STACK_NOT_RUNNING"

    def __init__(self, root: Path) -> None:
        super().__init__(
            f"Nothing is running on {root}. Start it with `switchyard up`.", details={"data_dir": str(root)}
        )


class PortTakenError(StackError):
    """Another process listens on a port that a part needs."""

    code = "PORT_TAKEN"

    def __init__(self, part: str, port: int, holder: str) -> None:
        super().__init__(
            f"Port {port}, needed by {part}, is taken by {holder}. "
            "Stop that process, or start with `switchyard up --ports auto`.",
            details={"part": part, "port": port, "holder": holder},
        )


class PartFailedError(StackError):
    """A part did not become healthy in time, or keeps exiting."""

    code = "PART_FAILED"

    def __init__(self, part: str, reason: str, log_file: Path, last_line: str = "") -> None:
        last = f" Its last words: {last_line}" if last_line else ""
        super().__init__(
            f"{part} {reason}. Its log is {log_file}.{last}",
            details={"part": part, "reason": reason, "log_file": str(log_file)},
        )


class MissingRequirementError(StackError):
    """The machine lacks something the embedded stack needs."""

    code = "MISSING_REQUIREMENT"

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what} {remedy}", details={"remedy": remedy})
