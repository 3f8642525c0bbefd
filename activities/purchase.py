"""Buying a run: intent, policy, hold, and giving the hold back (frameos-agent-runtime-flows, step 3).

``reserve`` runs in the caller's platform transaction, together with the execution's row, so that there is
never an execution without its hold nor a hold without its execution.
"""

import hashlib
from datetime import datetime

from activities.rails.registry import Rails
from activities.rails.wallet import hold as hold_in_wallet
from activities.records.database import Connection, Database
from activities.records.payment import (
    close_intent,
    database_now,
    end_mandate,
    find_live_intent,
    insert_hold,
    insert_intent,
    lock_hold,
    lock_mandates,
    move_hold,
    settlement_of_intent,
)
from activities.records.payment_methods import active_methods
from activities.records.policies import (
    Spending,
    count_spending,
    current_policy,
    give_back_spending,
)
from activities.records.routing import current_routing
from activities.records.runs import append_events, lock_run
from activities.records.wallets import available
from models.canonical import canonical_json
from models.errors import PlatformError
from models.event import EventType, NewEvent
from models.identifiers import new_identifier
from models.mandate import MandateStatus
from models.payment import (
    HoldStatus,
    IntentStatus,
    PaymentHold,
    PurchaseIntent,
    ReleaseOutcome,
    ReleaseRefusedError,
    ReleaseRequest,
    ReleaseUnknownError,
    Reservation,
    ReservationMismatchError,
    ReserveRequest,
    SettlementStatus,
)
from models.payment_method import PaymentMethod
from models.policy import CostCapExceededError, PaymentPolicy, PolicyRules
from models.rail import AuthoriseRequest, RailName, RailRequest, Settled
from models.routing import PayerMeans
from models.x402 import X402AuthoriseRequest


async def reserve(
    connection: Connection, request: ReserveRequest, *, configured: frozenset[RailName] = frozenset()
) -> Reservation:
    """Judge a purchase and hold its price, in the caller's platform transaction; safe to repeat.

    The run's row must exist in the transaction. After any of the errors the transaction must roll back;
    the refusal is then kept with ``record_denied_intent`` in another one. An amount of zero passes the
    policy but holds nothing. Where the routing chooses one of the ``configured`` outside rails, the request
    to hold is stored, and `activities.authorisation.authorise` is due before anything runs.

    Raises:
        RunNotFoundError: The execution has no run.
        CostCapExceededError: The price is above the caller's own cap.
        PurchaseRefusedError: The tenant's policy forbids it; each rule has its own code.
        AccountFloorError: The wallet does not cover it (``INSUFFICIENT_FUNDS``).
        ReservationMismatchError: The execution holds money for another purchase.
    """
    await lock_run(connection, request.execution_id)
    existing = await find_live_intent(connection, request.execution_id)
    if existing is not None:
        return await _reserved_before(connection, existing, request)
    if request.cost_cap is not None and request.amount > request.cost_cap:
        raise CostCapExceededError(request.amount, request.cost_cap, request.currency)
    policy = await current_policy(connection, request.tenant_id)
    rules = PolicyRules.model_validate(policy.rules)
    limits = rules.check(request.vendor, request.amount, request.currency)
    now = await database_now(connection)
    rules.check_time(now)
    if request.amount:
        spending = Spending(
            tenant_id=request.tenant_id,
            user_id=request.user_id,
            agent_id=request.agent_id,
            day=now.date(),
            currency=request.currency,
            amount=request.amount,
        )
        await count_spending(connection, spending, limits)
    rail, method = await _route(connection, request, configured)
    intent = _intent(request, IntentStatus.APPROVED, policy, now, rail)
    await insert_intent(connection, intent)
    hold = await _hold(connection, intent, method, request.x402_payment) if request.amount else None
    price = {"amount": intent.amount, "currency": intent.currency, "rail": intent.rail}
    events = [
        NewEvent(
            type=EventType.PAYMENT_INTENT_APPROVED,
            key="payment.intent_approved",
            data={"intent_id": intent.id, "policy_id": policy.id, "vendor": intent.vendor} | price,
        )
    ]
    if hold is not None:
        facts = {"hold_id": hold.id} | price
        events.append(
            NewEvent(type=EventType.PAYMENT_AUTHORISING, key="payment.authorising", data=facts)
            if hold.status is HoldStatus.AUTHORISING
            else NewEvent(type=EventType.PAYMENT_HELD, key="payment.held", data=facts)
        )
    await append_events(connection, request.execution_id, events)
    return _reservation(intent, hold)


async def _route(
    connection: Connection, request: ReserveRequest, configured: frozenset[RailName]
) -> tuple[RailName, PaymentMethod | None]:
    """Choose the rail by the routing in force; for an outside one also the payer's method there."""
    routing = await current_routing(connection)
    means = await means_of(
        connection,
        request.tenant_id,
        request.user_id,
        request.amount,
        request.currency,
        configured,
        enclosed=request.x402_payment is not None,
    )
    rail = routing.rules.choose(request.amount, request.currency, means)
    methods = await active_methods(connection, request.tenant_id, request.user_id) if configured else {}
    return rail, methods.get(rail)


async def means_of(
    connection: Connection,
    tenant_id: str,
    user_id: str,
    amount: int,
    currency: str,
    configured: frozenset[RailName],
    *,
    enclosed: bool,
) -> PayerMeans:
    """Say what a payer can pay ``amount`` with; ``enclosed``: a signed payment comes with the request.

    The wallet's balance is read without its lock here: its floor decides when the money is held.
    """
    methods = await active_methods(connection, tenant_id, user_id) if configured else {}
    with_request = {RailName.X402} if enclosed else set[RailName]()
    return PayerMeans(
        usable=configured & (methods.keys() | with_request),
        wallet_covers=await available(connection, tenant_id, user_id, currency) >= amount,
    )


async def record_denied_intent(connection: Connection, request: ReserveRequest, error: PlatformError) -> None:
    """Keep a refused purchase, in a platform transaction of its own; safe to repeat.

    The run's log gets the event where the run exists (it does not when it was rolled back with the rest).
    """
    policy = await current_policy(connection, request.tenant_id)
    now = await database_now(connection)
    rail = RailName.WALLET if request.amount else RailName.FREE
    intent = _intent(request, IntentStatus.DENIED, policy, now, rail)
    intent.denial_code, intent.denial_message = error.code, error.message
    await insert_intent(connection, intent)
    exists = await connection.execute("SELECT FROM runs WHERE id = %s", [request.execution_id])
    if await exists.fetchone() is not None:
        denied = NewEvent(
            type=EventType.PAYMENT_INTENT_DENIED,
            key=f"payment.intent_denied:{error.code}",
            data={"code": error.code, "message": error.message},
        )
        await append_events(connection, request.execution_id, [denied])


async def release(database: Database, rails: Rails, request: ReleaseRequest) -> ReleaseOutcome:
    """Give back what an execution holds and revoke its mandate; safe to repeat at any point.

    Two transactions with the rail's void between them, under a key derived from the hold. Do it before the
    run's status becomes terminal: its event stream ends with the terminal event.

    Raises:
        ReleaseRefusedError: The settlement is under way or done.
        ReleaseUnknownError: The rail did not confirm the void; retryable.
    """
    async with database.platform() as connection:
        hold, outcome = await _begin_release(connection, request)
    if hold is None:
        return outcome
    rail = rails[hold.rail]
    try:
        answer = await rail.void(key=f"void-{hold.id}", reference=hold.id)
    except Exception as error:
        raise ReleaseUnknownError(request.execution_id, type(error).__name__) from error
    if not isinstance(answer, Settled):
        reason = answer.code if answer.answer == "declined" else answer.reason
        raise ReleaseUnknownError(request.execution_id, reason)
    async with database.platform() as connection:
        await _end_release(connection, request)
    return outcome


async def _begin_release(
    connection: Connection, request: ReleaseRequest
) -> tuple[PaymentHold | None, ReleaseOutcome]:
    await lock_run(connection, request.execution_id)
    nothing = ReleaseOutcome(execution_id=request.execution_id, released=False, amount=0, currency=None)
    intent = await find_live_intent(connection, request.execution_id)
    if intent is None:
        return None, nothing
    mandates = await lock_mandates(connection, intent.id)
    settlement = await settlement_of_intent(connection, intent.id)
    if settlement is not None and settlement.status is not SettlementStatus.DECLINED:
        raise ReleaseRefusedError(request.execution_id, settlement.status)
    for mandate in mandates:
        if mandate.status is MandateStatus.ACTIVE:
            await end_mandate(connection, mandate.id, MandateStatus.REVOKED)
    hold = await lock_hold(connection, intent.id)
    if hold is None:
        await close_intent(connection, intent.id)
        return None, nothing.model_copy(update={"currency": intent.currency})
    outcome = ReleaseOutcome(
        execution_id=request.execution_id, released=True, amount=hold.amount, currency=hold.currency
    )
    if hold.status is HoldStatus.RELEASED:
        return None, outcome
    if hold.status is HoldStatus.AUTHORISING:
        # What the rail holds can be given back once it has said whether it holds anything.
        raise ReleaseUnknownError(
            request.execution_id, "the rail has not said yet whether it holds the price"
        )
    if hold.status is HoldStatus.HELD:
        await move_hold(connection, hold.id, HoldStatus.RELEASING, reason=request.reason)
    return hold, outcome


async def _end_release(connection: Connection, request: ReleaseRequest) -> None:
    await lock_run(connection, request.execution_id)
    intent = await find_live_intent(connection, request.execution_id)
    assert intent is not None, "intents are never deleted"
    hold = await lock_hold(connection, intent.id)
    if hold is None or hold.status is HoldStatus.RELEASED:
        return
    await move_hold(connection, hold.id, HoldStatus.RELEASED)
    await uncount(connection, intent, hold.amount)
    await close_intent(connection, intent.id)
    released = NewEvent(
        type=EventType.PAYMENT_RELEASED,
        key="payment.released",
        data={
            "hold_id": hold.id,
            "amount": hold.amount,
            "currency": hold.currency,
            "reason": hold.reason or request.reason,
        },
    )
    await append_events(connection, request.execution_id, [released])


async def uncount(connection: Connection, intent: PurchaseIntent, amount: int) -> None:
    """Take ``amount`` off the day and month it was counted in: it was not spent after all."""
    spending = spending_of(intent, amount)
    if spending is not None:
        await give_back_spending(connection, spending)


def spending_of(intent: PurchaseIntent, amount: int) -> Spending | None:
    """Return how ``amount`` of an intent is counted; None where it never was."""
    if intent.spent_on is None:
        return None
    return Spending(
        tenant_id=intent.tenant_id,
        user_id=intent.user_id,
        agent_id=intent.agent_id,
        day=intent.spent_on,
        currency=intent.currency,
        amount=amount,
    )


def _intent(
    request: ReserveRequest, status: IntentStatus, policy: PaymentPolicy, now: datetime, rail: RailName
) -> PurchaseIntent:
    orchestrator = request.orchestrator
    return PurchaseIntent(
        id=new_identifier("purchase_intent"),
        tenant_id=request.tenant_id,
        user_id=request.user_id,
        execution_id=request.execution_id,
        agent_id=request.agent_id,
        developer_id=request.developer.user_id,
        developer_tenant_id=request.developer.tenant_id,
        orchestrator_id=None if orchestrator is None else orchestrator.user_id,
        orchestrator_tenant_id=None if orchestrator is None else orchestrator.tenant_id,
        vendor=request.vendor,
        amount=request.amount,
        currency=request.currency,
        cost_cap=request.cost_cap,
        description=request.description,
        meta=dict(request.metadata),
        rail=rail,
        status=status,
        policy_id=policy.id,
        policy_hash=policy.rules_hash,
        spent_on=now.date(),
    )


async def _hold(
    connection: Connection, intent: PurchaseIntent, method: PaymentMethod | None, enclosed: str | None
) -> PaymentHold:
    """Hold the price in the wallet, or store what the outside rail will be asked, to the byte."""
    hold = PaymentHold(
        id=new_identifier("hold"),
        tenant_id=intent.tenant_id,
        user_id=intent.user_id,
        intent_id=intent.id,
        execution_id=intent.execution_id,
        rail=intent.rail,
        amount=intent.amount,
        currency=intent.currency,
    )
    request = RailRequest(
        reference=hold.id,
        amount=intent.amount,
        currency=intent.currency,
        tenant_id=intent.tenant_id,
        user_id=intent.user_id,
        description=intent.description,
    )
    asked: RailRequest
    if intent.rail is RailName.X402 and enclosed is not None:
        asked = X402AuthoriseRequest(**request.model_dump(), payment=enclosed)
    elif method is not None:
        asked = AuthoriseRequest(
            **request.model_dump(), customer=method.customer, method=method.method, phone=method.phone
        )
        hold.payment_method_id = method.id
    else:
        await insert_hold(connection, hold)
        await hold_in_wallet(connection, request, execution_id=intent.execution_id)
        return hold
    hold.status = HoldStatus.AUTHORISING
    hold.authorise_key = hashlib.sha256(b"authorise\x00" + hold.id.encode()).hexdigest()
    hold.authorise_body = canonical_json(asked.model_dump(mode="json"))
    await insert_hold(connection, hold)
    return hold


async def _reserved_before(
    connection: Connection, intent: PurchaseIntent, request: ReserveRequest
) -> Reservation:
    again = (request.tenant_id, request.user_id, request.agent_id, request.amount, request.currency)
    if again != (intent.tenant_id, intent.user_id, intent.agent_id, intent.amount, intent.currency):
        raise ReservationMismatchError(request.execution_id)
    return _reservation(intent, await lock_hold(connection, intent.id))


def _reservation(intent: PurchaseIntent, hold: PaymentHold | None) -> Reservation:
    assert intent.execution_id is not None
    return Reservation(
        intent_id=intent.id,
        execution_id=intent.execution_id,
        rail=RailName(intent.rail),
        amount=intent.amount,
        currency=intent.currency,
        hold_id=None if hold is None else hold.id,
        authorising=hold is not None and hold.status is HoldStatus.AUTHORISING,
    )
