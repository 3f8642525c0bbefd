"""Listings, ratings, deployments (frameos-agent-runtime-flows, "Agent Execution Flow", step 1)."""

import asyncio
import base64
import binascii
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints
from starlette.responses import Response

from activities.marketplace import encrypt_config, reencrypt_deployments
from activities.records.database import Connection, DatabaseUnavailableError
from activities.records.marketplace import (
    create_deployment,
    find_deployment,
    find_listing,
    has_run,
    list_agents,
    list_deployments,
    list_reviews,
    rate_agent,
)
from activities.records.publishing import find_agent, list_published_versions
from api.authentication import Caller, requires
from api.envelope import Success, errors, success
from api.idempotency import IdempotencyInProgressError, IdempotencyKeyReusedError, OnceDep
from api.pagination import DEFAULT_LIMIT, MAX_LIMIT, InvalidCursorError, Page, PageDep, encode_cursor
from api.state import ServicesDep
from models.identifiers import PATTERN, Identifier
from models.identity import Permission, Principal
from models.json_schema import SchemaTooComplexError, violations
from models.manifest import SLUG_PATTERN, Pricing
from models.marketplace import (
    AgentDeployment,
    AgentReview,
    DeploymentNotFoundError,
    DeploymentStatus,
    InvalidConfigError,
    ReviewNotAllowedError,
    Sort,
    VersionNotDeployableError,
)
from models.publishing import Agent, AgentNotFoundError, AgentStatus, AgentVersion, VersionStatus

router = APIRouter(tags=["marketplace"])

Deployer = Annotated[Principal, Depends(requires(Permission.AGENTS_DEPLOY))]
Operator = Annotated[Principal, Depends(requires(Permission.RUNS_OPERATE))]

AgentName = Annotated[
    str, StringConstraints(pattern=rf"{SLUG_PATTERN[:-1]}$|{PATTERN.pattern}", max_length=64)
]
"""An agent by identifier or slug."""

REVIEWS_SHOWN = 10


class Rating(BaseModel):
    """What users who ran the agent think of it."""

    average: float | None = Field(description="1 to 5, two decimals; null without ratings.")
    count: int


class AgentListing(BaseModel):
    """An agent as a list shows it."""

    agent_id: str
    slug: str
    name: str
    description: str
    category: str
    version: str
    author: str | None
    pricing: Pricing
    rating: Rating
    executions: int = Field(description="Executions that ran to their end.")
    success_rate: float | None = Field(description="Share that succeeded, 0 to 1; null before the first.")
    published_at: datetime


class PublishedVersion(BaseModel):
    """A version that can be deployed."""

    version_id: str
    version: str
    published_at: datetime
    pricing: Pricing


class ReviewView(BaseModel):
    """One user's rating."""

    review_id: str
    rating: int
    comment: str | None
    created_at: datetime
    updated_at: datetime


class AgentDetails(AgentListing):
    """An agent with everything one wants to know before deploying it."""

    runtime: str
    input_schema: dict[str, JsonValue]
    output_schema: dict[str, JsonValue]
    config_schema: dict[str, JsonValue]
    timeout_ms: int
    memory_mb: int
    capabilities: list[str]
    hosts: list[str] = Field(description="Hosts that the agent may reach; nothing else is let through.")
    average_duration_ms: int | None = Field(description="Of successful executions.")
    versions: list[PublishedVersion] = Field(description="Deployable versions, newest first.")
    reviews: list[ReviewView] = Field(description="The latest; GET /agents/{id}/reviews has all.")


class RateRequest(BaseModel):
    """A rating; a second one replaces the first."""

    model_config = ConfigDict(extra="forbid")

    rating: int = Field(ge=1, le=5, strict=True)
    comment: str | None = Field(default=None, max_length=2_000)


class DeployRequest(BaseModel):
    """Which version to set up, and how."""

    model_config = ConfigDict(extra="forbid")

    version: str | None = Field(
        default=None, max_length=64, description="A published version; the newest where left out."
    )
    config: dict[str, JsonValue] = Field(
        default_factory=dict, description="Fits the agent's config_schema. Encrypted; never answered."
    )


class Deployment(BaseModel):
    """A deployment. Its configuration is never shown."""

    deployment_id: str
    agent_id: str
    slug: str | None
    version_id: str
    version: str
    version_status: VersionStatus | None = Field(description="Only published versions can be executed.")
    user_id: str
    status: DeploymentStatus
    created_at: datetime


class ReEncrypted(BaseModel):
    """Configurations brought under the current key."""

    re_encrypted: int


@router.get("/agents", operation_id="list_agents", responses=errors(InvalidCursorError))
async def agents(
    caller: Caller,
    services: ServicesDep,
    category: Annotated[str | None, Query(max_length=50)] = None,
    q: Annotated[str | None, Query(min_length=1, max_length=200, description="Words to look for.")] = None,
    sort: Sort = Sort.NEWEST,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Entries per page.")] = DEFAULT_LIMIT,
    cursor: Annotated[
        str | None, Query(max_length=1_000, description="`next_cursor` of the page before.")
    ] = None,
) -> Success[Page[AgentListing]]:
    """List published agents."""
    after = _decode_cursor(cursor, sort) if cursor else None
    async with services.database.tenant(caller.tenant_id) as connection:
        rows = await list_agents(
            connection, category=category, words=q, sort=sort, after=after, limit=limit + 1
        )
    shown = rows[:limit]
    last = shown[-1] if len(rows) > limit else None
    return success(
        Page[AgentListing](
            items=[AgentListing.model_validate(_listing(row)) for row in shown],
            next_cursor=_encode_cursor(sort, last["sort_key"], last["id"]) if last else None,
        )
    )


@router.get("/agents/{agent}", operation_id="get_agent", responses=errors(AgentNotFoundError))
async def agent_details(agent: AgentName, caller: Caller, services: ServicesDep) -> Success[AgentDetails]:
    """Show a published agent, by slug or identifier."""
    async with services.database.tenant(caller.tenant_id) as connection:
        found = await find_agent(connection, agent)
        listing = await find_listing(connection, found.id)
        if listing is None:
            raise AgentNotFoundError(agent)
        versions = await list_published_versions(connection, found.id)
        reviews = await list_reviews(connection, found.id, before=None, limit=REVIEWS_SHOWN)
    manifest = next(each for each in versions if each.id == found.published_version_id).manifest
    succeeded = listing["executions_succeeded"]
    return success(
        AgentDetails.model_validate(
            {
                **_listing(listing),
                **{
                    name: manifest[name]
                    for name in (
                        *("runtime", "input_schema", "output_schema", "config_schema"),
                        *("timeout_ms", "memory_mb", "capabilities"),
                    )
                },
                "hosts": [f"{host['host']}:{host['port']}" for host in manifest["network"]],
                "average_duration_ms": listing["total_duration_ms"] // succeeded if succeeded else None,
                "versions": [
                    PublishedVersion(
                        version_id=each.id,
                        version=each.version,
                        published_at=each.published_at or each.submitted_at,
                        pricing=Pricing.model_validate(each.manifest["pricing"]),
                    )
                    for each in versions
                ],
                "reviews": [_show_review(review) for review in reviews],
            }
        )
    )


@router.get("/agents/{agent}/reviews", operation_id="list_reviews", responses=errors(AgentNotFoundError))
async def agent_reviews(
    agent: AgentName, caller: Caller, services: ServicesDep, page: PageDep
) -> Success[Page[ReviewView]]:
    """List an agent's reviews, newest first."""
    async with services.database.tenant(caller.tenant_id) as connection:
        found = await find_agent(connection, agent)
        reviews = await list_reviews(connection, found.id, before=page.before, limit=page.fetch)
    return success(page.page(reviews, _show_review))


@router.post(
    "/agents/{agent}/reviews",
    operation_id="rate_agent",
    status_code=201,
    response_model=Success[ReviewView],
    responses=errors(
        AgentNotFoundError, ReviewNotAllowedError, IdempotencyKeyReusedError, IdempotencyInProgressError
    ),
)
async def rate(
    agent: AgentName, body: RateRequest, caller: Caller, services: ServicesDep, once: OnceDep
) -> Response:
    """Rate an agent that one has run; a second rating replaces the first."""

    async def work(_: str) -> Success[ReviewView]:
        async with services.database.tenant(caller.tenant_id) as connection:
            found = await find_agent(connection, agent)
            ran = await has_run(connection, found.id, user_id=caller.user_id, tenant_id=caller.tenant_id)
        if found.developer_id == caller.user_id:
            raise ReviewNotAllowedError(found.slug, "it is your own")
        if not ran:
            raise ReviewNotAllowedError(found.slug, "rate it after an execution has ended")
        async with services.database.platform() as connection:
            review = await rate_agent(
                connection,
                found.id,
                user_id=caller.user_id,
                tenant_id=caller.tenant_id,
                rating=body.rating,
                comment=body.comment,
            )
        return success(_show_review(review))

    return await once.answer("review", work)


@router.post(
    "/agents/{agent}/deploy",
    operation_id="deploy_agent",
    status_code=201,
    response_model=Success[Deployment],
    responses=errors(
        AgentNotFoundError,
        VersionNotDeployableError,
        InvalidConfigError,
        SchemaTooComplexError,
        IdempotencyKeyReusedError,
        IdempotencyInProgressError,
        DatabaseUnavailableError,
    ),
)
async def deploy(
    agent: AgentName, body: DeployRequest, caller: Deployer, services: ServicesDep, once: OnceDep
) -> Response:
    """Set up a version of an agent for oneself; the configuration is stored encrypted."""

    async def work(deployment_id: str) -> Success[Deployment]:
        async with services.database.tenant(caller.tenant_id) as connection:
            found = await find_agent(connection, agent)
            version = await _deployable(connection, found, body.version)
        broken = await asyncio.to_thread(violations, body.config, version.manifest["config_schema"])
        if broken:
            raise InvalidConfigError(broken)
        ciphertext, key_id = encrypt_config(services.key_ring, deployment_id, dict(body.config))
        async with services.database.tenant(caller.tenant_id) as connection:
            await create_deployment(
                connection,
                AgentDeployment(
                    id=deployment_id,
                    tenant_id=caller.tenant_id,
                    user_id=caller.user_id,
                    agent_id=found.id,
                    version_id=version.id,
                    version=version.version,
                    config_ciphertext=ciphertext,
                    config_key_id=key_id,
                ),
            )
            return success(_show_deployment(await find_deployment(connection, deployment_id)))

    return await once.answer("deployment", work)


async def _deployable(connection: Connection, agent: Agent, wanted: str | None) -> AgentVersion:
    """Choose the wanted published version, or the newest.

    Raises:
        VersionNotDeployableError: There is no such one.
    """
    versions = await list_published_versions(connection, agent.id)
    for version in versions:
        chosen = version.id == agent.published_version_id if wanted is None else version.version == wanted
        if chosen and agent.status is AgentStatus.PUBLISHED:
            return version
    raise VersionNotDeployableError(agent.slug, wanted, [version.version for version in versions])


@router.get("/deployments", operation_id="list_deployments", responses=errors(InvalidCursorError))
async def deployments(
    caller: Deployer,
    services: ServicesDep,
    page: PageDep,
    agent: Annotated[
        str | None, Query(max_length=64, description="Only of this agent, by identifier or slug.")
    ] = None,
) -> Success[Page[Deployment]]:
    """List the tenant's deployments, newest first."""
    async with services.database.tenant(caller.tenant_id) as connection:
        rows = await list_deployments(connection, agent=agent, before=page.before, limit=page.fetch)
    shown = rows[: page.limit]
    last = shown[-1] if len(rows) > page.limit else None
    return success(
        Page[Deployment](
            items=[_show_deployment(row) for row in shown],
            next_cursor=encode_cursor(last["created_at"], last["id"]) if last else None,
        )
    )


@router.get(
    "/deployments/{deployment_id}",
    operation_id="get_deployment",
    responses=errors(DeploymentNotFoundError),
)
async def deployment(
    deployment_id: Identifier, caller: Deployer, services: ServicesDep
) -> Success[Deployment]:
    """Show one deployment, without its configuration."""
    async with services.database.tenant(caller.tenant_id) as connection:
        return success(_show_deployment(await find_deployment(connection, deployment_id)))


@router.post("/deployments/re-encrypt", operation_id="re_encrypt_deployments")
async def re_encrypt(_: Operator, services: ServicesDep) -> Success[ReEncrypted]:
    """Bring every stored configuration under the current encryption key (docs/publishing.md)."""
    return success(
        ReEncrypted(re_encrypted=await reencrypt_deployments(services.database, services.key_ring))
    )


def _listing(row: Mapping[str, Any]) -> dict[str, Any]:
    succeeded, failed = row["executions_succeeded"], row["executions_failed"]
    ended = succeeded + failed
    count = row["rating_count"]
    return {
        **{
            name: row[name]
            for name in ("slug", "name", "description", "category", "version", "author", "published_at")
        },
        "agent_id": row["id"],
        "pricing": row["pricing"],
        "rating": {"average": round(row["rating_sum"] / count, 2) if count else None, "count": count},
        "executions": ended,
        "success_rate": round(succeeded / ended, 4) if ended else None,
    }


def _show_review(review: AgentReview) -> ReviewView:
    return ReviewView(
        review_id=review.id,
        rating=review.rating,
        comment=review.comment,
        created_at=review.created_at,
        updated_at=review.updated_at,
    )


def _show_deployment(row: Mapping[str, Any]) -> Deployment:
    return Deployment.model_validate({**row, "deployment_id": row["id"]})


def _encode_cursor(sort: Sort, key: int | str, agent_id: str) -> str:
    text = json.dumps([sort, key, agent_id], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def _decode_cursor(cursor: str, sort: Sort) -> tuple[int | str, str]:
    """Read a cursor of this list in this order.

    Raises:
        InvalidCursorError: It is not one.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        made_for, key, agent_id = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise InvalidCursorError from None
    kind = str if sort is Sort.NAME else int
    usable = isinstance(key, kind) and not isinstance(key, bool) and isinstance(agent_id, str)
    if made_for != sort or not usable or not PATTERN.fullmatch(agent_id):
        raise InvalidCursorError
    if isinstance(key, int) and abs(key) >= 2**63:
        raise InvalidCursorError
    if isinstance(key, str) and ("\0" in key or not _is_text(key)):
        raise InvalidCursorError
    return key, agent_id


def _is_text(value: str) -> bool:
    """Tell whether PostgreSQL can take it: no lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
