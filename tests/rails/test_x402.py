"""Being paid with the request: offered, verified before the run, settled after it, once."""

import base64
import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from activities.rails.registry import open_rails, x402_rails
from activities.records.database import Database
from activities.signing import Signer, generate_key
from api.app import create_app
from api.state import Services
from api.x402 import x402_offer
from models.identity import Principal, Role
from models.payment import AuthorisationDeclinedError, SettlementStatus, SettlementUnknownError
from models.rail import Declined, RailName, Settled
from models.settings import InvalidSettingsError, Settings
from models.x402 import X402PaymentInvalidError, X402Terms, payment_digest, read_payment
from tests.api.calling import running
from tests.payment.shop import Shop, ledger_faults
from tests.rails.facilitator_books import FacilitatorBooks
from tests.rails.hostile import FAULTS, Fault, HostileServer

ASSETS = {"INR": {"asset": "0xA11ce", "units_per_minor": 120, "extra": {"name": "INRT", "version": "1"}}}


def configured(settings: Settings, url: str) -> Settings:
    changes = {
        "x402_facilitator_url": url,
        "x402_network": "eip155:84532",
        "x402_pay_to": "0x0ur5",
        "x402_assets": json.dumps(ASSETS),
    }
    return settings.model_copy(update=changes)


def signed(wanted: dict[str, Any], *, nonce: str | None = None, signature: str = "good", **more: Any) -> str:
    """What a payer's client encloses."""
    authorization = {
        "from": "0xPayer",
        "to": wanted["payTo"],
        "value": wanted["amount"],
        "validAfter": "0",
        "validBefore": str(int(time.time()) + 900),
        "nonce": nonce or f"0x{uuid.uuid4().hex}",
    } | more
    payment = {
        "x402Version": 2,
        "accepted": wanted,
        "payload": {"signature": signature, "authorization": authorization},
    }
    return base64.b64encode(json.dumps(payment).encode()).decode()


@dataclass
class Till:
    """A buyer who pays with the request, and the facilitator."""

    shop: Shop
    books: FacilitatorBooks
    server: HostileServer
    terms: X402Terms
    spent: list[str] = field(default_factory=list[str])

    def enclose(self, amount: int = 50, **changes: Any) -> str:
        wanted = self.terms.requirements(amount, "INR")
        assert wanted is not None
        return signed(wanted, **changes)

    async def ask(self, amount: int = 50, **changes: Any) -> str:
        request = self.shop.request(amount, x402_payment=self.enclose(amount, **changes))
        reservation = await self.shop.reserve(request)
        assert (reservation.rail, reservation.authorising) == (RailName.X402, True)
        return request.execution_id

    async def executed(self, amount: int = 50) -> str:
        execution_id = await self.ask(amount)
        await self.shop.authorise(execution_id)
        await self.shop.mint(execution_id)
        await self.shop.execute(execution_id)
        return execution_id

    async def insist(self, execution_id: str) -> SettlementStatus:
        for _ in range(20):
            try:
                return (await self.shop.settle(execution_id)).status
            except SettlementUnknownError:
                continue
        raise AssertionError(await self.shop.rows("x402_payments"))

    def moved(self) -> list[int]:
        return [units for _, units in self.books.transfers.values()]


@pytest.fixture(scope="session")
def x402_signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    directory: Path = tmp_path_factory.mktemp("x402-keys")
    generate_key(directory, "key-1")
    return Signer.from_directory(directory)


@pytest.fixture
async def till(database: Settings, x402_signer: Signer) -> AsyncIterator[Till]:
    books = FacilitatorBooks()
    urls = (database.database_url.get_secret_value(), database.database_platform_url.get_secret_value())
    async with HostileServer(books) as server, Database(*urls) as store:
        settings = configured(database, server.url)
        terms = X402Terms.from_settings(settings)
        assert terms is not None
        async with x402_rails(settings, store) as rails:
            outside = frozenset({RailName.X402})
            shop = Shop(store, x402_signer, open_rails(store, rails), configured=outside)
            yield Till(shop, books, server, terms)


async def test_a_payment_is_verified_before_the_run_and_settled_after_it(till: Till) -> None:
    execution_id = await till.executed()
    assert till.moved() == []
    outcome = await till.shop.settle(execution_id)
    assert (outcome.status, outcome.amount, till.moved()) == (SettlementStatus.SETTLED, 50, [6_000])
    [payment] = await till.shop.rows("payments")
    assert payment["provider_ref"] == next(iter(till.books.transfers.values()))[0]
    assert await till.shop.earned() == 35
    assert await ledger_faults(till.shop.store) == []


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_while_settling_moves_the_money_once(till: Till, fault: Fault) -> None:
    execution_id = await till.executed()
    till.server.faults = [fault]
    assert await till.insist(execution_id) is SettlementStatus.SETTLED
    assert till.moved() == [6_000]


async def test_a_pending_settlement_is_no_failure_and_survives_in_the_store(till: Till) -> None:
    execution_id = await till.executed()
    till.books.pending = 2
    with pytest.raises(SettlementUnknownError):
        await till.shop.settle(execution_id)
    [kept] = await till.shop.rows("x402_payments")
    assert (kept["status"], kept["transaction"]) == ("settling", next(iter(till.books.transfers.values()))[0])
    assert await till.insist(execution_id) is SettlementStatus.SETTLED
    assert till.moved() == [6_000]


async def test_a_used_nonce_after_a_lost_answer_is_unknown_and_never_a_decline(till: Till) -> None:
    execution_id = await till.executed()
    till.books.forgets = True
    till.server.faults = ["lose answer"]
    for _ in range(3):
        with pytest.raises(SettlementUnknownError):
            await till.shop.settle(execution_id)
    assert (till.moved(), await till.shop.rows("payments")) == ([6_000], [])


async def test_a_refusal_at_the_first_attempt_is_a_decline(till: Till) -> None:
    execution_id = await till.executed()
    till.books.broke = True
    outcome = await till.shop.settle(execution_id)
    assert (outcome.status, outcome.decline_code) == (SettlementStatus.DECLINED, "insufficient_funds")
    till.books.broke = False
    assert (await till.shop.settle(execution_id)).status is SettlementStatus.DECLINED
    assert till.moved() == []


async def test_a_failed_run_never_sends_the_transfer(till: Till) -> None:
    execution_id = await till.ask()
    await till.shop.authorise(execution_id)
    assert (await till.shop.release(execution_id)).released
    [kept] = await till.shop.rows("x402_payments")
    assert (kept["status"], till.moved(), len(till.server.calls)) == ("void", [], 1)


async def test_a_forged_signature_is_declined_before_anything_runs(till: Till) -> None:
    execution_id = await till.ask(signature="forged")
    with pytest.raises(AuthorisationDeclinedError, match="signature"):
        await till.shop.authorise(execution_id)


async def test_one_signed_transfer_pays_for_one_purchase(till: Till) -> None:
    first = await till.ask(nonce="0xabc" + uuid.uuid4().hex)
    [kept] = await till.shop.rows("payment_holds")
    enclosed = json.loads(kept["authorise_body"])["payment"]
    await till.shop.authorise(first)
    again = till.shop.request(50, x402_payment=enclosed)
    await till.shop.reserve(again)
    with pytest.raises(AuthorisationDeclinedError, match="payment_reused"):
        await till.shop.authorise(again.execution_id)


async def test_what_a_verified_payment_answers_twice_is_the_same(till: Till) -> None:
    rail = till.shop.rails.outside(RailName.X402)
    execution_id = await till.ask()
    [hold] = await till.shop.rows("payment_holds")
    answers = [await rail.authorise(key="k", body=hold["authorise_body"]) for _ in range(3)]
    assert {repr(each) for each in answers} == {repr(answers[0])}
    assert isinstance(answers[0], Settled)
    assert isinstance(await rail.look_up_authorisation(hold["id"]), Settled)
    assert isinstance(await rail.refund(key="k", body=b"{}"), Declined)
    await till.shop.authorise(execution_id)


WANTED = {"scheme": "exact", "network": "n", "asset": "a", "amount": "1", "payTo": "p"}


@pytest.mark.parametrize(
    "header",
    [
        "",
        "not base64!",
        base64.b64encode(b"[]").decode(),
        base64.b64encode(b"{}").decode(),
        base64.b64encode(b'{"x402Version": 1, "payload": {}}').decode(),
        base64.b64encode(b'{"x402Version": 2, "payload": {}, "accepted": []}').decode(),
        base64.b64encode(b"[" * 10_000).decode(),
        signed(WANTED | {"amount": "2"}),
        signed(WANTED | {"payTo": "thief"}),
        signed(WANTED | {"network": "other"}),
        signed(WANTED, validBefore="1"),
        signed(WANTED, validBefore="soon"),
        "A" * 20_000,
    ],
)
def test_what_is_not_the_wanted_payment_is_refused(header: str) -> None:
    with pytest.raises(X402PaymentInvalidError):
        read_payment(header, WANTED, now=time.time())


def test_a_transfer_is_named_by_its_nonce_whatever_else_is_written() -> None:
    first = read_payment(signed(WANTED, nonce="0xAB"), WANTED)
    same = read_payment(signed(WANTED, nonce="0xab", signature="other", validBefore="99999999999"), WANTED)
    assert payment_digest(first) == payment_digest(same)
    assert payment_digest(first) != payment_digest(read_payment(signed(WANTED, nonce="0xac"), WANTED))


def test_the_offer_is_what_the_packages_own_types_read(database: Settings) -> None:
    from x402.http.utils import decode_payment_required_header, decode_payment_signature_header

    terms = X402Terms.from_settings(configured(database, "http://127.0.0.1:1"))
    assert terms is not None
    wanted = terms.requirements(50, "INR")
    assert wanted is not None
    required = base64.b64encode(json.dumps({"x402Version": 2, "accepts": [wanted]}).encode()).decode()
    [read] = decode_payment_required_header(required).accepts
    assert (read.pay_to, read.scheme) == ("0x0ur5", "exact")
    assert decode_payment_signature_header(signed(wanted)).x402_version == 2


@pytest.mark.parametrize("change", [{"x402_assets": "{}"}, {"x402_assets": "x"}, {"x402_pay_to": ""}])
def test_terms_that_are_set_in_part_are_refused(database: Settings, change: dict[str, str]) -> None:
    broken = configured(database, "http://127.0.0.1:1").model_copy(update=change)
    with pytest.raises(InvalidSettingsError, match="X402_ASSETS"):
        X402Terms.from_settings(broken)


async def test_a_request_that_nothing_covers_gets_the_offer_and_a_wrong_payment_gets_it_again(
    till: Till, database: Settings
) -> None:
    async with running(create_app(configured(database, till.server.url))) as app:
        services: Services = app.state.services
        caller = Principal(
            user_id=till.shop.user_id, tenant_id=till.shop.tenant_id, roles=frozenset({Role.USER})
        )

        async def offer(amount: int, enclosed: str | None = None) -> tuple[int, str] | None:
            answer = await x402_offer(services, caller, amount, "INR", enclosed)
            if answer is None:
                return None
            required = json.loads(base64.b64decode(answer.headers["PAYMENT-REQUIRED"]))
            assert required["accepts"] == [till.terms.requirements(amount, "INR")]
            return answer.status_code, json.loads(bytes(answer.body))["error"]["code"]

        assert await offer(50) == (402, "PAYMENT_REQUIRED")
        assert await offer(50, "nonsense") == (402, "X402_PAYMENT_INVALID")
        assert await offer(50, till.enclose(51)) == (402, "X402_PAYMENT_INVALID")
        assert await offer(50, till.enclose(50)) is None
        assert await offer(201) is None, "above a micro-price x402 is not asked for"
        await till.shop.fund(50)
        assert await offer(50) is None, "the wallet covers it"
