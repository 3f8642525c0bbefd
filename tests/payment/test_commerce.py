"""The commerce API on a real Temporal server, over the wallet and over a Stripe that misbehaves."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import SecretStr
from temporalio.client import Client

from activities.services import Services, open_services
from activities.temporal.client import connect
from api.app import create_app
from cli.stack.secrets import SecretStore
from models.identifiers import new_identifier
from models.settings import Settings
from models.task_queues import TaskQueue
from tests.api.calling import client_of, running
from tests.builders import Marketplace, Person, unique
from tests.eventually import eventually
from tests.histories.record import check_history
from tests.rails.hostile import HostileServer
from tests.rails.stripe_books import StripeBooks
from worker import running_workers

WEBHOOK_SECRET = "whsec_commerce"


@dataclass
class Market:
    """Worker and API in this process, Stripe on loopback, an agent that can be paid."""

    services: Services
    temporal: Client
    people: Marketplace
    stripe: HostileServer
    books: StripeBooks
    agent_id: str
    developer: Person
    finance: Person

    async def buyer(self, *, funded: int = 0, card: str | None = None) -> Person:
        person = await self.people.person("pia", "user")
        if funded:
            await self.people.fund(person, funded)
        if card is not None:
            await self.register(person, card)
        return person

    async def register(self, person: Person, card: str) -> Any:
        customer = f"cus_{uuid.uuid4().hex}"
        self.books.customers[customer] = person.user_id
        self.books.methods[card] = customer
        body = {"rail": "stripe", "customer": customer, "method": card}
        return await person.done("POST", "/payment-methods", body)

    def intent(self, amount: int = 500, **changes: Any) -> dict[str, Any]:
        return {
            "agent_id": self.agent_id,
            "vendor": "frameos",
            "amount": amount,
            "currency": "INR",
            "description": "Agent execution",
            **changes,
        }

    async def bought(self, person: Person, amount: int = 500) -> tuple[str, str]:
        """An intent with its mandate."""
        intent = await person.done("POST", "/purchase-intents", self.intent(amount))
        mandate = await person.done("POST", "/mandates", {"intent_id": intent["intent_id"]})
        return intent["intent_id"], mandate["mandate_id"]


@pytest.fixture(scope="module")
async def market(services: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Market]:
    secrets = SecretStore(tmp_path_factory.mktemp("commerce-secrets"))
    books = StripeBooks()
    async with HostileServer(books) as stripe:
        changed = services.model_copy(
            update={
                "jwt_signing_key_file": secrets.issuer_key_file(),
                "jwt_jwks_url": "",
                "stripe_api_key": SecretStr("sk_test"),
                "stripe_api_url": stripe.url,
                "stripe_webhook_secret": SecretStr(WEBHOOK_SECRET),
            }
        )
        async with open_services(changed, name="switchyard-test-commerce") as opened:
            temporal = await connect(changed, opened.objects)
            async with (
                running_workers(opened, temporal, [TaskQueue.CORE, TaskQueue.MONEY]),
                running(create_app(changed)) as app,
                client_of(app) as client,
            ):
                people = Marketplace(client)
                developer = await people.person("dev", "developer")
                finance = await people.person("fin", "finance", tenant="platform")
                agent_id = new_identifier("agent")
                async with opened.database.platform() as connection:
                    await connection.execute(
                        "INSERT INTO agents (id, tenant_id, developer_id, slug, name, description, category, "
                        "status) VALUES (%s, %s, %s, %s, 'A', 'An agent.', 'testing', 'published')",
                        [agent_id, developer.tenant_id, developer.user_id, unique("agent")],
                    )
                yield Market(opened, temporal, people, stripe, books, agent_id, developer, finance)


async def refusal(person: Person, path: str, body: Any) -> tuple[int, str]:
    answer = await person.call("POST", path, body)
    return answer.status_code, answer.json()["error"]["code"]


async def test_a_purchase_goes_from_intent_to_receipt_over_the_wallet(market: Market) -> None:
    buyer = await market.buyer(funded=1_000)
    intent = await buyer.done("POST", "/purchase-intents", market.intent())
    assert (intent["status"], intent["rail"], intent["amount"]) == ("approved", "wallet", 500)
    mandate = await buyer.done("POST", "/mandates", {"intent_id": intent["intent_id"]})
    assert len(base64.b16decode(mandate["signature"], casefold=True)) == 64
    assert mandate["body"]["amount"] == 500
    paid = await buyer.done("POST", "/execute", {"mandate_id": mandate["mandate_id"]})
    assert (paid["status"], paid["amount"], paid["provider"]) == ("settled", 500, "wallet")
    assert (await buyer.done("GET", f"/receipts/{paid['receipt_id']}"))["body"]["payment_id"] == (
        paid["payment_id"]
    )
    assert await buyer.done("POST", "/execute", {"mandate_id": mandate["mandate_id"]}) == paid
    handle = market.temporal.get_workflow_handle(f"purchase/{intent['execution_id']}")
    await handle.result()
    await check_history(handle, "purchase/settled", market.services.settings)
    [wallet] = (await buyer.done("GET", "/wallets"))["items"]
    assert (wallet["available"], wallet["held"]) == (500, 0)


async def test_every_post_is_done_once_per_key(market: Market) -> None:
    buyer = await market.buyer(funded=1_000)
    keys = [str(uuid.uuid4()) for _ in range(3)]
    intents = await asyncio.gather(
        *(buyer.done("POST", "/purchase-intents", market.intent(), key=keys[0]) for _ in range(4))
    )
    assert len({each["intent_id"] for each in intents}) == 1
    body = {"intent_id": intents[0]["intent_id"]}
    mandates = await asyncio.gather(*(buyer.done("POST", "/mandates", body, key=keys[1]) for _ in range(3)))
    assert len({each["mandate_id"] for each in mandates}) == 1
    body = {"mandate_id": mandates[0]["mandate_id"]}
    paid = await asyncio.gather(*(buyer.done("POST", "/execute", body, key=keys[2]) for _ in range(4)))
    assert len({each["payment_id"] for each in paid}) == 1
    other = await buyer.call("POST", "/purchase-intents", market.intent(501), key=keys[0])
    assert (other.status_code, other.json()["error"]["code"]) == (409, "IDEMPOTENCY_KEY_REUSED")
    [wallet] = (await buyer.done("GET", "/wallets"))["items"]
    assert wallet["available"] == 500


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"amount": 0.5}, 400, "INVALID_REQUEST"),
        ({"amount": -1}, 400, "INVALID_REQUEST"),
        ({"amount": 0}, 400, "INVALID_REQUEST"),
        ({"amount": 2**53}, 400, "INVALID_REQUEST"),
        ({"amount": "500"}, 400, "INVALID_REQUEST"),
        ({"currency": "XXX"}, 400, "INVALID_REQUEST"),
        ({"currency": "inr"}, 400, "INVALID_REQUEST"),
        ({"unknown": 1}, 400, "INVALID_REQUEST"),
        ({"vendor": "elsewhere"}, 403, "POLICY_VENDOR_REFUSED"),
        ({"currency": "JPY"}, 403, "POLICY_CURRENCY_REFUSED"),
        ({"amount": 100_001}, 403, "POLICY_CAP_EXCEEDED"),
        ({"amount": 501}, 402, "INSUFFICIENT_FUNDS"),
        ({"agent_id": "agt_" + "0" * 32}, 404, "AGENT_NOT_FOUND"),
        ({"metadata": {"execution_id": "exec_" + "0" * 32}}, 409, "RESERVATION_MISMATCH"),
    ],
)
async def test_a_bad_intent_is_refused_with_its_code(
    market: Market, change: dict[str, Any], status: int, code: str
) -> None:
    buyer = await market.buyer(funded=500)
    assert await refusal(buyer, "/purchase-intents", market.intent(**change)) == (status, code)
    [wallet] = (await buyer.done("GET", "/wallets"))["items"]
    assert (wallet["available"], wallet["held"]) == (500, 0)


async def test_a_revoked_mandate_collects_nothing_and_a_new_one_does(market: Market) -> None:
    buyer = await market.buyer(funded=500)
    intent_id, mandate_id = await market.bought(buyer)
    revoked = await buyer.done("POST", f"/mandates/{mandate_id}/revoke")
    assert revoked["status"] == "revoked"
    assert await refusal(buyer, "/execute", {"mandate_id": mandate_id}) == (409, "MANDATE_MISSING")
    again = await buyer.done("POST", "/mandates", {"intent_id": intent_id})
    assert again["mandate_id"] != mandate_id
    assert await refusal(buyer, "/execute", {"mandate_id": mandate_id}) == (409, "MANDATE_MISSING")
    assert (await buyer.done("POST", "/execute", {"mandate_id": again["mandate_id"]}))["amount"] == 500
    assert await refusal(buyer, f"/mandates/{again['mandate_id']}/revoke", None) == (409, "MANDATE_CONSUMED")


async def test_a_foreign_intent_or_mandate_is_not_found(market: Market) -> None:
    buyer, stranger = await market.buyer(funded=500), await market.buyer(funded=500)
    intent_id, mandate_id = await market.bought(buyer)
    for path, body in (
        ("/mandates", {"intent_id": intent_id}),
        ("/execute", {"mandate_id": mandate_id}),
        (f"/mandates/{mandate_id}/revoke", None),
        (f"/purchase-intents/{intent_id}/cancel", None),
    ):
        assert await refusal(stranger, path, body) == (404, "PAYMENT_RECORD_NOT_FOUND")


async def test_a_policy_edited_between_intent_and_execute_is_obeyed_and_leaves_the_purchase_open(
    market: Market,
) -> None:
    buyer = await market.buyer(funded=500)
    finance = await market.people.person("fin", "finance", tenant=buyer.tenant_id)
    _, mandate_id = await market.bought(buyer)
    for cap, expected in ((499, 403), (500, 201)):
        rules = {"vendors": ["frameos"], "limits": {"INR": {"cap_per_transaction": cap}}}
        await finance.done("PUT", "/payment-policy", rules)
        answer = await buyer.call("POST", "/execute", {"mandate_id": mandate_id})
        assert answer.status_code == expected, answer.text
        if expected == 403:
            assert answer.json()["error"]["code"] == "POLICY_CAP_EXCEEDED"


async def test_a_cancelled_purchase_gives_the_price_back(market: Market) -> None:
    buyer = await market.buyer(funded=500)
    intent_id, mandate_id = await market.bought(buyer)
    await buyer.done("POST", f"/purchase-intents/{intent_id}/cancel")

    async def closed() -> bool:
        return (await buyer.done("GET", f"/purchase-intents/{intent_id}"))["status"] == "closed"

    await eventually(closed)
    [wallet] = (await buyer.done("GET", "/wallets"))["items"]
    assert (wallet["available"], wallet["held"]) == (500, 0)
    status, _ = await refusal(buyer, "/execute", {"mandate_id": mandate_id})
    assert status == 409
    assert (await refusal(buyer, "/mandates", {"intent_id": intent_id}))[0] == 409


async def test_a_purchase_without_a_wallet_is_held_and_collected_by_stripe(market: Market) -> None:
    card = f"pm_{uuid.uuid4().hex}"
    buyer = await market.buyer(card=card)
    market.stripe.faults = ["lose answer", "fail after"]
    intent = await buyer.done("POST", "/purchase-intents", market.intent())
    assert (intent["rail"], intent["status"]) == ("stripe", "approved")
    mandate = await buyer.done("POST", "/mandates", {"intent_id": intent["intent_id"]})
    paid = await buyer.done("POST", "/execute", {"mandate_id": mandate["mandate_id"]})
    assert (paid["provider"], paid["amount"]) == ("stripe", 500)
    captured = [
        amount for reference, amount in market.books.captures if market.books.card_of(reference) == card
    ]
    assert captured == [500]
    handle = market.temporal.get_workflow_handle(f"purchase/{intent['execution_id']}")
    await handle.result()
    await check_history(handle, "purchase/authorised", market.services.settings)


async def test_a_declined_card_refuses_the_intent(market: Market) -> None:
    buyer = await market.buyer(card="pm_declined")
    refused = await refusal(buyer, "/purchase-intents", market.intent())
    assert refused == (402, "PAYMENT_METHOD_DECLINED")
    [intent] = (await buyer.done("GET", "/purchase-intents"))["items"]
    assert (intent["status"], intent["denial_code"]) == ("denied", "PAYMENT_METHOD_DECLINED")


async def test_a_refund_over_stripe_is_asked_for_once_and_a_webhook_makes_it_look(market: Market) -> None:
    buyer = await market.buyer(card=f"pm_{uuid.uuid4().hex}")
    _, mandate_id = await market.bought(buyer)
    paid = await buyer.done("POST", "/execute", {"mandate_id": mandate_id})
    market.books.pending_refunds = True
    path = f"/payments/{paid['payment_id']}/refunds"
    asked = await market.finance.done("POST", path, {"amount": 200, "reason": "late"}, key=str(uuid.uuid4()))
    assert asked["status"] in {"requested", "sent", "unknown"}
    refused = await refusal(market.finance, path, {"amount": 301, "reason": "more"})
    assert refused == (409, "REFUND_TOO_LARGE")

    async def status() -> str:
        [shown] = await buyer.done("GET", path)
        return shown["status"]

    async def unknown() -> bool:
        return await status() == "unknown"

    await eventually(unknown)
    market.books.finish_refunds()
    raw = json.dumps(
        {
            "id": new_identifier("event"),
            "type": "refund.updated",
            "data": {"object": {"metadata": {"reference": asked["refund_id"]}}},
        }
    ).encode()
    at = int(time.time())
    signature = hmac.new(WEBHOOK_SECRET.encode(), f"{at}.".encode() + raw, hashlib.sha256).hexdigest()
    for _ in range(3):
        answer = await market.people.client.post(
            "/webhooks/rails/stripe", content=raw, headers={"Stripe-Signature": f"t={at},v1={signature}"}
        )
        assert answer.status_code == 200

    async def settled() -> bool:
        return await status() == "settled"

    await eventually(settled)
    handle = market.temporal.get_workflow_handle(f"refund/{asked['refund_id']}")
    await handle.result()
    await check_history(handle, "refund_payment/settled", market.services.settings)


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"method": "4242424242424242"}, 400, "CARD_DATA_REFUSED"),
        ({"label": "my card 4242 4242-4242 4242"}, 400, "CARD_DATA_REFUSED"),
        ({"method": "pm_nobody"}, 409, "PAYMENT_METHOD_REFUSED"),
        ({"customer": "cus_of_another"}, 409, "PAYMENT_METHOD_REFUSED"),
        ({"rail": "cashfree"}, 404, "RAIL_NOT_CONFIGURED"),
        ({"rail": "x402"}, 400, "INVALID_REQUEST"),
        ({"card_number": "1"}, 400, "INVALID_REQUEST"),
        ({"method": "pm/../x"}, 400, "INVALID_REQUEST"),
    ],
)
async def test_a_method_that_the_rail_does_not_confirm_is_not_registered(
    market: Market, change: dict[str, Any], status: int, code: str
) -> None:
    buyer = await market.buyer()
    card, customer = f"pm_{uuid.uuid4().hex}", f"cus_{uuid.uuid4().hex}"
    market.books.customers |= {customer: buyer.user_id, "cus_of_another": "usr_other"}
    market.books.methods |= {card: customer}
    body = {"rail": "stripe", "customer": customer, "method": card} | change
    assert await refusal(buyer, "/payment-methods", body) == (status, code)
    assert (await buyer.done("GET", "/payment-methods"))["items"] == []


async def test_a_method_has_one_owner_and_can_be_removed(market: Market) -> None:
    card = f"pm_{uuid.uuid4().hex}"
    buyer = await market.buyer()
    registered = await market.register(buyer, card)
    assert registered["status"] == "active"
    removed = await buyer.done("DELETE", f"/payment-methods/{registered['payment_method_id']}")
    assert removed["status"] == "removed"
    assert await refusal(buyer, "/purchase-intents", market.intent()) == (402, "INSUFFICIENT_FUNDS")
    stranger = await market.buyer()
    answer = await stranger.call("DELETE", f"/payment-methods/{registered['payment_method_id']}")
    assert answer.json()["error"]["code"] == "PAYMENT_METHOD_NOT_FOUND"


async def test_the_routing_is_read_by_all_and_written_by_the_platforms_finance(market: Market) -> None:
    buyer = await market.buyer()
    shown = await buyer.done("GET", "/payment-routing")
    assert [route["rail"] for route in shown["rules"]["routes"]][:2] == ["wallet", "x402"]
    answer = await buyer.call("PUT", "/payment-routing", shown["rules"])
    assert answer.status_code == 403
    changed = await market.finance.done("PUT", "/payment-routing", shown["rules"])
    assert changed["revision"] == shown["revision"] + 1
