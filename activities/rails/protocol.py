"""What every rail can do (research 2.1, 2.2).

Authorising is not here: it depends on whether the rail's books are our own. A hold on the wallet belongs
to the transaction that records the purchase (`activities.rails.wallet.hold`); an outside rail authorises
in a step of its own, with stored bytes, before the run is queued (``OutsideRail``).
"""

from datetime import timedelta
from typing import Protocol

from models.rail import RailAnswer, RailName


class Rail(Protocol):
    """A rail. Each call is safe to repeat with the same key and body, and answers, not raises.

    Attributes:
        name: Which rail.
        key_lifetime: For how long after the first sending the rail remembers an idempotency key. Later,
            only look-ups are made.
    """

    name: RailName
    key_lifetime: timedelta

    async def capture(self, *, key: str, body: bytes) -> RailAnswer:
        """Collect what ``body`` (a canonical ``RailRequest``) says from the hold of its reference.

        "Already captured", for the same amount, is settled.
        """
        ...

    async def void(self, *, key: str, reference: str) -> RailAnswer:
        """Give the hold back; one that is void already is settled, one that was captured is declined."""
        ...

    async def look_up(self, reference: str) -> RailAnswer:
        """Tell by our reference whether the hold was captured.

        Settled when it was; declined only on evidence that it never will be; unknown for all else, "not
        found" inside the rail's window of visibility included.
        """
        ...


class OutsideRail(Rail, Protocol):
    """A rail whose books are somebody else's. Amounts in answers are what the rail says, in minor units."""

    async def look_up_method(self, *, customer: str, method: str, user_id: str) -> RailAnswer:
        """Tell whether the payer ``user_id`` has the stored method there; changes nothing.

        Settled, with an amount of zero, when the rail knows both and the customer is that user; declined when
        it says otherwise; unknown when it does not answer.
        """
        ...

    async def authorise(self, *, key: str, body: bytes) -> RailAnswer:
        """Hold what ``body`` (a canonical ``AuthoriseRequest``) says; settled with the amount held."""
        ...

    async def look_up_authorisation(self, reference: str) -> RailAnswer:
        """Tell by our reference whether the money was held, captured or not.

        Declined only on evidence that it is not and never will be.
        """
        ...

    async def refund(self, *, key: str, body: bytes) -> RailAnswer:
        """Give back what ``body`` (a canonical ``RefundInstruction``) says, once per reference."""
        ...

    async def look_up_refund(self, *, capture_reference: str, reference: str) -> RailAnswer:
        """Tell by our references what became of a refund."""
        ...
