"""Paying developers: claim, send, record the outcome (research 5; frameos-agent-runtime-flows, step 5).

The same three steps as a settlement: the claim stores what is to be sent under our own reference; the rail is
called with exactly that; the answer is recorded with its postings. "Unknown" is left by evidence only, and a
payout that was sent once is looked up before it is sent again.
"""

from collections import Counter
from datetime import timedelta
from typing import Protocol

import structlog
from temporalio import activity

from activities.channels.email import Letter, Mailer
from activities.records.database import Connection, Database
from activities.records.ledger import post
from activities.records.payout import (
    claim,
    claimed_in,
    find_payout,
    left,
    lock_payout,
    read_payables,
    returned,
    single_account,
    slice_of_accounts,
    statement_of,
    transfer_amount,
    transfer_once,
    update_payout,
)
from activities.records.publishing import find_addressee
from activities.records.runs import append_events, create_run, lock_run
from activities.services import Services
from models.event import EventType, NewEvent
from models.ledger import AccountKind
from models.money import format_amount
from models.payout import (
    ENDED_PAYOUTS,
    RETURNED_PAYOUTS,
    PayoutInstruction,
    PayoutNotRetryableError,
    PayoutNotReversibleError,
    PayoutRow,
    PayoutStart,
    PayoutState,
    PayoutStatus,
    PlannedPayout,
    Shard,
    ShardRequest,
    judge,
)
from models.rail import Declined, RailAnswer, Settled, Unknown
from models.run import Run, RunKind, RunStatus

logger = structlog.get_logger(__name__)


class PayoutRail(Protocol):
    """What sends money to a developer's account.

    Attributes:
        key_lifetime: For how long after the first sending the same reference may be sent again.
    """

    key_lifetime: timedelta

    async def pay_out(self, *, key: str, body: bytes) -> RailAnswer:
        """Send what ``body`` (a canonical ``PayoutInstruction``) says, once per key.

        Unknown as long as the rail works on it.
        """
        ...

    async def look_up_payout(self, reference: str) -> RailAnswer:
        """Tell by our reference what became of a payout."""
        ...


class BankTransfers:
    """The wallet rail's payouts: transfers to outside accounts that we carry out and book ourselves."""

    key_lifetime = timedelta.max

    def __init__(self, database: Database) -> None:
        """Keep the books in ``database``."""
        self._database = database

    async def pay_out(self, *, key: str, body: bytes) -> RailAnswer:
        """Book the transfer, once per reference."""
        instruction = PayoutInstruction.model_validate_json(body)
        async with self._database.platform() as connection:
            agreed = await transfer_once(connection, instruction)
        if not agreed or key != instruction.reference:
            return Declined(code="idempotency_mismatch", message="The reference stands for another transfer.")
        return Settled(provider_ref=f"bank:{key}", amount=instruction.amount)

    async def look_up_payout(self, reference: str) -> RailAnswer:
        """Read the books; a transfer that is not there has not been asked for."""
        async with self._database.platform() as connection:
            amount = await transfer_amount(connection, reference)
        if amount is None:
            return Unknown(reason="not booked yet")
        return Settled(provider_ref=f"bank:{reference}", amount=amount)


PayoutRails = dict[str, PayoutRail]
"""Rails that can pay out, by name."""


def open_payout_rails(database: Database) -> PayoutRails:
    """Return every rail that pays out without further settings."""
    return {"wallet": BankTransfers(database)}


async def claim_shard(database: Database, request: ShardRequest, maturity_days: int) -> Shard:
    """Claim what is due in a slice of the developers, in one transaction; safe to repeat and to overlap.

    Returns:
        The slice's payouts that were not sent yet, earlier ones included, and where it ended.
    """
    async with database.platform() as connection:
        found = await slice_of_accounts(connection, request.after, request.size)
        made, rolled = await claim(connection, found, request.period, maturity_days)
        due = await claimed_in(connection, request.period, request.after, found.last)
    amounts: Counter[str] = Counter()
    for row in made:
        amounts[row.currency] += row.amount
    return Shard(
        payouts=[PayoutStart(payout_id=row.id, tenant_id=row.tenant_id, period=row.period) for row in due],
        rolled_over=len(rolled),
        amounts=dict(amounts),
        last=found.last,
    )


async def plan_run(database: Database, period: str, maturity_days: int) -> list[PlannedPayout]:
    """Tell what a run would do with every balance, and change nothing."""
    planned: list[PlannedPayout] = []
    after: str | None = ""
    while after is not None:
        async with database.platform() as connection:
            found = await slice_of_accounts(connection, after, 500)
            payables = await read_payables(connection, found.ids, period, maturity_days)
        for payable in payables:
            reason = None if payable.live else judge(payable)
            planned.append(
                PlannedPayout(
                    tenant_id=payable.tenant_id,
                    developer_id=payable.owner_id,
                    earned_as=payable.earned_as,
                    currency=payable.currency,
                    amount=payable.amount,
                    pays=reason is None and not payable.live,
                    reason=reason,
                )
            )
        after = found.last
    return planned


async def claim_again(connection: Connection, payout_id: str, maturity_days: int) -> PayoutRow:
    """Claim a failed payout's balance anew, as the next attempt of the same period.

    Raises:
        PayoutNotFoundError: There is no such payout.
        PayoutNotRetryableError: It has not failed, or the balance is not eligible any more.
    """
    row = await find_payout(connection, payout_id)
    if row.status not in RETURNED_PAYOUTS:
        raise PayoutNotRetryableError(payout_id, f"it is {row.status}")
    found = await single_account(connection, row.account_id)
    made, rolled = await claim(connection, found, row.period, maturity_days, retry=True)
    if not made:
        reason = rolled[0][1].value if rolled else "another payout of the period is under way or was paid"
        raise PayoutNotRetryableError(payout_id, reason)
    return made[0]


async def send_payout(database: Database, rails: PayoutRails, payout_id: str) -> RailAnswer:
    """Ask the rail to pay, with the stored key and bytes; never raises for the rail's sake.

    A payout that was sent before is looked up first, and sent again only while the rail knows its key.
    """
    async with database.platform() as connection:
        row = await lock_payout(connection, payout_id)
        if row.status in ENDED_PAYOUTS:
            return _stored_answer(row)
        sent_before = row.submitted_at
        cursor = await connection.execute("SELECT now() AS now")
        now = await cursor.fetchone()
        assert now is not None
        row.attempts += 1
        if row.status is PayoutStatus.CLAIMED:
            row.status = PayoutStatus.SUBMITTED
        await update_payout(connection, row)
    try:
        rail = rails[row.rail]
        if sent_before is not None:
            found = await rail.look_up_payout(row.reference)
            if not isinstance(found, Unknown) or now["now"] - sent_before >= rail.key_lifetime:
                return found
        return await rail.pay_out(key=row.reference, body=row.request_body)
    except Exception as error:
        # Whatever went wrong, the money may be on its way: only evidence leaves "unknown".
        logger.warning("payout_call_failed", run_id=payout_id, error=type(error).__name__)
        return Unknown(reason=f"the call failed ({type(error).__name__})")


async def record_payout(connection: Connection, payout_id: str, answer: RailAnswer) -> PayoutState:
    """Write the rail's answer and what follows from it, in the caller's platform transaction.

    Safe to repeat; a payout that has ended keeps its outcome. A failed one returns its amount once.
    """
    await lock_run(connection, payout_id)
    row = await lock_payout(connection, payout_id)
    if row.status in ENDED_PAYOUTS:
        return _state(row)
    if isinstance(answer, Settled) and answer.amount != row.amount:
        answer = Unknown(reason=f"the rail paid {answer.amount}, not {row.amount}")
    if isinstance(answer, Settled):
        row.status, row.provider_ref, row.unknown_reason = PayoutStatus.PAID, answer.provider_ref, None
        await post(connection, left(row))
    elif isinstance(answer, Declined):
        row.status = PayoutStatus.FAILED
        row.failure_code, row.failure_message = answer.code, answer.message
        await post(connection, returned(row, AccountKind.PAYOUT_IN_TRANSIT))
    else:
        row.status, row.unknown_reason = PayoutStatus.UNKNOWN, answer.reason
    await update_payout(connection, row)
    event, status = _reported(row)
    await append_events(connection, payout_id, [event], status=status)
    return _state(row)


async def reverse_payout(connection: Connection, payout_id: str, reason: str) -> PayoutState:
    """Record that the bank sent a paid payout back; its amount is payable again, once. Safe to repeat.

    Raises:
        PayoutNotFoundError: There is no such payout.
        PayoutNotReversibleError: It was not paid.
    """
    row = await lock_payout(connection, payout_id)
    if row.status is PayoutStatus.REVERSED:
        return _state(row)
    if row.status is not PayoutStatus.PAID:
        raise PayoutNotReversibleError(payout_id, row.status)
    row.status, row.failure_code, row.failure_message = PayoutStatus.REVERSED, "reversed", reason
    await update_payout(connection, row)
    await post(connection, returned(row, AccountKind.BANK))
    return _state(row)


def _reported(row: PayoutRow) -> tuple[NewEvent, RunStatus | None]:
    facts = {"amount": row.amount, "currency": row.currency, "reference": row.reference}
    if row.status is PayoutStatus.PAID:
        data = facts | {"provider_ref": row.provider_ref}
        return NewEvent(type=EventType.PAYOUT_PAID, key="payout.paid", data=data), RunStatus.SUCCEEDED
    if row.status is PayoutStatus.FAILED:
        data = facts | {"code": row.failure_code, "message": row.failure_message}
        return NewEvent(type=EventType.PAYOUT_FAILED, key="payout.failed", data=data), RunStatus.FAILED
    data = facts | {"reason": row.unknown_reason}
    return NewEvent(type=EventType.PAYOUT_UNKNOWN, key="payout.unknown", data=data), None


def _stored_answer(row: PayoutRow) -> RailAnswer:
    if row.status in RETURNED_PAYOUTS:
        return Declined(code=row.failure_code or "failed", message=row.failure_message or "")
    return Settled(provider_ref=row.provider_ref or "", amount=row.amount)


def _state(row: PayoutRow) -> PayoutState:
    return PayoutState(payout_id=row.id, status=row.status, amount=row.amount, currency=row.currency)


class PayoutActivities:
    """Claims, sends, looks up and reports payouts."""

    def __init__(self, services: Services, rails: PayoutRails) -> None:
        """Use the process's ``services`` and pay over ``rails``."""
        self._database = services.database
        self._maturity_days = services.settings.payout_maturity_days
        self._mailer = Mailer(services.settings)
        self._rails = rails

    @activity.defn(name="claim_payouts")
    async def claim_payouts(self, request: ShardRequest) -> Shard:
        """Claim a slice of the developers.

        Raises:
            DatabaseUnavailableError: Nothing was claimed; retryable.
        """
        return await claim_shard(self._database, request, self._maturity_days)

    @activity.defn(name="open_payout")
    async def open_payout(self, start: PayoutStart) -> PayoutState:
        """Make the payout's run and report the claim; safe to repeat."""
        async with self._database.platform() as connection:
            row = await find_payout(connection, start.payout_id)
            run = Run(
                id=row.id,
                tenant_id=row.tenant_id,
                kind=RunKind.PAYOUT,
                subject=f"{row.period} {row.currency}",
                correlation_id=f"payouts-{row.period}",
                workflow_id=f"payout/{row.id}",
            )
            await create_run(connection, run)
            claimed = NewEvent(
                type=EventType.PAYOUT_CLAIMED,
                key="payout.claimed",
                data={"amount": row.amount, "currency": row.currency, "period": row.period},
            )
            opened = await append_events(connection, row.id, [claimed])
            if opened.status is RunStatus.PENDING:
                for status in (RunStatus.QUEUED, RunStatus.DISPATCHED, RunStatus.RUNNING):
                    await append_events(connection, row.id, [], status=status)
        return _state(row)

    @activity.defn(name="send_payout")
    async def send_payout(self, start: PayoutStart) -> PayoutState:
        """Send the payout, or look it up where it was sent, and record the answer; safe to repeat."""
        answer = await send_payout(self._database, self._rails, start.payout_id)
        async with self._database.platform() as connection:
            return await record_payout(connection, start.payout_id, answer)

    @activity.defn(name="tell_developer")
    async def tell_developer(self, start: PayoutStart) -> None:
        """Write to the developer what was paid or why not, with the statement.

        Raises:
            MailUnavailableError: The mail server is away; the next attempt may succeed.
            MailRefusedError: It refuses for good.
        """
        async with self._database.platform() as connection:
            row = await find_payout(connection, start.payout_id)
            statement = await statement_of(connection, row)
            address, name = await find_addressee(connection, row.developer_id)
        if address is None:
            logger.warning("developer_has_no_address", run_id=row.id, user_id=row.developer_id)
            return
        amount = format_amount(row.amount, row.currency)
        paid = row.status is PayoutStatus.PAID
        told = (
            f"{amount} for {row.period} is on its way to your account (reference {row.reference})."
            if paid
            else f"{amount} for {row.period} could not be paid ({row.failure_code}). It is payable again."
        )
        lines = "\n".join(
            f"{word}: {format_amount(value, row.currency)}"
            for word, value in (
                ("Opening balance", statement.opening),
                ("Earned", statement.earned),
                ("Refunded", statement.refunded),
                ("Returned payouts", statement.returned),
                ("Paid out", statement.paid_out),
                ("Closing balance", statement.closing),
            )
        )
        await self._mailer.send(
            Letter(
                key=f"payout/{row.id}/{row.status}",
                to=address,
                subject=f"Payout {row.period}: {amount}" + ("" if paid else " could not be paid"),
                paragraphs=(f"Hello {name or 'developer'},", told, lines),
            )
        )
