"""Who is calling: a bearer token of the identity provider, or an API key."""

import hashlib
import time
from typing import Annotated

import structlog
from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.requests import HTTPConnection

from activities.records.identity import find_api_key, remember_user
from api.rate_limits import spend_request
from api.state import Services, ServicesDep
from models.errors import AuthenticationError
from models.identity import Permission, Principal, Role
from models.table import utc_now

API_KEY_PREFIX = "sk_"
USER_FRESH_SECONDS = 300.0
MAX_USERS_REMEMBERED = 10_000


class MissingCredentialsError(AuthenticationError):
    """The request carries no credentials."""

    def __init__(self) -> None:
        super().__init__(
            "Send `Authorization: Bearer <token>` or `X-Api-Key: sk_…`. Get a token with `switchyard login`."
        )


class InvalidApiKeyError(AuthenticationError):
    """The API key is unknown, revoked or expired."""

    code = "INVALID_API_KEY"

    def __init__(self) -> None:
        super().__init__(
            "The API key is unknown, revoked or expired. Make a new one (`switchyard keys create`)."
        )


# For the OpenAPI document; the values are read by `credentials_of`, which words refusals itself.
bearer_scheme = HTTPBearer(
    auto_error=False,
    scheme_name="bearer",
    description="JSON Web Token of the identity provider, or an API key (`sk_…`).",
)
api_key_scheme = APIKeyHeader(
    name="X-Api-Key", auto_error=False, scheme_name="apiKey", description="API key (`sk_…`) of a machine."
)


def hash_api_key(key: str) -> bytes:
    """Return what is stored of a key: SHA-256 suffices for 256 random bits."""
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()


def credentials_of(connection: HTTPConnection) -> str:
    """Return the token or key that the request carries.

    Raises:
        MissingCredentialsError: It carries none.
    """
    scheme, _, credentials = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip()
    key = connection.headers.get("x-api-key", "").strip()
    if key:
        return key
    raise MissingCredentialsError


async def authenticate(connection: HTTPConnection, services: Services) -> Principal:
    """Tell who is calling; for routes use `Caller`, for WebSockets call this.

    Raises:
        AuthenticationError: Nobody we know.
        RateLimitExceededError: The credentials or their tenant have sent too many requests.
        IdentityProviderUnavailableError: The provider's keys cannot be read now.
    """
    credentials = credentials_of(connection)
    if credentials.startswith(API_KEY_PREFIX):
        principal = await _from_api_key(credentials, services)
    else:
        principal = await services.tokens.verify(credentials)
        await _remember(principal, services)
    structlog.contextvars.bind_contextvars(tenant_id=principal.tenant_id, user_id=principal.user_id)
    await spend_request(connection, principal, credentials)
    return principal


async def _from_api_key(key: str, services: Services) -> Principal:
    # The owner's tenant is not known yet, so this look-up is the platform's.
    async with services.database.platform() as connection:
        found = await find_api_key(connection, hash_api_key(key))
    now = utc_now()
    if (
        found is None
        or found.revoked_at is not None
        or (found.expires_at is not None and found.expires_at <= now)
    ):
        raise InvalidApiKeyError
    return Principal(
        user_id=found.user_id,
        tenant_id=found.tenant_id,
        roles=frozenset(Role(role) for role in found.roles),
        scopes=frozenset(Permission(scope) for scope in found.scopes),
        name=found.name,
    )


async def _remember(principal: Principal, services: Services) -> None:
    facts = (principal.tenant_id, principal.email, principal.name)
    seen = services.users_seen.get(principal.user_id)
    now = time.monotonic()
    if seen is not None and seen[0] == facts and now - seen[1] < USER_FRESH_SECONDS:
        return
    async with services.database.tenant(principal.tenant_id) as connection:
        await remember_user(
            connection,
            tenant_id=principal.tenant_id,
            user_id=principal.user_id,
            email=principal.email,
            name=principal.name,
        )
    if len(services.users_seen) >= MAX_USERS_REMEMBERED:
        services.users_seen.clear()
    services.users_seen[principal.user_id] = (facts, now)


async def _caller(
    request: Request,
    services: ServicesDep,
    _bearer: Annotated[object, Depends(bearer_scheme)],
    _api_key: Annotated[object, Depends(api_key_scheme)],
) -> Principal:
    return await authenticate(request, services)


Caller = Annotated[Principal, Depends(_caller)]
"""Declare a parameter of this type to get who is calling; nobody gets in without credentials."""


class requires:  # noqa: N801 - reads as a word in `Annotated[Principal, Depends(requires(...))]`
    """Dependency that gives the caller if it has one permission.

    Use: ``caller: Annotated[Principal, Depends(requires(Permission.AGENTS_PUBLISH))]``.
    """

    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    async def __call__(self, caller: Caller) -> Principal:
        """Return the caller.

        Raises:
            MissingPermissionError: It lacks the permission.
        """
        caller.require(self.permission)
        return caller
