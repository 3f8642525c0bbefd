"""``Idempotency-Key``: a repeated request gets the first one's answer and creates nothing twice (DESIGN §4).

A route takes an `OnceDep` (or `RequiredOnceDep`) and hands its work over::

    @router.post("/agents/{agent_id}/execute", status_code=202, response_model=Success[Queued])
    async def execute(agent_id: Identifier, body: ExecuteRequest, once: OnceDep) -> Response:
        async def start(execution_id: str) -> Success[Queued]:
            ...  # creates the execution under this id, and finds it there if it exists already
            return success(Queued(...))

        return await once.answer("execution", start)

The identifier that the work gets is reserved in PostgreSQL before the work begins, so a retry after a crash
continues with the same one. Work is therefore written so that doing it twice under one identifier is
harmless: rows with ``ON CONFLICT DO NOTHING``, workflow ids derived from it.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.responses import Response

from activities.records.database import DatabaseUnavailableError
from activities.records.idempotency import LEASE_SECONDS, KeyOwner, claim_key, find_key, finish_key, renew_key
from api.authentication import Caller
from api.body import BODY_DIGEST
from api.errors import error_response, platform_error
from api.state import Services, ServicesDep
from models.errors import ConflictError
from models.identifiers import new_identifier
from models.identity import IdempotencyRecord

HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotency-Replayed"
WAIT_SECONDS = 5.0
"""How long a duplicate waits for the first request's answer before it is told to come back."""

KeyHeader = Annotated[
    str,
    Header(
        alias=HEADER,
        min_length=1,
        max_length=255,
        pattern=r"^[!-~]+$",
        description="Any string of your choice, a UUID for example. Repeating the request with the same key "
        "returns the first answer instead of doing it again.",
    ),
]


class IdempotencyKeyReusedError(ConflictError):
    """The Idempotency-Key came with another request before."""

    code = "IDEMPOTENCY_KEY_REUSED"

    def __init__(self, key: str) -> None:
        super().__init__(
            "This Idempotency-Key was used for another request. Use a new key, or send exactly the first "
            "request's operation, path, query and body.",
            details={"idempotency_key": key},
        )


class IdempotencyInProgressError(ConflictError):
    """The first request with this Idempotency-Key is still under way."""

    code = "IDEMPOTENCY_IN_PROGRESS"

    def __init__(self, key: str) -> None:
        super().__init__(
            "The first request with this Idempotency-Key is still under way. Repeat it after Retry-After.",
            details={"idempotency_key": key, "retry_after_seconds": 1},
        )


@dataclass(frozen=True)
class Reply:
    """An answer whose repetition differs from its first telling.

    Attributes:
        body: Sent to the first caller.
        remembered: Stored, and sent to whoever repeats the request: without what is shown once.
    """

    body: BaseModel
    remembered: BaseModel


Work = Callable[[str], Awaitable[BaseModel | Reply]]
"""Does what the request asks under the identifier it is given, and returns the answer."""


class Once:
    """One request's claim to be carried out once."""

    def __init__(
        self, services: Services, owner: KeyOwner | None, *, operation: str, request_hash: bytes, status: int
    ) -> None:
        """Prepare.

        Args:
            services: For the database.
            owner: Tenant, user and key; None where the request has no key.
            operation: Method and path template.
            request_hash: What a repetition must equal.
            status: HTTP status of a successful answer.
        """
        self._services = services
        self._owner = owner
        self._operation = operation
        self._request_hash = request_hash
        self._status = status

    @property
    def key(self) -> str | None:
        """The caller's Idempotency-Key, if the request has one."""
        return self._owner.key if self._owner is not None else None

    async def answer(self, kind: str, work: Work, *, status: int | None = None) -> Response:
        """Do ``work`` under a reserved identifier and answer; a repetition gets the recorded answer.

        A refusal that ``work`` raises is an answer, too, and recorded, unless it is a passing one (429, 5xx):
        then the key is free again, and its identifier stays reserved.

        Args:
            kind: Kind of identifier to reserve, a key of ``models.identifiers.PREFIXES``.
            work: What to do.
            status: HTTP status of success where it is not the route's own.

        Raises:
            IdempotencyKeyReusedError: The key belongs to another request.
            IdempotencyInProgressError: The first request did not end while this one waited.
        """
        chosen = status or self._status
        if self._owner is None:
            outcome = await work(new_identifier(kind))
            return _response(_told(outcome), chosen)
        record = await self._claim(self._owner, new_identifier(kind))
        if record.response_status is not None:
            return _replay(record)
        return await self._carry_out(self._owner, record.subject_id, work, chosen)

    async def _claim(self, owner: KeyOwner, subject_id: str) -> IdempotencyRecord:
        """Return a record that is ours to carry out, or one with its final answer."""
        deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
        pause = 0.02
        while True:
            async with self._services.database.tenant(owner.tenant_id) as connection:
                claimed = await claim_key(
                    connection,
                    owner,
                    operation=self._operation,
                    request_hash=self._request_hash,
                    subject_id=subject_id,
                )
                if claimed is not None:
                    return claimed
                found = await find_key(connection, owner)
            if found is not None:
                if found.operation != self._operation or found.request_hash != self._request_hash:
                    raise IdempotencyKeyReusedError(owner.key)
                if _is_final(found.response_status):
                    return found
            if asyncio.get_running_loop().time() + pause > deadline:
                raise IdempotencyInProgressError(owner.key)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.25)

    async def _carry_out(self, owner: KeyOwner, subject_id: str, work: Work, status: int) -> Response:
        try:
            async with self._signs_of_life(owner):
                outcome = await work(subject_id)
        except Exception as failure:
            response = error_response(platform_error(failure))
            remembered = bytes(response.body)
        else:
            response = _response(_told(outcome), status)
            remembered = _encoded(outcome.remembered) if isinstance(outcome, Reply) else bytes(response.body)
        async with self._services.database.tenant(owner.tenant_id) as connection:
            recorded = await finish_key(connection, owner, status=response.status_code, body=remembered)
            found = None if recorded else await find_key(connection, owner)
        # We were thought dead and somebody else answered first: theirs is the first answer.
        return _replay(found) if found is not None and _is_final(found.response_status) else response

    @asynccontextmanager
    async def _signs_of_life(self, owner: KeyOwner) -> AsyncGenerator[None]:
        async def renew() -> None:
            while True:
                await asyncio.sleep(LEASE_SECONDS / 3)
                with suppress(DatabaseUnavailableError):
                    async with self._services.database.tenant(owner.tenant_id) as connection:
                        await renew_key(connection, owner)

        renewal = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewal.cancel()
            with suppress(asyncio.CancelledError):
                await renewal


def _is_final(status: int | None) -> bool:
    return status is not None and status < 500 and status != 429


def _told(outcome: BaseModel | Reply) -> bytes:
    return _encoded(outcome.body if isinstance(outcome, Reply) else outcome)


def _encoded(answer: BaseModel) -> bytes:
    return answer.model_dump_json(by_alias=True).encode()


def _response(body: bytes, status: int) -> Response:
    return Response(body, status_code=status, media_type="application/json")


def _replay(record: IdempotencyRecord) -> Response:
    assert record.response_status is not None
    response = _response(record.response_body or b"", record.response_status)
    response.headers[REPLAYED_HEADER] = "true"
    return response


def _once(request: Request, services: Services, caller: Caller, key: str | None) -> Once:
    route: APIRoute = request.scope["route"]
    described = b"\x00".join(
        (request.url.path.encode(), request.scope["query_string"], request.scope[BODY_DIGEST])
    )
    return Once(
        services,
        None if key is None else KeyOwner(caller.tenant_id, caller.user_id, key),
        operation=f"{request.method} {route.path}",
        request_hash=hashlib.sha256(described).digest(),
        status=route.status_code or 200,
    )


async def _optional(
    request: Request,
    services: ServicesDep,
    caller: Caller,
    key: Annotated[KeyHeader | None, Header(alias=HEADER)] = None,
) -> Once:
    return _once(request, services, caller, key)


async def _required(request: Request, services: ServicesDep, caller: Caller, key: KeyHeader) -> Once:
    return _once(request, services, caller, key)


OnceDep = Annotated[Once, Depends(_optional)]
"""For every POST: honours an Idempotency-Key if there is one."""

RequiredOnceDep = Annotated[Once, Depends(_required)]
"""For a POST that needs an Idempotency-Key."""
