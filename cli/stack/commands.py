"""``switchyard up | status | logs | down``."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cli.exit import ExitStatus
from cli.stack.errors import AlreadyRunningError, NotRunningError, PartFailedError, StackError
from cli.stack.layout import DataDirectory
from cli.stack.logs import follow, tail
from cli.stack.memory import resident_bytes
from cli.stack.process import stop_recorded, wait_until
from cli.stack.state import PartState, StackState, is_running, read_state
from models.settings import load_settings

_START_SECONDS = 1_200
_STOP_SECONDS = 60

_MARKS = {
    "waiting": "[dim]·[/dim]",
    "starting": "[yellow]…[/yellow]",
    "healthy": "[green]✓[/green]",
    "done": "[green]✓[/green]",
    "elsewhere": "[blue]→[/blue]",
    "restarting": "[yellow]↻[/yellow]",
    "failed": "[red]✗[/red]",
    "stopped": "[dim]■[/dim]",
}

DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Data directory; default: SWITCHYARD_DATA_DIR or .switchyard."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def data_directory(option: Path | None) -> DataDirectory:
    """The data directory a command works on."""
    return DataDirectory.at(option or load_settings().data_dir)


def register(app: typer.Typer) -> None:
    """Add the stack's commands."""
    for command in (up, status, logs, down):
        app.command(rich_help_panel="Stack")(command)


def _console() -> Console:
    return Console(soft_wrap=True, highlight=False)


class _Progress:
    """Prints each part once, when it is healthy, and each later change of fortune."""

    def __init__(self) -> None:
        self._console = _console()
        self._shown: dict[str, str] = {}
        self._announced = False

    def __call__(self, state: StackState) -> None:
        for name, part in state.parts.items():
            line = self._line(part)
            if self._shown.get(name, "") != part.phase and line:
                self._shown[name] = part.phase
                self._console.print(line)
        if state.phase == "running" and not self._announced:
            self._announced = True
            api, ui = state.addresses["api"], state.addresses["temporal_ui"]
            if "api" in state.parts:
                self._console.print(f"\nConsole and API  [bold]{api}[/bold]")
            self._console.print(f"Temporal Web UI  {ui}")

    def _line(self, part: PartState) -> str:
        mark = f"{_MARKS[part.phase]} {part.title:<16}"
        if part.phase in ("healthy", "done"):
            again = f", start {part.restarts + 1}" if part.restarts else ""
            return f"{mark} [dim]{part.seconds_to_healthy:5.1f} s{again}[/dim]  {part.address}"
        if part.phase == "elsewhere":
            return f"{mark} [dim]used where the settings say[/dim]"
        if part.phase == "restarting":
            return f"{mark} ended; starting it again"
        if part.phase == "failed":
            return f"{mark} keeps failing; see `switchyard logs`"
        return ""


def up(
    data_dir: DataDirOption = None,
    ports: Annotated[str, typer.Option(help="fixed: the documented ports; auto: free ones.")] = "fixed",
    without: Annotated[
        list[str] | None, typer.Option(help="Leave a part out, e.g. docker; may be repeated.")
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return once everything is healthy.")
    ] = False,
) -> None:
    """Start everything Switchyard needs and keep it running; Ctrl-C stops it."""
    if ports not in ("fixed", "auto"):
        raise typer.BadParameter("choose fixed or auto", param_hint="--ports")
    directory = data_directory(data_dir)
    if is_running(directory):
        state = read_state(directory)
        raise AlreadyRunningError(
            directory.root, state.supervisor.pid if state and state.supervisor else None
        )
    from cli.stack.parts import parts_named, parts_without

    names = parts_without(without or [])
    directory = DataDirectory.create(directory.root)
    if detach:
        _start_detached(directory, names, ports)
        return
    from cli.stack.__main__ import supervise
    from cli.stack.supervisor import StackOptions

    options = StackOptions(directory, parts_named(names), "auto" if ports == "auto" else "fixed")
    asyncio.run(supervise(options, until_end_of_input=False, on_change=_Progress()))


def _start_detached(directory: DataDirectory, names: list[str], ports: str) -> None:
    log = directory.log_file("supervisor")
    with log.open("ab") as output:
        supervisor = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "cli.stack",
                str(directory.root),
                "--detached",
                f"--parts={','.join(names)}",
                f"--ports={ports}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=Path(__file__).resolve().parents[2],
            start_new_session=True,
        )
    progress = _Progress()

    def settled() -> bool:
        state = read_state(directory)
        ours = state is not None and state.supervisor is not None and state.supervisor.pid == supervisor.pid
        if ours and state is not None:
            progress(state)
        return supervisor.poll() is not None or (ours and state is not None and state.phase == "running")

    try:
        ready = wait_until(settled, _START_SECONDS, 0.05)
    except KeyboardInterrupt:
        supervisor.send_signal(signal.SIGTERM)
        supervisor.wait(_STOP_SECONDS)
        raise
    state = read_state(directory)
    if supervisor.poll() is not None:
        reason = state.error if state and state.error else f"The supervisor exited; its log is {log}."
        raise StackError(reason)
    if not ready:
        raise PartFailedError("The stack", f"was not ready within {_START_SECONDS} s", log)


def _table(state: StackState, memory: dict[str, int]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("", "Part", "State", "Address", "Process", "Memory", "Restarts"):
        table.add_column(heading, justify="right" if heading in ("Process", "Memory", "Restarts") else "left")
    if state.supervisor is not None:
        pid = str(state.supervisor.pid)
        table.add_row(" ", "supervisor", "", "", pid, f"{memory['supervisor'] / 1e6:.0f} MB", "")
    for name, part in state.parts.items():
        process = part.process or part.shared_process
        table.add_row(
            _MARKS[part.phase],
            name,
            part.phase,
            part.address,
            str(process.pid) if process else "",
            f"{memory[name] / 1e6:.0f} MB" if memory.get(name) else "",
            str(part.restarts) if part.restarts else "",
        )
    return table


def status(data_dir: DataDirOption = None, json: JsonOption = False) -> None:
    """Show what runs, where, and how it is.

    The exit status is 0 when every part is healthy, 1 when one is not, 6 when nothing runs.
    """
    directory = data_directory(data_dir)
    state = read_state(directory)
    running = is_running(directory)
    if state is None or not running:
        if json:
            _console().print_json(data={"phase": "stopped", "data_dir": str(directory.root), "parts": {}})
            raise typer.Exit(ExitStatus.UNAVAILABLE)
        raise NotRunningError(directory.root)
    memory: dict[str, int] = {}
    for name, part in state.parts.items():
        if (process := part.process or part.shared_process) is not None:
            memory[name] = resident_bytes(process)
    if state.supervisor is not None:
        memory["supervisor"] = resident_bytes(state.supervisor, with_children=False)
    if json:
        answer: dict[str, Any] = asdict(state) | {"data_dir": str(directory.root), "memory_bytes": memory}
        _console().print_json(data=answer)
    else:
        console = _console()
        console.print(_table(state, memory))
        console.print(
            f"\n{state.phase}, {sum(memory.values()) / 1e6:.0f} MB in all  [dim]{directory.root}[/dim]"
        )
    healthy = all(part.phase in ("healthy", "done", "elsewhere") for part in state.parts.values())
    if state.phase != "running" or not healthy:
        raise typer.Exit(ExitStatus.FAILURE)


def logs(
    part: Annotated[str | None, typer.Argument(help="One part; default: all.")] = None,
    data_dir: DataDirOption = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Last lines per part.")] = 50,
    follow_: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
) -> None:
    """Print the parts' logs."""
    directory = data_directory(data_dir)
    files = {file.stem: file for file in sorted(directory.logs.glob("*.log"))}
    if part is not None:
        if part not in files:
            known = ", ".join(files) or "none yet"
            raise StackError(f"There is no log of {part!r}. Logs: {known}.")
        files = {part: files[part]}
    tail(files, lines, sys.stdout)
    if follow_:
        follow(files, sys.stdout)


def down(data_dir: DataDirOption = None) -> None:
    """Stop the stack in order and wait until no process is left."""
    directory = data_directory(data_dir)
    state = read_state(directory)
    if not is_running(directory):
        left = state.processes() if state else []
        alive = [record for record in left if record.process() is not None]
        if not alive:
            raise NotRunningError(directory.root)
        stop_recorded(alive, 10)
        _console().print(f"Stopped {len(alive)} processes that a killed supervisor had left behind.")
        return
    supervisor = state.supervisor if state else None
    process = supervisor.process() if supervisor else None
    if state is None or supervisor is None or process is None:
        raise StackError(f"{directory.lock_file} is held by a process that did not say who it is.")
    began = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    if not wait_until(lambda: supervisor.process() is None, _STOP_SECONDS, 0.05):
        os.kill(process.pid, signal.SIGKILL)
        stop_recorded(state.processes(), 10)
    _console().print(f"Stopped in {time.monotonic() - began:.1f} s.")
