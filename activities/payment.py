"""The money activities of an execution, as Temporal runs them.

A workflow pays, or gives back, in one step::

    outcome = await workflow.execute_activity_method(PaymentActivities.settle, …)   # once executed
    await workflow.execute_activity_method(PaymentActivities.release, …)   # when it failed or was cancelled

Each is safe to repeat without end, because it finds what it did before, and is retried for as long as the
rail's answer is unknown (``AUTHORISATION_UNKNOWN``, ``SETTLEMENT_UNKNOWN``, ``RELEASE_UNKNOWN``). Every
refusal is a non-retryable error, after which nothing was charged and ``release`` is due. The reservation
and the mandate are no activities: the one belongs to the transaction that creates the execution
(`activities.purchase.reserve`), the other to the one that dispatches it (`activities.mandate`).
"""

from temporalio import activity

from activities.authorisation import authorise
from activities.mandate import check_mandate, mint_mandate
from activities.purchase import record_denied_intent, release, reserve
from activities.rails.registry import Rails
from activities.records.database import Database
from activities.settlement import (
    reconcile_settlement,
    record_outcome,
    record_settlement,
    send_settlement,
    settle,
)
from activities.signing import Signer
from models.payment import (
    AuthoriseHold,
    ReleaseOutcome,
    ReleaseRequest,
    Reservation,
    SettlementOutcome,
    SettleRequest,
)

__all__ = [
    "PaymentActivities",
    "check_mandate",
    "mint_mandate",
    "reconcile_settlement",
    "record_denied_intent",
    "record_outcome",
    "record_settlement",
    "release",
    "reserve",
    "send_settlement",
    "settle",
]


class PaymentActivities:
    """Authorises, settles and releases."""

    def __init__(self, database: Database, signer: Signer, rails: Rails) -> None:
        """Keep records in ``database``, sign with ``signer``, collect over ``rails``."""
        self._database = database
        self._signer = signer
        self._rails = rails

    @activity.defn(name="authorise_hold")
    async def authorise(self, request: AuthoriseHold) -> Reservation:
        """Let the outside rail hold what was reserved.

        Raises:
            AuthorisationDeclinedError: Nothing is held; the purchase is denied.
            AuthorisationUnknownError: Not known yet; retryable.
        """
        return await authorise(self._database, self._rails, request)

    @activity.defn(name="settle_payment")
    async def settle(self, request: SettleRequest) -> SettlementOutcome:
        """Collect for an executed run: settled or declined.

        Raises:
            SettlementUnknownError: Not known yet; retryable.
            PlatformError: As `activities.settlement.record_settlement`; nothing is charged.
        """
        return await settle(self._database, self._rails, self._signer, request)

    @activity.defn(name="release_hold")
    async def release(self, request: ReleaseRequest) -> ReleaseOutcome:
        """Give back what the execution holds.

        Raises:
            ReleaseRefusedError: It is being settled, or was.
            ReleaseUnknownError: Not known yet; retryable.
        """
        return await release(self._database, self._rails, request)
