"""HTTP to a rail: an answer that can be read, or silence. Nothing else tells the two apart.

No call is repeated here: repeating is the settle protocol's decision, which looks up first.
"""

from dataclasses import dataclass
from decimal import Decimal
from json import loads
from types import TracebackType
from typing import Any, Self, cast

import httpx

from activities.telemetry.tracing import span
from models.rail import Unknown

RAIL_CALL_TIMEOUT = httpx.Timeout(20.0, connect=5.0)
"""Well inside the activity's ``RAIL_TIMEOUT``, so that a look-up and a call fit."""

MAX_ANSWER_BYTES = 1_000_000

UNTOLD = frozenset({401, 403, 408, 425, 429})
"""Statuses that say nothing about the money: refused at the door, too slow, or too many calls."""


@dataclass(frozen=True)
class Answered:
    """The rail answered below 500 with a JSON object; numbers with a point are ``Decimal``."""

    status: int
    body: dict[str, Any]

    @property
    def succeeded(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    def untold(self) -> Unknown:
        """Say that this answer decides nothing."""
        return Unknown(reason=f"the rail answered {self.status} with nothing that decides")


class RailClient:
    """One rail's HTTP API."""

    def __init__(self, base_url: str, headers: dict[str, str]) -> None:
        """Send ``headers`` (credentials) with every call; follow no redirect, read no proxy variables."""
        self._client = httpx.AsyncClient(
            base_url=base_url,
            headers=headers,
            timeout=RAIL_CALL_TIMEOUT,
            follow_redirects=False,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        params: dict[str, str] | None = None,
    ) -> Answered | Unknown:
        """Call once. Unknown whenever the answer does not come, is 5xx, or is not a JSON object."""
        try:
            with span(f"rail {method}", {"server.address": self._client.base_url.host}):
                response = await self._client.request(
                    method, path, content=content, headers=headers, params=params
                )
        except httpx.HTTPError as error:
            return Unknown(reason=f"no answer ({type(error).__name__})")
        if response.status_code >= 500 or response.status_code in UNTOLD:
            return Unknown(reason=f"the rail answered {response.status_code}")
        if len(response.content) > MAX_ANSWER_BYTES:
            return Unknown(reason="the answer is too long to be one")
        try:
            body = loads(response.content, parse_float=Decimal)
        except (ValueError, RecursionError):
            return Unknown(reason=f"the answer ({response.status_code}) is no JSON")
        if isinstance(body, list):
            body = {"items": body}
        if not isinstance(body, dict):
            return Unknown(reason=f"the answer ({response.status_code}) is no JSON object")
        return Answered(response.status_code, cast("dict[str, Any]", body))
