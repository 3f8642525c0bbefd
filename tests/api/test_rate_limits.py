"""Rate limits: never more than the bucket holds over all processes, told in standard headers."""

import asyncio
import re
from collections.abc import AsyncIterator

import httpx
import pytest

from activities.records.database import Database
from api.app import create_app
from api.rate_limits import RateLimits
from models.identifiers import new_identifier
from models.identity import Principal, Role
from models.rate_limit import RateLimitExceededError, RateLimitPolicy
from models.settings import Settings
from tests.api.calling import TokenFor, bearer, client_of, running
from tests.eventually import eventually

WINDOW = 3600


def caller(tenant_id: str, user_id: str = "ada") -> Principal:
    return Principal(user_id=user_id, tenant_id=tenant_id, roles=frozenset({Role.USER}))


async def accepted(
    limits: RateLimits, principal: Principal, attempts: int, credentials: str = "token"
) -> int:
    count = 0
    for _ in range(attempts):
        try:
            await limits.spend(principal, credentials, [])
            count += 1
        except RateLimitExceededError:
            continue
    return count


@pytest.fixture
async def store(database: Settings) -> AsyncIterator[Database]:
    async with Database(
        database.database_url.get_secret_value(), database.database_platform_url.get_secret_value()
    ) as opened:
        yield opened


async def test_all_processes_together_spend_what_the_bucket_holds(store: Database) -> None:
    policy = RateLimitPolicy("key", 60, WINDOW)
    principal = caller(new_identifier("tenant"))
    processes = [RateLimits(store, [policy]) for _ in range(3)]
    counts = await asyncio.gather(*(accepted(process, principal, 60) for process in processes))
    # What regrows in a second of an hour's window is less than one.
    assert sum(counts) == 60


async def test_a_bucket_fills_again_with_time(store: Database) -> None:
    limits = RateLimits(store, [RateLimitPolicy("key", 5, 1)])
    principal = caller(new_identifier("tenant"))
    assert await accepted(limits, principal, 5) == 5
    with pytest.raises(RateLimitExceededError) as refusal:
        while True:
            await limits.spend(principal, "token", [])
    assert refusal.value.details["retry_after_seconds"] == 1

    async def again() -> bool:
        return await accepted(limits, principal, 1) == 1

    assert await eventually(again)


async def test_api_keys_have_buckets_of_their_own_and_the_tenant_one_for_all(store: Database) -> None:
    limits = RateLimits(store, [RateLimitPolicy("key", 3, WINDOW), RateLimitPolicy("tenant", 5, WINDOW)])
    principal = caller(new_identifier("tenant"))
    assert await accepted(limits, principal, 4, "sk_one") == 3
    assert await accepted(limits, principal, 4, "sk_two") == 2
    assert await accepted(limits, caller(new_identifier("tenant")), 4, "sk_one") == 3


async def test_what_one_policy_refuses_costs_nothing_of_the_other(store: Database) -> None:
    limits = RateLimits(store, [RateLimitPolicy("key", 9, WINDOW), RateLimitPolicy("tenant", 2, WINDOW)])
    principal = caller(new_identifier("tenant"))
    assert await accepted(limits, principal, 5) == 2
    left = RateLimits(store, [RateLimitPolicy("key", 9, WINDOW)])
    # One token stays with the process that took it out and was refused.
    assert await accepted(left, principal, 9) == 6


async def test_nobody_is_refused_while_the_buckets_are_away() -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
    async with Database(nowhere, nowhere) as away:
        limits = RateLimits(away, [RateLimitPolicy("key", 20, WINDOW)])
        spend = asyncio.create_task(limits.spend(caller("t"), "token", []))
        await asyncio.wait([spend], timeout=15)
        assert spend.done()
        assert spend.exception() is None


@pytest.fixture
async def strict(api_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    tight = api_settings.model_copy(
        update={"rate_limit_key_quota": 2, "rate_limit_tenant_quota": 40, "rate_limit_window_seconds": 60}
    )
    async with running(create_app(tight)) as app, client_of(app) as client:
        yield client


async def test_answers_tell_the_policy_and_what_is_left(
    strict: httpx.AsyncClient, token_for: TokenFor
) -> None:
    headers = bearer(token_for())
    first = await strict.get("/runs", headers=headers)
    assert first.status_code == 200
    assert first.headers["RateLimit-Policy"] == '"key";q=2;w=60, "tenant";q=40;w=60'
    assert re.fullmatch(r'"key";r=1;t=30, "tenant";r=39;t=2', first.headers["RateLimit"])
    await strict.get("/runs", headers=headers)
    refused = await strict.get("/runs", headers=headers)
    assert refused.status_code == 429
    error = refused.json()["error"]
    assert (error["code"], error["details"]["policy"]) == ("RATE_LIMIT_EXCEEDED", "key")
    assert 1 <= int(refused.headers["Retry-After"]) <= 30
    assert refused.headers["RateLimit"].startswith('"key";r=0;')


async def test_who_needs_no_credentials_is_not_counted(strict: httpx.AsyncClient) -> None:
    for _ in range(5):
        answer = await strict.get("/health/live")
        assert answer.status_code == 200
        assert "RateLimit" not in answer.headers
