"""Starts containers, as many at once as there are cores, and sees to it that each is removed."""

import asyncio
import contextlib
import secrets
from collections.abc import Coroutine
from typing import Any

import docker
import docker.errors

from activities.sandbox.box import Box, EngineHost
from activities.sandbox.engine import ENGINE_ERRORS, Engine
from activities.sandbox.settings import SandboxSettings
from activities.sandbox.spec import ContainerClass
from models.sandbox import SandboxImageError, SandboxRequest, SandboxUnavailableError

COLD_IDLE_SECONDS = 60.0


class Starter:
    """Opens and discards boxes on one engine.

    More starts at once than cores only wait inside the kernel, each longer; a semaphore makes them wait here.
    """

    def __init__(self, engine: Engine, settings: SandboxSettings) -> None:
        self._engine = engine
        self._settings = settings
        self._starts = asyncio.Semaphore(settings.starts)
        self._discarding: set[asyncio.Task[None]] = set()
        self._host: EngineHost | None = None

    async def host(self) -> EngineHost:
        """The engine's image and cgroup version, asked once.

        Raises:
            SandboxUnavailableError: The engine does not answer.
            SandboxImageError: It has no agent image.
        """
        if self._host is None:
            try:
                self._host = await self._engine.call(self._look)
            except docker.errors.ImageNotFound:
                raise SandboxImageError(
                    f"{self._settings.image} is not on the engine; build it with: switchyard up"
                ) from None
            except ENGINE_ERRORS as error:
                raise SandboxUnavailableError(self._settings.docker_host, str(error)) from error
        return self._host

    def _look(self, client: docker.APIClient) -> EngineHost:
        info: dict[str, Any] = client.info()
        image: dict[str, Any] = client.inspect_image(self._settings.image)
        self._settings.state_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return EngineHost(image_id=str(image["Id"]), cgroup_version=int(info.get("CgroupVersion") or 1))

    async def cold(self, kind: ContainerClass, request: SandboxRequest) -> Box:
        """Start a container for one execution.

        Raises:
            One of ENGINE_ERRORS: It did not start; nothing is left of it.
        """
        box = Box(self._engine, self._settings, kind, Box.name_of(request), await self.host())
        await self._open(box, idle_seconds=COLD_IDLE_SECONDS, request=request)
        return box

    async def waiting(self, kind: ContainerClass, idle_seconds: float) -> Box:
        """Start a container that waits for an execution, and wait until it is ready.

        Raises:
            One of ENGINE_ERRORS: It did not start; nothing is left of it.
        """
        name = f"agent-pool-{secrets.token_hex(8)}"
        box = Box(self._engine, self._settings, kind, name, await self.host())
        box.warm = True
        await self._open(box, idle_seconds=idle_seconds, request=None)
        try:
            async with asyncio.timeout(self._settings.start_timeout):
                ready = await box.wait_ready()
        except BaseException:
            await asyncio.shield(self.discard(box))
            raise
        if not ready:
            await self.discard(box)
            raise ConnectionError("the container ended before it was ready")
        return box

    async def _open(self, box: Box, *, idle_seconds: float, request: SandboxRequest | None) -> None:
        async with self._starts:
            opening = asyncio.ensure_future(box.open(idle_seconds=idle_seconds, request=request))
            try:
                async with asyncio.timeout(self._settings.start_timeout):
                    await asyncio.shield(opening)
            except BaseException:
                # The thread inside cannot be stopped: what it still creates must be removed after it.
                await asyncio.shield(self.discard(box, after=opening))
                raise

    def discard(self, box: Box, *, after: asyncio.Future[None] | None = None) -> asyncio.Task[None]:
        """Kill and remove a box in the background; the task is tracked until `close`."""

        async def work() -> None:
            if after is not None:
                with contextlib.suppress(asyncio.CancelledError, *ENGINE_ERRORS):
                    await after
            # An engine that is away keeps the container; the reaper finds it by its labels.
            with contextlib.suppress(*ENGINE_ERRORS):
                await box.remove()

        return self._track(work())

    def _track(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._discarding.add(task)
        task.add_done_callback(self._discarding.discard)
        return task

    async def close(self) -> None:
        """Wait until everything discarded is gone."""
        while self._discarding:
            await asyncio.wait(self._discarding)
