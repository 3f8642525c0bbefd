"""Short ways to let developers earn and be paid: the arranging half of the payout tests."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from activities.payout import BankTransfers, PayoutRails, claim_shard, record_payout, send_payout
from activities.records.database import Database
from activities.records.ledger import find_account, post
from activities.records.payees import flag_payee, register_beneficiary, verify_beneficiary
from activities.records.payout import claim, single_account
from activities.records.runs import create_run
from models.identifiers import new_identifier
from models.ledger import (
    AccountKind,
    NewPosting,
    NewTransaction,
    PostingPurpose,
    TransactionKind,
    platform_account,
)
from models.payout import (
    KycStatus,
    PayeeFlags,
    PayoutRow,
    PayoutState,
    RegisterBeneficiary,
    RollOver,
    Shard,
    ShardRequest,
    in_transit_account,
    payable_account,
    period_of,
)
from models.run import Run, RunKind, RunStatus

NEXT_PERIOD = period_of(datetime.now(UTC) + timedelta(days=7))
"""Everything that a test earns now is due by then."""


@dataclass
class Developer:
    """Somebody with a tenant of their own."""

    store: Database
    tenant_id: str = field(default_factory=lambda: new_identifier("tenant"))
    user_id: str = field(default_factory=lambda: new_identifier("user"))
    beneficiary_id: str = ""

    @property
    def account_id(self) -> str:
        return payable_account(self.tenant_id, self.user_id, "INR").id

    async def earn(self, amount: int) -> str:
        """Post a developer's share; a negative one is a refund."""
        kind = TransactionKind.SETTLEMENT if amount > 0 else TransactionKind.REFUND
        purpose = PostingPurpose.DEVELOPER_SHARE if amount > 0 else PostingPurpose.REFUND
        execution_id = new_identifier("execution")
        transaction = NewTransaction(
            kind=kind,
            reference=new_identifier("ledger_transaction"),
            tenant_id=self.tenant_id,
            execution_id=execution_id,
            agent_id="agt_1",
            postings=[
                NewPosting(
                    account=platform_account(AccountKind.RAIL_CLEARING, "INR", "test"),
                    amount=-amount,
                    purpose=PostingPurpose.CLEARING,
                ),
                NewPosting(
                    account=payable_account(self.tenant_id, self.user_id, "INR"),
                    amount=amount,
                    purpose=purpose,
                ),
            ],
        )
        async with self.store.platform() as connection:
            await post(connection, transaction)
        return execution_id

    async def flag(self, **flags: object) -> None:
        async with self.store.platform() as connection:
            await flag_payee(
                connection, self.tenant_id, self.user_id, PayeeFlags.model_validate(flags), "finance"
            )

    async def register(
        self, *, verify: bool = True, destination: str = "bene-1", rail: str = "wallet"
    ) -> None:
        wanted = RegisterBeneficiary(currency="INR", destination=destination, name="Dev", rail=rail)
        async with self.store.tenant(self.tenant_id) as connection:
            found = await register_beneficiary(connection, self.tenant_id, self.user_id, wanted)
        self.beneficiary_id = found.beneficiary_id
        if verify:
            async with self.store.platform() as connection:
                await verify_beneficiary(connection, self.beneficiary_id, "finance")

    async def claim(
        self, period: str = NEXT_PERIOD, *, maturity_days: int = 0, retry: bool = False
    ) -> tuple[PayoutRow | None, RollOver | None]:
        """Claim this developer's account alone, as a run does for its slice."""
        async with self.store.platform() as connection:
            found = await single_account(connection, self.account_id)
            made, rolled = await claim(connection, found, period, maturity_days, retry=retry)
        return (made[0] if made else None), (rolled[0][1] if rolled else None)

    async def payable(self) -> int:
        return await self._balance(self.account_id)

    async def in_transit(self) -> int:
        return await self._balance(in_transit_account(self.tenant_id, self.user_id, "INR").id)

    async def _balance(self, account_id: str) -> int:
        async with self.store.platform() as connection:
            return (await find_account(connection, account_id)).balance

    async def revenue(self) -> list[tuple[int, str, str | None]]:
        """Amount, status and payout of each share, as the developer's tenant reads them."""
        async with self.store.tenant(self.tenant_id) as connection:
            cursor = await connection.execute(
                "SELECT amount, status, payout_ref FROM developer_revenue WHERE developer_id = %s "
                "ORDER BY account_seq",
                [self.user_id],
            )
            return [(row["amount"], row["status"], row["payout_ref"]) for row in await cursor.fetchall()]


@dataclass
class Office:
    """The platform's side."""

    store: Database
    rails: PayoutRails = field(default_factory=dict[str, "BankTransfers"])  # pyright: ignore[reportAssignmentType]

    def __post_init__(self) -> None:
        self.rails = {"wallet": BankTransfers(self.store)}

    async def developer(self, earned: int = 0) -> Developer:
        """A developer with everything in order."""
        developer = Developer(self.store)
        await developer.flag(kyc_status=KycStatus.VERIFIED)
        await developer.register()
        if earned:
            await developer.earn(earned)
        return developer

    async def open(self, row: PayoutRow) -> None:
        run = Run(
            id=row.id,
            tenant_id=row.tenant_id,
            kind=RunKind.PAYOUT,
            status=RunStatus.RUNNING,
            subject=row.period,
            correlation_id="c1",
            workflow_id=f"payout/{row.id}",
        )
        async with self.store.platform() as connection:
            await create_run(connection, run)

    async def send(self, row: PayoutRow, rails: PayoutRails | None = None) -> PayoutState:
        """Send and record, as the activity does."""
        answer = await send_payout(self.store, rails or self.rails, row.id)
        async with self.store.platform() as connection:
            return await record_payout(connection, row.id, answer)

    async def run(self, period: str, size: int = 500) -> list[Shard]:
        """Walk all slices."""
        shards: list[Shard] = []
        after: str | None = ""
        while after is not None:
            shard = await claim_shard(
                self.store, ShardRequest(period=period, after=after, size=size), maturity_days=0
            )
            shards.append(shard)
            after = shard.last
        return shards
