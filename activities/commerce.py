"""Purchases of their own: open, declare executed, end; and the mandates that the payer asks for."""

import hashlib

from temporalio import activity

from activities.mandate import mint_mandate
from activities.purchase import record_denied_intent, reserve
from activities.rails.registry import configured_rails
from activities.records.database import Connection
from activities.records.payment import (
    end_mandate,
    find_intent,
    find_live_intent,
    lock_mandates,
)
from activities.records.payment_lists import find_mandate
from activities.records.runs import append_events, create_run, lock_run
from activities.services import Services
from activities.signing import Signer
from models.canonical import canonical_json
from models.commerce import (
    CreatePurchaseIntent,
    PurchasedAgentNotFoundError,
    PurchaseEnd,
    PurchaseEndedError,
    PurchaseOfExecutionError,
    PurchaseOpened,
    PurchaseStart,
)
from models.errors import PlatformError
from models.event import EventType, NewEvent
from models.mandate import MandateConsumedError, MandateInfo, MandateStatus
from models.payment import MintRequest, Party, PurchaseIntent, ReserveRequest, SettlementStatus
from models.run import TERMINAL_STATUSES, Run, RunKind, RunStatus

NO_CODE = hashlib.sha256(b"").hexdigest()
"""What stands for the code in the mandate of a purchase that runs none here."""


async def purchase_of(
    connection: Connection, purchase_id: str, tenant_id: str, user_id: str, body: CreatePurchaseIntent
) -> ReserveRequest:
    """Say who pays whom, for a purchase of a published agent; a platform transaction.

    Raises:
        PurchasedAgentNotFoundError: No such agent is published.
    """
    cursor = await connection.execute(
        "SELECT developer_id, tenant_id FROM agents WHERE id = %s AND status = 'published'", [body.agent_id]
    )
    row = await cursor.fetchone()
    if row is None:
        raise PurchasedAgentNotFoundError(body.agent_id)
    return ReserveRequest(
        execution_id=purchase_id,
        tenant_id=tenant_id,
        user_id=user_id,
        agent_id=body.agent_id,
        developer=Party(user_id=row["developer_id"], tenant_id=row["tenant_id"]),
        vendor=body.vendor,
        amount=body.amount,
        currency=body.currency,
        description=body.description,
        metadata=body.metadata,
    )


async def mint_for_intent(connection: Connection, signer: Signer, intent: PurchaseIntent) -> MandateInfo:
    """Mint the mandate of a purchase, in a platform transaction; one that is active is returned as it is.

    Raises:
        PurchaseOfExecutionError: The intent is an execution's, and no mandate is active yet.
        PurchaseEndedError: The purchase has ended.
        HoldNotActiveError, MandateConsumedError: As `activities.mandate.mint_mandate`.
    """
    request = MintRequest(
        execution_id=await require_purchase(connection, intent),
        code_hash=NO_CODE,
        code_version="",
        inputs_hash=hashlib.sha256(canonical_json(intent.meta)).hexdigest(),
        timeout_ms=1,
    )
    return await mint_mandate(connection, signer, request)


async def revoke_mandate(connection: Connection, mandate_id: str) -> None:
    """Revoke a mandate that was not used, in a platform transaction; safe to repeat.

    Raises:
        PaymentRecordNotFoundError: There is no such mandate.
        MandateConsumedError: It was used already.
    """
    intent = await find_intent(connection, (await find_mandate(connection, mandate_id)).intent_id)
    if intent.execution_id is not None:
        await lock_run(connection, intent.execution_id)
    for mandate in await lock_mandates(connection, intent.id):
        if mandate.id != mandate_id:
            continue
        if mandate.status is MandateStatus.CONSUMED:
            raise MandateConsumedError(mandate_id)
        if mandate.status is MandateStatus.ACTIVE:
            await end_mandate(connection, mandate_id, MandateStatus.REVOKED)


async def require_purchase(connection: Connection, intent: PurchaseIntent) -> str:
    """Return the run of a purchase of its own that has not ended.

    Raises:
        PurchaseOfExecutionError: The intent is an execution's.
        PurchaseEndedError: The purchase has ended.
    """
    run = await _purchase_run(connection, intent)
    if run.status in TERMINAL_STATUSES:
        raise PurchaseEndedError(run.id)
    return run.id


async def _purchase_run(connection: Connection, intent: PurchaseIntent) -> Run:
    assert intent.execution_id is not None, "every intent is a run's"
    run = await lock_run(connection, intent.execution_id)
    if run.kind is not RunKind.PURCHASE:
        raise PurchaseOfExecutionError(run.id)
    return run


class CommerceActivities:
    """The activities of ``Purchase``."""

    def __init__(self, services: Services) -> None:
        """Work on ``services``."""
        self._database = services.database
        self._configured = configured_rails(services.settings)

    @activity.defn(name="open_purchase")
    async def open_purchase(self, start: PurchaseStart) -> PurchaseOpened:
        """Make the purchase's run and reserve its price, in one transaction; safe to repeat.

        Raises:
            PlatformError: The purchase is refused; the denied intent is recorded, nothing else is.
        """
        run = Run(
            id=start.purchase_id,
            tenant_id=start.reserve.tenant_id,
            kind=RunKind.PURCHASE,
            subject=start.reserve.vendor,
            correlation_id=start.correlation_id,
            workflow_id=f"purchase/{start.purchase_id}",
        )
        try:
            async with self._database.platform() as connection:
                await create_run(connection, run)
                reservation = await reserve(connection, start.reserve, configured=self._configured)
                if not reservation.authorising:
                    await _begin(connection, start.purchase_id)
        except PlatformError as error:
            if not error.retryable:
                async with self._database.platform() as connection:
                    await record_denied_intent(connection, start.reserve, error)
            raise
        return PurchaseOpened(
            purchase_id=start.purchase_id,
            intent_id=reservation.intent_id,
            authorising=reservation.authorising,
        )

    @activity.defn(name="begin_purchase")
    async def begin_purchase(self, start: PurchaseStart) -> None:
        """Note that an outside rail holds the price by now; safe to repeat."""
        async with self._database.platform() as connection:
            await _begin(connection, start.purchase_id)

    @activity.defn(name="declare_executed")
    async def declare_executed(self, start: PurchaseStart) -> None:
        """Note that the payer says that what was bought is done, which is what collecting needs."""
        executed = NewEvent(type=EventType.RUN_EXECUTED, key="executed", data={"declared_by": "payer"})
        async with self._database.platform() as connection:
            await append_events(connection, start.purchase_id, [executed])

    @activity.defn(name="end_purchase")
    async def end_purchase(self, end: PurchaseEnd) -> None:
        """Record how the purchase ended; its hold is resolved by then. Safe to repeat."""
        settled = end.outcome is not None and end.outcome.status is SettlementStatus.SETTLED
        status = RunStatus.SUCCEEDED if settled else RunStatus.FAILED
        data = {"reason": end.reason} if end.outcome is None else end.outcome.model_dump(mode="json")
        event = EventType.RUN_SUCCEEDED if settled else EventType.RUN_FAILED
        async with self._database.platform() as connection:
            run = await lock_run(connection, end.purchase_id)
            if run.status not in TERMINAL_STATUSES:
                ended = NewEvent(type=event, key="ended", data=data)
                await append_events(connection, end.purchase_id, [ended], status=status)


async def _begin(connection: Connection, purchase_id: str) -> None:
    run = await lock_run(connection, purchase_id)
    if run.status is RunStatus.PENDING:
        for status in (RunStatus.QUEUED, RunStatus.DISPATCHED, RunStatus.RUNNING):
            await append_events(connection, purchase_id, [], status=status)


async def intent_of_execution(
    connection: Connection, execution_id: str, body: CreatePurchaseIntent
) -> PurchaseIntent | None:
    """Return the intent that an execution has, where it is the one that is asked for."""
    intent = await find_live_intent(connection, execution_id)
    wanted = (body.agent_id, body.amount, body.currency)
    if intent is None or (intent.agent_id, intent.amount, intent.currency) != wanted:
        return None
    return intent
