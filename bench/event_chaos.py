"""The promise of the event log under deaths: every client's view is complete, ordered, once.

``python -m bench.event_chaos [--seconds N] [--seed N]``, part of ``make chaos``. Twelve writers in four
processes, two publishers and three APIs in processes of their own; one of them, or the connections that the
APIs listen on, is killed every second or so. A killed writer begins its plan anew, with the same keys.
Clients leave anywhere and resume at any API that lives.
"""

import argparse
import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import orjson
import psycopg

from activities.records.database import Database, DatabaseUnavailableError
from activities.records.migrate import upgrade
from activities.records.runs import append_events, create_run
from api.issuer_key import IssuerKey
from bench.events import TENANT, store_of
from cli.stack.embedded import EmbeddedStack
from cli.stack.ports import free_ports
from cli.stack.secrets import SecretStore
from models.event import EventType, NewEvent
from models.identity import Role
from models.run import Run, RunKind, RunStatus
from models.settings import Settings, load_settings

WRITERS, WRITERS_PER_PROCESS = 12, 3
PUBLISHERS, APIS = 2, 3
RUNS, CLIENTS = 24, 48
STEPS = 200
QUIET_SECONDS = 120.0
"""After the last kill everything must have arrived within this time."""


def run_id(number: int) -> str:
    return f"exec_{0xC4A05:024x}{number:08x}"


def plan(writer: int) -> list[tuple[int, list[str]]]:
    """What a writer appends, step by step: the run and the keys. The same whenever it is asked for."""
    chance = random.Random(writer)
    return [
        (chance.randrange(RUNS), [f"{writer}-{step}-{part}" for part in range(chance.randrange(1, 4))])
        for step in range(STEPS)
    ]


async def write_all(settings: Settings, first: int) -> None:
    """Carry out the plans of one process's writers from their beginning."""

    async def write(store: Database, writer: int) -> None:
        for number, keys in plan(writer):
            events = [NewEvent(type=EventType.LOG, key=key, data={"text": key}) for key in keys]
            async with store.tenant(TENANT) as connection:
                await append_events(connection, run_id(number), events)

    async with store_of(settings, WRITERS_PER_PROCESS) as store:
        await asyncio.gather(*(write(store, first + each) for each in range(WRITERS_PER_PROCESS)))


@dataclass
class Part:
    """A process that may be killed and is started again, unless it has done its work."""

    name: str
    command: list[str]
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    done: bool = False

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, env=self.environment)

    def kill(self) -> None:
        assert self.process is not None, "it was started"
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def tend(self) -> None:
        """Start it again if it is dead and not done."""
        assert self.process is not None, "it was started"
        status = self.process.poll()
        if status is None or self.done:
            return
        self.done = status == 0
        if not self.done:
            self.start()


@dataclass
class Campaign:
    """What happened, and what was wrong."""

    kills: Counter[str] = field(default_factory=Counter[str])
    violations: list[str] = field(default_factory=list[str])
    connections: int = 0


def parts_of(settings: Settings, ports: list[int]) -> list[Part]:
    environment = {**os.environ, **settings.as_environment(), "LOG_LEVEL": "error"}
    python = sys.executable
    writers = [
        Part("writer", [python, "-m", "bench.event_chaos", "--write", str(first)], environment)
        for first in range(0, WRITERS, WRITERS_PER_PROCESS)
    ]
    publishers = [
        Part("publisher", [python, "-m", "activities.streams.publisher"], environment)
        for _ in range(PUBLISHERS)
    ]
    serve = [python, "-m", "uvicorn", "--factory", "api.app:create_app", "--log-level=critical"]
    apis = [Part("api", [*serve, "--no-access-log", f"--port={port}"], environment) for port in ports]
    return [*writers, *publishers, *apis]


async def frames(answer: httpx.Response) -> AsyncIterator[tuple[str, str]]:
    """Yield number and type of each frame of a stream."""
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            yield fields.get("id", ""), fields.get("event", "")
            fields = {}


async def watch(
    campaign: Campaign, servers: list[httpx.AsyncClient], token: str, run: str, seed: int
) -> list[int]:
    """Follow a run to its end at whichever API lives; returns the numbers seen."""
    chance = random.Random(seed)
    seen: list[int] = []
    headers = {"Authorization": f"Bearer {token}"}
    while True:
        patience = chance.randrange(1, 400)
        resume = {"Last-Event-ID": str(seen[-1])} if seen else {}
        with contextlib.suppress(httpx.TransportError):
            async with chance.choice(servers).stream(
                "GET", f"/runs/{run}/stream", headers=headers | resume
            ) as answer:
                campaign.connections += 1
                if answer.status_code == 204:
                    return seen
                async for number, kind in frames(answer):
                    if kind == "end":
                        return seen
                    seen.append(int(number))
                    patience -= 1
                    if patience == 0:
                        break
        await asyncio.sleep(chance.uniform(0, 0.5))


async def kill_listeners(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'switchyard-hub' AND usename = current_user"
        )


async def carry_out(settings: Settings, seconds: float, seed: int) -> Campaign:
    """Run a campaign and check what every client saw against the store."""
    campaign, chance = Campaign(), random.Random(seed)
    ports = free_ports(APIS)
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    key = IssuerKey.from_settings(settings)
    assert key is not None, "the settings name a key"
    token = key.issue(
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        name="chaos",
        tenant_id=TENANT,
        roles=[Role.ADMIN],
        lifetime_seconds=24 * 3600,
    )
    async with store_of(settings, 4) as store, AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(
                httpx.AsyncClient(
                    base_url=url, timeout=20, limits=httpx.Limits(max_connections=None), trust_env=False
                )
            )
            for url in urls
        ]
        for number in range(RUNS):
            run = Run(
                id=run_id(number),
                tenant_id=TENANT,
                kind=RunKind.AGENT_EXECUTION,
                subject="chaos",
                correlation_id="chaos",
                workflow_id=run_id(number),
            )
            async with store.tenant(TENANT) as connection:
                await create_run(connection, run)
        parts = parts_of(settings, ports)
        for part in parts:
            part.start()
        clients = [
            asyncio.create_task(watch(campaign, servers, token, run_id(number % RUNS), seed + number))
            for number in range(CLIENTS)
        ]
        try:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                await asyncio.sleep(chance.uniform(0.5, 1.5))
                victims = [part for part in parts if not part.done]
                victim = chance.choice([*victims, None])
                if victim is None:
                    await kill_listeners(settings.database_platform_url.get_secret_value())
                else:
                    await asyncio.to_thread(victim.kill)
                campaign.kills[victim.name if victim else "listeners"] += 1
                for part in parts:
                    part.tend()
            await _finish(campaign, store, parts, clients)
        finally:
            for task in clients:
                task.cancel()
            await asyncio.wait(clients)
            for part in parts:
                if part.process is not None and part.process.poll() is None:
                    part.kill()
    return campaign


async def _finish(
    campaign: Campaign, store: Database, parts: list[Part], clients: list[asyncio.Task[list[int]]]
) -> None:
    writers = [part for part in parts if part.name == "writer"]
    quiet = time.monotonic() + QUIET_SECONDS
    while not all(part.done for part in writers):
        if time.monotonic() > quiet:
            campaign.violations.append("writers did not finish")
            return
        await asyncio.sleep(0.2)
        for part in parts:
            part.tend()
    for number in range(RUNS):
        while True:
            try:
                async with store.tenant(TENANT) as connection:
                    await append_events(connection, run_id(number), [], status=RunStatus.FAILED)
                break
            except DatabaseUnavailableError:
                await asyncio.sleep(0.2)
    _, late = await asyncio.wait(clients, timeout=QUIET_SECONDS)
    if late:
        campaign.violations.append(f"{len(late)} clients did not reach the end")
        return
    wanted = Counter(run for writer in range(WRITERS) for run, keys in plan(writer) for _ in keys)
    for number, client in enumerate(clients):
        view, count = client.result(), wanted[number % RUNS] + 1
        if view != list(range(1, count + 1)):
            missing = sorted(set(range(1, count + 1)) - set(view))[:5]
            campaign.violations.append(
                f"client {number} saw {len(view)} of {count}; missing {missing}, "
                f"doubled {len(view) - len(set(view))}, ordered {view == sorted(view)}"
            )
    async with store.platform() as connection:
        row = await (
            await connection.execute(
                "SELECT count(*) AS events, count(DISTINCT (run_id, key)) AS keys, "
                "count(DISTINCT position) AS positions, max(position) - min(position) + 1 AS span "
                "FROM run_events"
            )
        ).fetchone()
    if row is None or len(set(row.values())) != 1:
        campaign.violations.append(f"the store is not gap-free and once: {row}")


def main() -> int:
    """Run a campaign; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long parts are killed")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--output", type=Path)
    parser.add_argument("--write", type=int, metavar="FIRST", help="one writing process")
    arguments = parser.parse_args()
    if arguments.write is not None:
        asyncio.run(write_all(load_settings(), arguments.write))
        return 0
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
                    "api_metrics_port": 0,
                    "encryption_keys": keys.encryption_keys(),
                }
            )
            started = time.monotonic()
            campaign = asyncio.run(carry_out(settings, arguments.seconds, arguments.seed))
            seconds = time.monotonic() - started
    print(
        f"events, seed {arguments.seed}: {seconds:.0f} s, {CLIENTS} clients connected {campaign.connections}x"
    )
    print(f"killed: {', '.join(f'{name} {count}x' for name, count in sorted(campaign.kills.items()))}")
    for violation in campaign.violations:
        print(f"VIOLATION: {violation}")
    if not campaign.violations:
        print("every view is complete, ordered and once")
    if arguments.output is not None:
        facts = {"kills": campaign.kills, "violations": campaign.violations, "seconds": seconds}
        arguments.output.write_bytes(orjson.dumps(facts))
    return 1 if campaign.violations else 0


if __name__ == "__main__":
    sys.exit(main())
