"""Kill workers with SIGKILL at every arrow of settling and paying out; then compare all books.

``python -m bench.settle_kills [--kills 1000] [--state FILE]``. PostgreSQL, Temporal and the rails stay up;
workers of the money queue are processes that die at a named point (`bench.kill_points`) and are followed by
others. Work goes on until the kills are done; then the last workers finish it, and at quiescence the rails'
books must equal ours to the minor unit. Kills are done in sessions, each of which is compared by itself; what
is done is kept in the state file, and the same command goes on where it was stopped.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.payout import PayoutActivities
from activities.records.migrate import upgrade
from activities.services import Services, open_services
from activities.temporal.client import connect
from bench.kill_books import compare
from bench.kill_points import POINTS
from bench.kill_workflows import Agents, PaidOrder
from bench.kill_world import KillWorld
from cli.stack.embedded import EmbeddedStack
from models.payout import PayoutRunRequest
from models.settings import Settings, environment_variable
from models.task_queues import TaskQueue
from tests.rails.hostile import Call, HostileServer
from tests.rails.stripe_books import StripeBooks
from workflows.payout import Payout, PayoutRun

PATIENCE = 40.0
"""A worker whose point does not come within so many seconds is killed wherever it is."""

IN_FLIGHT = 60
QUIET_SECONDS = 420


@dataclass
class KillingBooks:
    """Stripe's books; a caller that is to die in the call is killed once they have changed."""

    inner: StripeBooks
    doomed: dict[int, str] = field(default_factory=dict[int, str])
    """Process → name of the call in which it dies."""
    hidden_reads: int = 0

    def handle(self, call: Call) -> tuple[int, Any]:
        """Take the worker's name off the path, and handle the rest."""
        _, _, pid, path = call.path.split("/", 3)
        call.path = "/" + path
        answer = self.inner.handle(call)
        if call.method != "GET" and self.doomed.get(int(pid)) == _kind(call.path):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        return answer


def _kind(path: str) -> str:
    endings = {"/capture": "capture", "/cancel": "void", "/transfers": "pay_out", "/intents": "authorise"}
    return next((name for ending, name in endings.items() if path.endswith(ending)), "authorise")


@dataclass
class Progress:
    """Kills so far, by point."""

    kills: Counter[str] = field(default_factory=Counter[str])
    sessions: int = 0
    orders: int = 0
    payouts: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list[str])

    def save(self, path: Path) -> None:
        """Keep it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(vars(self)))
        fresh.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Progress":
        """Take it up again, or begin."""
        if not path.exists():
            return cls()
        kept = json.loads(path.read_text())
        return cls(**(kept | {"kills": Counter(kept["kills"])}))


class Killers:
    """The workers: a few at once, each with a point at which it dies."""

    def __init__(self, settings: Settings, books: KillingBooks, progress: Progress, kills: int) -> None:
        self._settings = settings
        self._books = books
        self._progress = progress
        self._left = kills
        self._chance = random.Random(progress.sessions)
        self._mother: asyncio.subprocess.Process | None = None
        self._born: dict[int, tuple[str, float]] = {}
        self.done = asyncio.Event()

    async def run(self, workers: int) -> None:
        """Keep ``workers`` alive; once all kills are done, with ones that live."""
        values = {
            environment_variable(name): str(_plain(getattr(self._settings, name)))
            for name in self._settings.model_fields_set
        }
        self._mother = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bench.kill_points",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=dict(os.environ) | values,
        )
        assert self._mother.stdout is not None
        for _ in range(workers):
            self._order_one()
        impatient = asyncio.create_task(self._lose_patience())
        try:
            while line := await self._mother.stdout.readline():
                self._hear(json.loads(line))
        finally:
            impatient.cancel()

    async def close(self) -> None:
        """End all of them."""
        if self._mother is not None and self._mother.stdin is not None:
            self._mother.stdin.close()
            await self._mother.wait()

    def _order_one(self) -> None:
        assert self._mother is not None
        assert self._mother.stdin is not None
        point = ""
        if not self.done.is_set():
            # Often the arrow that was cut least; always that one would mean to wait for rare ones only.
            least = min(POINTS, key=lambda each: self._progress.kills[each])
            point = least if self._chance.random() < 0.3 else self._chance.choice(POINTS)
        self._mother.stdin.write(f"{point}\n".encode())

    def _hear(self, fact: dict[str, Any]) -> None:
        if "born" in fact:
            pid, point = fact["born"], fact["point"]
            self._born[pid] = (point, time.monotonic())
            if point.endswith(" in the call"):
                self._books.doomed[pid] = point.split()[0]
            return
        point, _ = self._born.pop(fact["dead"], ("", 0.0))
        self._books.doomed.pop(fact["dead"], None)
        if fact["signal"] == signal.SIGKILL:
            self._progress.kills[point or "anywhere"] += 1
            self._left -= 1
            if self._progress.kills.total() % 50 == 0:
                print(f"{self._progress.kills.total()} kills", flush=True)
            if self._left <= 0:
                self.done.set()
        self._order_one()

    async def _lose_patience(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            for pid, (point, since) in list(self._born.items()):
                if point and (time.monotonic() - since > PATIENCE or self.done.is_set()):
                    self._born[pid] = ("", time.monotonic())
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)


def _plain(value: object) -> object:
    secret = getattr(value, "get_secret_value", None)
    return value if secret is None else secret()


async def session(settings: Settings, progress: Progress, kills: int, workers: int) -> None:
    """Kill so often on one database, let everything come to its end, and compare the books."""
    books = KillingBooks(StripeBooks())
    async with HostileServer(books) as server:
        reachable = settings.model_copy(update={"stripe_api_url": server.url, "stripe_api_key": "sk_test"})
        changed = Settings.model_validate(
            {name: getattr(reachable, name) for name in {*settings.model_fields_set, "stripe_api_url"}}
            | {"stripe_api_key": "sk_test"}
        )
        async with open_services(changed, name="kills") as services:
            temporal = await connect(changed, services.objects)
            agents = Agents(services.database, services.signer)
            payout = PayoutActivities(services, {})
            core = Worker(
                temporal,
                task_queue=TaskQueue.CORE.value,
                workflows=[PaidOrder, PayoutRun, Payout],
                activities=[agents.run_order, payout.open_payout, payout.tell_developer],
                workflow_runner=UnsandboxedWorkflowRunner(),
            )
            killers = Killers(changed, books, progress, kills)
            async with core:
                killing = asyncio.create_task(killers.run(workers))
                try:
                    await _work(services, temporal, killers, progress, books.inner)
                finally:
                    await killers.close()
                    await killing


async def _work(
    services: Services, temporal: Client, killers: Killers, progress: Progress, books: StripeBooks
) -> None:
    """Buy and pay out until the kills are done, wait for the last, and compare."""
    world = KillWorld(services.database, services.signer, random.Random(progress.sessions))
    await world.open()
    room = asyncio.Semaphore(IN_FLIGHT)
    running: set[asyncio.Task[None]] = set()

    async def order() -> None:
        try:
            wanted = await world.order()
            await temporal.execute_workflow(
                PaidOrder.run, wanted, id=f"order/{wanted.execution_id}", task_queue=TaskQueue.CORE
            )
        finally:
            room.release()

    async def pay_out() -> None:
        period = await world.week()
        await temporal.execute_workflow(
            PayoutRun.run,
            PayoutRunRequest(period=period),
            id=f"payout-run/{period}",
            task_queue=TaskQueue.CORE,
        )

    weeks = 0
    while not killers.done.is_set():
        await room.acquire()
        running.add(task := asyncio.create_task(order()))
        task.add_done_callback(running.discard)
        if len(world.orders) // 25 > weeks:
            weeks += 1
            running.add(task := asyncio.create_task(pay_out()))
            task.add_done_callback(running.discard)
    async with asyncio.timeout(QUIET_SECONDS):
        await asyncio.gather(*running)
        for payout_id in await world.payouts():
            await temporal.get_workflow_handle_for(Payout.run, f"payout/{payout_id}").result()
    progress.orders += len(world.orders)
    progress.payouts += len(await world.payouts())
    progress.faults += await compare(world, books)


def main() -> int:
    """Run or continue."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--session", type=int, default=250, help="kills between two comparisons")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--state", type=Path, default=Path(".switchyard/settle-kills.json"))
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.getLogger("temporalio").setLevel(logging.CRITICAL)
    progress = Progress.load(options.state)
    with (
        tempfile.TemporaryDirectory(prefix="settle-kills-") as directory,
        EmbeddedStack(Path(directory), parts=["postgres", "temporal", "s3"], durable=False) as settings,
    ):
        upgrade(settings.database_owner_url.get_secret_value())
        while progress.kills.total() < options.kills and not progress.faults:
            begun = time.monotonic()
            wanted = min(options.session, options.kills - progress.kills.total())
            asyncio.run(session(settings, progress, wanted, options.workers))
            progress.sessions += 1
            progress.seconds += time.monotonic() - begun
            progress.save(options.state)
            print(f"{progress.kills.total()} of {options.kills} kills, {progress.orders} orders", flush=True)
    print("\n".join(lines(progress)))
    return 1 if progress.faults else 0


def lines(progress: Progress) -> Sequence[str]:
    """Word what was done."""
    return [
        f"{progress.kills.total()} kills in {progress.seconds:.0f} s: {progress.orders} orders, "
        f"{progress.payouts} payouts",
        *(f"  {count:>5}  {point}" for point, count in sorted(progress.kills.items())),
        *(f"  never  {point}" for point in POINTS if point not in progress.kills),
        *(f"VIOLATION {fault}" for fault in progress.faults),
        "the rail's books equal ours" if not progress.faults else "THE BOOKS DIFFER",
    ]


if __name__ == "__main__":
    sys.exit(main())
