"""The session of a browser: a cookie that opens streams and WebSockets, which can carry no header.

Only a page of our own can set or clear it, and it holds nothing but the token that the page has already.
"""

import ipaddress
from datetime import datetime
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel
from starlette.responses import Response

from api.authentication import API_KEY_PREFIX, Caller, credentials_of
from api.envelope import Success, errors, success
from api.state import Services, ServicesDep
from api.stream_access import SESSION_COOKIE, OriginRefusedError, expiry_of, is_own_origin
from models.errors import InvalidRequestError
from models.table import utc_now

router = APIRouter(prefix="/api/session", tags=["identity"])


class SessionNeedsTokenError(InvalidRequestError):
    """An API key was to become a browser's session."""

    code = "SESSION_NEEDS_TOKEN"

    def __init__(self) -> None:
        super().__init__("A browser's session is made from a person's token; API keys are for machines.")


class Session(BaseModel):
    """A session that was begun."""

    expires_at: datetime


async def _own_page(request: Request, services: ServicesDep) -> None:
    # A browser names the page's origin with every POST and DELETE; programs name none.
    if "origin" in request.headers and not is_own_origin(request, services):
        raise OriginRefusedError


OwnPage = Annotated[None, Depends(_own_page)]


@router.post(
    "",
    status_code=201,
    response_model=Success[Session],
    responses=errors(OriginRefusedError, SessionNeedsTokenError),
)
async def begin_session(
    request: Request, response: Response, caller: Caller, services: ServicesDep, _: OwnPage
) -> Success[Session]:
    """Keep the bearer token of this request in a cookie, for as long as it is valid."""
    token = credentials_of(request)
    if token.startswith(API_KEY_PREFIX):
        raise SessionNeedsTokenError
    expires_at = expiry_of(token)
    seconds = max(0, int((expires_at - utc_now()).total_seconds()))
    response.headers["Set-Cookie"] = _cookie(request, services, token, seconds)
    response.headers["Cache-Control"] = "no-store"
    return success(Session(expires_at=expires_at))


@router.delete("", status_code=204, responses=errors(OriginRefusedError))
async def end_session(request: Request, services: ServicesDep, _: OwnPage) -> Response:
    """Forget the cookie; streams that it opened go on until they expire."""
    return Response(status_code=204, headers={"Set-Cookie": _cookie(request, services, "", 0)})


def _cookie(request: Request, services: Services, value: str, seconds: int) -> str:
    # `Lax`, so that a link from elsewhere into the console finds its visitor signed in.
    # A token's characters need no quoting (RFC 7515 §7.1, RFC 6265 §4.1.1).
    cookie = f"{SESSION_COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax"
    return f"{cookie}; Secure" if _is_exposed(request, services) else cookie


def _is_exposed(request: Request, services: Services) -> bool:
    """Whether the cookie could cross a network: everywhere but on this machine without TLS."""
    public = urlsplit(services.settings.public_url)
    if request.url.scheme == "https" or public.scheme == "https":
        return True
    host = public.hostname or ""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"
