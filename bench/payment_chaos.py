"""Random schedules of faults against the payment core; at each batch's end every book must agree.

``python -m bench.payment_chaos [--schedules 100000] [--seed N] [--state FILE]``, part of ``make chaos``. A
schedule is a purchase, a payout or a burst of purchases with whatever its seed does to it: lost, doubled,
late and unreadable answers of the rail, workers that die around their commits or race, webhooks that are
faster than answers, mandates that expire or are revoked (`tests.rails.schedule`). The fifteen invariants are
checked against the rails' own books. What is done is kept in the state file: the same command goes on where
it was stopped, and ends by itself.
"""

import argparse
import asyncio
import json
import logging
import multiprocessing
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from multiprocessing.queues import Queue
from pathlib import Path

import structlog

from activities.records.database import Database
from activities.records.migrate import upgrade
from activities.signing import Signer, generate_key
from cli.stack.embedded import EmbeddedStack
from tests.payment.shop import ledger_faults
from tests.rails.mortal import MortalDatabase
from tests.rails.schedule import ScheduleError, open_lines, play_batch

SLOTS = 3
"""Batches at once in one process, so that its workers also meet at the platform's own accounts."""

MOST_FAULTS = 10


@dataclass
class Progress:
    """How far a campaign is."""

    seed: int
    schedules: int
    batch: int
    done: list[int] = field(default_factory=list[int])
    """First seeds of the batches that were played."""
    faults: list[str] = field(default_factory=list[str])
    seconds: float = 0.0

    @property
    def played(self) -> int:
        """Schedules so far."""
        return len(self.done) * self.batch

    def save(self, path: Path) -> None:
        """Write it so that a stop in between leaves the old one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(self)))
        fresh.replace(path)


def resumed(path: Path, seed: int | None, schedules: int, batch: int) -> Progress:
    """Take up the campaign of the state file, if it is one that is not finished; else begin another."""
    if path.exists():
        found = Progress(**json.loads(path.read_text()))
        same = (seed in (None, found.seed), schedules == found.schedules, batch == found.batch)
        if all(same) and found.played < found.schedules:
            return found
    return Progress(seed=int(time.time()) if seed is None else seed, schedules=schedules, batch=batch)


async def work(
    app_url: str, platform_url: str, keys: str, todo: "Queue[range | None]", told: "Queue[tuple[int, str]]"
) -> None:
    """Play batches until there are none, several at once."""
    signer = Signer.from_directory(Path(keys))

    async def slot(store: MortalDatabase) -> None:
        async with open_lines(store) as lines:
            while True:
                seeds = await asyncio.to_thread(todo.get)
                if seeds is None:
                    todo.put(None)
                    return
                try:
                    await play_batch(store, signer, lines, seeds)
                    told.put((seeds.start, ""))
                except ScheduleError as error:
                    told.put((seeds.start, str(error)))
                except Exception as error:
                    told.put((seeds.start, f"seeds {seeds.start} on: {type(error).__name__}: {error}"))

    async with MortalDatabase(app_url, platform_url, max_connections=30) as store:
        await asyncio.gather(*(slot(store) for _ in range(SLOTS)))


def work_process(
    app_url: str, platform_url: str, keys: str, todo: "Queue[range | None]", told: "Queue[tuple[int, str]]"
) -> None:
    """Be one of the campaign's processes."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    asyncio.run(work(app_url, platform_url, keys, todo, told))


def campaign(progress: Progress, state: Path, workers: int) -> None:
    """Play what is left of the campaign."""
    begun, earlier = time.monotonic(), progress.seconds
    known = set(progress.done)
    starts = range(progress.seed, progress.seed + progress.schedules, progress.batch)
    left = [start for start in starts if start not in known]
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="payment-chaos-") as directory,
        EmbeddedStack(Path(directory) / "stack", parts=["postgres"], durable=False) as settings,
    ):
        upgrade(settings.database_owner_url.get_secret_value())
        keys = Path(directory) / "keys"
        generate_key(keys, "chaos")
        todo: Queue[range | None] = context.Queue()
        told: Queue[tuple[int, str]] = context.Queue()
        for start in left:
            todo.put(range(start, start + progress.batch))
        todo.put(None)
        urls = (settings.database_url.get_secret_value(), settings.database_platform_url.get_secret_value())
        processes = [
            context.Process(target=work_process, args=(*urls, str(keys), todo, told), daemon=True)
            for _ in range(workers)
        ]
        for process in processes:
            process.start()
        for number in range(1, len(left) + 1):
            start, fault = told.get()
            progress.done.append(start)
            progress.seconds = earlier + time.monotonic() - begun
            if fault:
                progress.faults.append(fault)
                print(f"VIOLATION {fault}", flush=True)
            if number % 10 == 0 or number == len(left):
                progress.save(state)
                here = number * progress.batch / (time.monotonic() - begun)
                print(f"{progress.played} of {progress.schedules} schedules, {here:.0f}/s", flush=True)
            if len(progress.faults) >= MOST_FAULTS:
                break
        progress.save(state)
        for process in processes:
            process.terminate()
            process.join()
        progress.faults += asyncio.run(whole_ledger(*urls))


async def whole_ledger(app_url: str, platform_url: str) -> list[str]:
    """Add the whole ledger up once, over all worlds."""
    async with Database(app_url, platform_url) as store:
        return await ledger_faults(store)


def main() -> int:
    """Run or continue the campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--state", type=Path, default=Path(".switchyard/payment-chaos.json"))
    options = parser.parse_args()
    progress = resumed(options.state, options.seed, options.schedules, options.batch)
    if progress.done:
        print(f"going on after {progress.played} schedules")
    campaign(progress, options.state, options.workers)
    print(f"seed {progress.seed}: {progress.played} schedules in {progress.seconds:.0f} s of work")
    for fault in progress.faults:
        print(f"VIOLATION: {fault}")
    print("our books equal the rails'" if not progress.faults else "THE BOOKS DIFFER")
    return 1 if progress.faults else 0


if __name__ == "__main__":
    sys.exit(main())
