"""How this worker's sandbox is set up."""

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

from activities.sandbox.image import IMAGE


def worker_identity() -> str:
    """``host:pid:start`` of this process; ``start`` tells it from a later one with the same number."""
    return f"{socket.gethostname()}:{os.getpid()}:{process_start(os.getpid()) or 0}"


def process_start(pid: int) -> str | None:
    """Start time of a local process in clock ticks since boot, or None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """Settings of the runner, the pool and the reaper of one worker.

    Attributes:
        docker_host: Address of the engine, ``unix://`` or ``tcp://``; it must share this host's file system,
            because the egress sockets are mounted into containers.
        image: Image of agent containers.
        runtime: OCI runtime: ``runc``, or ``runsc`` for gVisor after ``self_test`` approved it.
        state_folder: Folder of the egress sockets; a short path, for socket paths end at 108 bytes.
        worker: Identity put on every container's labels.
        starts: Containers started at once; more only queue inside the kernel.
        start_timeout: Seconds a container may take until it waits for its execution.
        warm: Idle containers per runtime and limit class that has been asked for, e.g. ``{"python": 2}``.
        warm_total: Idle containers altogether.
        warm_memory_mb: The limit class kept warm from the start.
        warm_max_age: Seconds after which an idle container is replaced.
    """

    docker_host: str = "unix:///var/run/docker.sock"
    image: str = IMAGE
    runtime: str = "runc"
    state_folder: Path = Path("/run/switchyard-sandbox")
    worker: str = field(default_factory=worker_identity)
    starts: int = field(default_factory=lambda: os.cpu_count() or 1)
    start_timeout: float = 30.0
    warm: dict[str, int] = field(default_factory=lambda: {"python": 2, "node": 2})
    warm_total: int = 16
    warm_memory_mb: int = 256
    warm_max_age: float = 600.0
