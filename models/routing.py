"""Which rail a purchase takes: a list of routes, read from the top (frameos-agent-runtime-flows, "C-Layer
routes payment"; DESIGN §6). The list is data: finance replaces it, the next purchase obeys it.
"""

from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic import Field as Described
from sqlalchemy import UniqueConstraint
from sqlmodel import Field

from models.errors import ConflictError
from models.money import Currency, MinorUnits, PositiveMinorUnits
from models.rail import RailName
from models.table import Record, json_field, time_field

MICRO_AMOUNT = 200
"""Up to this many minor units a payment is a micro-payment (frameos-agent-runtime-flows, "Decision tree")."""


class RouteCondition(StrEnum):
    """What must hold for a route beside amount and currency."""

    USABLE = "usable"
    """The rail is configured and the payer can pay over it."""
    FUNDED = "funded"
    """The payer's wallet covers the amount; for the wallet only."""


class Route(BaseModel):
    """One line of the routing: a rail, and for which amounts and currencies."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rail: RailName
    currencies: Annotated[list[Currency], Described(max_length=200)] | None = None
    """Null: every currency."""
    minimum: PositiveMinorUnits = 1
    """Smallest amount, in minor units, inclusive."""
    maximum: MinorUnits | None = None
    """Largest amount, inclusive; null: none."""
    when: RouteCondition = RouteCondition.USABLE

    @model_validator(mode="after")
    def _consistent(self) -> "Route":
        if self.rail is RailName.FREE:
            raise ValueError("the rail free is taken by runs without a price, and by nothing else")
        if self.when is RouteCondition.FUNDED and self.rail is not RailName.WALLET:
            raise ValueError("only the wallet can be funded")
        if self.maximum is not None and self.maximum < self.minimum:
            raise ValueError("the maximum is below the minimum")
        return self


class PayerMeans(BaseModel):
    """What one payer can pay with, as it stands when the purchase is judged."""

    model_config = ConfigDict(frozen=True)

    usable: frozenset[RailName]
    """Rails over which the payer can pay: configured, and the payer's method is registered or enclosed."""
    wallet_covers: bool
    """Whether the wallet holds the amount now."""


class RoutingRules(BaseModel):
    """The routing. The first route that fits and can be taken is taken; where none can, the wallet is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    routes: Annotated[list[Route], Described(min_length=1, max_length=100)]

    def choose(self, amount: int, currency: str, means: PayerMeans) -> RailName:
        """Return the rail of a purchase of ``amount`` minor units; ``free`` where the price is zero.

        A rail is passed over only here, before anything was sent to it.
        """
        if amount == 0:
            return RailName.FREE
        usable: Collection[RailName] = means.usable | {RailName.WALLET}
        for route in self.routes:
            if route.rail not in usable or amount < route.minimum:
                continue
            if route.maximum is not None and amount > route.maximum:
                continue
            if route.currencies is not None and currency not in route.currencies:
                continue
            if route.when is RouteCondition.FUNDED and not means.wallet_covers:
                continue
            return route.rail
        return RailName.WALLET


DEFAULT_ROUTING = RoutingRules(
    routes=[
        # What was paid in beforehand is spent first, whatever the amount.
        Route(rail=RailName.WALLET, when=RouteCondition.FUNDED),
        Route(rail=RailName.X402, maximum=MICRO_AMOUNT),
        Route(rail=RailName.CASHFREE, currencies=["INR"], minimum=MICRO_AMOUNT + 1),
        Route(rail=RailName.STRIPE, minimum=MICRO_AMOUNT + 1),
        Route(rail=RailName.WALLET),
    ]
)
"""The routing of an installation that has not written one."""


class RoutingChangedError(ConflictError):
    """Somebody else changed the routing at the same time."""

    code = "ROUTING_CHANGED"

    def __init__(self) -> None:
        super().__init__("The routing was changed at the same time; read it again and repeat the change.")


class PaymentRouting(Record, table=True):
    """One revision of the installation's routing. Revisions are only added; the highest is in force."""

    __tablename__ = "payment_routings"
    __table_args__ = (UniqueConstraint("tenant_id", "revision"),)

    id: str = Field(primary_key=True)
    tenant_id: str
    """The platform's."""
    revision: int
    rules: dict[str, Any] = json_field()
    created_by: str | None = None
    created_at: datetime = time_field()


class RoutingView(BaseModel):
    """The routing in force."""

    revision: int
    """Zero: the default, nobody has written one."""
    rules: RoutingRules
