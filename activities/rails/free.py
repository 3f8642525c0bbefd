"""The rail of executions without a price: nothing moves, the protocol and the receipt are the same."""

from datetime import timedelta

from models.rail import Declined, RailAnswer, RailName, RailRequest, Settled


class FreeRail:
    """Settles zero, declines anything else."""

    name = RailName.FREE
    key_lifetime = timedelta.max

    async def capture(self, *, key: str, body: bytes) -> RailAnswer:
        """Settle a request over zero."""
        request = RailRequest.model_validate_json(body)
        if request.amount != 0:
            return Declined(code="not_free", message="The free rail moves no money.")
        return Settled(provider_ref=f"free:{request.reference}", amount=0)

    async def void(self, *, key: str, reference: str) -> RailAnswer:
        """Nothing is ever held."""
        return Settled(provider_ref=f"free:{reference}", amount=0)

    async def look_up(self, reference: str) -> RailAnswer:
        """Nothing to wait for."""
        return Settled(provider_ref=f"free:{reference}", amount=0)
