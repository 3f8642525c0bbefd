"""Somebody who buys from somebody else: the arranging half of the payment tests."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from psycopg.rows import DictRow

from activities.authorisation import authorise
from activities.mandate import mint_mandate
from activities.purchase import release, reserve
from activities.rails.registry import Rails
from activities.records.database import Database
from activities.records.ledger import find_account, post, sums_by_currency, unsound_accounts
from activities.records.payment_methods import insert_payment_method
from activities.records.policies import replace_policy
from activities.records.runs import append_events, create_run, read_events
from activities.settlement import settle
from activities.signing import Signer
from models.event import EventType, NewEvent
from models.identifiers import new_identifier
from models.ledger import (
    AccountKey,
    AccountKind,
    NewPosting,
    NewTransaction,
    PostingPurpose,
    TransactionKind,
    platform_account,
)
from models.mandate import MandateInfo
from models.payment import (
    AuthoriseHold,
    MintRequest,
    Party,
    ReleaseOutcome,
    ReleaseRequest,
    Reservation,
    ReserveRequest,
    SettlementOutcome,
    SettleRequest,
)
from models.payment_method import PaymentMethod
from models.policy import CurrencyLimits, PolicyRules
from models.rail import RailName
from models.run import Run, RunKind, RunStatus
from models.wallet import wallet_account

CODE_HASH = hashlib.sha256(b"code").hexdigest()
INPUTS_HASH = hashlib.sha256(b"inputs").hexdigest()


@dataclass
class Shop:
    """One buyer with a tenant of their own, one developer in another tenant."""

    store: Database
    signer: Signer
    rails: Rails
    tenant_id: str = field(default_factory=lambda: new_identifier("tenant"))
    user_id: str = field(default_factory=lambda: new_identifier("user"))
    developer: Party = field(
        default_factory=lambda: Party(user_id=new_identifier("user"), tenant_id=new_identifier("tenant"))
    )
    agent_id: str = field(default_factory=lambda: new_identifier("agent"))
    configured: frozenset[RailName] = frozenset()
    """Outside rails that the installation has credentials for."""

    def request(self, amount: int = 50, **changes: Any) -> ReserveRequest:
        facts: dict[str, Any] = {
            "execution_id": new_identifier("execution"),
            "tenant_id": self.tenant_id,
            "user_id": self.user_id,
            "agent_id": self.agent_id,
            "developer": self.developer,
            "vendor": "frameos",
            "amount": amount,
            "currency": "INR",
        }
        return ReserveRequest.model_validate(facts | changes)

    async def fund(self, amount: int, currency: str = "INR") -> None:
        wallet = wallet_account(self.tenant_id, self.user_id, currency)
        bank = platform_account(AccountKind.BANK, currency)
        transaction = NewTransaction(
            kind=TransactionKind.TOP_UP,
            reference=new_identifier("top_up"),
            tenant_id=self.tenant_id,
            postings=[
                NewPosting(account=bank, amount=-amount, purpose=PostingPurpose.FUNDING),
                NewPosting(account=wallet, amount=amount, purpose=PostingPurpose.FUNDING),
            ],
        )
        async with self.store.platform() as connection:
            await post(connection, transaction)

    async def rules(self, **limits: int) -> None:
        """Put a policy in force with these limits in INR."""
        await self.put(PolicyRules(vendors=["frameos"], limits={"INR": CurrencyLimits(**limits)}))

    async def put(self, rules: PolicyRules) -> None:
        """Put a policy in force."""
        async with self.store.tenant(self.tenant_id) as connection:
            await replace_policy(connection, self.tenant_id, rules, changed_by=self.user_id)

    async def reserve(self, request: ReserveRequest) -> Reservation:
        """As the execution does it: the run and the hold in one transaction."""
        run = Run(
            id=request.execution_id,
            tenant_id=request.tenant_id,
            kind=RunKind.AGENT_EXECUTION,
            subject="demo",
            correlation_id="c1",
            workflow_id=f"agent-execution/{request.execution_id}",
        )
        async with self.store.platform() as connection:
            await create_run(connection, run)
            return await reserve(connection, request, configured=self.configured)

    async def pays_with(self, rail: RailName, method: str = "pm_card", phone: str = "+910000000000") -> None:
        """Register a payment method, as the API does once the rail has confirmed it."""
        registered = PaymentMethod(
            id=new_identifier("payment_method"),
            tenant_id=self.tenant_id,
            user_id=self.user_id,
            rail=rail,
            customer=self.user_id,
            method=method,
            phone=phone,
        )
        async with self.store.platform() as connection:
            await insert_payment_method(connection, registered)

    async def authorise(self, execution_id: str) -> Reservation:
        return await authorise(self.store, self.rails, AuthoriseHold(execution_id=execution_id))

    async def mint(self, execution_id: str, **changes: Any) -> MandateInfo:
        facts: dict[str, Any] = {
            "execution_id": execution_id,
            "code_hash": CODE_HASH,
            "code_version": "1.0.0",
            "inputs_hash": INPUTS_HASH,
            "timeout_ms": 300_000,
        }
        async with self.store.platform() as connection:
            return await mint_mandate(connection, self.signer, MintRequest.model_validate(facts | changes))

    async def execute(self, execution_id: str) -> None:
        """Let the run reach the point where its agent has finished."""
        for status in (RunStatus.QUEUED, RunStatus.DISPATCHED, RunStatus.RUNNING):
            async with self.store.platform() as connection:
                await append_events(connection, execution_id, [], status=status)
        executed = NewEvent(type=EventType.RUN_EXECUTED, key="executed")
        async with self.store.platform() as connection:
            await append_events(connection, execution_id, [executed])

    async def executed(self, amount: int = 50, **changes: Any) -> str:
        """A run that is ready to be settled."""
        request = self.request(amount, **changes)
        await self.reserve(request)
        await self.mint(request.execution_id)
        await self.execute(request.execution_id)
        return request.execution_id

    async def settle(self, execution_id: str, **changes: Any) -> SettlementOutcome:
        request = SettleRequest(execution_id=execution_id, **changes)
        return await settle(self.store, self.rails, self.signer, request)

    async def release(self, execution_id: str) -> ReleaseOutcome:
        request = ReleaseRequest(execution_id=execution_id, reason="failed")
        return await release(self.store, self.rails, request)

    async def balance(self, kind: AccountKind, *, currency: str = "INR") -> int:
        """Balance of the buyer's account of this kind, or of the developer's payable."""
        owner, tenant = self.user_id, self.tenant_id
        if kind is AccountKind.DEVELOPER_PAYABLE:
            owner, tenant = self.developer.user_id, self.developer.tenant_id
        key = AccountKey(tenant_id=tenant, kind=kind, owner_id=owner, currency=currency)
        async with self.store.platform() as connection:
            return (await find_account(connection, key.id)).balance

    async def wallet(self) -> int:
        return await self.balance(AccountKind.USER_WALLET)

    async def held(self) -> int:
        return await self.balance(AccountKind.USER_HOLD)

    async def earned(self) -> int:
        return await self.balance(AccountKind.DEVELOPER_PAYABLE)

    async def spent_today(self) -> int:
        return (await self.counters()).get(("user", "day"), 0)

    async def counters(self) -> dict[tuple[str, str], int]:
        """What is held and spent, by scope and period, summed over the tenant's subjects."""
        sums: dict[tuple[str, str], int] = {}
        for row in await self.rows("spending_counters"):
            counter = (row["scope"], row["period"])
            sums[counter] = sums.get(counter, 0) + row["spent"]
        return sums

    async def rows(self, table: str) -> list[DictRow]:
        """The rows of the buyer's tenant."""
        async with self.store.platform() as connection:
            cursor = await connection.execute(
                f"SELECT * FROM {table} WHERE tenant_id = %s".encode(),
                [self.tenant_id],
            )
            return await cursor.fetchall()

    async def events(self, execution_id: str) -> list[str]:
        async with self.store.platform() as connection:
            events = await read_events(connection, execution_id)
        return [event.type for event in events if event.type.startswith("payment.")]


async def ledger_faults(store: Database) -> list[str]:
    """Everything that is wrong with the ledger as a whole."""
    async with store.platform() as connection:
        totals = await sums_by_currency(connection)
        unsound = await unsound_accounts(connection)
    return [f"{currency} sums to {total}" for currency, total in totals.items() if total] + unsound
