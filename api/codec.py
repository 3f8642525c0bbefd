"""Codec endpoint for Temporal's Web UI: shows plain text to those who may see it (DESIGN §4).

The UI posts the payloads it read from Temporal (``{"payloads": [...]}``, base64 in the protobuf JSON form)
and shows what comes back. Allowed are callers with ``payloads:decode``, and in the embedded stack whoever
sits at the machine.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from google.protobuf.message import Error as ProtobufError
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from temporalio.api.common.v1 import Payload

from activities.temporal.codec import DecryptionError, EncryptionCodec
from api.authentication import api_key_scheme, authenticate, bearer_scheme
from api.development import is_local_development
from api.envelope import errors
from api.errors import UnreadableRequestError
from api.state import Services, ServicesDep
from models.errors import InvalidRequestError
from models.identity import Permission

router = APIRouter(prefix="/codec", tags=["monitoring"])

PREFIX = "/codec/"
MAX_PAYLOADS = 1000

_ANONYMOUS_LOCALLY: dict[str, Any] = {"security": [{}]}
"""In the embedded stack credentials are not needed."""

Base64 = Annotated[str, Field(json_schema_extra={"format": "byte"})]


class UndecodablePayloadError(InvalidRequestError):
    """A payload cannot be decrypted: its key left the ring, or it was changed."""

    code = "PAYLOAD_UNDECODABLE"

    def __init__(self) -> None:
        super().__init__(
            "A payload cannot be decrypted with the keys of this server, or is not what was encrypted. "
            "Check ENCRYPTION_KEYS."
        )


class JsonPayload(BaseModel):
    """One Temporal payload in the protobuf JSON form."""

    model_config = ConfigDict(extra="ignore")

    metadata: dict[str, Base64] = Field(default_factory=dict)
    data: Base64 = ""


class Payloads(BaseModel):
    """Several payloads, as Temporal's remote codec protocol sends and expects them."""

    model_config = ConfigDict(extra="ignore")

    payloads: list[JsonPayload] = Field(default_factory=list[JsonPayload], max_length=MAX_PAYLOADS)


async def _may_decode(
    request: Request,
    services: ServicesDep,
    _bearer: Annotated[object, Depends(bearer_scheme)],
    _api_key: Annotated[object, Depends(api_key_scheme)],
) -> None:
    if is_local_development(request, services) and not _has_credentials(request):
        return
    caller = await authenticate(request, services)
    caller.require(Permission.PAYLOADS_DECODE)


def _has_credentials(request: Request) -> bool:
    return "authorization" in request.headers or "x-api-key" in request.headers


@router.post(
    "/decode",
    operation_id="codec_decode",
    dependencies=[Depends(_may_decode)],
    responses=errors(UndecodablePayloadError),
    openapi_extra=_ANONYMOUS_LOCALLY,
)
async def decode(body: Payloads, services: ServicesDep) -> Payloads:
    """Decrypt payloads for display."""
    try:
        decoded = await _codec(services).decode(_read(body))
    except (DecryptionError, ProtobufError, ValueError):
        raise UndecodablePayloadError from None
    return _written(decoded)


@router.post(
    "/encode",
    operation_id="codec_encode",
    dependencies=[Depends(_may_decode)],
    openapi_extra=_ANONYMOUS_LOCALLY,
)
async def encode(body: Payloads, services: ServicesDep) -> Payloads:
    """Encrypt payloads that somebody typed into the Web UI."""
    return _written(await _codec(services).encode(_read(body)))


def _codec(services: Services) -> EncryptionCodec:
    return EncryptionCodec(services.key_ring)


def _read(body: Payloads) -> list[Payload]:
    try:
        return [
            Payload(
                metadata={
                    name: base64.b64decode(value, validate=True) for name, value in entry.metadata.items()
                },
                data=base64.b64decode(entry.data, validate=True),
            )
            for entry in body.payloads
        ]
    except (binascii.Error, ValueError):
        raise UnreadableRequestError(
            "body.payloads", "a value is not base64", "Encode it (RFC 4648 §4)."
        ) from None


def _written(payloads: Sequence[Payload]) -> Payloads:
    return Payloads(
        payloads=[
            JsonPayload(
                metadata={name: base64.b64encode(value).decode() for name, value in payload.metadata.items()},
                data=base64.b64encode(payload.data).decode(),
            )
            for payload in payloads
        ]
    )


class CodecCorsMiddleware:
    """Lets the Web UI's origin, and no other, call the codec from a browser."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        services: Services = scope["app"].state.services
        origin = Headers(scope=scope).get("origin", "")
        if origin != services.settings.temporal_ui_url.rstrip("/"):
            await self._app(scope, receive, send)
            return
        allowed = {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Credentials": "true",
            "Access-Control-Allow-Methods": "POST",
            "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Api-Key, X-Namespace",
            "Vary": "Origin",
        }
        if scope["method"] == "OPTIONS":
            await Response(status_code=204, headers=allowed)(scope, receive, send)
            return

        async def send_allowed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(allowed)
            await send(message)

        await self._app(scope, receive, send_allowed)
