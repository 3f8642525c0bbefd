"""One single-use container from creation to removal."""

import json
import secrets
import shutil
import struct
import time
from dataclasses import dataclass
from typing import Any

import docker
import docker.errors

from activities.sandbox.engine import ENGINE_ERRORS, STDERR, AttachedStream, Engine
from activities.sandbox.outcome import ContainerState, encode_json
from activities.sandbox.output import READY
from activities.sandbox.settings import SandboxSettings
from activities.sandbox.spec import (
    LABEL_ATTEMPT,
    LABEL_DEADLINE,
    LABEL_EXECUTION,
    LABEL_POOL,
    LABEL_WORKER,
    ContainerClass,
    container_options,
)
from models.sandbox import SandboxRequest

FRAME_PREFIX = struct.Struct(">4sIQQ")
FRAME_MAGIC = b"SWY1"
MAX_INPUTS_IN_ENVIRONMENT = 96 * 1024
REMOVE_ATTEMPTS = 4
EGRESS_PROXY = "http://127.0.0.1:3128"
# How long after the deadline, and what starting may take, the reaper takes a container for an orphan.
ORPHAN_GRACE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class EngineHost:
    """What was learned of the engine when the runner started.

    Attributes:
        image_id: The agent image; containers are created by its id, so a tag moved meanwhile changes nothing.
        cgroup_version: 1 or 2.
    """

    image_id: str
    cgroup_version: int


class Box:
    """A container that waits for, runs or has run its only execution.

    Attributes:
        kind: Its interpreter and limits.
        name: Container name; ``agent-<execution>-<attempt>`` once it has an execution.
        egress_folder: Host folder that is ``/run/egress`` inside.
        warm: Whether it came from the pool.
        fed: Whether the agent may have begun.
    """

    def __init__(
        self, engine: Engine, settings: SandboxSettings, kind: ContainerClass, name: str, host: "EngineHost"
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._host = host
        self._stream: AttachedStream | None = None
        self._early: list[tuple[int, bytes]] = []
        self._ready_taken = False
        self.kind = kind
        self.name = name
        self.id = ""
        self.warm = False
        self.fed = False
        self.created = time.monotonic()
        self.egress_folder = settings.state_folder / secrets.token_hex(6)

    @staticmethod
    def name_of(request: SandboxRequest) -> str:
        """Container name of an attempt at an execution."""
        return f"agent-{request.execution_id}-{request.attempt}"

    @property
    def healthy(self) -> bool:
        """Whether the container is attached and has not ended; costs no call to the engine."""
        return self._stream is not None and not self._stream.ended

    async def open(self, *, idle_seconds: float, request: SandboxRequest | None = None) -> None:
        """Create, attach, start. On any error, also cancellation, `remove` must follow.

        Raises:
            One of ENGINE_ERRORS: The engine refuses or is away.
        """
        lifetime = idle_seconds + ORPHAN_GRACE_SECONDS
        labels = {LABEL_WORKER: self._settings.worker}
        if request is None:
            labels[LABEL_POOL] = self.kind.label
            # A waiting container may be taken at its last moment and then run for the longest time.
            lifetime += self.kind.limits.timeout_ms / 1000 + 300
        else:
            labels |= {LABEL_EXECUTION: request.execution_id, LABEL_ATTEMPT: str(request.attempt)}
            lifetime += request.limits.timeout_ms / 1000
        labels[LABEL_DEADLINE] = str(int(time.time() + lifetime))
        self.id = await self._engine.call(lambda client: self._create(client, labels, idle_seconds))
        self._stream = await self._engine.attach(self.id)
        await self._engine.call(lambda client: client.start(self.id))

    def _create(self, client: docker.APIClient, labels: dict[str, str], idle_seconds: float) -> str:
        self.egress_folder.mkdir(parents=True, mode=0o755)
        options = container_options(
            client,
            self.kind,
            self._settings,
            labels=labels,
            egress_folder=str(self.egress_folder),
            idle_seconds=idle_seconds,
            image=self._host.image_id,
            cgroup_v1=self._host.cgroup_version == 1,
        )
        for last in (False, True):
            try:
                created: dict[str, Any] = client.create_container(name=self.name, **options)
                return str(created["Id"])
            except docker.errors.APIError as error:
                if last or error.status_code != 409:
                    raise
                # An earlier call for this very attempt, whose answer was lost: it never got its code.
                _remove(client, self.name)
        raise AssertionError("unreachable")

    async def wait_ready(self) -> bool:
        """Wait until the interpreter is up; False when the container ended instead."""
        stream = self._attached()
        while (frame := await stream.read()) is not None:
            self._early.append(frame)
            if frame[0] == STDERR and READY in frame[1]:
                return True
        return False

    async def feed(self, request: SandboxRequest, end_token: str) -> None:
        """Hand over the execution. Until the last byte is written the agent cannot have begun.

        Raises:
            OSError: The container has gone.
        """
        inputs = encode_json(request.inputs)
        environment = agent_environment(request, inputs)
        header = json.dumps(
            {
                "entry": request.entry_point,
                "env": environment,
                "egress": bool(request.network),
                "end_token": end_token,
                "deadline_seconds": request.limits.timeout_ms / 1000,
            }
        ).encode()
        prefix = FRAME_PREFIX.pack(FRAME_MAGIC, len(header), len(inputs), len(request.code))
        stream = self._attached()
        frame = b"".join((prefix, header, inputs, request.code))
        await stream.send(frame[:-1])
        self.fed = True
        await stream.send(frame[-1:])

    async def read(self) -> tuple[int, bytes] | None:
        """Next piece of output; the interpreter's ready mark is taken out."""
        frame = self._early.pop(0) if self._early else await self._attached().read()
        if frame is not None and frame[0] == STDERR and not self._ready_taken:
            self._ready_taken = True
            return frame[0], frame[1].removeprefix(READY)
        return frame

    async def rename(self, name: str) -> None:
        """Give a container from the pool the name of its execution."""

        def rename(client: docker.APIClient) -> None:
            try:
                client.rename(self.id, name)
            except docker.errors.APIError as error:
                if error.status_code != 409:
                    raise
                _remove(client, name)
                client.rename(self.id, name)

        await self._engine.call(rename)
        self.name = name

    async def kill(self) -> None:
        """Kill every process of the container; nothing happens when it has ended."""

        def kill(client: docker.APIClient) -> None:
            try:
                client.kill(self.id)
            except docker.errors.APIError as error:
                if error.status_code not in (404, 409):
                    raise

        await self._engine.call(kill)

    async def state(self) -> ContainerState | None:
        """Wait for the end of the container; None when the engine does not know it."""

        def inspect(client: docker.APIClient) -> ContainerState | None:
            try:
                client.wait(self.id, timeout=10)
                state: dict[str, Any] = client.inspect_container(self.id)["State"]
            except ENGINE_ERRORS:
                return None
            return ContainerState(exit_code=int(state["ExitCode"]), oom_killed=bool(state["OOMKilled"]))

        return await self._engine.call(inspect)

    def abandon(self) -> None:
        """Let go of the container's standard input: one that still waits then ends by itself."""
        if self._stream is not None:
            self._stream.close()

    async def remove(self) -> None:
        """Kill and remove the container and its folder; repeatable.

        Raises:
            One of ENGINE_ERRORS: The engine is away; the reaper will find the container by its labels.
        """
        self.abandon()
        try:
            await self._engine.call(lambda client: _remove(client, self.id or self.name))
        finally:
            shutil.rmtree(self.egress_folder, ignore_errors=True)

    def _attached(self) -> AttachedStream:
        if self._stream is None:
            raise ConnectionError("the container is not attached")
        return self._stream


def _remove(client: docker.APIClient, container: str) -> None:
    for attempt in range(REMOVE_ATTEMPTS):
        try:
            client.remove_container(container, force=True, v=True)
        except docker.errors.APIError as error:
            if error.status_code == 404 or "already in progress" in str(error):
                return
            # The container ended by itself between the engine's look at it and its kill.
            if attempt + 1 == REMOVE_ATTEMPTS:
                raise
        else:
            return


def agent_environment(request: SandboxRequest, inputs: bytes) -> dict[str, str]:
    """The whole environment of the agent. Holds no secret: those stay with the egress broker."""
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",
        "TMPDIR": "/tmp",
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "INPUTS_FILE": "/work/inputs.json",
        "CONFIG": encode_json(request.config if request.config is not None else {}).decode(),
    }
    # The kernel limits one variable to 128 KiB with its name, and fails in a way that looks like the agent's.
    if len(inputs) <= MAX_INPUTS_IN_ENVIRONMENT and b"\\u0000" not in inputs:
        environment["INPUTS"] = inputs.decode()
    if request.network:
        environment |= {
            name: EGRESS_PROXY for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
        }
        environment |= {"NO_PROXY": "", "NODE_USE_ENV_PROXY": "1", "EGRESS_URL": EGRESS_PROXY}
    return environment
