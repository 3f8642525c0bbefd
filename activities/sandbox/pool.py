"""Containers that wait, interpreter running, for their one execution.

Starting a container costs some 200 ms of kernel work; a waiting one only needs its code. A box is taken once
and never comes back: what an execution leaves behind (files, processes, sockets) goes with its container.
"""

import asyncio
import contextlib
import time
from collections import deque

from activities.sandbox.box import Box
from activities.sandbox.engine import ENGINE_ERRORS
from activities.sandbox.settings import SandboxSettings
from activities.sandbox.spec import ContainerClass
from activities.sandbox.starter import Starter
from models.errors import PlatformError
from models.manifest import Runtime
from models.sandbox import SandboxLimits

# A start competes with the execution that made room for it: it begins when that one has ended, or now.
REFILL_DELAY_SECONDS = 0.25
INSPECTION_SECONDS = 5.0
AFTER_FAILURE_SECONDS = 5.0
# The container outlives its place in the pool by this much, so that it is never taken while it ends.
IDLE_MARGIN_SECONDS = 30.0


class WarmPool:
    """Keeps ``settings.warm`` boxes per container class that is in use."""

    def __init__(self, starter: Starter, settings: SandboxSettings) -> None:
        self._starter = starter
        self._settings = settings
        self._stock: dict[ContainerClass, deque[Box]] = {}
        self._asked: dict[ContainerClass, float] = {}
        self._starting: dict[ContainerClass, int] = {}
        self._queues: dict[ContainerClass, deque[asyncio.Future[Box | None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        limits = SandboxLimits(memory_mb=settings.warm_memory_mb)
        self._standing = {ContainerClass.of(Runtime(name), limits) for name in settings.warm}

    def start(self) -> None:
        """Begin to fill, in the background."""
        self._keeper = asyncio.create_task(self._keep())

    @property
    def idle(self) -> dict[str, int]:
        """Waiting boxes by class label."""
        return {kind.label: len(boxes) for kind, boxes in self._stock.items() if boxes}

    def idle_of(self, kind: ContainerClass) -> int:
        """Waiting boxes of one class."""
        return len(self._stock.get(kind, ()))

    def waiting(self, kind: ContainerClass) -> tuple[Box, ...]:
        """The waiting boxes of one class."""
        return tuple(self._stock.get(kind, ()))

    async def take(self, kind: ContainerClass) -> Box | None:
        """A healthy box, which now belongs to the caller; None when none waits and none is about to.

        One that is already starting is worth waiting for: it is ready before a new one would be.
        """
        box = self._from_stock(kind)
        queue = self._queues.setdefault(kind, deque())
        if box is not None or self._starting.get(kind, 0) <= len(queue):
            return box
        place: asyncio.Future[Box | None] = asyncio.get_running_loop().create_future()
        queue.append(place)
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and (given := place.result()) is not None:
                self._starter.discard(given)
            raise

    def _from_stock(self, kind: ContainerClass) -> Box | None:
        self._asked[kind] = time.monotonic()
        stock = self._stock.get(kind)
        box: Box | None = None
        while stock and box is None:
            # The oldest first, or it would wait until it is too old.
            box = stock.popleft()
            if not box.healthy or self._expired(box):
                self._starter.discard(box)
                box = None
        asyncio.get_running_loop().call_later(REFILL_DELAY_SECONDS, self._wake.set)
        return box

    def refill(self) -> None:
        """An execution has ended: there is room to start its successor now."""
        self._wake.set()

    async def close(self) -> None:
        """Stop filling and remove every waiting box."""
        tasks = [*self._tasks, *([self._keeper] if self._keeper else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for kind in self._queues:
            while self._hand_over(kind, None):
                continue
        for boxes in self._stock.values():
            while boxes:
                self._starter.discard(boxes.popleft())
        await self._starter.close()

    def _expired(self, box: Box) -> bool:
        return time.monotonic() - box.created > self._settings.warm_max_age

    def _target(self, kind: ContainerClass) -> int:
        return self._settings.warm.get(kind.runtime.value, 0)

    def _wanted(self) -> list[ContainerClass]:
        """Classes to keep, most recently asked for first."""
        now = time.monotonic()
        recent = {kind: at for kind, at in self._asked.items() if now - at < self._settings.warm_max_age}
        kinds = set(recent) | self._standing
        return sorted(kinds, key=lambda kind: recent.get(kind, 0.0), reverse=True)

    async def _keep(self) -> None:
        while True:
            self._inspect()
            self._top_up()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INSPECTION_SECONDS):
                    await self._wake.wait()
            self._wake.clear()

    def _inspect(self) -> None:
        """Drop boxes that have died, are too old, or belong to a class nobody asks for any more."""
        wanted = set(self._wanted())
        for kind, boxes in self._stock.items():
            for box in list(boxes):
                if kind not in wanted or not box.healthy or self._expired(box):
                    boxes.remove(box)
                    self._starter.discard(box)

    def _top_up(self) -> None:
        total = sum(len(boxes) for boxes in self._stock.values()) + sum(self._starting.values())
        for kind in self._wanted():
            missing = self._target(kind) - self.idle_of(kind) - self._starting.get(kind, 0)
            for _ in range(min(missing, self._settings.warm_total - total)):
                total += 1
                self._starting[kind] = self._starting.get(kind, 0) + 1
                task = asyncio.create_task(self._add(kind))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _add(self, kind: ContainerClass) -> None:
        try:
            idle_seconds = self._settings.warm_max_age + IDLE_MARGIN_SECONDS
            box = await self._starter.waiting(kind, idle_seconds)
            if not self._hand_over(kind, box):
                self._stock.setdefault(kind, deque()).append(box)
        except (*ENGINE_ERRORS, PlatformError):
            # Executions meet the same engine and report it; here it is only tried again, later.
            asyncio.get_running_loop().call_later(AFTER_FAILURE_SECONDS, self._wake.set)
            self._hand_over(kind, None)
        finally:
            self._starting[kind] -= 1

    def _hand_over(self, kind: ContainerClass, box: Box | None) -> bool:
        """Give the first in the queue its box, or the news that there is none; False when nobody waits."""
        queue = self._queues.get(kind, deque())
        while queue:
            place = queue.popleft()
            if not place.done():
                place.set_result(box)
                return True
        return False
