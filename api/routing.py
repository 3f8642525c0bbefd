"""The routing of payments over rails: everybody reads it, the platform's finance replaces it."""

from typing import Annotated

from fastapi import APIRouter, Depends

from activities.records.routing import current_routing, replace_routing
from api.authentication import requires
from api.envelope import Success, errors, success
from api.payout import Finance
from api.state import ServicesDep
from models.identity import Permission, Principal
from models.payout import PlatformFinanceError
from models.routing import RoutingChangedError, RoutingRules, RoutingView

router = APIRouter(prefix="/payment-routing", tags=["payments"])

Reader = Annotated[Principal, Depends(requires(Permission.RECEIPTS_READ))]


@router.get("")
async def routing(_: Reader, services: ServicesDep) -> Success[RoutingView]:
    """Read which rail takes which amounts and currencies, in the order in which routes are tried."""
    async with services.database.platform() as connection:
        return success(await current_routing(connection))


@router.put("", responses=errors(RoutingChangedError, PlatformFinanceError))
async def change_routing(body: RoutingRules, caller: Finance, services: ServicesDep) -> Success[RoutingView]:
    """Put another routing in force, from the next purchase on (the platform's finance)."""
    async with services.database.platform() as connection:
        return success(await replace_routing(connection, body, changed_by=caller.user_id))
