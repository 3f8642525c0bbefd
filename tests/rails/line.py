"""One outside rail, both ends of it."""

import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from activities.rails.cashfree import CashfreeRail, minor_units
from activities.rails.stripe import StripeRail
from models.canonical import canonical_json
from models.rail import AuthoriseRequest, RailAnswer, RailName, RailRequest, RefundInstruction, Unknown
from tests.rails.cashfree_books import CashfreeBooks
from tests.rails.hostile import HostileServer
from tests.rails.stripe_books import StripeBooks

_numbers = itertools.count(1)


@dataclass
class Line:
    """The adapter and the rail."""

    name: RailName
    rail: StripeRail | CashfreeRail
    server: HostileServer
    books: StripeBooks | CashfreeBooks
    reference: str = field(default_factory=lambda: f"hold_{next(_numbers):032x}")

    def request(self, amount: int = 5_000, method: str = "pm_card", phone: str = "+910000000000") -> bytes:
        """The stored bytes of an authorisation."""
        request = AuthoriseRequest(
            reference=self.reference,
            amount=amount,
            currency="INR",
            tenant_id="t",
            user_id="u",
            customer="cus_1",
            method=method,
            phone=phone,
        )
        return canonical_json(request.model_dump(mode="json"))

    def collect(self, amount: int = 5_000) -> bytes:
        """The stored bytes of a capture."""
        request = RailRequest(
            reference=self.reference, amount=amount, currency="INR", tenant_id="t", user_id="u"
        )
        return canonical_json(request.model_dump(mode="json"))

    def give_back(self, reference: str, amount: int) -> bytes:
        """The stored bytes of a refund."""
        request = RefundInstruction(
            reference=reference, capture_reference=self.reference, amount=amount, currency="INR"
        )
        return canonical_json(request.model_dump(mode="json"))

    async def authorise(self, body: bytes) -> RailAnswer:
        return await insist(
            lambda: self.rail.look_up_authorisation(self.reference),
            lambda: self.rail.authorise(key=f"a-{self.reference}", body=body),
        )

    async def capture(self, body: bytes) -> RailAnswer:
        return await insist(
            lambda: self.rail.look_up(self.reference),
            lambda: self.rail.capture(key=f"c-{self.reference}", body=body),
        )

    def captured(self) -> list[int]:
        """What the rail itself collected, in minor units, one entry per capture."""
        amounts: list[int] = []
        for reference, amount in self.books.captures:
            assert reference == self.reference
            minor = amount if isinstance(amount, int) else minor_units(amount, "INR")
            assert minor is not None
            amounts.append(minor)
        return amounts


async def insist(
    look: Callable[[], Awaitable[RailAnswer]], send: Callable[[], Awaitable[RailAnswer]]
) -> RailAnswer:
    """Do what the settle protocol does: send, and while nobody knows, look first and send again."""
    answer = await send()
    for _ in range(30):
        if not isinstance(answer, Unknown):
            return answer
        found = await look()
        answer = found if not isinstance(found, Unknown) else await send()
    raise AssertionError(answer)


@asynccontextmanager
async def open_line(name: str) -> AsyncGenerator[Line]:
    """Start a rail's server and connect its adapter."""
    books = StripeBooks() if name == "stripe" else CashfreeBooks()
    async with HostileServer(books) as server:
        if name == "stripe":
            rail = StripeRail(server.url, "sk_test")
        else:
            rail = CashfreeRail(server.url, "id", "secret")
        try:
            yield Line(RailName(name), rail, server, books)
        finally:
            await rail.close()
