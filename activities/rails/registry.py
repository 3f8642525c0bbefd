"""Which rails this process has."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

from activities.rails.cashfree import CashfreeRail
from activities.rails.free import FreeRail
from activities.rails.protocol import OutsideRail, Rail
from activities.rails.stripe import StripeRail
from activities.rails.wallet import WalletRail
from activities.records.database import Database
from models.rail import RailName, RailNotConfiguredError
from models.settings import Settings
from models.x402 import X402Terms


class Rails:
    """The rails by name."""

    def __init__(self, rails: Iterable[Rail], outside: Iterable[OutsideRail] = ()) -> None:
        """Offer ``rails``, and those whose books are somebody else's."""
        self._outside = {rail.name: rail for rail in outside}
        self._rails = {rail.name: rail for rail in rails} | self._outside

    def __getitem__(self, name: RailName) -> Rail:
        return self._rails[RailName(name)]

    def outside(self, name: RailName) -> OutsideRail:
        """Return an outside rail.

        Raises:
            RailNotConfiguredError: This process has no credentials for it.
        """
        try:
            return self._outside[RailName(name)]
        except KeyError:
            raise RailNotConfiguredError(name) from None


def open_rails(database: Database, outside: Iterable[OutsideRail] = ()) -> Rails:
    """Return every rail that works without further settings, and the outside rails that are given."""
    return Rails([FreeRail(), WalletRail(database)], outside)


def configured_rails(settings: Settings) -> frozenset[RailName]:
    """Return the outside rails that the settings have credentials for."""
    given = {
        RailName.STRIPE: bool(settings.stripe_api_key.get_secret_value()),
        RailName.CASHFREE: bool(settings.cashfree_client_id),
        RailName.X402: bool(settings.x402_facilitator_url),
    }
    return frozenset(name for name, configured in given.items() if configured)


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


@asynccontextmanager
async def x402_rails(settings: Settings, database: Database) -> AsyncGenerator[list[OutsideRail]]:
    """Connect the facilitator that the settings name, if they name one, and close it again.

    Raises:
        InvalidSettingsError: ``X402_…`` is set in part, or malformed.
    """
    terms = X402Terms.from_settings(settings)
    if terms is None:
        yield []
        return
    # The package costs half a second to import: only where the rail is used.
    from activities.rails.x402 import X402Rail

    rail = X402Rail(terms, database)
    try:
        yield [rail]
    finally:
        await rail.close()
