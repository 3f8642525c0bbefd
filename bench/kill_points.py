"""Worker processes that die by SIGKILL at a named point of the money's protocols.

A mother process has imported everything and forks a worker per order, so that a death costs little. A point
is an arrow: a transaction of a function, before or after its commit, or a call of the rail, before, in or
after it. Where a call dies in the middle, the rail itself pulls the trigger: it has the request, nobody the
answer. The point is given to the worker in ``SWITCHYARD_KILL_POINT``; without one it lives.
"""

import asyncio
import json
import os
import selectors
import signal
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, cast

from temporalio.worker import Worker

from activities.payment import PaymentActivities
from activities.payout import PayoutActivities, PayoutRails
from activities.rails.registry import open_rails, outside_rails
from activities.records.database import Connection, Database
from activities.services import Services
from activities.signing import Signer
from activities.storage import ObjectStore
from activities.temporal.client import connect
from activities.temporal.codec import KeyRing
from models.settings import Settings
from models.task_queues import TaskQueue

KILL_POINT = "SWITCHYARD_KILL_POINT"

TRANSACTIONS = (
    "send_authorisation/1",
    "authorise/1",
    "settle/1",
    "send_settlement/1",
    "settle/2",
    "release/1",
    "release/2",
    "WalletRail.capture/1",
    "WalletRail.void/1",
    "claim_shard/1",
    "send_payout/1",
    "PayoutActivities.send_payout/1",
)
"""Function that opens a transaction, and which one of it."""

CALLS = ("authorise", "capture", "void", "pay_out")

POINTS = (
    *(f"{name} {moment}" for name in TRANSACTIONS for moment in ("before commit", "after commit")),
    *(f"{name} {moment}" for name in CALLS for moment in ("not sent", "in the call", "answered")),
)
"""Every arrow at which a worker is killed."""

_opened: ContextVar[tuple[object, Counter[str]] | None] = ContextVar("opened", default=None)


def reach(point: str) -> None:
    """Die here, if this is the point."""
    if os.environ.get(KILL_POINT) == point:
        os.kill(os.getpid(), signal.SIGKILL)


def _name_of_transaction() -> str:
    """Name the function of ours that opens a transaction, and which one of it in this task."""
    frame = sys._getframe(1)
    while frame.f_back is not None and not _is_ours(frame.f_code.co_filename):
        frame = frame.f_back
    task, seen = asyncio.current_task(), _opened.get()
    if seen is None or seen[0] is not task:
        seen = (task, Counter[str]())
        _opened.set(seen)
    name = frame.f_code.co_qualname
    seen[1][name] += 1
    return f"{name}/{seen[1][name]}"


def _is_ours(filename: str) -> bool:
    return "/activities/" in filename and not filename.endswith("/database.py")


class DeadlyDatabase(Database):
    """A real database; the process may die around the commits of its platform transactions."""

    @asynccontextmanager
    async def platform(self) -> AsyncGenerator[Connection]:
        name = _name_of_transaction()
        async with super().platform() as connection:
            yield connection
            reach(f"{name} before commit")
        reach(f"{name} after commit")


class DeadlyRail:
    """A real rail's adapter; the process may die before a call or with its answer in hand."""

    def __init__(self, rail: object) -> None:
        self._rail = rail

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._rail, name)
        if name not in CALLS:
            return found

        async def called(**arguments: Any) -> Any:
            reach(f"{name} not sent")
            answer = await found(**arguments)
            reach(f"{name} answered")
            return answer

        return called


async def serve(settings: Settings) -> None:
    """Be a worker of the money queue until killed."""
    database = DeadlyDatabase(
        settings.database_url.get_secret_value(),
        settings.database_platform_url.get_secret_value(),
        max_connections=6,
        name="killed",
    )
    async with database, outside_rails(settings) as outside:
        services = Services(
            settings=settings,
            database=database,
            objects=ObjectStore(settings),
            key_ring=KeyRing(settings.encryption_key_ring()),
            signer=Signer.from_settings(settings),
        )
        deadly = {name: cast("Any", DeadlyRail(rail)) for name, rail in outside.items()}
        payment = PaymentActivities(database, services.signer, open_rails(database, deadly.values()))
        rails: PayoutRails = {**deadly}
        payout = PayoutActivities(services, rails)
        worker = Worker(
            await connect(settings, services.objects),
            task_queue=TaskQueue.MONEY.value,
            activities=[
                payment.authorise,
                payment.settle,
                payment.release,
                payout.claim_payouts,
                payout.send_payout,
            ],
            max_concurrent_activities=4,
        )
        await worker.run()


def _work(point: str) -> None:
    if point:
        os.environ[KILL_POINT] = point
    # The rail sees whose call it is by the path, so that it can kill the caller in the middle.
    api = os.environ["STRIPE_API_URL"]
    settings = Settings().model_copy(update={"stripe_api_url": f"{api}/worker/{os.getpid()}"})
    asyncio.run(serve(settings))


def mother() -> None:
    """Fork a worker per line of standard input (the point, or empty); report births and deaths."""
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    children: set[int] = set()
    unread = b""
    while True:
        ready = selector.select(timeout=0.05)
        while children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            children.discard(pid)
            _tell({"dead": pid, "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0})
        if not ready:
            continue
        read = os.read(0, 65_536)
        if not read:
            for pid in children:
                os.kill(pid, signal.SIGKILL)
            return
        *orders, unread = (unread + read).split(b"\n")
        for order in orders:
            children.add(_fork(order.decode()))


def _fork(point: str) -> int:
    pid = os.fork()
    if pid:
        _tell({"born": pid, "point": point})
        return pid
    try:
        os.close(0)
        # Standard output is the mother's line to the harness; libraries may write there, too.
        os.dup2(2, 1)
        _work(point)
    finally:
        os._exit(1)


def _tell(fact: dict[str, object]) -> None:
    print(json.dumps(fact), flush=True)


if __name__ == "__main__":
    mother()
