"""A small economy under fault injection: buyers, a developer, an orchestrator, rails that misbehave.

Each step is what one process of the product does, with its transactions; a worker may die around any commit
and is then started again, as Temporal does. What the world keeps in memory is what was *asked for*; what
happened is read from the rails and from PostgreSQL (`tests.rails.truth`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from activities.mandate import mint_mandate, sign_mandate
from activities.payout import record_payout, reverse_payout, send_payout
from activities.purchase import reserve
from activities.rails.registry import Rails
from activities.records.database import Connection, DatabaseUnavailableError
from activities.records.payment import (
    database_now,
    end_mandate,
    find_live_intent,
    insert_mandate,
    lock_mandates,
)
from activities.records.payout import claim, single_account
from activities.records.runs import append_events, create_run
from activities.refund import refund_payment
from activities.settlement import reconcile_settlement, record_outcome, send_settlement
from models.errors import PlatformError
from models.event import EventType, NewEvent
from models.identifiers import new_identifier
from models.mandate import MandateStatus
from models.payment import MintRequest, Party, ReserveRequest
from models.payout import KycStatus, PayoutRow, payable_account, period_of
from models.rail import RailAnswer
from models.refund import RefundRequest
from models.run import Run, RunKind, RunStatus
from tests.payment.shop import CODE_HASH, INPUTS_HASH, Shop
from tests.payout.office import Developer
from tests.rails.hostile import Fault
from tests.rails.lines import RailLine, TransferLine
from tests.rails.mortal import DeathError, Fate, fated

Answer = TypeVar("Answer")

EXECUTED = NewEvent(type=EventType.RUN_EXECUTED, key="executed")
FUNDS = 10**12
DAILY_LIMIT = 20_000_000


@dataclass
class Purchase:
    """One execution, as far as it was asked for."""

    execution_id: str
    line: str
    amount: int
    hold_id: str
    seed: int = 0
    stage: str = "reserved"
    """reserved, minted, executed, failed."""
    revoked: bool = False
    settle_asked: bool = False
    release_asked: bool = False
    given_up: bool = False
    """The rail gave the hold back by itself."""
    late: RailAnswer | None = None
    """An answer that a worker holds and has not recorded."""
    refunds: list[int] = field(default_factory=list[int])


@dataclass
class World:
    """One tenant of buyers (one user per rail), one developer, one orchestrator."""

    shop: Shop
    lines: dict[str, RailLine]
    bank: TransferLine
    purchases: list[Purchase] = field(default_factory=list[Purchase])
    payouts: list[str] = field(default_factory=list[str])
    buyers: dict[str, str] = field(default_factory=dict[str, str])
    periods: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        self.developer = Developer(
            self.shop.store, self.shop.developer.tenant_id, self.shop.developer.user_id
        )
        self.orchestrator = Party(user_id=new_identifier("user"), tenant_id=new_identifier("tenant"))
        self.buyers = {name: new_identifier("user") for name in self.lines}

    @property
    def developer_account(self) -> str:
        """The developer's payable account."""
        return payable_account(self.shop.developer.tenant_id, self.shop.developer.user_id, "INR").id

    async def open(self) -> None:
        """Give the buyers money and a limit, and put the developer's papers in order."""
        await self.shop.rules(cap_per_transaction=FUNDS, daily_limit_per_user=DAILY_LIMIT)
        for user in self.buyers.values():
            await self._as(user).fund(FUNDS)
        await self.developer.flag(kyc_status=KycStatus.VERIFIED)
        await self.developer.register()

    async def buy(
        self, line: str, amount: int, *, orchestrated: bool, fates: Sequence[Fate] = ()
    ) -> Purchase | None:
        """Reserve and, outside, authorise; None where the policy refuses."""
        request = self._request(line, amount, orchestrated=orchestrated)

        async def work() -> str:
            async with self.shop.store.platform() as connection:
                return await self._reserve(connection, request)

        try:
            hold_id = await self.insist(work, fates)
        except PlatformError:
            return None
        return await self._bought(request, line, hold_id)

    async def buy_all(self, plans: Sequence[tuple[str, int, bool, bool, bool]]) -> list[Purchase]:
        """Arrange many purchases in one transaction, for what comes after is what is tried.

        Args:
            plans: Line, amount, whether it was orchestrated, whether its mandate has expired already and
                whether the agent succeeded.
        """
        asked: list[tuple[ReserveRequest, str]] = []
        async with self.shop.store.platform() as connection:
            for line, amount, orchestrated, expired, executed in plans:
                request = self._request(line, amount, orchestrated=orchestrated)
                asked.append((request, await self._reserve(connection, request)))
                await self._mint(connection, request.execution_id, expired=expired)
                if executed:
                    await append_events(connection, request.execution_id, [EXECUTED])
        found: list[Purchase] = []
        for (request, hold_id), (line, _, _, expired, executed) in zip(asked, plans, strict=True):
            purchase = await self._bought(request, line, hold_id)
            purchase.stage, purchase.revoked = "executed" if executed else "failed", expired
            found.append(purchase)
        return found

    def _request(self, line: str, amount: int, *, orchestrated: bool) -> ReserveRequest:
        changes = {"orchestrator": self.orchestrator} if orchestrated else {}
        return self._as(self.buyers[line]).request(amount, **changes)

    async def _reserve(self, connection: Connection, request: ReserveRequest) -> str:
        run = Run(
            id=request.execution_id,
            tenant_id=request.tenant_id,
            kind=RunKind.AGENT_EXECUTION,
            status=RunStatus.RUNNING,
            subject="demo",
            correlation_id="c1",
            workflow_id=f"agent-execution/{request.execution_id}",
        )
        await create_run(connection, run)
        reservation = await reserve(connection, request)
        assert reservation.hold_id is not None
        return reservation.hold_id

    async def _bought(self, request: ReserveRequest, line: str, hold_id: str) -> Purchase:
        await self.lines[line].authorise(hold_id, request.amount)
        purchase = Purchase(request.execution_id, line, request.amount, hold_id, seed=self.seed)
        self.purchases.append(purchase)
        return purchase

    async def burst(self, count: int, amount: int) -> list[Purchase]:
        """Let a new user buy ``count`` times at once, whatever the daily limit says; returns what passed."""
        user = new_identifier("user")
        shop = self._as(user)
        await shop.fund(FUNDS)
        requests = [shop.request(amount) for _ in range(count)]

        async def one(number: int) -> Purchase | None:
            try:
                reservation = await shop.reserve(requests[number])
            except PlatformError:
                return None
            assert reservation.hold_id is not None
            return Purchase(requests[number].execution_id, "wallet", amount, reservation.hold_id, self.seed)

        found = await asyncio.gather(*(one(number) for number in range(count)))
        passed = [each for each in found if each is not None]
        self.purchases += passed
        return passed

    async def dispatch(
        self, purchase: Purchase, fates: Sequence[Fate] = (), *, expired: bool = False
    ) -> None:
        """Mint the mandate; an expired one is what a queue that waited too long would leave."""

        async def work() -> None:
            async with self.shop.store.platform() as connection:
                await self._mint(connection, purchase.execution_id, expired=expired)

        await self.insist(work, fates)
        purchase.stage, purchase.revoked = "minted", expired

    async def _mint(self, connection: Connection, execution_id: str, *, expired: bool) -> None:
        request = MintRequest(
            execution_id=execution_id,
            code_hash=CODE_HASH,
            code_version="1.0.0",
            inputs_hash=INPUTS_HASH,
            timeout_ms=1_000,
        )
        if not expired:
            await mint_mandate(connection, self.shop.signer, request)
            return
        intent = await find_live_intent(connection, execution_id)
        assert intent is not None
        if await lock_mandates(connection, intent.id):
            return
        then = await database_now(connection) - timedelta(seconds=700)
        await insert_mandate(connection, sign_mandate(self.shop.signer, intent, request, then))

    async def finish(self, purchase: Purchase, *, executed: bool) -> None:
        """Let the agent end."""
        if executed:
            async with self.shop.store.platform() as connection:
                await append_events(connection, purchase.execution_id, [EXECUTED])
        purchase.stage = "executed" if executed else "failed"

    async def revoke(self, purchase: Purchase) -> None:
        """Let the user take the mandate back, if it is still there to be taken."""
        async with self.shop.store.platform() as connection:
            intent = await find_live_intent(connection, purchase.execution_id)
            assert intent is not None
            for mandate in await lock_mandates(connection, intent.id):
                if mandate.status is MandateStatus.ACTIVE:
                    await end_mandate(connection, mandate.id, MandateStatus.REVOKED)
                    purchase.revoked = True

    async def give_up(self, purchase: Purchase) -> None:
        """Let the rail void the hold by itself."""
        await self.lines[purchase.line].give_up(purchase.hold_id)
        purchase.given_up = True

    async def settle(
        self,
        purchase: Purchase,
        *,
        faults: Sequence[Fault] = (),
        fates: Sequence[Sequence[Fate]] = ((),),
        part: int | None = None,
        hurried: bool = False,
        releasing: bool = False,
    ) -> None:
        """Let several workers settle at once, one per list of fates; some may release instead.

        Args:
            purchase: Which one.
            faults: Of the line, one per changing call.
            fates: One list per worker.
            part: Collect only so much; what is held beyond goes back.
            hurried: A webhook makes another worker reconcile before the first one has its answer.
            releasing: The last worker thinks that the run has failed.
        """
        line = self._line(purchase, faults)
        if hurried:
            line.between = lambda: self._reconcile(purchase)
        works: list[Awaitable[None]] = []
        for number, fate in enumerate(fates):
            if releasing and number == len(fates) - 1:
                purchase.release_asked = True
                works.append(self._try(lambda: self.shop.release(purchase.execution_id), fate))
            else:
                purchase.settle_asked = True
                works.append(self._try(lambda: self.shop.settle(purchase.execution_id, amount=part), fate))
        await asyncio.gather(*works)
        line.between, line.faults = None, []

    async def release(
        self,
        purchase: Purchase,
        *,
        faults: Sequence[Fault] = (),
        fates: Sequence[Sequence[Fate]] = ((),),
    ) -> None:
        """Let several workers give the hold back at once."""
        purchase.release_asked = True
        line = self._line(purchase, faults)
        await asyncio.gather(
            *(self._try(lambda: self.shop.release(purchase.execution_id), fate) for fate in fates)
        )
        line.faults = []

    async def hold_answer(self, purchase: Purchase, faults: Sequence[Fault] = ()) -> None:
        """A worker asks the rail and falls asleep with the answer in its hands."""
        found = await self._settlement(purchase)
        if found is None:
            return
        line = self._line(purchase, faults)
        purchase.late = await send_settlement(self.shop.store, self.shop.rails, found)
        line.faults = []

    async def record_late(self, purchase: Purchase) -> None:
        """It wakes up and records what it was told then."""
        found, answer = await self._settlement(purchase), purchase.late
        purchase.late = None
        if found is not None and answer is not None:
            async with self.shop.store.platform() as connection:
                await record_outcome(connection, self.shop.signer, found, answer)

    async def refund(self, purchase: Purchase, amount: int | None, fates: Sequence[Fate] = ()) -> bool:
        """Give money back, repeating it as an API client with a key does; False where it is refused."""
        async with self.shop.store.platform() as connection:
            cursor = await connection.execute(
                "SELECT id FROM payments WHERE execution_id = %s", [purchase.execution_id]
            )
            row = await cursor.fetchone()
        if row is None:
            return False
        refund_id = new_identifier("refund")

        async def work() -> int:
            async with self.shop.store.platform() as connection:
                view = await refund_payment(
                    connection,
                    self.shop.signer,
                    refund_id=refund_id,
                    payment_id=row["id"],
                    request=RefundRequest(amount=amount, reason="not as described"),
                    created_by="finance",
                )
            return view.amount

        try:
            given = await self.insist(work, fates)
            assert await work() == given, "the same refund again is the same refund"
        except PlatformError:
            return False
        purchase.refunds.append(given)
        return True

    async def earn(self, amount: int) -> None:
        """Let the developer earn elsewhere, so that there is something to pay out."""
        await self.developer.earn(amount)

    def next_period(self) -> str:
        """Begin another week, after everything that was earned so far."""
        self.periods += 1
        return period_of(datetime.now(UTC) + timedelta(days=7 * self.periods))

    async def claim(self, period: str, fates: Sequence[Sequence[Fate]] = ((),)) -> None:
        """Let several runs of the same period claim at once."""

        async def work() -> None:
            async with self.shop.store.platform() as connection:
                found = await single_account(connection, self.developer_account)
                await claim(connection, found, period, 0)

        await asyncio.gather(*(self._try(work, fate) for fate in fates))
        async with self.shop.store.platform() as connection:
            cursor = await connection.execute(
                "SELECT * FROM payouts WHERE account_id = %s AND period = %s",
                [self.developer_account, period],
            )
            for row in await cursor.fetchall():
                if row["id"] not in self.payouts:
                    self.payouts.append(row["id"])
                    await create_run(connection, _payout_run(PayoutRow.model_validate(row)))

    async def send(
        self,
        payout_id: str,
        *,
        faults: Sequence[Fault] = (),
        fates: Sequence[Sequence[Fate]] = ((),),
        refused: bool = False,
    ) -> None:
        """Let several workers send, or look up, and record."""
        if refused:
            self.bank.refuses.add(await self._reference(payout_id))
        self.bank.faults = list(faults)

        async def work() -> None:
            answer = await send_payout(self.shop.store, {"wallet": self.bank}, payout_id)
            async with self.shop.store.platform() as connection:
                await record_payout(connection, payout_id, answer)

        await asyncio.gather(*(self._try(work, fate) for fate in fates))
        self.bank.faults = []

    async def reverse(self, payout_id: str, fates: Sequence[Sequence[Fate]] = ((),)) -> None:
        """Let the bank send a payout back, and be told of it more than once."""

        async def work() -> None:
            async with self.shop.store.platform() as connection:
                await reverse_payout(connection, payout_id, "the bank sent it back")

        await asyncio.gather(*(self._try(work, fate) for fate in fates))

    async def quiesce(self) -> None:
        """Stop the faults and let reconcilers tick until nothing is open, at most so often."""
        for purchase in self.purchases:
            if purchase.late is not None:
                await self.record_late(purchase)
        for _ in range(8):
            settling, releasing, paying = await self._open()
            for purchase in self.purchases:
                self._line(purchase, ())
                if purchase.execution_id in settling:
                    await self._try(lambda each=purchase: self.shop.settle(each.execution_id), ())
                elif purchase.execution_id in releasing:
                    await self._try(lambda each=purchase: self.shop.release(each.execution_id), ())
            for payout_id in paying:
                await self.send(payout_id)

    async def _open(self) -> tuple[set[str], set[str], list[str]]:
        """Executions to settle, executions to release, payouts to send."""
        stages = {each.execution_id: each.stage for each in self.purchases}
        async with self.shop.store.platform() as connection:
            cursor = await connection.execute(
                "SELECT h.execution_id, h.status, s.status AS settlement FROM payment_holds h "
                "LEFT JOIN settlements s ON s.intent_id = h.intent_id "
                "WHERE h.tenant_id = %s AND h.status IN ('held', 'releasing')",
                [self.shop.tenant_id],
            )
            held = {row["execution_id"]: row for row in await cursor.fetchall()}
            cursor = await connection.execute(
                "SELECT id FROM payouts WHERE account_id = %s "
                "AND status NOT IN ('paid', 'failed', 'reversed')",
                [self.developer_account],
            )
            paying = [row["id"] for row in await cursor.fetchall()]
        settling = {
            name
            for name, row in held.items()
            if row["status"] == "held" and row["settlement"] != "declined" and stages[name] == "executed"
        }
        revoked = {each.execution_id for each in self.purchases if each.revoked}
        open_ = {name for name in settling if held[name]["settlement"] is not None or name not in revoked}
        return open_, held.keys() - open_, paying

    async def insist(self, work: Callable[[], Awaitable[Answer]], fates: Sequence[Fate]) -> Answer:
        """Repeat until it answers or refuses: a worker that died is started again."""
        with fated(fates):
            while True:
                try:
                    return await work()
                except (DeathError, DatabaseUnavailableError):
                    continue

    async def _try(self, work: Callable[[], Awaitable[object]], fates: Sequence[Fate]) -> None:
        """One worker's one attempt, whatever comes of it."""
        with fated(fates):
            try:
                await work()
            except (DeathError, PlatformError):
                return

    async def _reconcile(self, purchase: Purchase) -> None:
        found = await self._settlement(purchase)
        if found is not None:
            shop = self.shop
            await self._try(lambda: reconcile_settlement(shop.store, shop.rails, shop.signer, found), ())

    async def _settlement(self, purchase: Purchase) -> str | None:
        async with self.shop.store.platform() as connection:
            cursor = await connection.execute(
                "SELECT id FROM settlements WHERE execution_id = %s", [purchase.execution_id]
            )
            row = await cursor.fetchone()
        return None if row is None else str(row["id"])

    async def _reference(self, payout_id: str) -> str:
        async with self.shop.store.platform() as connection:
            cursor = await connection.execute("SELECT reference FROM payouts WHERE id = %s", [payout_id])
            row = await cursor.fetchone()
        assert row is not None
        return str(row["reference"])

    def _line(self, purchase: Purchase, faults: Sequence[Fault]) -> RailLine:
        line = self.lines[purchase.line]
        line.faults = list(faults)
        self.shop.rails = Rails([line])
        return line

    def _as(self, user_id: str) -> Shop:
        shop = self.shop
        return Shop(
            shop.store, shop.signer, shop.rails, shop.tenant_id, user_id, shop.developer, shop.agent_id
        )


def _payout_run(row: PayoutRow) -> Run:
    return Run(
        id=row.id,
        tenant_id=row.tenant_id,
        kind=RunKind.PAYOUT,
        status=RunStatus.RUNNING,
        subject=row.period,
        correlation_id="c1",
        workflow_id=f"payout/{row.id}",
    )
