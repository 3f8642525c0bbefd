"""The rails as a schedule of faults meets them: an adapter, the line to it, and the rail's own books."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Protocol

from activities.rails.cashfree import minor_units
from activities.rails.wallet import WalletRail
from activities.records.database import Database
from models.canonical import canonical_json
from models.payout import PayoutInstruction
from models.rail import AuthoriseRequest, Declined, RailAnswer, RailName, Settled, Unknown
from tests.rails.cashfree_books import CashfreeBooks
from tests.rails.hostile import Fault
from tests.rails.line import Line, open_line
from tests.rails.stripe_books import StripeBooks

Between = Callable[[], Awaitable[None]]


class RailLine(Protocol):
    """A rail in the wallet's place, with faults on its line and books that are the truth."""

    name: RailName
    key_lifetime: timedelta
    between: Between | None
    """Runs once, after the books changed and before the answer leaves: a webhook that is faster."""
    sent: dict[str, set[bytes]]
    """Idempotency key → every body that was sent with it."""

    @property
    def faults(self) -> list[Fault]:
        """Spent one per changing call."""
        ...

    @faults.setter
    def faults(self, faults: list[Fault]) -> None: ...

    async def capture(self, *, key: str, body: bytes) -> RailAnswer: ...
    async def void(self, *, key: str, reference: str) -> RailAnswer: ...
    async def look_up(self, reference: str) -> RailAnswer: ...

    async def authorise(self, reference: str, amount: int) -> None:
        """Hold the money there."""
        ...

    async def give_up(self, reference: str) -> None:
        """Let the rail void the hold by itself, as rails do when one grows old."""
        ...

    async def captured(self, references: list[str]) -> dict[str, list[int]]:
        """What the rail collected, one entry per capture, in minor units."""
        ...

    def forget(self) -> None:
        """Empty the books, for the next batch of schedules."""
        ...


class WalletLine:
    """The real wallet rail behind a bad line; its books are ours, so the ledger is asked."""

    name = RailName.WALLET
    key_lifetime = timedelta(hours=23)

    def __init__(self, store: Database) -> None:
        self._store = store
        self._rail = WalletRail(store)
        self.faults: list[Fault] = []
        self.between: Between | None = None
        self.sent: dict[str, set[bytes]] = {}

    async def capture(self, *, key: str, body: bytes) -> RailAnswer:
        self.sent.setdefault(key, set()).add(body)
        return await self._through(lambda: self._rail.capture(key=key, body=body))

    async def void(self, *, key: str, reference: str) -> RailAnswer:
        return await self._through(lambda: self._rail.void(key=key, reference=reference))

    async def look_up(self, reference: str) -> RailAnswer:
        return await self._rail.look_up(reference)

    async def authorise(self, reference: str, amount: int) -> None:
        """The purchase did that in its own transaction."""

    async def give_up(self, reference: str) -> None:
        await self._rail.void(key="rail", reference=reference)

    async def captured(self, references: list[str]) -> dict[str, list[int]]:
        async with self._store.platform() as connection:
            cursor = await connection.execute(
                "SELECT substr(t.reference, 9) AS hold, p.amount FROM ledger_transactions t "
                "JOIN ledger_postings p ON p.transaction_id = t.id AND p.purpose = 'capture' "
                "WHERE p.amount > 0 AND t.reference = ANY(%s)",
                [[f"capture:{each}" for each in references]],
            )
            found: dict[str, list[int]] = {each: [] for each in references}
            for row in await cursor.fetchall():
                found[row["hold"]].append(row["amount"])
        return found

    def forget(self) -> None:
        self.sent.clear()

    async def _through(self, call: Callable[[], Awaitable[RailAnswer]]) -> RailAnswer:
        fault = self.faults.pop(0) if self.faults else None
        if fault == "lose request":
            raise TimeoutError
        if fault == "fail before":
            return Unknown(reason="503")
        answer = await call()
        between, self.between = self.between, None
        if between is not None:
            await between()
        if fault == "twice":
            return await call()
        if fault in {"lose answer", "late", "cut answer"}:
            raise TimeoutError
        return Unknown(reason=fault) if fault in {"fail after", "garbage"} else answer


class OutsideLine:
    """Stripe's or Cashfree's adapter over HTTP, in the wallet's place; the wallet holds as well."""

    name = RailName.WALLET
    key_lifetime = timedelta(hours=23)

    def __init__(self, line: Line) -> None:
        self.line = line
        self.between: Between | None = None
        self.sent: dict[str, set[bytes]] = {}
        line.server.between = self._between

    @property
    def faults(self) -> list[Fault]:
        return self.line.server.faults

    @faults.setter
    def faults(self, faults: list[Fault]) -> None:
        self.line.server.faults = faults

    async def capture(self, *, key: str, body: bytes) -> RailAnswer:
        self.sent.setdefault(key, set()).add(body)
        return await self.line.rail.capture(key=key, body=body)

    async def void(self, *, key: str, reference: str) -> RailAnswer:
        return await self.line.rail.void(key=key, reference=reference)

    async def look_up(self, reference: str) -> RailAnswer:
        return await self.line.rail.look_up(reference)

    async def authorise(self, reference: str, amount: int) -> None:
        request = AuthoriseRequest(
            reference=reference,
            amount=amount,
            currency="INR",
            tenant_id="t",
            user_id="u",
            customer="cus_1",
            method="pm_card",
            phone="+910000000000",
        )
        body = canonical_json(request.model_dump(mode="json"))
        answer = await self.line.rail.authorise(key=f"a-{reference}", body=body)
        while isinstance(answer, Unknown):
            # The rail may hide for a while what it has.
            answer = await self.line.rail.look_up_authorisation(reference)
        assert isinstance(answer, Settled), answer

    async def give_up(self, reference: str) -> None:
        answer: RailAnswer = Unknown(reason="not asked yet")
        while isinstance(answer, Unknown):
            answer = await self.line.rail.void(key=f"rail-{reference}", reference=reference)

    async def captured(self, references: list[str]) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {each: [] for each in references}
        for reference, amount in self.line.books.captures:
            minor = amount if isinstance(amount, int) else minor_units(amount, "INR")
            assert minor is not None
            found[reference].append(minor)
        return found

    def forget(self) -> None:
        self.sent.clear()
        books = StripeBooks() if isinstance(self.line.books, StripeBooks) else CashfreeBooks()
        self.line.books = self.line.server.books = books
        self.line.server.calls.clear()

    async def _between(self) -> None:
        between, self.between = self.between, None
        if between is not None:
            await between()


class TransferLine:
    """A bank that pays developers: asynchronous, forgetful of its answers, and it may send money back."""

    key_lifetime = timedelta(hours=23)

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.refuses: set[str] = set()
        """References that the bank turns down."""
        self.transfers: dict[str, list[int]] = {}
        """Reference → every amount that left."""
        self.sent: dict[str, set[bytes]] = {}
        self._hidden = 0

    async def pay_out(self, *, key: str, body: bytes) -> RailAnswer:
        self.sent.setdefault(key, set()).add(body)
        instruction = PayoutInstruction.model_validate_json(body)
        assert key == instruction.reference
        fault = self.faults.pop(0) if self.faults else None
        if fault == "lose request":
            raise TimeoutError
        if fault == "fail before":
            return Unknown(reason="503")
        if key in self.refuses:
            return Declined(code="account_closed", message="The bank refuses.")
        # The bank keeps a reference once; a second request finds the first.
        self.transfers.setdefault(key, [instruction.amount])
        if fault == "late":
            self._hidden = 3
        if fault in {"lose answer", "cut answer", "late"}:
            raise TimeoutError
        if fault in {"fail after", "garbage"}:
            return Unknown(reason=fault)
        return Settled(provider_ref=f"bank:{key}", amount=instruction.amount)

    async def look_up_payout(self, reference: str) -> RailAnswer:
        if self._hidden:
            self._hidden -= 1
            return Unknown(reason="not visible yet", not_found=True)
        if reference in self.transfers:
            return Settled(provider_ref=f"bank:{reference}", amount=self.transfers[reference][0])
        return Unknown(reason="not there", not_found=True)


@asynccontextmanager
async def outside_line(name: str) -> AsyncGenerator[OutsideLine]:
    """Start a rail's server and put its adapter in the wallet's place."""
    async with open_line(name) as line:
        yield OutsideLine(line)
