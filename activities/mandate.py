"""Minting and verifying mandates (research 2.3)."""

import secrets
from datetime import UTC, datetime, timedelta

from activities.records.database import Connection
from activities.records.payment import (
    database_now,
    end_mandate,
    find_live_intent,
    insert_mandate,
    lock_hold,
    lock_mandates,
)
from activities.records.runs import append_events, lock_run
from activities.signing import Signer, Verifier
from models.event import EventType, NewEvent
from models.identifiers import new_identifier
from models.mandate import (
    MANDATE_DOMAIN,
    MANDATE_LIFETIME_SECONDS,
    Mandate,
    MandateBody,
    MandateConsumedError,
    MandateExpiredError,
    MandateInfo,
    MandateInvalidError,
    MandateMissingError,
    MandateStatus,
    MandateTooShortError,
    mandate_hash,
    outlives,
    read_mandate,
)
from models.money import exponent_of
from models.payment import (
    HoldNotActiveError,
    HoldStatus,
    IntentNotFoundError,
    IntentStatus,
    MintRequest,
    PaymentHold,
    PurchaseIntent,
)

USER_AGENT = "switchyard"
"""The payer's agent where no orchestrating agent buys: the platform itself, on the user's word."""


async def mint_mandate(connection: Connection, signer: Signer, request: MintRequest) -> MandateInfo:
    """Mint the mandate of an execution at its dispatch, in a platform transaction; safe to repeat.

    An active mandate for the same code and inputs that still outlives the run is returned as it is; any
    other active one is ended and a new one minted, because a run that starts late must still be payable.

    Raises:
        MandateTooShortError: No mandate could outlive the time limit and the settlement.
        IntentNotFoundError: Nothing was reserved.
        HoldNotActiveError: What was reserved has been released.
        MandateConsumedError: The execution is being settled already.
    """
    await lock_run(connection, request.execution_id)
    intent = await find_live_intent(connection, request.execution_id)
    if intent is None:
        raise IntentNotFoundError(request.execution_id)
    mandates = await lock_mandates(connection, intent.id)
    now = await database_now(connection)
    if not outlives(now + timedelta(seconds=MANDATE_LIFETIME_SECONDS), now, request.timeout_ms):
        raise MandateTooShortError(request.timeout_ms)
    for mandate in mandates:
        if mandate.status is MandateStatus.CONSUMED:
            raise MandateConsumedError(mandate.id)
        if mandate.status is MandateStatus.ACTIVE:
            if _serves(mandate, request, now):
                return describe_mandate(mandate)
            expired = mandate.expires_at <= now
            await end_mandate(
                connection, mandate.id, MandateStatus.EXPIRED if expired else MandateStatus.REVOKED
            )
    await require_hold(connection, intent)
    minted = sign_mandate(signer, intent, request, now)
    await insert_mandate(connection, minted)
    event = NewEvent(
        type=EventType.PAYMENT_MANDATE_MINTED,
        key=f"payment.mandate_minted:{minted.id}",
        data={
            "mandate_id": minted.id,
            "mandate_hash": minted.hash.hex(),
            "kid": minted.kid,
            "expires_at": minted.expires_at.isoformat(),
        },
    )
    await append_events(connection, request.execution_id, [event])
    return describe_mandate(minted)


async def check_mandate(connection: Connection, execution_id: str, timeout_ms: int) -> None:
    """Make sure, just before a container starts, that the run can still be settled when it ends.

    Raises:
        MandateMissingError: There is no active mandate.
        MandateTooShortError: It would not outlive the run; mint again.
    """
    intent = await find_live_intent(connection, execution_id)
    cursor = await connection.execute(
        "SELECT expires_at, clock_timestamp() AS now FROM mandates WHERE intent_id = %s AND status = %s",
        [None if intent is None else intent.id, MandateStatus.ACTIVE],
    )
    row = await cursor.fetchone()
    if row is None:
        raise MandateMissingError(execution_id)
    if not outlives(row["expires_at"], row["now"], timeout_ms):
        raise MandateTooShortError(timeout_ms)


def sign_mandate(signer: Signer, intent: PurchaseIntent, request: MintRequest, now: datetime) -> Mandate:
    """Build and sign a mandate for ``intent`` whose life begins at ``now``, by the database's clock."""
    assert intent.policy_hash is not None
    issued = int(now.timestamp())
    body = MandateBody(
        mandate_id=new_identifier("mandate"),
        intent_id=intent.id,
        execution_id=request.execution_id,
        tenant_id=intent.tenant_id,
        user_id=intent.user_id,
        payer_agent=intent.orchestrator_id or USER_AGENT,
        payee=intent.developer_id,
        agent_id=intent.agent_id,
        amount=intent.amount,
        currency=intent.currency,
        exponent=exponent_of(intent.currency),
        rail=intent.rail,
        policy_hash=intent.policy_hash.hex(),
        code_hash=request.code_hash,
        code_version=request.code_version,
        inputs_hash=request.inputs_hash,
        iat=issued,
        nbf=issued,
        exp=issued + MANDATE_LIFETIME_SECONDS,
        nonce=secrets.token_hex(16),
        kid=signer.key_id,
    )
    canonical = body.canonical()
    return Mandate(
        id=body.mandate_id,
        tenant_id=body.tenant_id,
        intent_id=body.intent_id,
        execution_id=body.execution_id,
        body=canonical,
        hash=mandate_hash(canonical),
        signature=signer.sign(MANDATE_DOMAIN, canonical),
        kid=body.kid,
        nonce=body.nonce,
        issued_at=datetime.fromtimestamp(body.iat, UTC),
        expires_at=datetime.fromtimestamp(body.exp, UTC),
    )


def verify_mandate(
    mandate: Mandate, intent: PurchaseIntent, verifier: Verifier, now: datetime
) -> MandateBody:
    """Verify a stored mandate against the purchase it must be for, at ``now`` by the database's clock.

    What counts is the signed body; the row's columns only find it.

    Raises:
        MandateInvalidError: Not canonical, tampered with, signed by no key of ours, or for another purchase.
        MandateExpiredError: Outside of its time.
    """
    body = read_mandate(mandate.body)
    if not verifier.verify(MANDATE_DOMAIN, mandate.body, mandate.signature, body.kid):
        raise MandateInvalidError("its signature does not verify")
    agreed = {
        "mandate_id": mandate.id,
        "intent_id": intent.id,
        "execution_id": intent.execution_id,
        "tenant_id": intent.tenant_id,
        "user_id": intent.user_id,
        "payee": intent.developer_id,
        "agent_id": intent.agent_id,
        "amount": intent.amount,
        "currency": intent.currency,
        "exponent": exponent_of(intent.currency),
        "rail": str(intent.rail),
        "policy_hash": None if intent.policy_hash is None else intent.policy_hash.hex(),
    }
    for field, value in agreed.items():
        if getattr(body, field) != value:
            raise MandateInvalidError(f"its {field} is not the purchase's")
    if not body.nbf <= now.timestamp() < body.exp or body.exp > body.iat + MANDATE_LIFETIME_SECONDS:
        raise MandateExpiredError(mandate.id)
    return body


async def require_hold(connection: Connection, intent: PurchaseIntent) -> PaymentHold | None:
    """Lock the intent's hold and make sure that the money is there; None where the price is zero.

    Raises:
        HoldNotActiveError: The hold was released, is being released, or was captured.
    """
    hold = await lock_hold(connection, intent.id)
    held = intent.amount == 0 or (hold is not None and hold.status is HoldStatus.HELD)
    if intent.status is not IntentStatus.APPROVED or not held:
        raise HoldNotActiveError(str(intent.execution_id))
    return hold


def describe_mandate(mandate: Mandate) -> MandateInfo:
    """Return the mandate as callers see it."""
    return MandateInfo(
        mandate_id=mandate.id,
        intent_id=mandate.intent_id,
        execution_id=mandate.execution_id,
        status=mandate.status,
        body=read_mandate(mandate.body),
        hash=mandate.hash.hex(),
        signature=mandate.signature.hex(),
        kid=mandate.kid,
        issued_at=mandate.issued_at,
        expires_at=mandate.expires_at,
    )


def _serves(mandate: Mandate, request: MintRequest, now: datetime) -> bool:
    body = read_mandate(mandate.body)
    return outlives(mandate.expires_at, now, request.timeout_ms) and (
        (body.code_hash, body.code_version, body.inputs_hash)
        == (request.code_hash, request.code_version, request.inputs_hash)
    )
