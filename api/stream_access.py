"""Who may open a stream: browsers can set no header on an EventSource or WebSocket.

Accepted, in this order: the usual headers; ``?ticket=`` from ``POST /api/ws/tickets`` (once, within a
minute); the session cookie, together with an ``Origin`` that is ours. The same-origin policy does not apply
to WebSockets, so without that check any web page could listen as its visitor.
"""

import base64
import binascii
import hashlib
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, Query
from starlette.requests import HTTPConnection, Request

from activities.records.tickets import add_ticket, redeem_ticket
from api.authentication import (
    MissingCredentialsError,
    api_key_scheme,
    authenticate,
    bearer_scheme,
    credentials_of,
)
from api.state import Services, ServicesDep
from models.errors import PermissionDeniedError
from models.identity import Permission, Principal, Role
from models.stream import TICKET_SECONDS, InvalidTicketError, StreamTicket
from models.table import utc_now

SESSION_COOKIE = "switchyard_session"
"""Cookie with the bearer token of a browser's session; HttpOnly, SameSite=Lax."""

LONGEST_STREAM = timedelta(hours=12)
"""After so long any stream ends and its client must show its credentials again."""


class OriginRefusedError(PermissionDeniedError):
    """A web page of another origin tried to open a stream with its visitor's session."""

    code = "ORIGIN_REFUSED"

    def __init__(self) -> None:
        super().__init__("Streams open from Switchyard's own pages only; elsewhere use a ticket or a token.")


@dataclass(frozen=True)
class StreamCaller:
    """Who opened a stream, and how long that holds."""

    principal: Principal
    expires_at: datetime


def is_own_origin(connection: HTTPConnection, services: Services) -> bool:
    """Tell whether the request comes from a page of ours: same host, or the public address."""
    origin = connection.headers.get("origin", "")
    if not origin:
        return False
    given, public = urlsplit(origin), urlsplit(services.settings.public_url)
    if (given.scheme, given.netloc) == (public.scheme, public.netloc):
        return True
    secure = connection.url.scheme in {"https", "wss"}
    return given.netloc == connection.headers.get("host", "") and given.scheme == (
        "https" if secure else "http"
    )


async def stream_caller(
    connection: HTTPConnection, services: Services, ticket: str | None, *, websocket: bool
) -> StreamCaller:
    """Tell who opens a stream.

    Raises:
        AuthenticationError: Nobody we know, or the ticket is no good.
        OriginRefusedError: The cookie came with another page's request.
    """
    if any(name in connection.headers for name in ("authorization", "x-api-key")):
        principal = await authenticate(connection, services)
        return StreamCaller(principal, expiry_of(credentials_of(connection)))
    if ticket is not None:
        return await _redeem(services, ticket)
    cookie = connection.cookies.get(SESSION_COOKIE)
    if cookie is None:
        raise MissingCredentialsError
    # Without an Origin a WebSocket is not a browser's; an EventSource of the same origin sends none.
    if (websocket or "origin" in connection.headers) and not is_own_origin(connection, services):
        raise OriginRefusedError
    return StreamCaller(await services.tokens.verify(cookie), expiry_of(cookie))


def expiry_of(credentials: str) -> datetime:
    """Read when verified credentials expire: after `LONGEST_STREAM` at the latest."""
    latest = utc_now() + LONGEST_STREAM
    parts = credentials.split(".")
    if len(parts) != 3:
        return latest
    try:
        padded = parts[1] + "=" * (-len(parts[1]) % 4)
        claims: Any = json.loads(base64.urlsafe_b64decode(padded))
        return min(latest, datetime.fromtimestamp(float(claims["exp"]), UTC))
    except (binascii.Error, ValueError, KeyError, TypeError, OverflowError, OSError):
        return latest


async def make_ticket(connection: HTTPConnection, services: Services, principal: Principal) -> str:
    """Make a ticket for whoever calls; only its hash is stored."""
    value = secrets.token_urlsafe(32)
    async with services.database.tenant(principal.tenant_id) as transaction:
        await add_ticket(
            transaction,
            StreamTicket(
                ticket_hash=_hash(value),
                tenant_id=principal.tenant_id,
                user_id=principal.user_id,
                roles=sorted(principal.roles),
                scopes=None if principal.scopes is None else sorted(principal.scopes),
                credential_expires_at=expiry_of(credentials_of(connection)),
                expires_at=utc_now() + timedelta(seconds=TICKET_SECONDS),
            ),
        )
    return value


async def _redeem(services: Services, value: str) -> StreamCaller:
    # Whose it is shows only in the ticket, so this look-up is the platform's.
    async with services.database.platform() as transaction:
        found = await redeem_ticket(transaction, _hash(value))
    if found is None:
        raise InvalidTicketError
    principal = Principal(
        user_id=found.user_id,
        tenant_id=found.tenant_id,
        roles=frozenset(Role(role) for role in found.roles),
        scopes=None if found.scopes is None else frozenset(Permission(scope) for scope in found.scopes),
    )
    return StreamCaller(principal, found.credential_expires_at or utc_now() + LONGEST_STREAM)


def _hash(value: str) -> bytes:
    return hashlib.sha256(value.encode("utf-8", "replace")).digest()


async def _reader(
    request: Request,
    services: ServicesDep,
    _bearer: Annotated[object, Depends(bearer_scheme)],
    _api_key: Annotated[object, Depends(api_key_scheme)],
    ticket: Annotated[
        str | None, Query(max_length=100, description="From `POST /api/ws/tickets`, for an EventSource.")
    ] = None,
) -> StreamCaller:
    caller = await stream_caller(request, services, ticket, websocket=False)
    caller.principal.require(Permission.RUNS_READ)
    return caller


StreamReader = Annotated[StreamCaller, Depends(_reader)]
"""Declare a parameter of this type to get who opens an event stream."""
