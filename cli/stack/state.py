"""What runs where: the state file that the supervisor writes and every other command reads."""

import fcntl
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from cli.stack.layout import DataDirectory
from cli.stack.process import ProcessRecord
from models.settings import Settings, load_settings

StackPhase = Literal["starting", "running", "stopping", "stopped", "failed"]
PartPhase = Literal["waiting", "starting", "healthy", "restarting", "failed", "done", "stopped", "elsewhere"]


@dataclass
class PartState:
    """One part as the supervisor sees it.

    Attributes:
        title: What it is, for people.
        phase: ``elsewhere`` when its address is in the settings, ``done`` for a finished step.
        address: Where it is reached; empty if nowhere.
        process: Its process, while it has one.
        shared_process: A process it uses together with other stacks; never ended as a leftover.
        restarts: How often it was started again after it died.
        seconds_to_healthy: From the start of the stack to the part's first health, once known.
    """

    title: str
    phase: PartPhase = "waiting"
    address: str = ""
    process: ProcessRecord | None = None
    shared_process: ProcessRecord | None = None
    restarts: int = 0
    seconds_to_healthy: float | None = None


@dataclass
class StackState:
    """The whole stack; written after every change.

    Attributes:
        phase: Where the stack is in its life.
        supervisor: The supervisor's process.
        parts: By name, in start order.
        ports: By name, kept for the next start with ``--ports auto``.
        addresses: Where people and commands find what they need; no secrets.
        error: Why it failed, if it did.
        error_code: Code of that error.
    """

    phase: StackPhase
    supervisor: ProcessRecord | None = None
    parts: dict[str, PartState] = field(default_factory=dict[str, PartState])
    ports: dict[str, int] = field(default_factory=dict[str, int])
    addresses: dict[str, str] = field(default_factory=dict[str, str])
    error: str = ""
    error_code: str = ""

    def processes(self) -> list[ProcessRecord]:
        """Every process of a part."""
        return [part.process for part in self.parts.values() if part.process is not None]

    def save(self, path: Path) -> None:
        """Write atomically."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(asdict(self), indent=2) + "\n")
        temporary.replace(path)


_adapter = TypeAdapter(StackState)


def read_state(directory: DataDirectory) -> StackState | None:
    """The last state written below ``directory``; None if there is none that can be read."""
    try:
        return _adapter.validate_json(directory.state_file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


class SupervisorLock:
    """The lock that makes one supervisor per data directory; the kernel frees it when the holder dies."""

    def __init__(self, directory: DataDirectory) -> None:
        self._path = directory.lock_file
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock; False if another process has it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def is_running(directory: DataDirectory) -> bool:
    """Whether a supervisor holds the data directory."""
    if not directory.lock_file.exists():
        return False
    lock = SupervisorLock(directory)
    if lock.acquire():
        lock.release()
        return False
    return True


def settings_of_stack(directory: DataDirectory) -> Settings:
    """The settings with which the stack's own processes run; the environment overrides them."""
    file = directory.environment_file
    return load_settings(file if file.exists() else None)
