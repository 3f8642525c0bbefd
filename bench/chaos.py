"""Kill parts at random while paid executions run, then prove that the books are right.

``make chaos`` runs 200 executions; the tests run a few with the same code.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
import time
import uuid
from dataclasses import dataclass, field

import docker
import httpx
import psycopg

from activities.sandbox.spec import LABEL_EXECUTION
from cli.stack.embedded import EmbeddedStack
from models.settings import Settings
from tests.builders import Marketplace, Person, manifest, unique

VICTIMS = ("worker", "api", "postgres")
PRICE = 50
SUCCEEDS = "import json, sys, time; time.sleep(0.2); print(json.dumps({'got': json.load(sys.stdin)}))"
FAILS = "import sys, time; time.sleep(0.2); print('no', file=sys.stderr); sys.exit(4)"
QUIET_SECONDS = 240.0
"""After the last kill everything must come to its end within this time."""


@dataclass
class Outcome:
    """What a campaign found."""

    seed: int
    executions: int
    kills: dict[str, int] = field(default_factory=dict[str, int])
    statuses: dict[str, int] = field(default_factory=dict[str, int])
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list[str])

    def lines(self) -> list[str]:
        """Return the findings as they are printed."""
        return [
            f"seed {self.seed}: {self.executions} executions in {self.seconds:.0f} s",
            f"killed: {', '.join(f'{name} {count}x' for name, count in sorted(self.kills.items()))}",
            f"ended: {', '.join(f'{name} {count}' for name, count in sorted(self.statuses.items()))}",
            *(f"VIOLATION: {violation}" for violation in self.violations),
            "the books are right" if not self.violations else "THE BOOKS ARE WRONG",
        ]


async def patiently(
    person: Person, method: str, path: str, body: object = None, key: str = ""
) -> httpx.Response:
    """Call until the API answers something final, as a client with an Idempotency-Key does."""
    deadline = time.monotonic() + QUIET_SECONDS
    while True:
        try:
            answer = await person.call(method, path, body, key=key or None)
            if answer.status_code < 500 and answer.status_code != 429:
                code = answer.json().get("error", {}).get("code")
                if code != "IDEMPOTENCY_IN_PROGRESS":
                    return answer
        except (httpx.TransportError, ValueError):
            pass
        if time.monotonic() > deadline:
            raise TimeoutError(f"{method} {path} has no answer")
        await asyncio.sleep(0.3)


async def prepare(http: httpx.AsyncClient) -> tuple[Person, list[tuple[str, str]]]:
    """Publish and deploy one agent that succeeds and one that fails; fund the user."""
    market = Marketplace(http)
    developer = await market.person("dev", "developer")
    reviewer = await market.person("rhea", "reviewer")
    user = await market.person("uma", "user")
    await market.fund(user, 500_000)
    deployed: list[tuple[str, str]] = []
    for code in (SUCCEEDS, FAILS):
        declared = manifest(
            unique("chaos"), pricing={"model": "per_execution", "amount": PRICE, "currency": "INR"}
        )
        agent = await market.publish(developer, reviewer, {"main.py": code}, declared)
        deployed.append((agent["agent_id"], await market.deploy(user, agent["agent_id"])))
    return user, deployed


async def campaign(
    stack: EmbeddedStack, settings: Settings, executions: int, kills: int, seed: int
) -> Outcome:
    """Run ``executions`` while ``kills`` parts are killed at random moments; then check the books."""
    chance = random.Random(seed)
    outcome = Outcome(seed=seed, executions=executions)
    begun = time.monotonic()
    async with httpx.AsyncClient(base_url=settings.public_url, timeout=30) as http:
        user, deployed = await prepare(http)
        started = asyncio.Semaphore(10)
        done = asyncio.Event()

        async def one(number: int) -> dict[str, object]:
            agent_id, deployment_id = deployed[0 if number % 4 else 1]
            body = {"deployment_id": deployment_id, "inputs": {"number": number}}
            async with started:
                answer = await patiently(
                    user,
                    "POST",
                    f"/agents/{agent_id}/execute",
                    body,
                    key=str(uuid.UUID(int=seed * 10_000 + number)),
                )
                if answer.status_code != 202:
                    return {"status": f"refused {answer.text[:200]}"}
                path = answer.json()["data"]["poll_url"]
                deadline = time.monotonic() + QUIET_SECONDS
                while time.monotonic() < deadline:
                    shown = (await patiently(user, "GET", path)).json()["data"]
                    if shown["status"] in {"success", "failed", "cancelled"}:
                        return shown
                    await asyncio.sleep(0.3)
                return {"status": "never ended", "execution_id": path}

        async def kill() -> None:
            for _ in range(kills):
                pause = chance.uniform(0.5, 4.0)
                try:
                    await asyncio.wait_for(done.wait(), pause)
                    return
                except TimeoutError:
                    pass
                victim = chance.choice(VICTIMS)
                process = stack.state.parts[victim].process
                if process is not None and process.process() is not None:
                    os.kill(process.pid, signal.SIGKILL)
                    outcome.kills[victim] = outcome.kills.get(victim, 0) + 1

        killer = asyncio.create_task(kill())
        ended = await asyncio.gather(*(one(number) for number in range(executions)))
        done.set()
        await killer
        for shown in ended:
            word = str(shown["status"])
            outcome.statuses[word] = outcome.statuses.get(word, 0) + 1
        wallet = (await patiently(user, "GET", "/wallets")).json()["data"]["items"][0]
    outcome.seconds = time.monotonic() - begun
    _check(settings, outcome, [dict(shown) for shown in ended], wallet)
    return outcome


def _check(
    settings: Settings, outcome: Outcome, ended: list[dict[str, object]], wallet: dict[str, int]
) -> None:
    complain = outcome.violations.append
    for shown in ended:
        if shown["status"] not in {"success", "failed"}:
            complain(f"{shown.get('execution_id')} is {shown['status']}")
    succeeded = {str(shown["execution_id"]) for shown in ended if shown["status"] == "success"}
    spent = 500_000 - wallet["available"] - wallet["held"]
    if spent != PRICE * len(succeeded):
        complain(f"{spent} was spent for {len(succeeded)} successes of {PRICE}")
    if wallet["held"]:
        complain(f"{wallet['held']} is still held")
    with psycopg.connect(settings.database_platform_url.get_secret_value()) as connection:
        for row in connection.execute(
            "SELECT currency, sum(amount) FROM ledger_postings GROUP BY currency HAVING sum(amount) <> 0"
        ):
            complain(f"the ledger does not sum to zero: {row}")
        mine = [str(shown.get("execution_id")) for shown in ended]
        paid = [
            row[0]
            for row in connection.execute(
                "SELECT execution_id FROM payments WHERE execution_id = ANY(%s)", [mine]
            )
        ]
        if sorted(paid) != sorted(succeeded):
            complain(f"paid {len(paid)} (distinct {len(set(paid))}), succeeded {len(succeeded)}")
        for row in connection.execute(
            "SELECT run_id FROM run_events WHERE run_id = ANY(%s) GROUP BY run_id "
            "HAVING max(seq) <> count(*) OR min(seq) <> 1",
            [mine],
        ):
            complain(f"the events of {row[0]} have a gap")
    left = _containers(settings, {str(name) for name in mine})
    if left:
        complain(f"containers are left: {left}")


def _containers(settings: Settings, executions: set[str]) -> list[str]:
    """Containers of these executions that outlive the time in which they are swept away."""
    client = docker.DockerClient(base_url=settings.docker_host)
    deadline = time.monotonic() + 120
    while True:
        names = [
            str(container.name)
            for container in client.containers.list(all=True, filters={"label": LABEL_EXECUTION})
            if container.labels.get(LABEL_EXECUTION) in executions
        ]
        if not names or time.monotonic() > deadline:
            client.close()
            return names
        time.sleep(1)


def main() -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executions", type=int, default=200)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    stack = EmbeddedStack()
    with stack as settings:
        outcome = asyncio.run(
            campaign(stack, settings, arguments.executions, arguments.kills, arguments.seed)
        )
    print("\n".join(outcome.lines()))
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main())
