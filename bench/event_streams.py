"""Live streams measured: many clients of one API process, a storm of them, and how fast an event arrives.

``python -m bench.event_streams [--clients N] [--output FILE]``. API and clients are processes of their own.
Ratios and orders of magnitude matter: absolute times depend on the machine and on what else it does.
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
from urllib.parse import urlsplit

import httpx
import orjson
import psutil

from activities.records.database import Database
from activities.records.migrate import upgrade
from activities.records.runs import append_events, create_run
from activities.streams.publisher import publishing
from api.issuer_key import IssuerKey
from bench.events import TENANT, store_of
from bench.figures import Figure, percentile, report
from cli.stack.embedded import EmbeddedStack
from cli.stack.ports import free_ports
from cli.stack.secrets import SecretStore
from models.event import EventType, NewEvent
from models.identifiers import new_identifier
from models.identity import Role
from models.run import Run, RunKind
from models.settings import Settings

AT_ONCE = 100
"""Connections that are opened together, but in a storm."""

EVENTS = 10
STEADY_RUNS, CLIENTS_PER_RUN = 50, 2
STEADY_RATE, STEADY_SECONDS = 500, 10.0
PATIENCE_SECONDS = 120.0


@contextmanager
def api_process(settings: Settings) -> Generator[tuple[str, psutil.Process]]:
    """Run the API in a process of its own."""
    port = free_ports(1)[0]
    command = [sys.executable, "-m", "uvicorn", "--factory", "api.app:create_app", f"--port={port}"]
    command += ["--log-level=error", "--no-access-log", "--timeout-graceful-shutdown=3", "--backlog=8192"]
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
    """Clients of streams; each remembers the last number it saw and resumes there."""

    url: str
    token: str
    connected: int = 0
    latencies: list[float] = field(default_factory=list[float])
    seqs: dict[int, int] = field(default_factory=dict[int, int])
    faults: int = 0
    progress: asyncio.Event = field(default_factory=asyncio.Event)

    async def reached(self, count: Callable[[], int], wanted: int) -> None:
        """Wait until ``count`` has reached what is wanted, or patience is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while count() < wanted:
                    self.progress.clear()
                    await self.progress.wait()

    async def listen(self, number: int, run_id: str) -> None:
        """Read frames with nothing between us and the socket: the client is measured, too, otherwise."""
        address = urlsplit(self.url)
        # Addresses of the loopback network, so that one pair of addresses does not run out of ports.
        local = (f"127.0.0.{2 + number // 20_000}", 0)
        reader, writer = await asyncio.open_connection(
            address.hostname, address.port, local_addr=local, limit=2**15
        )
        last = self.seqs.get(number, 0)
        resume = f"Last-Event-ID: {last}\r\n" if last else ""
        writer.write(
            f"GET /runs/{run_id}/stream HTTP/1.1\r\nHost: {address.netloc}\r\n{resume}"
            f"Authorization: Bearer {self.token}\r\n\r\n".encode()
        )
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head:
                self.faults += 1
                return
            self.connected += 1
            self.progress.set()
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


async def a_run(store: Database) -> Run:
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
    return run


async def tell(store: Database, run_id: str, number: int) -> None:
    event = NewEvent(type=EventType.LOG, key=f"e{number}", data={"sent": time.time()})
    async with store.tenant(TENANT) as connection:
        await append_events(connection, run_id, [event])


async def end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def fan_out(store: Database, crowd: Crowd, server: psutil.Process, clients: int) -> list[Figure]:
    """Connect clients to one run and send it events; then let all of them go and come back at once."""
    run = await a_run(store)
    async with httpx.AsyncClient(base_url=crowd.url, trust_env=False) as warm:
        await warm.get(f"/runs/{run.id}", headers={"Authorization": f"Bearer {crowd.token}"})
    before = server.memory_info().rss
    started = time.monotonic()
    tasks: list[asyncio.Task[None]] = []
    for first in range(0, clients, AT_ONCE):
        last = min(first + AT_ONCE, clients)
        tasks += [asyncio.create_task(crowd.listen(number, run.id)) for number in range(first, last)]
        await crowd.reached(lambda last=last: crowd.connected, last)
    connecting = time.monotonic() - started
    memory = (server.memory_info().rss - before) / clients / 1024
    for number in range(EVENTS):
        await tell(store, run.id, number)
        await crowd.reached(lambda: len(crowd.latencies), clients * (number + 1))
    latencies = list(crowd.latencies)
    missing = clients * EVENTS - len(latencies)
    await end(tasks)
    crowd.connected = 0
    await tell(store, run.id, EVENTS)
    started = time.monotonic()
    tasks = [asyncio.create_task(crowd.listen(number, run.id)) for number in range(clients)]
    await crowd.reached(lambda: len(crowd.latencies), clients * (EVENTS + 1))
    storm = time.monotonic() - started
    back = len(crowd.latencies) - clients * EVENTS
    await end(tasks)
    return [
        Figure(f"{clients} SSE clients on one API process, to connect", connecting, "s"),
        Figure("memory of the API per client", memory, "KiB", "under 40"),
        Figure("one event to all of them, p50", percentile(latencies, 0.5), "s"),
        Figure("one event to all of them, p99", percentile(latencies, 0.99), "s", "under 1"),
        Figure("all come back at once: until each has what it missed", storm, "s"),
        Figure("of them have it", back, "", str(clients)),
        Figure("events missing, doubled or out of order", missing + crowd.faults, "", "0"),
    ]


async def steady(store: Database, crowd: Crowd) -> list[Figure]:
    """Append at a steady rate to many runs, each with followers; how long an event takes to arrive."""
    runs = [await a_run(store) for _ in range(STEADY_RUNS)]
    tasks = [
        asyncio.create_task(crowd.listen(number, runs[number % STEADY_RUNS].id))
        for number in range(STEADY_RUNS * CLIENTS_PER_RUN)
    ]
    await crowd.reached(lambda: crowd.connected, len(tasks))
    total, writers = int(STEADY_RATE * STEADY_SECONDS), 8
    started = time.monotonic()

    async def write(writer: int) -> None:
        for number in range(writer, total, writers):
            pause = started + number / STEADY_RATE - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
            await tell(store, runs[number % STEADY_RUNS].id, number)

    await asyncio.gather(*(write(writer) for writer in range(writers)))
    rate = total / (time.monotonic() - started)
    await crowd.reached(lambda: len(crowd.latencies), total * CLIENTS_PER_RUN)
    missing = total * CLIENTS_PER_RUN - len(crowd.latencies)
    await end(tasks)
    return [
        Figure("steady rate reached", rate, "events/s", str(STEADY_RATE)),
        Figure("from before the commit to the client, p50", percentile(crowd.latencies, 0.5) * 1000, "ms"),
        Figure(
            "from before the commit to the client, p99",
            percentile(crowd.latencies, 0.99) * 1000,
            "ms",
            "under 150",
        ),
        Figure("events missing, doubled or out of order", missing + crowd.faults, "", "0"),
    ]


async def measure(settings: Settings, url: str, server: psutil.Process, clients: int) -> list[Figure]:
    key = IssuerKey.from_settings(settings)
    assert key is not None, "the settings name a key"
    token = key.issue(
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        name="bench",
        tenant_id=TENANT,
        roles=[Role.ADMIN],
        lifetime_seconds=3600,
    )
    async with store_of(settings, 10) as store, publishing(store):
        figures = await steady(store, Crowd(url, token))
        return figures + await fan_out(store, Crowd(url, token), server, clients)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=5000)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
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
                    "api_metrics_port": 0,
                    # All clients are one person's here.
                    "rate_limit_key_quota": 1_000_000,
                    "rate_limit_tenant_quota": 1_000_000,
                }
            )
            with api_process(settings) as (url, server):
                figures = asyncio.run(measure(settings, url, server, arguments.clients))
    report("Live streams", figures, arguments.output)


if __name__ == "__main__":
    main()
