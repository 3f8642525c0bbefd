"""Holding a price at an outside rail, before the run is queued (research 2.1, 2.2).

The same three steps as a settlement: `activities.purchase.reserve` stored what is asked, with its idempotency
key and its exact bytes; ``send_authorisation`` marks it as sent and asks; ``record_authorisation`` writes the
answer. "Unknown" is left by evidence only, and what was sent once is looked up before it is sent again.
"""

from datetime import timedelta

import structlog

from activities.purchase import uncount
from activities.rails.protocol import OutsideRail
from activities.rails.registry import Rails
from activities.records.database import Connection, Database
from activities.records.payment import (
    database_now,
    deny_intent,
    find_live_intent,
    lock_hold,
    mark_authorisation_sent,
    update_authorisation,
)
from activities.records.runs import append_events, lock_run
from models.event import EventType, NewEvent
from models.payment import (
    AuthorisationDeclinedError,
    AuthorisationUnknownError,
    AuthoriseHold,
    HoldStatus,
    IntentNotFoundError,
    PaymentHold,
    Reservation,
)
from models.rail import Declined, RailAnswer, RailName, Settled, Unknown

logger = structlog.get_logger(__name__)

ARRIVAL_WINDOW = timedelta(hours=1)
"""How long after the last possible sending a request may still turn up at the rail. Only past it is "not
found" evidence that nothing is held."""

OPEN_HOLDS = frozenset({HoldStatus.AUTHORISING})


async def authorise(database: Database, rails: Rails, request: AuthoriseHold) -> Reservation:
    """Ask the rail to hold the price, and record its answer. Repeat it until it answers.

    Raises:
        AuthorisationDeclinedError: Nothing is held and never will be; the intent is denied.
        AuthorisationUnknownError: The rail has not said yet; retryable.
        IntentNotFoundError: Nothing was reserved for the execution.
    """
    answer = await send_authorisation(database, rails, request.execution_id)
    async with database.platform() as connection:
        hold = await record_authorisation(connection, request.execution_id, answer)
    if hold.status is HoldStatus.DECLINED:
        raise AuthorisationDeclinedError(hold.rail, hold.decline_code or "", hold.decline_message or "")
    if hold.status in OPEN_HOLDS:
        raise AuthorisationUnknownError(request.execution_id, hold.unknown_reason or "no answer")
    return Reservation(
        intent_id=hold.intent_id,
        execution_id=request.execution_id,
        rail=RailName(hold.rail),
        amount=hold.amount,
        currency=hold.currency,
        hold_id=hold.id,
    )


async def send_authorisation(database: Database, rails: Rails, execution_id: str) -> RailAnswer | None:
    """Ask the rail with the stored key and bytes; None where the answer is known already.

    Before the first call the request is marked as sent, so that a crash cannot hide one.
    """
    async with database.platform() as connection:
        hold = await _lock(connection, execution_id)
        if hold.status not in OPEN_HOLDS:
            return None
        sent_before = hold.first_sent_at
        age = None if sent_before is None else await database_now(connection) - sent_before
        await mark_authorisation_sent(connection, hold.id)
    try:
        rail = rails.outside(RailName(hold.rail))
        return await _ask(rail, hold, age)
    except Exception as error:
        # Whatever went wrong, the rail may hold the money: only evidence leaves "unknown".
        logger.warning("authorisation_call_failed", run_id=execution_id, error=type(error).__name__)
        return Unknown(reason=f"the call failed ({type(error).__name__})")


async def _ask(rail: OutsideRail, hold: PaymentHold, age: timedelta | None) -> RailAnswer:
    assert hold.authorise_key is not None, "an authorising hold was stored with what it asks"
    assert hold.authorise_body is not None, "an authorising hold was stored with what it asks"
    if age is not None:
        found = await rail.look_up_authorisation(hold.id)
        if not isinstance(found, Unknown):
            return found
        if age >= rail.key_lifetime:
            never_arrived = found.not_found and age >= rail.key_lifetime + ARRIVAL_WINDOW
            message = "The request never reached the rail."
            return Declined(code="never_arrived", message=message) if never_arrived else found
    return await rail.authorise(key=hold.authorise_key, body=hold.authorise_body)


async def record_authorisation(
    connection: Connection, execution_id: str, answer: RailAnswer | None
) -> PaymentHold:
    """Write the rail's answer in the caller's platform transaction; a hold that has an answer keeps it.

    A decline denies the intent and takes the amount off the payer's limits.

    Raises:
        IntentNotFoundError: Nothing was reserved, or it was denied before (then nothing is held).
    """
    hold = await _lock(connection, execution_id)
    if hold.status not in OPEN_HOLDS or answer is None:
        return hold
    if isinstance(answer, Settled) and answer.amount != hold.amount:
        answer = Unknown(reason=f"the rail holds {answer.amount}, not {hold.amount}")
    price = {"amount": hold.amount, "currency": hold.currency, "rail": hold.rail, "hold_id": hold.id}
    if isinstance(answer, Settled):
        hold.status, hold.provider_ref, hold.unknown_reason = HoldStatus.HELD, answer.provider_ref, None
        event = NewEvent(type=EventType.PAYMENT_HELD, key="payment.held", data=price)
    elif isinstance(answer, Declined):
        hold.status, hold.unknown_reason = HoldStatus.DECLINED, None
        hold.decline_code, hold.decline_message = answer.code, answer.message
        event = NewEvent(
            type=EventType.PAYMENT_INTENT_DENIED,
            key=f"payment.intent_denied:{AuthorisationDeclinedError.code}",
            data={"code": AuthorisationDeclinedError.code, "message": answer.message} | price,
        )
        await _deny(connection, execution_id, hold)
    else:
        hold.unknown_reason = answer.reason
        event = NewEvent(
            type=EventType.PAYMENT_UNKNOWN,
            key="payment.authorisation_unknown",
            data={"reason": answer.reason} | price,
        )
    await update_authorisation(connection, hold)
    await append_events(connection, execution_id, [event])
    return hold


async def _deny(connection: Connection, execution_id: str, hold: PaymentHold) -> None:
    intent = await find_live_intent(connection, execution_id)
    assert intent is not None, "the hold is the live intent's"
    refusal = AuthorisationDeclinedError(hold.rail, hold.decline_code or "", hold.decline_message or "")
    await deny_intent(connection, intent.id, refusal.code, refusal.message)
    await uncount(connection, intent, hold.amount)


async def _lock(connection: Connection, execution_id: str) -> PaymentHold:
    """Lock the run and its hold; of a purchase that was declined, the hold that was."""
    await lock_run(connection, execution_id)
    hold = await lock_hold_of(connection, execution_id)
    if hold is None:
        raise IntentNotFoundError(execution_id)
    return hold


async def lock_hold_of(connection: Connection, execution_id: str) -> PaymentHold | None:
    """Read and lock the execution's hold, that of its live intent first."""
    intent = await find_live_intent(connection, execution_id)
    if intent is not None:
        return await lock_hold(connection, intent.id)
    cursor = await connection.execute(
        "SELECT * FROM payment_holds WHERE execution_id = %s AND status = %s ORDER BY id DESC LIMIT 1 "
        "FOR UPDATE",
        [execution_id, HoldStatus.DECLINED],
    )
    row = await cursor.fetchone()
    return None if row is None else PaymentHold.model_validate(row)
