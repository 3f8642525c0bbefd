"""What a part of the stack is: a declaration that the supervisor acts on."""

import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cli.stack.layout import DataDirectory
from cli.stack.process import ProcessRecord
from cli.stack.secrets import SecretStore
from models.settings import Settings


@dataclass(frozen=True)
class Context:
    """What a part may use to make its command.

    Attributes:
        directory: The data directory.
        secrets: Generated passwords and keys.
        ports: Port numbers by name, for every port a selected part declares.
        durable: Whether servers wait for the disk; off for throw-away test stacks only.
        temporal_options: Further dynamic configuration of the Temporal server.
        settings: What the processes of Switchyard will see; complete once all parts have contributed.
    """

    directory: DataDirectory
    secrets: SecretStore
    ports: Mapping[str, int]
    durable: bool
    temporal_options: Mapping[str, str]
    settings: Settings

    def log_file(self, part: str) -> Path:
        """Log of one part."""
        return self.directory.log_file(part)

    def child_environment(self) -> dict[str, str]:
        """The environment of Switchyard's own processes: ours, overlaid with the settings."""
        return {**os.environ, **self.settings.as_environment()}


@dataclass(frozen=True)
class Command:
    """How a part's process is started.

    Attributes:
        argv: Program and arguments; secrets never appear here, for anyone can list them.
        environment: The complete environment.
        death_signal: What the kernel sends it should the supervisor die (Linux).
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    death_signal: signal.Signals = signal.SIGTERM


def _provide_nothing() -> None:
    pass


def _release_nothing(context: Context) -> None:
    del context


async def _nothing(context: Context) -> None:
    del context


async def _always_healthy(context: Context, pid: int) -> bool:
    del context, pid
    return True


def _no_process(context: Context) -> None:
    del context


def _no_contribution(context: Context) -> dict[str, str]:
    del context
    return {}


@dataclass(frozen=True)
class Part:
    """One server, process or one-off step of the stack.

    Attributes:
        name: Name in commands, logs and state.
        title: What it is, for people.
        depends_on: Parts that must be healthy before this one starts.
        ports: Default port per port name.
        port_settings: Field of `Settings` that overrides a default port, per port name.
        settings_given: Fields of `Settings`; where the first one is set explicitly, the part runs elsewhere
            and nothing is started for it.
        provision: Obtains what the machine lacks, before anything is planned; blocking.
        contributes: Environment variables that tell Switchyard's processes how to reach this part.
        prepare: Runs before every start of the stack; must be repeatable.
        command: Makes the process, or answers None where a server that somebody else started is to be used;
            blocking.
        job: Whether the process does one thing and ends, successfully with status 0.
        healthy: Whether the process with this id does its work.
        complete: Runs once after the part became healthy (roles, buckets); must be repeatable.
        start_deadline_seconds: Time to become healthy.
        stop_signal: Asks the process to end.
        stop_deadline_seconds: After this it is killed.
        shared_process: The process behind a part that started none of its own, if we may know it.
        release: Runs when the stack has stopped the part; blocking. For servers shared with other stacks.
        address: What to show people, made from the context.
    """

    name: str
    title: str
    depends_on: tuple[str, ...] = ()
    ports: Mapping[str, int] = field(default_factory=dict[str, int])
    port_settings: Mapping[str, str] = field(default_factory=dict[str, str])
    settings_given: tuple[str, ...] = ()
    provision: Callable[[], None] = _provide_nothing
    contributes: Callable[[Context], dict[str, str]] = _no_contribution
    prepare: Callable[[Context], Awaitable[None]] = _nothing
    command: Callable[[Context], Command | None] = _no_process
    job: bool = False
    healthy: Callable[[Context, int], Awaitable[bool]] = _always_healthy
    complete: Callable[[Context], Awaitable[None]] = _nothing
    start_deadline_seconds: float = 30
    stop_signal: signal.Signals = signal.SIGTERM
    stop_deadline_seconds: float = 10
    shared_process: Callable[[Context], ProcessRecord | None] = _no_process
    release: Callable[[Context], None] = _release_nothing
    address: Callable[[Context], str] = lambda _: ""

    def runs_elsewhere(self, settings: Settings) -> bool:
        """Whether the settings name this part's address."""
        return bool(self.settings_given) and settings.given(self.settings_given[0])
