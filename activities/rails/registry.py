"""Which rails this process has, and which one a purchase takes."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

from activities.rails.cashfree import CashfreeRail
from activities.rails.free import FreeRail
from activities.rails.protocol import Rail
from activities.rails.stripe import StripeRail
from activities.rails.wallet import WalletRail
from activities.records.database import Database
from models.rail import RailName
from models.settings import Settings


class Rails:
    """The rails by name."""

    def __init__(self, rails: Iterable[Rail]) -> None:
        """Offer ``rails``."""
        self._rails = {rail.name: rail for rail in rails}

    def __getitem__(self, name: RailName) -> Rail:
        return self._rails[RailName(name)]


def open_rails(database: Database) -> Rails:
    """Return every rail that works without further settings."""
    return Rails([FreeRail(), WalletRail(database)])


@asynccontextmanager
async def outside_rails(settings: Settings) -> AsyncGenerator[dict[str, StripeRail | CashfreeRail]]:
    """Connect the outside rails that the settings have credentials for, by name, and close them again."""
    async with AsyncExitStack() as stack:
        rails: dict[str, StripeRail | CashfreeRail] = {}
        stripe_key = settings.stripe_api_key.get_secret_value()
        if stripe_key:
            rails[RailName.STRIPE.value] = StripeRail(settings.stripe_api_url, stripe_key)
        if settings.cashfree_client_id:
            rails[RailName.CASHFREE.value] = CashfreeRail(
                settings.cashfree_api_url,
                settings.cashfree_client_id,
                settings.cashfree_client_secret.get_secret_value(),
            )
        for rail in rails.values():
            stack.push_async_callback(rail.close)
        yield rails


def route(amount: int) -> RailName:
    """Choose the rail of a purchase: the wallet, or none at all where the price is zero."""
    return RailName.FREE if amount == 0 else RailName.WALLET
