"""Starts the parts in dependency order, restarts what dies, stops everything in reverse order."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from cli.stack.errors import AlreadyRunningError, PartFailedError, StackError
from cli.stack.layout import DataDirectory
from cli.stack.part import Command, Context, Part
from cli.stack.ports import free_ports, is_free, require_free
from cli.stack.process import ProcessRecord, last_line, rotate, spawn, stop_recorded
from cli.stack.secrets import SecretStore, write_private
from cli.stack.state import PartPhase, PartState, StackState, SupervisorLock, read_state
from models.errors import PlatformError
from models.settings import Settings, environment_variable, load_settings

# An exit this soon after the start counts towards a crash loop.
_QUICK_EXIT_SECONDS = 10.0
_ATTEMPTS_AT_START = 4
_ATTEMPTS_IN_A_ROW = 6
_FIRST_DELAY_SECONDS = 0.2
_LONGEST_DELAY_SECONDS = 5.0
_DELAY_AFTER_CRASH_LOOP_SECONDS = 30.0
_HEALTH_INTERVAL_SECONDS = 0.05
_ADOPTED_CHECK_SECONDS = 1.0
_LOG_LIMIT_BYTES = 16 * 1024 * 1024
_LOG_GENERATIONS = 3
_LOG_CHECK_SECONDS = 5.0
_PROJECT = Path(__file__).resolve().parents[2]

PortMode = Literal["fixed", "auto"]


@dataclass(frozen=True)
class StackOptions:
    """How a stack is to be started.

    Attributes:
        directory: Its data directory.
        parts: The parts that are wanted, in any order.
        ports: ``fixed`` takes the declared ports and fails if one is taken; ``auto`` takes those of the
            last start or any free ones.
        durable: Whether commits wait for the disk; off for throw-away test stacks only.
        temporal_options: Further dynamic configuration of the Temporal server, as JSON values by key.
    """

    directory: DataDirectory
    parts: Sequence[Part]
    ports: PortMode = "fixed"
    durable: bool = True
    temporal_options: dict[str, str] = field(default_factory=dict[str, str])


def in_start_order(parts: Iterable[Part]) -> list[Part]:
    """The parts, each after those it depends on; dependencies that are not wanted are ignored."""
    remaining = {part.name: part for part in parts}
    ordered: list[Part] = []
    while remaining:
        ready = [
            part for part in remaining.values() if not any(name in remaining for name in part.depends_on)
        ]
        if not ready:
            raise StackError(f"The parts {', '.join(remaining)} depend on each other in a circle.")
        ordered += ready
        for part in ready:
            del remaining[part.name]
    return ordered


async def _exited(child: subprocess.Popen[bytes]) -> int:
    """Wait for the child; returns its status."""
    if sys.platform != "linux":
        return await asyncio.to_thread(child.wait)
    # A process descriptor becomes readable when its process ends: no thread, no polling.
    descriptor = os.pidfd_open(child.pid)
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return child.wait()


class Supervisor:
    """One running stack.

    Args:
        options: What to start and how.
        on_change: Called with the state after every change.
    """

    def __init__(self, options: StackOptions, on_change: Callable[[StackState], None] | None = None) -> None:
        self._options = options
        self._directory = options.directory
        self._on_change = on_change
        self._lock = SupervisorLock(options.directory)
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._ready: dict[str, asyncio.Event] = {}
        self._began = time.monotonic()
        self.state = StackState(phase="starting")

    def request_stop(self) -> None:
        """Begin an orderly stop; a second request kills what has not ended yet."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def run(self) -> None:
        """Start the stack, keep it running until `request_stop`, stop it.

        Raises:
            AlreadyRunningError: If another supervisor holds the data directory.
            StackError: If the stack cannot be started; everything that was started has been stopped.
        """
        previous = read_state(self._directory)
        if not self._lock.acquire():
            pid = previous.supervisor.pid if previous and previous.supervisor else None
            raise AlreadyRunningError(self._directory.root, pid)
        try:
            await self._run_locked(previous)
        except PlatformError as error:
            self.state.phase = "failed"
            self.state.error, self.state.error_code = error.message, error.code
            raise
        else:
            self.state.phase = "stopped"
        finally:
            if self.state.phase not in ("failed", "stopped"):
                self.state.phase = "failed"
            self.state.supervisor = None
            self._save()
            self._lock.release()

    async def _run_locked(self, previous: StackState | None) -> None:
        if previous is not None:
            await asyncio.to_thread(stop_recorded, previous.processes(), 10)
        self.state.supervisor = ProcessRecord.of(os.getpid())
        given = load_settings()
        ordered = in_start_order(self._options.parts)
        parts = [part for part in ordered if not part.runs_elsewhere(given)]
        for part in ordered:
            phase: PartPhase = "waiting" if part in parts else "elsewhere"
            self.state.parts[part.name] = PartState(title=part.title, phase=phase)
        self._save()
        for part in parts:
            await asyncio.to_thread(part.provision)
        context = self._plan(given, parts, previous)
        self._save()
        runners = [asyncio.create_task(self._run_part(part, context), name=part.name) for part in parts]
        rotation = asyncio.create_task(self._rotate_logs())
        stopping = asyncio.create_task(self._stop.wait())
        everything_ready = asyncio.create_task(self._await_ready())
        try:
            await self._watch(runners, everything_ready, stopping)
        finally:
            self.state.phase = "stopping"
            self._save()
            self._stop.set()
            tasks: list[asyncio.Task[Any]] = [*runners, rotation, stopping, everything_ready]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._stop_all(parts, context)

    async def _watch(
        self,
        runners: list[asyncio.Task[None]],
        everything_ready: asyncio.Task[None],
        stopping: asyncio.Task[bool],
    ) -> None:
        """Until a stop is requested or a runner fails, whose error is raised."""
        watched: set[asyncio.Task[None] | asyncio.Task[bool]] = {*runners, everything_ready, stopping}
        while stopping in watched:
            done, watched = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if everything_ready in done:
                self.state.phase = "running"
                self._save()

    def _plan(self, given: Settings, local: list[Part], previous: StackState | None) -> Context:
        """Choose ports and complete the settings for the parts that run here."""
        self.state.ports = self._choose_ports(local, given, previous)
        secrets = SecretStore(self._directory.secrets)
        context = Context(
            directory=self._directory,
            secrets=secrets,
            ports=self.state.ports,
            durable=self._options.durable,
            temporal_options=self._options.temporal_options,
            settings=given,
        )
        environment = {
            "SWITCHYARD_DATA_DIR": str(self._directory.root),
            "ENCRYPTION_KEYS": secrets.encryption_keys(),
            "SIGNING_KEY_DIR": str(secrets.signing_key_dir()),
        }
        if not given.given("jwt_jwks_url"):
            environment["JWT_SIGNING_KEY_FILE"] = str(secrets.issuer_key_file())
            # What a stack for one machine allows, and a server must not by accident.
            for name in ("local_login", "wallet_top_ups"):
                if not given.given(name):
                    environment[environment_variable(name)] = "true"
        for part in local:
            environment |= part.contributes(context)
        lines = [f"{name}='{value}'\n" for name, value in environment.items()]
        write_private(self._directory.environment_file, "".join(lines))
        context = replace(context, settings=load_settings(self._directory.environment_file))
        for part in local:
            self.state.parts[part.name].address = part.address(context)
        self.state.addresses = {
            "api": context.settings.public_url,
            "temporal": context.settings.temporal_address,
            "temporal_ui": context.settings.temporal_ui_url,
            "s3": context.settings.s3_endpoint_url,
        }
        self._ready = {part.name: asyncio.Event() for part in local}
        return context

    def _choose_ports(
        self, parts: list[Part], given: Settings, previous: StackState | None
    ) -> dict[str, int]:
        titles: dict[str, str] = {}
        fixed: dict[str, int] = {}
        for part in parts:
            for name, default in part.ports.items():
                setting = part.port_settings.get(name)
                named = setting is not None and given.given(setting)
                fixed[name] = int(getattr(given, setting)) if setting and named else default
                titles[name] = part.title
        if self._options.ports == "fixed":
            require_free((titles[name], port) for name, port in fixed.items())
            return fixed
        known = previous.ports if previous else {}
        kept = {name: known[name] for name in fixed if name in known and is_free(known[name])}
        missing = [name for name in fixed if name not in kept]
        return kept | dict(zip(missing, free_ports(len(missing), avoid=kept.values()), strict=True))

    async def _await_ready(self) -> None:
        for event in self._ready.values():
            await event.wait()

    def _save(self) -> None:
        self.state.save(self._directory.state_file)
        if self._on_change:
            self._on_change(self.state)

    def _set_phase(self, part: Part, phase: PartPhase) -> None:
        self.state.parts[part.name].phase = phase
        self._save()

    def _mark_ready(self, part: Part, phase: PartPhase) -> None:
        state = self.state.parts[part.name]
        if state.seconds_to_healthy is None:
            state.seconds_to_healthy = round(time.monotonic() - self._began, 2)
        self._set_phase(part, phase)
        self._ready[part.name].set()

    async def _run_part(self, part: Part, context: Context) -> None:
        """Start one part once its dependencies are healthy, and again whenever it dies."""
        for name in part.depends_on:
            if name in self._ready:
                await self._ready[name].wait()
        self._set_phase(part, "starting")
        await part.prepare(context)
        if part.job:
            await self._run_job(part, context)
            return
        attempts = 0
        while True:
            started = time.monotonic()
            reason = await self._live_once(part, context)
            attempts = 1 if time.monotonic() - started > _QUICK_EXIT_SECONDS else attempts + 1
            if not self._ready[part.name].is_set() and attempts >= _ATTEMPTS_AT_START:
                raise self._failure(part, reason)
            self.state.parts[part.name].restarts += 1
            if attempts >= _ATTEMPTS_IN_A_ROW:
                self._set_phase(part, "failed")
                await asyncio.sleep(_DELAY_AFTER_CRASH_LOOP_SECONDS)
            else:
                self._set_phase(part, "restarting")
                delay = _FIRST_DELAY_SECONDS * 2 ** (attempts - 1)
                await asyncio.sleep(min(delay, _LONGEST_DELAY_SECONDS))

    def _failure(self, part: Part, reason: str) -> PartFailedError:
        log = self._directory.log_file(part.name)
        return PartFailedError(part.title, reason, log, last_line(log))

    async def _run_job(self, part: Part, context: Context) -> None:
        command = await asyncio.to_thread(part.command, context)
        if command is not None:
            child = self._spawn(part, context, command)
            try:
                status = await asyncio.wait_for(_exited(child), part.start_deadline_seconds)
            except TimeoutError:
                raise self._failure(part, f"took more than {part.start_deadline_seconds:.0f} s") from None
            self._forget(part)
            if status != 0:
                raise self._failure(part, f"failed with status {status}")
        self._mark_ready(part, "done")

    def _spawn(self, part: Part, context: Context, command: Command) -> subprocess.Popen[bytes]:
        child = spawn(
            command.argv,
            environment=command.environment,
            log_file=context.log_file(part.name),
            working_directory=_PROJECT,
            death_signal=command.death_signal,
        )
        self._children[part.name] = child
        self.state.parts[part.name].process = ProcessRecord.of(child.pid)
        self._save()
        return child

    def _forget(self, part: Part) -> None:
        """The part's process has ended; what it left behind ends too."""
        self._end_family(self._children.pop(part.name))
        self.state.parts[part.name].process = None

    async def _live_once(self, part: Part, context: Context) -> str:
        """Start the part, or use a server that is there already, until it ends; returns how it ended."""
        try:
            command = await asyncio.to_thread(part.command, context)
        except PlatformError as error:
            if not self._ready[part.name].is_set():
                raise
            return error.message
        if command is None:
            return await self._watch_adopted(part, context)
        return await self._run_once(part, context, command)

    async def _run_once(self, part: Part, context: Context, command: Command) -> str:
        """One life of the part's process; returns how it ended."""
        child = self._spawn(part, context, command)
        exited = asyncio.create_task(_exited(child))
        health = asyncio.create_task(self._become_healthy(part, context, child.pid))
        try:
            await asyncio.wait({exited, health}, return_when=asyncio.FIRST_COMPLETED)
            if not exited.done() and not health.result():
                self._signal(child, signal.SIGKILL)
                await exited
                self._forget(part)
                return f"was not healthy within {part.start_deadline_seconds:.0f} s"
            status = await exited
        finally:
            for task in (exited, health):
                task.cancel()
            await asyncio.gather(exited, health, return_exceptions=True)
        self._forget(part)
        return f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"

    async def _become_healthy(self, part: Part, context: Context, pid: int) -> bool:
        end = time.monotonic() + part.start_deadline_seconds
        while not await part.healthy(context, pid):
            if time.monotonic() > end:
                return False
            await asyncio.sleep(_HEALTH_INTERVAL_SECONDS)
        if not self._ready[part.name].is_set():
            await part.complete(context)
        self._mark_ready(part, "healthy")
        return True

    async def _watch_adopted(self, part: Part, context: Context) -> str:
        """Until a server that somebody else started stops answering."""
        state = self.state.parts[part.name]
        while await part.healthy(context, 0):
            if state.shared_process is None:
                state.shared_process = part.shared_process(context)
            if not self._ready[part.name].is_set():
                await part.complete(context)
                self._mark_ready(part, "healthy")
            elif state.phase != "healthy":
                self._set_phase(part, "healthy")
            await asyncio.sleep(_ADOPTED_CHECK_SECONDS)
        state.shared_process = None
        return "stopped answering"

    async def _stop_all(self, parts: list[Part], context: Context) -> None:
        """Stop in reverse start order; parts on which nothing else depends any more stop together."""
        remaining = list(parts)
        while remaining:
            last = [part for part in remaining if not any(part.name in p.depends_on for p in remaining)]
            await asyncio.gather(*(self._stop_part(part, context) for part in last))
            remaining = [part for part in remaining if part not in last]

    async def _stop_part(self, part: Part, context: Context) -> None:
        child = self._children.pop(part.name, None)
        if child is not None:
            if child.poll() is None:
                self._signal(child, part.stop_signal)
                hurry = asyncio.create_task(self._hurry.wait())
                exited = asyncio.create_task(_exited(child))
                await asyncio.wait(
                    {exited, hurry},
                    timeout=part.stop_deadline_seconds,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                hurry.cancel()
                if not exited.done():
                    self._signal(child, signal.SIGKILL)
                await exited
            self._end_family(child)
        await asyncio.to_thread(part.release, context)
        state = self.state.parts[part.name]
        state.process = state.shared_process = None
        if state.phase != "failed":
            state.phase = "stopped"
        self._save()

    @staticmethod
    def _signal(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)

    @staticmethod
    def _end_family(child: subprocess.Popen[bytes]) -> None:
        """Kill what the dead child left in its process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)

    async def _rotate_logs(self) -> None:
        while True:
            for log in self._directory.logs.glob("*.log"):
                with contextlib.suppress(OSError):
                    await asyncio.to_thread(rotate, log, _LOG_LIMIT_BYTES, _LOG_GENERATIONS)
            await asyncio.sleep(_LOG_CHECK_SECONDS)
