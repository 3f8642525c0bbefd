"""Which rails this process has, and which one a purchase takes."""

from collections.abc import Iterable

from activities.rails.free import FreeRail
from activities.rails.protocol import Rail
from activities.rails.wallet import WalletRail
from activities.records.database import Database
from models.rail import RailName


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


def route(amount: int) -> RailName:
    """Choose the rail of a purchase: the wallet, or none at all where the price is zero."""
    return RailName.FREE if amount == 0 else RailName.WALLET
