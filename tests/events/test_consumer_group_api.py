"""Consumer groups over HTTP and from the command line."""

from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from activities.records.database import Database
from activities.records.events import last_position_of
from cli.main import build_app
from models.identity import Role
from tests.api.calling import bearer
from tests.events.conftest import Token
from tests.events.log import a_run, write
from tests.eventually import eventually

pytestmark = pytest.mark.usefixtures("publisher")


async def published(store: Database, tenant_id: str, count: int) -> None:
    async def enough() -> bool:
        async with store.tenant(tenant_id) as connection:
            cursor = await connection.execute("SELECT count(position) AS n FROM run_events")
            row = await cursor.fetchone()
        return row is not None and row["n"] >= count

    await eventually(enough)


async def test_a_member_takes_what_comes_next_and_another_goes_on_after_what_was_recorded(
    store: Database, web: httpx.AsyncClient, token: Token
) -> None:
    run = await a_run(store)
    await write(store, run, *(f"k{number}" for number in range(5)))
    await published(store, run.tenant_id, 5)
    headers = bearer(token(run.tenant_id))

    async def post(path: str, **body: Any) -> Any:
        answer = await web.post(f"/consumer-groups{path}", json=body, headers=headers)
        return answer.json().get("data") or answer.json()["error"]["code"]

    made = await post("", name="billing", position=0)
    assert (made["position"], made["waiting"]) == (0, 5)
    taken = await post("/billing/take", member="a", limit=3)
    assert [event["seq"] for event in taken["items"]] == [1, 2, 3]
    assert (await post("/billing/take", member="b"))["leased"] is False
    assert (
        await post("/billing/done", member="b", position=taken["items"][0]["position"]) == "GROUP_LEASE_LOST"
    )
    second = taken["items"][1]["position"]
    assert (await post("/billing/done", member="a", position=second))["waiting"] == 3
    await post("/billing/replay", position=second)
    again = await post("/billing/take", member="b")
    assert [event["seq"] for event in again["items"]] == [3, 4, 5]
    assert (
        await post("/billing/done", member="a", position=again["items"][0]["position"]) == "GROUP_LEASE_LOST"
    )


async def test_an_event_that_fails_five_times_is_a_dead_letter_until_it_is_redriven(
    store: Database, web: httpx.AsyncClient, token: Token, server: str
) -> None:
    run = await a_run(store)
    await write(store, run, "poison", "fine")
    await published(store, run.tenant_id, 2)
    access = token(run.tenant_id)
    headers = bearer(access)

    def command(*arguments: str) -> str:
        environment = {"SWITCHYARD_API_URL": server, "SWITCHYARD_TOKEN": access}
        answer = CliRunner().invoke(build_app(), list(arguments), env=environment)
        assert answer.exit_code == 0, answer.output
        return answer.output

    command("groups", "create", "mail", "--from", "0", "--type", "log")
    for number in range(1, 6):
        taken: Any = None

        async def leased() -> bool:
            nonlocal taken
            answer = await web.post("/consumer-groups/mail/take", json={"member": "m"}, headers=headers)
            taken = answer.json()["data"]
            return taken["leased"]

        await eventually(leased, timeout=10)
        failure = await web.post(
            "/consumer-groups/mail/failed", json={"member": "m", "error": "no"}, headers=headers
        )
        assert failure.json()["data"] == {"failures": number, "dead_letter": number == 5}
    assert "poison" not in command("groups", "list")
    assert "dead_" in command("groups", "dead-letters", "mail")
    command("groups", "redrive", "mail")
    answer = await web.post("/consumer-groups/mail/take", json={"member": "m"}, headers=headers)
    redriven, fine = answer.json()["data"]["items"]
    assert (redriven["data"]["text"], fine["data"]["text"]) == ("poison", "fine")
    path = f"/consumer-groups/mail/dead-letters/{redriven['dead_letter_id']}/outcome"
    assert (await web.post(path, json={"error": None}, headers=headers)).status_code == 204
    assert "no dead letters" in command("groups", "dead-letters", "mail")
    command("groups", "delete", "mail")


async def test_groups_are_their_tenants_and_their_operators(
    store: Database, web: httpx.AsyncClient, token: Token
) -> None:
    run = await a_run(store)
    mine = bearer(token(run.tenant_id))
    assert (await web.post("/consumer-groups", json={"name": "g"}, headers=mine)).status_code == 201
    theirs = bearer(token("tenant-other"))
    for path in ("take", "done", "replay"):
        body = {"take": {"member": "x"}, "done": {"member": "x", "position": 1}, "replay": {"position": 0}}
        answer = await web.post(f"/consumer-groups/g/{path}", json=body[path], headers=theirs)
        assert answer.status_code == 404
    reviewer = bearer(token(run.tenant_id, Role.REVIEWER))
    assert (await web.get("/consumer-groups", headers=reviewer)).status_code == 403


async def test_a_group_made_without_a_position_begins_now(
    store: Database, web: httpx.AsyncClient, token: Token
) -> None:
    run = await a_run(store)
    await write(store, run, "before")
    await published(store, run.tenant_id, 1)
    answer = await web.post("/consumer-groups", json={"name": "now"}, headers=bearer(token(run.tenant_id)))
    async with store.tenant(run.tenant_id) as connection:
        assert answer.json()["data"]["position"] == await last_position_of(connection, run.tenant_id)
