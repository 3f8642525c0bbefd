"""Rate limits per credential and per tenant, told in standard headers.

``RateLimit-Policy`` and ``RateLimit`` as draft-ietf-httpapi-ratelimit-headers has them, ``Retry-After``
(RFC 9110 §10.2.3) with a 429. A policy is a token bucket in PostgreSQL that all API processes share. Each
takes tokens out by the handful and spends them from memory, so that a limit costs a transaction every few
seconds instead of one per request; together the processes can never spend more than the bucket gave.
"""

import asyncio
import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from activities.records.database import Database, DatabaseUnavailableError
from activities.records.rate_limits import take_tokens
from activities.telemetry.metrics import RATE_LIMITED
from models.identity import Principal
from models.rate_limit import RateLimitExceededError, RateLimitPolicy
from models.settings import Settings

log: structlog.stdlib.BoundLogger = structlog.get_logger("api.rate_limits")

KEY = "key"
TENANT = "tenant"

SHARE_SECONDS = 10.0
"""Tokens that a process took and did not spend by then go back with its next taking."""

MAX_SHARE = 20
"""A process holds at most a twentieth of a policy's quota."""

PATIENCE_SECONDS = 1.0
"""A bucket that takes longer to answer is away: counting must not hold up what it counts."""

MAX_SHARES = 20_000
"""Buckets that a process remembers."""

_STATE = "rate_limit_spent"


@dataclass
class _Share:
    """A process's part of one bucket."""

    tokens: int = 0
    left: float = 0.0
    """What the bucket held after the last taking."""
    taken_at: float = -math.inf
    wanted: int = 1
    blocked_until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True)
class Spent:
    """What a request left of one policy.

    Attributes:
        policy: The policy.
        remaining: Requests that may still be sent at once.
        full_seconds: When the bucket is full again, if nothing is sent.
    """

    policy: RateLimitPolicy
    remaining: int
    full_seconds: int


class RateLimits:
    """The limits of one API process."""

    def __init__(
        self,
        database: Database,
        policies: Sequence[RateLimitPolicy],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep ``policies``; their buckets are in ``database``.

        Args:
            database: Where the buckets are. While it is away, each process gives what one would give.
            policies: At most one named ``key`` and one named ``tenant``; none: no limit.
            clock: Seconds that only grow.
        """
        self._database = database
        self._policies = tuple(policies)
        self._clock = clock
        self._shares: dict[tuple[str, str], _Share] = {}

    async def spend(self, principal: Principal, credentials: str, spent: list[Spent]) -> None:
        """Take one token of each policy for a request.

        Args:
            principal: Who calls.
            credentials: What they showed; names the bucket of an API key.
            spent: Gets what is left of each policy, also where the request is refused.

        Raises:
            RateLimitExceededError: A bucket is empty; nothing was taken from the others.
        """
        paid: list[_Share] = []
        for policy in self._policies:
            key = TENANT if policy.name == TENANT else _credential_key(principal, credentials)
            share = self._share(principal.tenant_id, key)
            try:
                spent.append(await self._take_one(policy, share, principal.tenant_id, key))
            except RateLimitExceededError:
                for each in paid:
                    each.tokens += 1
                spent.append(Spent(policy, 0, self._full_seconds(policy, 0)))
                RATE_LIMITED.labels(policy.name).inc()
                log.info("rate limited", policy=policy.name, tenant_id=principal.tenant_id)
                raise
            paid.append(share)

    def _share(self, tenant_id: str, key: str) -> _Share:
        share = self._shares.get((tenant_id, key))
        if share is None:
            if len(self._shares) >= MAX_SHARES:
                old = self._clock() - SHARE_SECONDS
                self._shares = {name: each for name, each in self._shares.items() if each.taken_at > old}
            share = self._shares[tenant_id, key] = _Share()
        return share

    async def _take_one(self, policy: RateLimitPolicy, share: _Share, tenant_id: str, key: str) -> Spent:
        async with share.lock:
            now = self._clock()
            if now < share.blocked_until:
                raise RateLimitExceededError(policy, math.ceil(share.blocked_until - now))
            if share.tokens < 1 or now - share.taken_at > SHARE_SECONDS:
                await self._refill(policy, share, tenant_id, key, now)
            if share.tokens < 1:
                wait = (1 - share.left) / policy.per_second
                share.blocked_until = now + wait
                raise RateLimitExceededError(policy, max(1, math.ceil(wait)))
            share.tokens -= 1
            regained = (now - share.taken_at) * policy.per_second
            remaining = min(policy.quota, int(share.left + share.tokens + max(0.0, regained)))
            return Spent(policy, remaining, self._full_seconds(policy, remaining))

    async def _refill(
        self, policy: RateLimitPolicy, share: _Share, tenant_id: str, key: str, now: float
    ) -> None:
        """Take the next handful: as many as the last one would have lasted for a second, within bounds."""
        lasted = max(0.001, now - share.taken_at)
        most = max(1, policy.quota // MAX_SHARE)
        used = share.wanted - share.tokens
        share.wanted = min(most, max(1, most // 10, math.ceil(used / lasted)))
        try:
            async with asyncio.timeout(PATIENCE_SECONDS), self._database.tenant(tenant_id) as connection:
                granted, share.left = await take_tokens(
                    connection,
                    policy,
                    tenant_id=tenant_id,
                    key=key,
                    wanted=share.wanted,
                    returned=share.tokens,
                )
        except (DatabaseUnavailableError, TimeoutError):
            # Who cannot be counted is not refused; what the request needs of the database will say so.
            granted, share.left = share.wanted, 0.0
        share.tokens, share.taken_at = granted, now

    @staticmethod
    def _full_seconds(policy: RateLimitPolicy, remaining: int) -> int:
        return max(0, math.ceil((policy.quota - remaining) / policy.per_second))


def policies_of(settings: Settings) -> list[RateLimitPolicy]:
    """Return the policies of the settings; a quota of 0 is no limit."""
    quotas = {KEY: settings.rate_limit_key_quota, TENANT: settings.rate_limit_tenant_quota}
    return [
        RateLimitPolicy(name, quota, settings.rate_limit_window_seconds)
        for name, quota in quotas.items()
        if quota
    ]


def _credential_key(principal: Principal, credentials: str) -> str:
    """Name the bucket of who calls: each API key has its own, all tokens of a person share one."""
    if credentials.startswith("sk_"):
        return f"key:{hashlib.sha256(credentials.encode()).hexdigest()[:32]}"
    return f"user:{principal.user_id}"


async def spend_request(connection: HTTPConnection, principal: Principal, credentials: str) -> None:
    """Count the request of an authenticated caller; its answer will carry the headers.

    Raises:
        RateLimitExceededError: Too many requests.
    """
    limits: RateLimits = connection.app.state.rate_limits
    spent: list[Spent] = []
    setattr(connection.state, _STATE, spent)
    await limits.spend(principal, credentials, spent)


class RateLimitMiddleware:
    """Adds the headers to the answers of requests that were counted."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})

        async def send_with_limits(message: Message) -> None:
            spent: list[Spent] | None = state.get(_STATE)
            if spent and message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["RateLimit-Policy"] = ", ".join(
                    f'"{each.policy.name}";q={each.policy.quota};w={each.policy.window_seconds}'
                    for each in spent
                )
                headers["RateLimit"] = ", ".join(
                    f'"{each.policy.name}";r={each.remaining};t={each.full_seconds}' for each in spent
                )
            await send(message)

        await self._app(scope, receive, send_with_limits)
