"""Child processes: started so that they die with the supervisor, and identified beyond their number.

A process id alone may be reused by a stranger, so a record always carries the start time too.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True)
class ProcessRecord:
    """Identity of a process.

    Attributes:
        pid: Process id.
        started_at: Start time in seconds since the epoch, as the kernel reports it.
    """

    pid: int
    started_at: float

    @classmethod
    def of(cls, pid: int) -> "ProcessRecord | None":
        """The record of a living process, or None."""
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return None

    def process(self) -> psutil.Process | None:
        """The process, if it is still the same one and not a zombie."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            # Start times are read in clock ticks of 10 ms; the epoch they count from may drift a little.
            if abs(process.create_time() - self.started_at) < 2 and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None


def _die_with_parent(death_signal: int, parent: int) -> Callable[[], None] | None:
    if _libc is None:
        return None
    prctl = _libc.prctl

    def set_death_signal() -> None:
        prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent:  # the parent died between fork and prctl
            os._exit(1)

    return set_death_signal


def spawn(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    log_file: Path,
    working_directory: Path,
    death_signal: int = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start ``argv`` in a session of its own, its output appended to ``log_file``.

    A terminal's Ctrl-C therefore reaches the supervisor alone, which stops the parts in order. On Linux
    the kernel sends ``death_signal`` to the child when the supervisor dies without doing so.
    """
    # Append mode lets the log be rotated by truncation while the child keeps writing.
    with log_file.open("ab") as log:
        return subprocess.Popen(
            argv,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=working_directory,
            start_new_session=True,
            preexec_fn=_die_with_parent(death_signal, os.getpid()),
        )


def stop_recorded(records: Sequence[ProcessRecord], deadline_seconds: float) -> None:
    """End processes left behind by a supervisor that was killed, with whatever they started."""
    family: list[psutil.Process] = []
    for record in records:
        process = record.process()
        if process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                family += [*process.children(recursive=True), process]
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, stubborn = psutil.wait_procs(family, timeout=deadline_seconds)
    for process in stubborn:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=deadline_seconds)


def rotate(log_file: Path, limit_bytes: int, generations: int) -> None:
    """Move a log that outgrew ``limit_bytes`` to ``.1``, older ones up to ``.<generations>``.

    The log is copied and truncated: the writer keeps its file descriptor. Lines written between the copy
    and the truncation are lost.
    """
    if not log_file.exists() or log_file.stat().st_size <= limit_bytes:
        return
    for generation in range(generations - 1, 0, -1):
        older = log_file.with_name(f"{log_file.name}.{generation}")
        if older.exists():
            older.replace(log_file.with_name(f"{log_file.name}.{generation + 1}"))
    with log_file.open("rb+") as log:
        with log_file.with_name(f"{log_file.name}.1").open("wb") as copy:
            while chunk := log.read(1 << 20):
                copy.write(chunk)
        log.truncate(0)


def last_line(log_file: Path, limit: int = 300) -> str:
    """The last line of a log, cut to ``limit`` characters; empty if there is none."""
    with contextlib.suppress(FileNotFoundError):
        with log_file.open("rb") as log:
            log.seek(max(0, log_file.stat().st_size - 4096))
            lines = log.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:limit] if lines else ""
    return ""


def wait_until(condition: Callable[[], bool], timeout_seconds: float, interval_seconds: float = 0.02) -> bool:
    """Poll ``condition`` until it holds; False if it does not within the time."""
    end = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(interval_seconds)
    return True
