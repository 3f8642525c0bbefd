"""Pieces of an agent's message while it comes: live, in order, never stored, void after a retry."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.records.database import Database
from activities.streams.deltas import MAX_PAYLOAD, DeltaPublisher, packed, sending_deltas, unpacked
from models.event import EphemeralType
from models.event_data import EPHEMERAL_DATA
from tests.events.conftest import Token
from tests.events.log import a_run, end, write
from tests.events.sse import Frame, follow
from tests.events.test_websockets import dial, hear, ticket_of

pytestmark = pytest.mark.usefixtures("publisher")


@pytest.fixture
async def deltas(store: Database) -> AsyncIterator[DeltaPublisher]:
    async with sending_deltas(store) as publisher:
        yield publisher


async def test_followers_see_the_text_grow_and_a_retry_begins_anew(
    store: Database, web: httpx.AsyncClient, server: str, token: Token, deltas: DeltaPublisher
) -> None:
    run = await a_run(store)
    await write(store, run, "before")
    ticket = await ticket_of(web, token(run.tenant_id))
    seen: list[Frame] = []
    listening = asyncio.Event()

    async def listen() -> None:
        async for frame in follow(web, f"/runs/{run.id}/stream", token=token(run.tenant_id)):
            seen.append(frame)
            listening.set()

    async with dial(server, f"/api/ws/instances/{run.id}?ticket={ticket}") as socket:
        task = asyncio.create_task(listen())
        await listening.wait()
        assert (await hear(socket))["type"] == "log"
        async with deltas.message(run.id, "m1", attempt=1) as message:
            message.write("Hel")
            message.write("lo")
        async with deltas.message(run.id, "m1", attempt=2) as message:
            message.write("Good day" * 60)
        told = [await hear(socket) for _ in range(4)]
        assert [each["type"] for each in told] == ["agent.delta", "agent.reset", "agent.delta", "agent.delta"]
        assert told[0] == {
            "type": "agent.delta",
            "instanceId": run.id,
            "data": {"messageId": "m1", "attempt": 1, "index": 0, "text": "Hello"},
        }
        assert told[2]["data"]["text"] + told[3]["data"]["text"] == "Good day" * 60
        assert [each["data"]["index"] for each in told[1:]] == [0, 1, 2]
        for each in told:
            model = EPHEMERAL_DATA[EphemeralType(each["type"])]
            assert not model.model_validate(each["data"]).model_extra
        await end(store, run)
        await task
    assert [frame.event for frame in seen] == ["log", *(each["type"] for each in told), "run.failed", "end"]
    assert [frame.id for frame in seen] == ["1", "", "", "", "", "2", ""], "a piece has no number"
    again = follow(web, f"/runs/{run.id}/stream", token=token(run.tenant_id))
    assert [frame.event async for frame in again] == ["log", "run.failed", "end"], "nothing of it is stored"


@given(st.lists(st.text(max_size=400), max_size=60))
def test_pieces_come_out_of_payloads_as_they_went_in_and_fit(texts: list[str]) -> None:
    pieces = [{"run": "r", "type": "agent.delta", "data": {"text": text}} for text in texts]
    payloads = packed(pieces)
    assert [piece for payload in payloads for piece in unpacked(payload)] == pieces
    assert all(len(payload.encode()) <= MAX_PAYLOAD for payload in payloads)


async def test_what_cannot_be_sent_is_lost_and_nobody_waits(deltas: DeltaPublisher) -> None:
    async with deltas.message("exec_none", "m", attempt=1) as message:
        for _ in range(10_000):
            message.write("x" * 400)
    await asyncio.wait_for(deltas.flush(), 5)
