"""What the engine provides, and what an agent that tries can do on it: trust nothing that was not tried."""

import io
import json
import secrets
import shutil
import tarfile
from dataclasses import dataclass
from typing import Any

from activities.sandbox.engine import ENGINE_ERRORS
from activities.sandbox.runner import SandboxRunner
from models.manifest import Runtime
from models.sandbox import (
    ExitReason,
    SandboxContainmentError,
    SandboxLimits,
    SandboxRequest,
    SandboxUnavailableError,
)

PROBE = """
import ctypes, json, os, socket

def refused(attempt):
    try:
        attempt()
    except OSError:
        return True
    return False

status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
script = "/tmp/probe.sh"
with open(script, "w") as file:
    file.write("#!/bin/sh\\nexit 0\\n")
os.chmod(script, 0o755)
libc = ctypes.CDLL(None, use_errno=True)
print(json.dumps({
    "unprivileged user": os.getuid() == os.geteuid() == 65534,
    "no capabilities": all(int(status[key], 16) == 0 for key in ("CapInh", "CapPrm", "CapEff", "CapBnd")),
    "no new privileges": status.get("NoNewPrivs", "1").strip() == "1",
    "read-only root": refused(lambda: open("/etc/probe", "w")) and refused(lambda: open("/usr/probe", "w")),
    "no program in writable folders": refused(lambda: os.execv(script, [script])),
    "no network": refused(lambda: socket.create_connection(("1.1.1.1", 53), 1)),
    "only the loopback interface": [name for _, name in socket.if_nameindex()] in (["lo"], []),
    "no engine socket": not os.path.exists("/var/run/docker.sock"),
    "no mount": libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) != 0,
    "no new user namespace": libc.unshare(0x10000000) != 0,
    "closed supervisor": all(refused(lambda: open(f"/proc/1/{name}").read()) for name in ("environ", "mem")),
    "system call filter": status.get("Seccomp", "0").strip() == "2",
}))
"""
MEMORY_BOMB = "block = []\nwhile True:\n    block.append(bytearray(1 << 20))\n"
FORK_BOMB = "import os, time\nwhile True:\n    if os.fork() == 0:\n        time.sleep(60)\n"
# gVisor answers system calls itself: no host seccomp mode shows, and its namespaces and mounts are its own.
OWN_KERNEL_SKIPS = frozenset(("system call filter", "no new user namespace", "no mount"))


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What the engine provides and what was tried on it.

    Attributes:
        engine_version: Of Docker Engine.
        cgroup_version: 1 or 2.
        seccomp: Whether the default system-call filter is on.
        apparmor: Whether AppArmor confines containers.
        user_namespaces: Whether the engine maps container users.
        runsc: Whether gVisor is registered with the engine or on the path.
        runtime: The OCI runtime that was tried.
        checks: Result of each attempt by name; true is contained.
    """

    engine_version: str
    cgroup_version: int
    seccomp: bool
    apparmor: bool
    user_namespaces: bool
    runsc: bool
    runtime: str
    checks: dict[str, bool]

    @property
    def failed(self) -> list[str]:
        """Names of the attempts that were not contained."""
        return [name for name, contained in self.checks.items() if not contained]

    def require(self) -> None:
        """Refuse an engine that does not contain.

        Raises:
            SandboxContainmentError: An attempt was not contained.
        """
        if self.failed:
            raise SandboxContainmentError(self.failed)


async def self_test(runner: SandboxRunner) -> SelfTest:
    """Try the containment for real; takes some seconds.

    Args:
        runner: A started runner; its settings name the runtime that is tried.

    Raises:
        SandboxUnavailableError: The engine does not answer.
    """
    try:
        info: dict[str, Any] = await runner.engine.call(lambda client: client.info())
    except ENGINE_ERRORS as error:
        raise SandboxUnavailableError(runner.settings.docker_host, str(error)) from error
    options = " ".join(info.get("SecurityOptions") or [])
    runtime = runner.settings.runtime
    probe = await runner.run(_request(PROBE))
    checks: dict[str, bool] = {"an agent runs": probe.succeeded}
    if probe.succeeded:
        tried: dict[str, bool] = json.loads(probe.stdout)
        skipped = OWN_KERNEL_SKIPS if runtime == "runsc" else frozenset[str]()
        checks |= {name: contained for name, contained in tried.items() if name not in skipped}
    memory = await runner.run(_request(MEMORY_BOMB))
    checks["memory limit"] = memory.exit_reason is ExitReason.OOM
    processes = await runner.run(_request(FORK_BOMB))
    checks["process limit"] = processes.exit_reason is ExitReason.LIMIT
    return SelfTest(
        engine_version=str(info.get("ServerVersion", "")),
        cgroup_version=int(info.get("CgroupVersion") or 1),
        seccomp="seccomp" in options,
        apparmor="apparmor" in options,
        user_namespaces="userns" in options,
        runsc="runsc" in (info.get("Runtimes") or {}) or shutil.which("runsc") is not None,
        runtime=runtime,
        checks=checks,
    )


def _request(source: str) -> SandboxRequest:
    code = io.BytesIO()
    with tarfile.open(fileobj=code, mode="w") as archive:
        member = tarfile.TarInfo("main.py")
        member.size = len(source.encode())
        archive.addfile(member, io.BytesIO(source.encode()))
    return SandboxRequest(
        execution_id=f"self-test-{secrets.token_hex(6)}",
        runtime=Runtime.PYTHON,
        entry_point="main.py",
        code=code.getvalue(),
        limits=SandboxLimits(memory_mb=128, timeout_ms=15_000),
    )
