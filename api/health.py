"""Whether the process lives, and whether it can work: for supervisors and load balancers."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import Literal

import structlog
from fastapi import APIRouter
from pydantic import BaseModel
from temporalio.service import RPCError

from api.envelope import Success, errors, success
from api.state import Services, ServicesDep
from models.errors import PlatformError, UnavailableError

router = APIRouter(prefix="/health", tags=["monitoring"])

log: structlog.stdlib.BoundLogger = structlog.get_logger("api.health")

CHECK_SECONDS = 3.0

State = Literal["up", "down"]


class NotReadyError(UnavailableError):
    """A server that the API needs does not answer; ``details.parts`` says which."""

    code = "NOT_READY"

    def __init__(self, parts: dict[str, State]) -> None:
        down = ", ".join(name for name, state in parts.items() if state == "down")
        super().__init__(f"These servers do not answer: {down}.", details={"parts": parts})


class Liveness(BaseModel):
    """The process answers."""

    status: Literal["live"] = "live"


class Readiness(BaseModel):
    """Every server behind the API answers."""

    status: Literal["ready"] = "ready"
    parts: dict[str, State]


@router.get("/live", operation_id="health_live")
async def live() -> Success[Liveness]:
    """Answer while the process runs."""
    return success(Liveness())


@router.get("/ready", operation_id="health_ready", responses=errors(NotReadyError))
async def ready(services: ServicesDep) -> Success[Readiness]:
    """Ask PostgreSQL, Temporal and the object store, each for at most three seconds."""
    checks = {"database": _database, "temporal": _temporal, "object_store": _object_store}
    states = await asyncio.gather(*(_state(name, check(services)) for name, check in checks.items()))
    parts: dict[str, State] = dict(zip(checks, states, strict=True))
    if "down" in parts.values():
        raise NotReadyError(parts)
    return success(Readiness(parts=parts))


async def _state(name: str, check: Awaitable[bool]) -> State:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return "up" if await check else "down"
    except (PlatformError, RPCError, TimeoutError, RuntimeError) as error:
        log.warning("part is down", part=name, reason=type(error).__name__)
        return "down"


async def _database(services: Services) -> bool:
    async with services.database.platform() as connection:
        await connection.execute("SELECT FROM runs LIMIT 0")
    return True


async def _temporal(services: Services) -> bool:
    return await services.temporal.service_client.check_health(timeout=timedelta(seconds=CHECK_SECONDS))


async def _object_store(services: Services) -> bool:
    return await services.object_store.reachable()
