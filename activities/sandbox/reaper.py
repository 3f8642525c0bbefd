"""Removes what a dead worker left behind: containers by their labels, and the folders of their sockets."""

import asyncio
import contextlib
import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import docker.errors

from activities.sandbox.engine import ENGINE_ERRORS, Engine
from activities.sandbox.settings import SandboxSettings, process_start
from activities.sandbox.spec import EGRESS_FOLDER, LABEL, LABEL_DEADLINE, LABEL_WORKER

REAP_SECONDS = 30.0
FOLDER_GRACE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Reaped:
    """What one pass removed.

    Attributes:
        containers: Names of removed containers.
        folders: Number of removed socket folders.
    """

    containers: tuple[str, ...]
    folders: int


def is_orphan(labels: dict[str, str], *, now: float, host: str) -> bool:
    """Whether nobody looks after a container any more.

    Its deadline has passed, or it belongs to a worker process of this host that is gone. A worker on another
    host cannot be seen from here: its containers go by their deadline.

    Args:
        labels: The container's labels.
        now: Seconds since the epoch.
        host: Name of this host.
    """
    deadline = labels.get(LABEL_DEADLINE, "")
    if not deadline.isdigit() or int(deadline) < now:
        return True
    worker_host, _, process = labels.get(LABEL_WORKER, "").partition(":")
    pid, _, start = process.partition(":")
    return worker_host == host and pid.isdigit() and process_start(int(pid)) != start


async def reap(engine: Engine, settings: SandboxSettings) -> Reaped:
    """Remove every orphan once.

    Raises:
        One of ENGINE_ERRORS: The engine is away.
    """
    return await engine.call(lambda client: _reap(client, settings.state_folder))


def _reap(client: docker.APIClient, state_folder: Path) -> Reaped:
    found: list[dict[str, Any]] = client.containers(all=True, filters={"label": LABEL})
    removed: list[str] = []
    in_use: set[str] = set()
    for container in found:
        name = str((container.get("Names") or [container["Id"]])[0]).lstrip("/")
        if is_orphan(container.get("Labels") or {}, now=time.time(), host=socket.gethostname()):
            # 404 and 409: somebody else has removed it or is about to.
            with contextlib.suppress(docker.errors.APIError):
                client.remove_container(container["Id"], force=True, v=True)
                removed.append(name)
            continue
        mounts = container.get("Mounts") or []
        in_use |= {str(mount["Source"]) for mount in mounts if mount.get("Destination") == EGRESS_FOLDER}
    folders = 0
    if state_folder.is_dir():
        for folder in state_folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                old = time.time() - folder.stat().st_mtime > FOLDER_GRACE_SECONDS
                if old and str(folder) not in in_use:
                    shutil.rmtree(folder)
                    folders += 1
    return Reaped(tuple(removed), folders)


async def keep_reaping(engine: Engine, settings: SandboxSettings) -> None:
    """Reap at once and then every half minute, until cancelled."""
    while True:
        with contextlib.suppress(*ENGINE_ERRORS):
            await reap(engine, settings)
        await asyncio.sleep(REAP_SECONDS)
