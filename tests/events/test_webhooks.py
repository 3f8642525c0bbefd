"""Webhooks out: signed, in each run's order, tried again, and never to an address inside."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import orjson
import pytest

from activities.records.database import Database
from activities.records.webhooks import add_endpoint
from activities.sandbox.egress_policy import EgressSettings
from activities.streams.webhooks import WebhookSender, check_url, new_secret, seal_secret
from activities.temporal.codec import KeyRing
from models.identifiers import new_identifier
from models.run import Run
from models.settings import EncryptionKey
from models.stream import WebhookEndpoint, WebhookUrlRefusedError
from tests.api.calling import bearer
from tests.events.conftest import Token
from tests.events.log import a_run, write
from tests.eventually import eventually

RING = KeyRing([EncryptionKey("test", bytes(32))])


@dataclass
class Receiver:
    """A server that keeps what it is sent and answers as it is told."""

    url: str = ""
    answers: list[int] = field(default_factory=list[int])
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list[tuple[dict[str, str], bytes]])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.received.append((headers, await reader.readexactly(int(headers["content-length"]))))
        status = self.answers.pop(0) if self.answers else 200
        writer.write(b"HTTP/1.1 %d Answer\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)
        await writer.drain()
        writer.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    async with server:
        yield made


def sender(store: Database, client: httpx.AsyncClient, *permitted: str) -> WebhookSender:
    return WebhookSender(store, RING, client, EgressSettings(permitted_addresses=frozenset(permitted)))


async def endpoint(store: Database, run: Run, url: str, secret: str) -> WebhookEndpoint:
    endpoint_id = new_identifier("webhook_endpoint")
    ciphertext, key_id = seal_secret(RING, endpoint_id, secret)
    async with store.tenant(run.tenant_id) as connection:
        return await add_endpoint(
            connection,
            WebhookEndpoint(
                id=endpoint_id,
                tenant_id=run.tenant_id,
                url=url,
                description="",
                event_types=[],
                secret_ciphertext=ciphertext,
                secret_key_id=key_id,
            ),
        )


async def due_now(store: Database, run: Run) -> None:
    """Let the pause before the next attempt be over."""
    async with store.platform() as connection:
        await connection.execute(
            "UPDATE webhook_deliveries SET next_attempt_at = now() WHERE tenant_id = %s", [run.tenant_id]
        )


@pytest.mark.usefixtures("publisher")
async def test_events_are_delivered_signed_in_order_and_tried_again(
    store: Database, receiver: Receiver
) -> None:
    run, other = await a_run(store), await a_run(store)
    secret = new_secret()
    await endpoint(store, run, receiver.url, secret)
    receiver.answers = [500]
    await write(store, run, "a", "b")
    await write(store, other, "x")
    async with httpx.AsyncClient() as client:
        sending = sender(store, client, "127.0.0.1")

        async def delivered() -> bool:
            await sending.pass_once()
            await due_now(store, run)
            return len(receiver.received) >= 3

        await eventually(delivered)
    bodies = [orjson.loads(body) for _, body in receiver.received]
    assert [body["seq"] for body in bodies] == [1, 1, 2], "the second event waits for the first"
    headers, raw = receiver.received[0]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + raw
    digest = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
    assert headers["webhook-id"] == bodies[0]["id"]


@pytest.mark.usefixtures("publisher")
async def test_an_address_inside_is_never_called_and_the_delivery_says_why(
    store: Database, receiver: Receiver
) -> None:
    run = await a_run(store)
    await endpoint(store, run, receiver.url, new_secret())
    await write(store, run, "a")
    async with httpx.AsyncClient() as client:
        sending = sender(store, client)

        async def recorded() -> str | None:
            await sending.pass_once()
            async with store.tenant(run.tenant_id) as connection:
                row = await (await connection.execute("SELECT error FROM webhook_deliveries")).fetchone()
            return row["error"] if row else None

        assert await eventually(recorded) == "the host resolves to no public address"
    assert receiver.received == []


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/hook",
        "https://127.0.0.1/hook",
        "https://[::ffff:10.0.0.1]/hook",
        "https://169.254.169.254/latest",
        "https://user:secret@example.com/",
        "https://localhost/",
        "https://metadata.internal/",
        "ftp://example.com",
        "https://",
    ],
)
def test_an_address_that_may_not_be_called_is_refused(url: str) -> None:
    with pytest.raises(WebhookUrlRefusedError):
        check_url(url)


async def test_an_endpoint_is_made_shown_without_its_secret_and_deleted(
    web: httpx.AsyncClient, token: Token
) -> None:
    tenant = new_identifier("tenant")
    mine, theirs = bearer(token(tenant)), bearer(token(new_identifier("tenant")))
    body = {"url": "https://example.com/hook", "event_types": ["run.failed"]}
    key = {"Idempotency-Key": new_identifier("event")}
    made = (await web.post("/webhooks", json=body, headers={**mine, **key})).json()["data"]
    again = (await web.post("/webhooks", json=body, headers={**mine, **key})).json()["data"]
    assert made["secret"].startswith("whsec_")
    assert (again["webhook_id"], again["secret"]) == (made["webhook_id"], None)
    (listed,) = (await web.get("/webhooks", headers=mine)).json()["data"]["items"]
    assert listed["secret"] is None
    path = f"/webhooks/{made['webhook_id']}"
    assert (await web.get(f"{path}/deliveries", headers=theirs)).status_code == 404
    assert (await web.get(f"{path}/deliveries", headers=mine)).json()["data"]["items"] == []
    assert (await web.delete(path, headers=theirs)).status_code == 404
    assert (await web.delete(path, headers=mine)).status_code == 204
    assert (await web.get("/webhooks", headers=mine)).json()["data"]["items"] == []
    refused = await web.post("/webhooks", json={"url": "http://10.0.0.1/"}, headers=mine)
    assert refused.json()["error"]["code"] == "WEBHOOK_URL_REFUSED"
