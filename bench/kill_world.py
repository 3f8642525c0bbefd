"""People who buy and earn while workers are killed."""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from activities.purchase import reserve
from activities.rails.registry import Rails
from activities.records.database import Database
from activities.records.payment_methods import insert_payment_method
from activities.records.runs import create_run
from activities.signing import Signer
from bench.kill_workflows import Order
from models.identifiers import new_identifier
from models.payment_method import PaymentMethod, PaymentMethodStatus
from models.payout import KycStatus, period_of
from models.rail import RailName
from models.run import Run, RunKind, RunStatus
from tests.payment.shop import Shop
from tests.payout.office import Developer

AMOUNTS = (201, 999, 5_000, 20_001)
FUNDS = 10**12
DEVELOPERS = 12


@dataclass
class KillWorld:
    """One buyer with a wallet, one with a card at Stripe, and developers who are paid over Stripe."""

    store: Database
    signer: Signer
    chance: random.Random
    orders: list[Order] = field(default_factory=list[Order])
    developers: list[Developer] = field(default_factory=list[Developer])
    weeks: int = 0

    def __post_init__(self) -> None:
        self.shop = Shop(self.store, self.signer, Rails([]))
        self.card_holder = Shop(self.store, self.signer, Rails([]), tenant_id=self.shop.tenant_id)

    async def open(self) -> None:
        """Fund the wallet, register the card, and put the developers' papers in order."""
        for shop in (self.shop, self.card_holder):
            await shop.rules(cap_per_transaction=FUNDS, daily_limit_per_user=FUNDS)
        await self.shop.fund(FUNDS)
        card = PaymentMethod(
            id=new_identifier("payment_method"),
            tenant_id=self.card_holder.tenant_id,
            user_id=self.card_holder.user_id,
            rail=RailName.STRIPE,
            customer=new_identifier("user"),
            method="pm_card",
            phone="",
            label="card",
            status=PaymentMethodStatus.ACTIVE,
        )
        async with self.store.platform() as connection:
            await insert_payment_method(connection, card)
        for _ in range(DEVELOPERS):
            developer = Developer(self.store)
            await developer.flag(kyc_status=KycStatus.VERIFIED)
            await developer.register(rail="stripe")
            self.developers.append(developer)

    async def order(self) -> Order:
        """Reserve one run, of the one buyer or the other."""
        return await self._reserve(self.chance.choice((self.shop, self.card_holder)))

    async def wallet_order(self) -> Order:
        """Reserve one run that is paid from the wallet."""
        return await self._reserve(self.shop)

    async def _reserve(self, shop: Shop) -> Order:
        request = shop.request(self.chance.choice(AMOUNTS))
        run = Run(
            id=request.execution_id,
            tenant_id=request.tenant_id,
            kind=RunKind.AGENT_EXECUTION,
            status=RunStatus.RUNNING,
            subject="demo",
            correlation_id="c1",
            workflow_id=f"agent-execution/{request.execution_id}",
        )
        async with self.store.platform() as connection:
            await create_run(connection, run)
            made = await reserve(connection, request, configured=frozenset({RailName.STRIPE}))
        order = Order(
            execution_id=request.execution_id,
            outside=made.authorising,
            succeeds=self.chance.random() < 0.7,
        )
        self.orders.append(order)
        return order

    async def week(self) -> str:
        """Let every developer earn enough and name the next week."""
        for developer in self.developers:
            await developer.earn(self.chance.randint(50_000, 90_000))
        self.weeks += 1
        return period_of(datetime.now(UTC) + timedelta(days=7 * self.weeks))

    async def payouts(self) -> list[str]:
        """All payouts of the developers."""
        async with self.store.platform() as connection:
            cursor = await connection.execute(
                "SELECT id FROM payouts WHERE developer_id = ANY(%s)",
                [[each.user_id for each in self.developers]],
            )
            return [row["id"] for row in await cursor.fetchall()]
