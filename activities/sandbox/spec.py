"""The container an agent runs in: everything is off unless it is named here."""

from dataclasses import dataclass
from typing import Any

import docker
from docker.types import LogConfig, Mount, Ulimit

from activities.sandbox.settings import SandboxSettings
from models.manifest import Runtime
from models.sandbox import MEBIBYTE, SandboxLimits

USER = "65534:65534"
EGRESS_FOLDER = "/run/egress"
LABEL = "switchyard.sandbox"
LABEL_EXECUTION = "switchyard.execution"
LABEL_ATTEMPT = "switchyard.attempt"
LABEL_WORKER = "switchyard.worker"
LABEL_DEADLINE = "switchyard.deadline"
LABEL_POOL = "switchyard.pool"

# Memory is rounded up to one of these, so that a waiting container fits whoever comes; each is a pool.
MEMORY_CLASSES_MB = (128, 256, 512, 1024, 2048)


@dataclass(frozen=True, slots=True)
class ContainerClass:
    """What must agree for a waiting container to serve an execution.

    Attributes:
        runtime: The interpreter that waits in it.
        limits: Limits fixed when the container is created; time and output are not among them.
    """

    runtime: Runtime
    limits: SandboxLimits

    @classmethod
    def of(cls, runtime: Runtime, limits: SandboxLimits) -> "ContainerClass":
        """The class that serves these limits: memory rounded up, per-execution limits left out."""
        memory = next((size for size in MEMORY_CLASSES_MB if size >= limits.memory_mb), limits.memory_mb)
        free = SandboxLimits()
        per_execution = {
            name: getattr(free, name)
            for name in ("timeout_ms", "stdout_bytes", "stderr_bytes", "stderr_tail_bytes")
        }
        return cls(runtime, limits.model_copy(update={"memory_mb": memory, **per_execution}))

    @property
    def label(self) -> str:
        """For people: ``python/256``."""
        return f"{self.runtime}/{self.limits.memory_mb}"


def tmpfs(size_mb: int) -> str:
    """Mount options of a private, bounded folder that nothing can be executed from."""
    return f"rw,noexec,nosuid,nodev,size={size_mb}m,mode=0700,uid=65534,gid=65534"


def container_options(
    client: docker.APIClient,
    kind: ContainerClass,
    settings: SandboxSettings,
    *,
    labels: dict[str, str],
    egress_folder: str,
    idle_seconds: float,
    image: str,
    cgroup_v1: bool,
) -> dict[str, Any]:
    """Arguments of ``create_container`` for one single-use container.

    Args:
        client: Only builds the structure; nothing is sent.
        kind: Interpreter and limits.
        settings: The OCI runtime.
        labels: Identity of the container for the reaper.
        egress_folder: Host folder in which the egress socket may appear; mounted read-only.
        idle_seconds: How long the container may wait for its execution before it ends by itself.
        image: Id of the image.
        cgroup_v1: Whether the engine's host has the hierarchy that knows per-group swappiness.
    """
    limits = kind.limits
    memory = limits.memory_mb * MEBIBYTE
    host = client.create_host_config(
        runtime=settings.runtime,
        network_mode="none",
        read_only=True,
        tmpfs={"/tmp": tmpfs(limits.tmp_mb), "/work": tmpfs(limits.work_mb), "/dev/shm": tmpfs(8)},
        mounts=[Mount(EGRESS_FOLDER, egress_folder, type="bind", read_only=True)],
        cap_drop=["ALL"],
        # The engine's default seccomp profile stays on: it is off only where it is named "unconfined".
        security_opt=["no-new-privileges"],
        ipc_mode="none",
        pids_limit=limits.pids,
        mem_limit=memory,
        memswap_limit=memory,
        mem_swappiness=0 if cgroup_v1 else None,
        nano_cpus=int(limits.cpus * 1e9),
        oom_score_adj=500,
        ulimits=[
            Ulimit(name="nofile", soft=limits.open_files, hard=limits.open_files),
            Ulimit(name="core", soft=0, hard=0),
            Ulimit(name="fsize", soft=limits.file_bytes, hard=limits.file_bytes),
        ],
        log_config=LogConfig(type=LogConfig.types.NONE),
        restart_policy={"Name": "no"},
    )
    return {
        "image": image,
        "command": [kind.runtime.value, str(limits.memory_mb), str(idle_seconds)],
        "user": USER,
        "hostname": "agent",
        "working_dir": "/",
        "stdin_open": True,
        "network_disabled": True,
        "labels": {LABEL: "1", **labels},
        "host_config": host,
        # Standard input ends with our connection: a container whose worker died stops waiting.
        "detach": False,
    }
