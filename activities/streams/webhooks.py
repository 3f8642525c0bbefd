"""Webhooks out, signed as Standard Webhooks (standardwebhooks.com, specification 1.0.0).

``webhook-id`` is the event's id, so a receiver drops what it has; an event may come twice. Addresses are
checked when they are called, not only when they are given: the name is resolved once, and the connection
goes to the very address that passed.
"""

import asyncio
import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from urllib.parse import urlsplit

import httpx
import orjson
import structlog

from activities.records.database import Database, DatabaseUnavailableError
from activities.records.webhooks import (
    Parcel,
    claim_parcels,
    disable_endpoint,
    fan_out,
    record_attempt,
)
from activities.sandbox.egress_policy import EgressRefusedError, EgressSettings, is_public, pin_address
from activities.temporal.codec import DecryptionError, KeyRing
from models.event import RunEvent
from models.stream import WebhookEndpoint, WebhookUrlRefusedError

log: structlog.stdlib.BoundLogger = structlog.get_logger("events.webhooks")

PAUSES = tuple(
    timedelta(seconds=seconds) for seconds in (5, 30, 120, 600, 3600, 4 * 3600, 10 * 3600, 24 * 3600)
)
"""Between attempts (Standard Webhooks, "Retry"); after the last one the delivery is dead."""

ANSWER_SECONDS = 15.0
LEASE = timedelta(seconds=60)
AT_ONCE = 16
IDLE_SECONDS = 0.25
SECRET_PREFIX = "whsec_"
GONE = 410


def new_secret() -> str:
    """Make a signing secret."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of ``webhook-signature``: HMAC-SHA256 over id, time in seconds and body."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = b"%b.%d.%b" % (message_id.encode(), timestamp, body)
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def check_url(url: str) -> None:
    """Refuse an address that can never be called: not https, with a password, or plainly not public.

    Raises:
        WebhookUrlRefusedError: Says why.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise WebhookUrlRefusedError("it is malformed") from None
    if parts.scheme != "https":
        raise WebhookUrlRefusedError("it is not https")
    if not host or parts.username is not None or parts.password is not None or parts.fragment:
        raise WebhookUrlRefusedError("it must have a host and no user, password or fragment")
    if host == "localhost" or host.endswith((".localhost", ".internal", ".local")):
        raise WebhookUrlRefusedError("its host is not public")
    if (":" in host or host.replace(".", "").isdigit()) and not is_public(host):
        raise WebhookUrlRefusedError("its address is not public")


def payload(event: RunEvent) -> bytes:
    """Return the body of a delivery."""
    return orjson.dumps(
        {
            "id": event.id,
            "type": event.type,
            "timestamp": event.timestamp,
            "run_id": event.run_id,
            "seq": event.seq,
            "correlation_id": event.correlation_id,
            "data": event.data,
        }
    )


class WebhookSender:
    """Turns events into deliveries and delivers them. Several may run."""

    def __init__(
        self, database: Database, key_ring: KeyRing, client: httpx.AsyncClient, egress: EgressSettings
    ) -> None:
        """Prepare.

        Args:
            database: Where the deliveries are.
            key_ring: Decrypts the endpoints' secrets.
            client: Sends; it must not follow redirects.
            egress: What may be reached; its permitted addresses may also be called without TLS.
        """
        self._database = database
        self._key_ring = key_ring
        self._client = client
        self._egress = egress

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            try:
                done = await self.pass_once()
            except DatabaseUnavailableError as error:
                log.warning("webhooks rest", reason=error.message)
                done = 0
            if not done:
                await asyncio.sleep(IDLE_SECONDS)

    async def pass_once(self) -> int:
        """Make the next deliveries and try those that are due; returns how much there was to do.

        Raises:
            DatabaseUnavailableError: PostgreSQL is away.
        """
        async with self._database.platform() as connection:
            moved = await fan_out(connection)
        async with self._database.platform() as connection:
            parcels = await claim_parcels(connection, limit=AT_ONCE, lease=LEASE)
        await asyncio.gather(*(self._deliver(parcel) for parcel in parcels))
        return moved + len(parcels)

    async def _deliver(self, parcel: Parcel) -> None:
        status, error = await self._send(parcel)
        attempts = parcel.delivery.attempts
        pause = PAUSES[attempts - 1] if attempts <= len(PAUSES) else None
        async with self._database.platform() as connection:
            await record_attempt(
                connection, parcel.delivery, response_status=status, error=error, pause=pause
            )
            if status == GONE:
                await disable_endpoint(connection, parcel.endpoint.id)

    async def _send(self, parcel: Parcel) -> tuple[int | None, str | None]:
        """Try once; returns the answer's status and what went wrong, if anything did."""
        body, now = payload(parcel.event), int(time.time())
        try:
            secret = open_secret(self._key_ring, parcel.endpoint)
            headers = {
                "content-type": "application/json",
                "user-agent": "switchyard-webhooks",
                "webhook-id": parcel.event.id,
                "webhook-timestamp": str(now),
                "webhook-signature": sign(secret, parcel.event.id, now, body),
            }
            async with asyncio.timeout(ANSWER_SECONDS):
                status = await self._post(parcel.endpoint.url, body, headers)
        except DecryptionError as error:
            return None, error.message
        except (EgressRefusedError, WebhookUrlRefusedError) as error:
            return None, str(error)
        except TimeoutError:
            return None, f"no answer within {ANSWER_SECONDS:.0f} seconds"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return None, f"the connection failed ({type(error).__name__})"
        return status, None if 200 <= status < 300 else f"the endpoint answered {status}"

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        target = httpx.URL(url)
        host, port = target.host, target.port or (443 if target.scheme == "https" else 80)
        address = await pin_address(host, port, self._egress)
        if address not in self._egress.permitted_addresses:
            check_url(url)
        request = self._client.build_request(
            "POST",
            target.copy_with(host=address),
            content=body,
            headers={**headers, "host": target.netloc.decode()},
            extensions={"sni_hostname": host},
        )
        # The answer's body says nothing to us, however long it is.
        answer = await self._client.send(request, stream=True)
        await answer.aclose()
        return answer.status_code


def seal_secret(ring: KeyRing, endpoint_id: str, secret: str) -> tuple[bytes, str]:
    """Encrypt an endpoint's secret, bound to the endpoint; returns ciphertext and key id."""
    return ring.encrypt(secret.encode(), endpoint_id.encode()), ring.current_id


def open_secret(ring: KeyRing, endpoint: WebhookEndpoint) -> str:
    """Decrypt an endpoint's secret.

    Raises:
        DecryptionError: Its key left the ring.
    """
    return ring.decrypt(endpoint.secret_key_id, endpoint.secret_ciphertext, endpoint.id.encode()).decode()


@asynccontextmanager
async def delivering(
    database: Database, key_ring: KeyRing, egress: EgressSettings | None = None
) -> AsyncGenerator[None]:
    """Keep a sender running for as long as the block lasts."""
    async with httpx.AsyncClient(follow_redirects=False, trust_env=False, timeout=ANSWER_SECONDS) as client:
        sender = WebhookSender(database, key_ring, client, egress or EgressSettings())
        task = asyncio.create_task(sender.run(), name="webhook-sender")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
