"""The embedded stack from Python: a context manager that yields the settings to reach it.

The supervisor is a process of its own, as under ``switchyard up --detach``, and stops when the process
that started it is gone: it waits for the end of its standard input.
"""

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from cli.stack.errors import PartFailedError, StackError
from cli.stack.layout import DataDirectory
from cli.stack.process import wait_until
from cli.stack.state import StackState, read_state, settings_of_stack
from cli.stack.supervisor import PortMode
from models.settings import Settings

_START_SECONDS = 600
_STOP_SECONDS = 60


class EmbeddedStack:
    """The stack, or some of its parts, for as long as a ``with`` block lasts.

    Args:
        data_dir: Where data is kept and found again; None for a temporary directory.
        parts: Names of the wanted parts (`cli.stack.parts`); dependencies are not added.
        ports: ``auto`` takes free ports, ``fixed`` the documented ones.
        durable: Whether commits wait for the disk.
        temporal_options: Further dynamic configuration of the Temporal server, as JSON values by key.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        parts: Sequence[str] | None = None,
        ports: PortMode = "auto",
        durable: bool = True,
        temporal_options: Mapping[str, str] | None = None,
    ) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="switchyard-") if data_dir is None else None
        self.directory = DataDirectory.create(
            data_dir or Path(self._temporary.name if self._temporary else ".")
        )
        self._arguments = ["--ports", ports]
        if parts is not None:
            self._arguments += ["--parts", ",".join(parts)]
        if not durable:
            self._arguments.append("--not-durable")
        for key, value in (temporal_options or {}).items():
            self._arguments += ["--temporal-option", f"{key}={value}"]
        self._supervisor: subprocess.Popen[bytes] | None = None

    @property
    def supervisor_pid(self) -> int:
        """Process id of the supervisor while the stack runs."""
        if self._supervisor is None:
            raise StackError("The stack has not been started.")
        return self._supervisor.pid

    @property
    def state(self) -> StackState:
        """The stack's state as last written."""
        state = read_state(self.directory)
        if state is None:
            raise StackError(f"There is no stack state in {self.directory.root}.")
        return state

    def start(self) -> Settings:
        """Start and wait until every part is healthy.

        Raises:
            StackError: With the reason the supervisor gave.
        """
        log = self.directory.log_file("supervisor")
        with log.open("ab") as output:
            supervisor = subprocess.Popen(
                [sys.executable, "-m", "cli.stack", str(self.directory.root), *self._arguments],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=Path(__file__).resolve().parents[2],
                start_new_session=True,
            )
        self._supervisor = supervisor

        def settled() -> bool:
            if supervisor.poll() is not None:
                return True
            state = read_state(self.directory)
            return bool(
                state
                and state.supervisor
                and state.supervisor.pid == supervisor.pid
                and state.phase == "running"
            )

        if not wait_until(settled, _START_SECONDS):
            self.stop()
            raise PartFailedError("The stack", f"was not ready within {_START_SECONDS} s", log)
        if supervisor.poll() is not None:
            self.stop()
            state = read_state(self.directory)
            if state is not None and state.phase == "failed" and state.error:
                raise StackError(state.error, details={"code": state.error_code})
            raise PartFailedError("The supervisor", f"exited with status {supervisor.returncode}", log)
        return settings_of_stack(self.directory)

    def stop(self) -> None:
        """Stop every part in order and wait for it; remove a temporary data directory."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            if supervisor.stdin:
                supervisor.stdin.close()
            try:
                supervisor.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                supervisor.kill()
                supervisor.wait()
        if self._temporary is not None and supervisor is not None:
            self._temporary.cleanup()

    def __enter__(self) -> Settings:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
