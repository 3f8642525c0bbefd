"""Streams of server-sent events: complete, ordered, once, to the right people, to the end."""

import asyncio
from contextlib import aclosing

import httpx
import pytest

from activities.records.database import Database
from tests.events.conftest import Token
from tests.events.log import a_run, end, write
from tests.events.sse import follow

pytestmark = pytest.mark.usefixtures("publisher")


async def test_a_stream_tells_past_and_coming_events_and_ends_with_the_run(
    store: Database, web: httpx.AsyncClient, token: Token
) -> None:
    run = await a_run(store)
    await write(store, run, "a", "b")
    seen: list[tuple[str, str]] = []
    async for frame in follow(web, f"/runs/{run.id}/stream", token=token(run.tenant_id)):
        seen.append((frame.id, frame.event))
        if frame.id == "2":
            await write(store, run, "c")
        if frame.id == "3":
            await end(store, run)
    assert seen == [("1", "log"), ("2", "log"), ("3", "log"), ("4", "run.failed"), ("", "end")]


async def test_a_stream_begins_at_the_number_asked_for(
    store: Database, web: httpx.AsyncClient, token: Token
) -> None:
    run = await a_run(store)
    await write(store, run, "a", "b", "c")
    await end(store, run)
    path = f"/runs/{run.id}/stream?fromSeq=3"
    assert [frame.id async for frame in follow(web, path, token=token(run.tenant_id))] == ["3", "4", ""]
    resumed = [frame.id async for frame in follow(web, path, token=token(run.tenant_id), last="1")]
    assert resumed == ["2", "3", "4", ""], "Last-Event-ID wins over fromSeq"


async def test_a_client_that_has_the_last_event_of_an_ended_run_is_told_not_to_come_back(
    store: Database, web: httpx.AsyncClient, token: Token
) -> None:
    run = await a_run(store)
    await end(store, run)
    headers = {"Authorization": f"Bearer {token(run.tenant_id)}", "Last-Event-ID": "1"}
    assert (await web.get(f"/runs/{run.id}/stream", headers=headers)).status_code == 204


async def test_several_runs_share_a_stream_and_resume_each_from_its_own_place(
    store: Database, web: httpx.AsyncClient, token: Token
) -> None:
    first = await a_run(store)
    second = await a_run(store, first.tenant_id)
    await write(store, first, "a", "b")
    await write(store, second, "x")
    path = f"/runs/stream?runs={first.id},{second.id}"
    last = ""
    async with aclosing(follow(web, path, token=token(first.tenant_id))) as stream:  # pyright: ignore[reportArgumentType]
        async for frame in stream:
            last = frame.id
            if frame.id == "2.1":
                break
    await end(store, second)
    await end(store, first)
    seen = [
        (frame.data.get("run_id"), frame.data.get("seq"))
        async for frame in follow(web, path, token=token(first.tenant_id), last=last)
    ]
    assert sorted(seen[:-1]) == sorted([(first.id, 3), (second.id, 2)])


async def test_a_long_past_is_read_from_the_store_page_by_page(
    store: Database, web: httpx.AsyncClient, token: Token
) -> None:
    run = await a_run(store)
    await write(store, run, *(f"k{number}" for number in range(700)))
    await end(store, run)
    seen = [frame.id async for frame in follow(web, f"/runs/{run.id}/stream", token=token(run.tenant_id))]
    assert seen == [*map(str, range(1, 702)), ""]


async def test_another_tenants_run_does_not_exist(
    store: Database, web: httpx.AsyncClient, token: Token
) -> None:
    run = await a_run(store)
    mine = await a_run(store)
    headers = {"Authorization": f"Bearer {token(mine.tenant_id)}"}
    for path in (f"/runs/{run.id}/stream", f"/runs/stream?runs={mine.id},{run.id}"):
        answer = await web.get(path, headers=headers)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "RUN_NOT_FOUND"


async def test_nobody_listens_without_valid_credentials(
    store: Database, web: httpx.AsyncClient, token: Token
) -> None:
    run = await a_run(store)
    expired = token(run.tenant_id, lifetime_seconds=-60)
    for path, headers in (
        (f"/runs/{run.id}/stream", {}),
        (f"/runs/{run.id}/stream", {"Authorization": f"Bearer {expired}"}),
        (f"/runs/{run.id}/stream?ticket=forged", {}),
        (f"/runs/{run.id}/stream", {"Cookie": f"switchyard_session={expired}"}),
    ):
        assert (await web.get(path, headers=headers)).status_code == 401


async def test_a_stream_ends_when_its_credentials_do(
    store: Database, web: httpx.AsyncClient, token: Token
) -> None:
    run = await a_run(store)
    short = token(run.tenant_id, lifetime_seconds=2)
    async with asyncio.timeout(15):
        assert [frame async for frame in follow(web, f"/runs/{run.id}/stream", token=short)] == []


async def test_a_resume_position_that_is_none_is_refused(
    store: Database, web: httpx.AsyncClient, token: Token
) -> None:
    run = await a_run(store)
    headers = {"Authorization": f"Bearer {token(run.tenant_id)}", "Last-Event-ID": "1.2"}
    for path in (f"/runs/{run.id}/stream", f"/runs/stream?runs={run.id}"):
        answer = await web.get(path, headers=headers)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "INVALID_RESUME_POSITION"
