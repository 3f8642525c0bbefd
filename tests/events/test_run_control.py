"""Listing runs, and commands that are refused; what they do is shown where their workflows are."""

import asyncio

import httpx
import pytest

from activities.records.database import Database
from cli.client import ApiClient
from cli.stream import follow_run
from models.errors import NotFoundError
from models.identity import Role
from models.run import RunKind
from tests.api.calling import bearer
from tests.events.conftest import Token
from tests.events.log import a_run, end, write


async def test_runs_are_listed_newest_first_by_filter_and_page(
    store: Database, web: httpx.AsyncClient, token: Token
) -> None:
    first = await a_run(store)
    tenant = first.tenant_id
    flow = await a_run(store, tenant, kind=RunKind.FLOW)
    third = await a_run(store, tenant)
    await a_run(store)
    await end(store, third)

    async def listed(query: str) -> list[str]:
        found: list[str] = []
        cursor = ""
        while True:
            answer = await web.get(f"/runs?limit=2{query}{cursor}", headers=bearer(token(tenant)))
            page = answer.json()["data"]
            found += [run["id"] for run in page["items"]]
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    assert await listed("") == [third.id, flow.id, first.id]
    assert await listed("&kind=flow") == [flow.id]
    assert await listed("&status=FAILED") == [third.id]
    assert await listed(f"&correlation_id={first.id}") == [first.id]
    assert await listed("&subject=other") == []


@pytest.mark.parametrize("command", ["cancel", "pause", "resume"])
async def test_an_ended_run_takes_no_command(
    store: Database, web: httpx.AsyncClient, token: Token, command: str
) -> None:
    run = await a_run(store)
    await end(store, run)
    answer = await web.post(f"/runs/{run.id}/{command}", json={}, headers=bearer(token(run.tenant_id)))
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "RUN_COMMAND_REFUSED"


async def test_nobody_commands_another_tenants_run_or_without_permission(
    store: Database, web: httpx.AsyncClient, token: Token
) -> None:
    run = await a_run(store)
    stranger = await web.post(f"/runs/{run.id}/cancel", json={}, headers=bearer(token("tenant-other")))
    assert stranger.status_code == 404
    reviewer = token(run.tenant_id, Role.REVIEWER)
    assert (await web.post(f"/runs/{run.id}/cancel", json={}, headers=bearer(reviewer))).status_code == 403


@pytest.mark.usefixtures("publisher")
async def test_the_command_line_follows_a_run_to_its_end(store: Database, server: str, token: Token) -> None:
    run = await a_run(store)
    await write(store, run, "a", "b")

    def watch() -> list[int]:
        with ApiClient(server, token(run.tenant_id)) as client:
            return [event["seq"] for event in follow_run(client, run.id, from_seq=2)]

    watching = asyncio.create_task(asyncio.to_thread(watch))
    await write(store, run, "c")
    await end(store, run)
    assert await watching == [2, 3, 4]


async def test_the_command_line_says_that_a_run_does_not_exist(
    store: Database, server: str, token: Token
) -> None:
    run = await a_run(store)

    def watch() -> None:
        with ApiClient(server, token("tenant-other")) as client:
            list(follow_run(client, run.id))

    with pytest.raises(NotFoundError):
        await asyncio.to_thread(watch)
