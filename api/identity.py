"""Routes of the identity domain: who am I, who is here, API keys."""

import secrets
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import Response

from activities.records.identity import (
    ApiKeyNotFoundError,
    create_api_key,
    find_user,
    list_api_keys,
    list_users,
    revoke_api_key,
)
from api.authentication import API_KEY_PREFIX, Caller, hash_api_key, requires
from api.envelope import Success, errors, success
from api.idempotency import OnceDep, Reply
from api.pagination import Page, PageDep
from api.state import ServicesDep
from models.errors import InvalidRequestError, NotFoundError, PermissionDeniedError
from models.identifiers import Identifier
from models.identity import ROLE_PERMISSIONS, ApiKey, Permission, Principal, Role, User
from models.table import utc_now

router = APIRouter(tags=["identity"])

KeyOwner = Annotated[Principal, Depends(requires(Permission.API_KEYS_WRITE))]
MAX_KEY_LIFETIME = timedelta(days=366)


class UserNotFoundError(NotFoundError):
    """The caller's tenant has no such user."""

    code = "USER_NOT_FOUND"

    def __init__(self, user_id: str) -> None:
        super().__init__(f"There is no user {user_id} in your tenant.", details={"user_id": user_id})


class ScopeNotHeldError(PermissionDeniedError):
    """An API key was to get a permission that its maker lacks."""

    code = "SCOPE_NOT_HELD"

    def __init__(self, lacking: list[Permission]) -> None:
        super().__init__(
            f"A key may do no more than you: you lack {', '.join(lacking)}. Leave these scopes out.",
            details={"scopes": lacking},
        )


class KeyExpiryError(InvalidRequestError):
    """An API key's end lies in the past or too far ahead."""

    code = "KEY_EXPIRY_INVALID"

    def __init__(self) -> None:
        remedy = f"Give a time within the next {MAX_KEY_LIFETIME.days} days, or leave it out."
        super().__init__(
            f"expires_at: {remedy}",
            details={
                "fields": [
                    {"field": "body.expires_at", "rule": "range", "message": "out of range", "remedy": remedy}
                ]
            },
        )


class Me(BaseModel):
    """The caller as the API sees it."""

    user_id: str
    tenant_id: str
    name: str | None
    email: str | None
    roles: list[Role]
    permissions: list[Permission]


class UserView(BaseModel):
    """A person or machine of the tenant."""

    user_id: str
    name: str | None
    email: str | None
    created_at: datetime
    last_seen_at: datetime


class CreateApiKeyRequest(BaseModel):
    """A new key: what it is for and what it may do."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=100, description="What the key is for.")
    scopes: list[Permission] = Field(
        min_length=1, max_length=len(Permission), description="What the key may do: no more than you may."
    )
    expires_at: AwareDatetime | None = Field(default=None, description="End of the key; none if left out.")


class ApiKeyView(BaseModel):
    """A key without its secret."""

    api_key_id: str
    name: str
    hint: str = Field(description="First characters of the key.")
    scopes: list[Permission]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class NewApiKey(ApiKeyView):
    """A key with its secret, which is shown this once."""

    key: str | None = Field(
        description="The key itself; null in a repeated answer, because only its hash is kept."
    )


@router.get("/me", operation_id="me")
async def me(caller: Caller) -> Success[Me]:
    """Tell who is calling and what they may do."""
    granted = [permission for permission in Permission if caller.may(permission)]
    return success(
        Me(
            user_id=caller.user_id,
            tenant_id=caller.tenant_id,
            name=caller.name,
            email=caller.email,
            roles=sorted(caller.roles),
            permissions=granted,
        )
    )


@router.get("/users", operation_id="list_users")
async def users(
    caller: Annotated[Principal, Depends(requires(Permission.RUNS_OPERATE))],
    services: ServicesDep,
    page: PageDep,
) -> Success[Page[UserView]]:
    """List the tenant's users, newest first."""
    async with services.database.tenant(caller.tenant_id) as connection:
        rows = await list_users(connection, before=page.before, limit=page.fetch)
    return success(page.page(rows, _show_user))


@router.get("/users/{user_id}", operation_id="get_user", responses=errors(UserNotFoundError))
async def user(
    user_id: Annotated[Identifier, Path()], caller: Caller, services: ServicesDep
) -> Success[UserView]:
    """Show one user of the caller's tenant."""
    async with services.database.tenant(caller.tenant_id) as connection:
        found = await find_user(connection, user_id)
    if found is None:
        raise UserNotFoundError(user_id)
    return success(_show_user(found))


@router.post(
    "/api-keys",
    operation_id="create_api_key",
    status_code=201,
    response_model=Success[NewApiKey],
    responses=errors(ScopeNotHeldError, KeyExpiryError),
)
async def create_key(
    body: CreateApiKeyRequest, caller: KeyOwner, services: ServicesDep, once: OnceDep
) -> Response:
    """Make an API key. The key is shown in this answer only; its hash is all that is kept."""

    async def create(key_id: str) -> Reply:
        scopes = sorted(set(body.scopes))
        lacking = [scope for scope in scopes if not caller.may(scope)]
        if lacking:
            raise ScopeNotHeldError(lacking)
        now = utc_now()
        if body.expires_at is not None and not now < body.expires_at <= now + MAX_KEY_LIFETIME:
            raise KeyExpiryError
        key = API_KEY_PREFIX + secrets.token_urlsafe(32)
        needed = [role for role in caller.roles if ROLE_PERMISSIONS[role] & set(scopes)]
        record = ApiKey(
            id=key_id,
            tenant_id=caller.tenant_id,
            user_id=caller.user_id,
            name=body.name,
            key_hash=hash_api_key(key),
            hint=key[:10],
            roles=sorted(needed),
            scopes=list(scopes),
            created_at=now,
            expires_at=body.expires_at,
        )
        async with services.database.tenant(caller.tenant_id) as connection:
            await create_api_key(connection, record)
        shown = _show_key(record).model_dump()
        return Reply(success(NewApiKey(**shown, key=key)), success(NewApiKey(**shown, key=None)))

    return await once.answer("api_key", create)


@router.get("/api-keys", operation_id="list_api_keys")
async def keys(caller: KeyOwner, services: ServicesDep, page: PageDep) -> Success[Page[ApiKeyView]]:
    """List the caller's own keys, newest first, without their secrets."""
    async with services.database.tenant(caller.tenant_id) as connection:
        rows = await list_api_keys(connection, caller.user_id, before=page.before, limit=page.fetch)
    return success(page.page(rows, _show_key))


@router.delete("/api-keys/{api_key_id}", operation_id="revoke_api_key", responses=errors(ApiKeyNotFoundError))
async def revoke_key(
    api_key_id: Annotated[Identifier, Path()], caller: KeyOwner, services: ServicesDep
) -> Success[ApiKeyView]:
    """Revoke one of the caller's keys, at once and for good."""
    async with services.database.tenant(caller.tenant_id) as connection:
        record = await revoke_api_key(connection, api_key_id, caller.user_id)
    return success(_show_key(record))


def _show_user(row: User) -> UserView:
    return UserView(
        user_id=row.id,
        name=row.name,
        email=row.email,
        created_at=row.created_at,
        last_seen_at=row.last_seen_at,
    )


def _show_key(row: ApiKey) -> ApiKeyView:
    return ApiKeyView(
        api_key_id=row.id,
        name=row.name,
        hint=row.hint,
        scopes=[Permission(scope) for scope in row.scopes],
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )
