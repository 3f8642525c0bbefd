"""The WebSockets of flowgrid-level3 §11.4: what they say, and to whom."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin

from activities.records.database import Database
from models.event import EventType
from models.identity import Role
from tests.api.calling import bearer
from tests.events.conftest import Token
from tests.events.log import a_run, end, write

pytestmark = pytest.mark.usefixtures("publisher")


def dial(
    server: str, path: str, *, origin: str | None = None, **headers: str
) -> AbstractAsyncContextManager[ClientConnection]:
    """Open a WebSocket as a browser's page of ``origin`` does, or a program without one."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return connect(
        f"ws://{urlsplit(server).netloc}{path}",
        origin=Origin(origin) if origin else None,
        additional_headers=given,
        proxy=None,
    )


async def hear(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(10):
        return orjson.loads(await socket.recv())


async def refusal(server: str, path: str, *, origin: str | None = None, **headers: str) -> int:
    """Return the code that a connection is closed with."""
    async with dial(server, path, origin=origin, **headers) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await hear(socket)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


async def ticket_of(web: httpx.AsyncClient, token: str) -> str:
    answer = await web.post("/api/ws/tickets", headers=bearer(token))
    assert answer.status_code == 201
    return answer.json()["data"]["ticket"]


async def test_an_instance_tells_its_events_and_closes_with_the_run(
    store: Database, web: httpx.AsyncClient, server: str, token: Token
) -> None:
    run = await a_run(store)
    await write(store, run, "a", event_type=EventType.TASK_STARTED)
    ticket = await ticket_of(web, token(run.tenant_id))
    async with dial(server, f"/api/ws/instances/{run.id}?ticket={ticket}") as socket:
        first = await hear(socket)
        assert first["type"] == "task.started"
        assert first["data"] == {"text": "a"}
        assert (first["instanceId"], first["seq"], first["tenantId"]) == (run.id, 1, run.tenant_id)
        await end(store, run)
        assert (await hear(socket))["type"] == "run.failed"
        with pytest.raises(ConnectionClosed):
            await hear(socket)
    assert socket.close_code == 1000


async def test_approvals_tell_the_tenants_approvals_only(store: Database, server: str, token: Token) -> None:
    run, other = await a_run(store), await a_run(store)
    async with dial(server, "/api/ws/approvals", Authorization=f"Bearer {token(run.tenant_id)}") as socket:
        await write(store, other, "x", event_type=EventType.APPROVAL_ASSIGNED)
        await write(store, run, "log")
        await write(store, run, "a", event_type=EventType.APPROVAL_ASSIGNED)
        heard = await hear(socket)
    assert (heard["type"], heard["instanceId"]) == ("approval.assigned", run.id)
    path = f"/api/ws/approvals?fromPosition={heard['position'] - 1}"
    async with dial(server, path, Authorization=f"Bearer {token(run.tenant_id)}") as socket:
        assert (await hear(socket))["id"] == heard["id"]


async def test_the_dashboard_tells_metrics_at_once_and_after_a_change(
    store: Database, server: str, token: Token
) -> None:
    run = await a_run(store)
    async with dial(server, "/api/ws/dashboard", Authorization=f"Bearer {token(run.tenant_id)}") as socket:
        first = await hear(socket)
        assert (first["type"], first["data"]["runs"]) == ("metrics.update", {"PENDING": 1})
        await end(store, run)
        assert (await hear(socket))["data"]["runs"] == {"FAILED": 1}


async def test_a_cookie_opens_a_socket_from_our_own_pages_only(
    store: Database, server: str, token: Token
) -> None:
    run = await a_run(store)
    await write(store, run, "a")
    path, cookie = f"/api/ws/instances/{run.id}", f"switchyard_session={token(run.tenant_id)}"
    async with dial(server, path, origin=server, Cookie=cookie) as socket:
        assert (await hear(socket))["seq"] == 1
    assert await refusal(server, path, origin="https://evil.example", Cookie=cookie) == 4403
    assert await refusal(server, path, Cookie=cookie) == 4403


async def test_a_page_begins_a_session_whose_cookie_opens_sockets_and_ends_it(
    store: Database, web: httpx.AsyncClient, server: str, token: Token
) -> None:
    run = await a_run(store)
    await write(store, run, "a")
    path, mine = "/api/session", bearer(token(run.tenant_id))
    begun = await web.post(path, headers={**mine, "Origin": server})
    assert begun.status_code == 201
    cookie, *attributes = begun.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(attributes)
    assert "Secure" not in attributes, "on this machine there is no TLS"
    instance = f"/api/ws/instances/{run.id}"
    async with dial(server, instance, origin=server, Cookie=cookie) as socket:
        assert (await hear(socket))["seq"] == 1
    foreign = {"Origin": "https://evil.example"}
    assert (await web.post(path, headers={**mine, **foreign})).status_code == 403
    assert (await web.delete(path, headers=foreign)).status_code == 403
    assert (await web.post(path, headers={"Origin": server})).status_code == 401
    ended = await web.delete(path, headers={"Origin": server})
    assert ended.headers["set-cookie"].startswith("switchyard_session=; ")
    assert "Max-Age=0" in ended.headers["set-cookie"]
    web.cookies.clear()


async def test_a_ticket_opens_one_socket_and_a_forged_one_none(
    store: Database, web: httpx.AsyncClient, server: str, token: Token
) -> None:
    run = await a_run(store)
    await write(store, run, "a")
    ticket = await ticket_of(web, token(run.tenant_id))
    path = f"/api/ws/instances/{run.id}?ticket="
    async with dial(server, path + ticket) as socket:
        await hear(socket)
    assert await refusal(server, path + ticket) == 4401
    assert await refusal(server, path + "forged") == 4401
    assert await refusal(server, f"/api/ws/instances/{run.id}") == 4401


async def test_a_socket_refuses_who_may_not_and_what_is_not_theirs(
    store: Database, server: str, token: Token
) -> None:
    run = await a_run(store)
    path = f"/api/ws/instances/{run.id}"
    expired = token(run.tenant_id, lifetime_seconds=-60)
    assert await refusal(server, path, Authorization=f"Bearer {expired}") == 4401
    assert await refusal(server, path, Authorization=f"Bearer {token('tenant-other')}") == 4404
    assert await refusal(server, "/api/ws/instances/none", Authorization=f"Bearer {token('t')}") == 4404
    assert (
        await refusal(server, f"{path}?fromSeq=x", Authorization=f"Bearer {token(run.tenant_id, Role.USER)}")
        == 4400
    )


async def test_a_socket_closes_when_its_credentials_expire(
    store: Database, server: str, token: Token
) -> None:
    run = await a_run(store)
    short = token(run.tenant_id, lifetime_seconds=2)
    assert await refusal(server, f"/api/ws/instances/{run.id}", Authorization=f"Bearer {short}") == 4401
