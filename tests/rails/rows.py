"""One row of every kind that a guard of the schema is about."""

from activities.signing import Signer
from tests.rails.mortal import MortalDatabase
from tests.rails.schedule import open_lines, open_world


async def one_row_of_each(store: MortalDatabase, signer: Signer) -> None:
    """Leave purchases that settled and were refunded, were released, are open; payouts paid and failed."""
    async with open_lines(store) as lines:
        world = await open_world(store, signer, lines)
        settled, failed, _ = await world.buy_all(
            [
                ("wallet", 100_000, True, False, True),
                ("wallet", 50, False, False, False),
                ("wallet", 50, False, False, False),
            ]
        )
        await world.settle(settled)
        assert await world.refund(settled, 10)
        await world.release(failed)
        await world.earn(200_000)
        for refused in (True, False):
            await world.claim(world.next_period())
            await world.send(world.payouts[-1], refused=refused)
