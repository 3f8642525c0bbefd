"""A Docker Engine for the sandbox: one that answers already, else one that we start.

Our own engine serves the whole machine, so that the agent image is built once and not per data directory:
the first stack starts it, the last one that uses it stops it. It has no bridge and touches no firewall
rule, because agent containers have no network.
"""

import asyncio
import contextlib
import fcntl
import http.client
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Generator
from pathlib import Path

import psutil

from cli.stack.errors import MissingRequirementError, PartFailedError
from cli.stack.part import Context, Part
from cli.stack.process import ProcessRecord, wait_until

_DATA = Path("/var/lib/switchyard/docker")
_RUN = Path("/run/switchyard")
_OWN_SOCKET = _RUN / "docker.sock"
_PID_FILE = _RUN / "docker.pid"
_START_SECONDS = 30
_STOP_SECONDS = 20
_PACKAGES = ("docker.io", "debootstrap")
_REMEDY = (
    "Start Docker, set DOCKER_HOST to an engine you may use, run as root on Debian or Ubuntu so that "
    "Switchyard can install and start one, or go without paid runs: `switchyard up --without docker`."
)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=2)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def answers(path: Path) -> bool:
    """Whether a Docker Engine answers on the Unix socket ``path``."""
    connection = _UnixConnection(path)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/_ping")
        return connection.getresponse().status == 200
    return False


def _standard_sockets() -> list[Path]:
    """Where engines that are not ours listen: the system's, a rootless one, Docker Desktop's."""
    candidates = [Path("/var/run/docker.sock")]
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        candidates.append(Path(runtime, "docker.sock"))
    candidates.append(Path.home() / ".docker" / "run" / "docker.sock")
    return candidates


def find_engine() -> Path | None:
    """Socket of an engine that somebody else started, or None."""
    return next((path for path in _standard_sockets() if path.exists() and answers(path)), None)


def _provision() -> None:
    """Install Docker from Debian's packages where there is none and we may.

    Raises:
        MissingRequirementError: If there is no engine and none can be installed.
    """
    if find_engine() is not None or answers(_OWN_SOCKET):
        return
    if os.geteuid() != 0:
        raise MissingRequirementError("No Docker Engine answers, and starting one needs root.", _REMEDY)
    if shutil.which("dockerd") is not None:
        return
    if shutil.which("apt-get") is None:
        raise MissingRequirementError("Docker is not installed, and there is no apt-get here.", _REMEDY)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *_PACKAGES]):
        done = subprocess.run(
            ["apt-get", "--quiet=2", *arguments],
            check=False,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode != 0:
            last = (done.stdout.strip().splitlines() or ["no output"])[-1]
            raise MissingRequirementError(
                f"`apt-get {' '.join(arguments)}` failed with status {done.returncode}: {last}.", _REMEDY
            )


@contextlib.contextmanager
def _alone() -> Generator[None]:
    """Only one supervisor of the machine starts or stops the engine at a time."""
    _RUN.mkdir(parents=True, exist_ok=True)
    with (_RUN / "docker.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class _Lease:
    """Says to other supervisors that this one uses the engine; ends with the process at the latest."""

    def __init__(self) -> None:
        self._descriptor: int | None = None

    def take(self) -> None:
        if self._descriptor is None:
            self._descriptor = os.open(_RUN / "docker.users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def give_up(self) -> bool:
        """True if nobody else uses the engine."""
        if self._descriptor is None:
            return False
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(self._descriptor)
            self._descriptor = None
        return True


_lease = _Lease()


def _engine_process() -> psutil.Process | None:
    with contextlib.suppress(FileNotFoundError, ValueError, psutil.NoSuchProcess):
        process = psutil.Process(int(_PID_FILE.read_text()))
        if process.name() == "dockerd" and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None


def _end(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(5)


def _ensure_running(context: Context) -> None:
    """Start our engine unless it, or the one the settings name, answers."""
    if context.settings.docker_host != f"unix://{_OWN_SOCKET}":
        return
    with _alone():
        _lease.take()
        if answers(_OWN_SOCKET):
            return
        if (hung := _engine_process()) is not None:
            _end(hung)
        # An engine that was killed leaves its pid file, and a new one refuses to start over it.
        _PID_FILE.unlink(missing_ok=True)
        _DATA.mkdir(parents=True, exist_ok=True, mode=0o700)
        with context.log_file("docker").open("ab") as log:
            # Not tied to this supervisor's life: another stack may be using it.
            engine = subprocess.Popen(
                [
                    "dockerd",
                    f"--host=unix://{_OWN_SOCKET}",
                    f"--data-root={_DATA}",
                    f"--exec-root={_RUN / 'docker'}",
                    f"--pidfile={_PID_FILE}",
                    "--bridge=none",
                    "--iptables=false",
                    "--ip6tables=false",
                    "--log-level=warn",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _engines.append(engine)
        started = wait_until(lambda: engine.poll() is not None or answers(_OWN_SOCKET), _START_SECONDS)
        if not started or engine.poll() is not None:
            engine.kill()
            reason = "did not start" if started else f"did not answer within {_START_SECONDS} s"
            raise PartFailedError("Docker Engine", reason, context.log_file("docker"))


_engines: list[subprocess.Popen[bytes]] = []
"""Engines this process started, so that they are reaped when they end."""


def _command(context: Context) -> None:
    _ensure_running(context)


def _contributes(context: Context) -> dict[str, str]:
    del context
    return {"DOCKER_HOST": f"unix://{find_engine() or _OWN_SOCKET}"}


async def _healthy(context: Context, pid: int) -> bool:
    del pid
    for engine in _engines:
        engine.poll()
    return await asyncio.to_thread(answers, Path(context.settings.docker_host.removeprefix("unix://")))


def _shared_process(context: Context) -> ProcessRecord | None:
    process = _engine_process() if context.settings.docker_host == f"unix://{_OWN_SOCKET}" else None
    return ProcessRecord.of(process.pid) if process else None


def _release(context: Context) -> None:
    if context.settings.docker_host != f"unix://{_OWN_SOCKET}":
        return
    with _alone():
        if _lease.give_up() and (process := _engine_process()) is not None:
            _end(process)
        for engine in _engines:
            engine.poll()


DOCKER = Part(
    name="docker",
    title="Docker Engine",
    settings_given=("docker_host",),
    provision=_provision,
    contributes=_contributes,
    command=_command,
    healthy=_healthy,
    shared_process=_shared_process,
    release=_release,
    address=lambda context: context.settings.docker_host,
)
