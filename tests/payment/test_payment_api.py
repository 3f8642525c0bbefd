"""Wallets, ledger, receipts and payments through the API, as their owners and as others."""

import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from activities.receipts import verify_export
from activities.signing import Verifier
from api.app import create_app
from api.issuer_key import IssuerKey
from cli.stack.secrets import SecretStore
from models.identity import Role
from models.payment import Party
from models.settings import Settings
from tests.api.calling import client_of, running
from tests.payment.shop import Shop


@pytest.fixture(scope="session")
def api_settings(database: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    secrets = SecretStore(tmp_path_factory.mktemp("payment-api"))
    return database.model_copy(
        update={
            "jwt_signing_key_file": secrets.issuer_key_file(),
            "jwt_jwks_url": "",
            "signing_key_dir": secrets.signing_key_dir(),
        }
    )


@pytest.fixture(scope="session")
async def api(api_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with running(create_app(api_settings)) as app, client_of(app) as client:
        yield client


@dataclass
class Person:
    """Somebody who calls the API."""

    api: httpx.AsyncClient
    token: str
    user_id: str
    tenant_id: str

    async def call(self, method: str, path: str, body: Any = None, key: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        return await self.api.request(method, path, json=body, headers=headers)

    async def data(self, method: str, path: str, body: Any = None, key: str | None = None) -> Any:
        answer = await self.call(method, path, body, key)
        assert answer.status_code < 300, answer.text
        return answer.json()["data"]

    async def refusal(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        answer = await self.call(method, path, body)
        return answer.status_code, answer.json()["error"]["code"]


class People:
    """Logs people in."""

    def __init__(self, api: httpx.AsyncClient, settings: Settings) -> None:
        key = IssuerKey.from_settings(settings)
        assert key is not None
        self._api, self._settings, self._key = api, settings, key

    async def person(self, *roles: Role, tenant_id: str | None = None) -> Person:
        tenant = tenant_id or f"tenant-{uuid.uuid4().hex[:12]}"
        token = self._key.issue(
            issuer=self._settings.jwt_issuer,
            audience=self._settings.jwt_audience,
            name=f"person-{uuid.uuid4().hex[:8]}",
            tenant_id=tenant,
            roles=roles or (Role.USER,),
            lifetime_seconds=600,
        )
        someone = Person(self._api, token, "", tenant)
        me = await someone.data("GET", "/me")
        someone.user_id = me["user_id"]
        return someone


@pytest.fixture
def people(api: httpx.AsyncClient, api_settings: Settings) -> People:
    return People(api, api_settings)


async def funded(person: Person, amount: int) -> str:
    wallet = await person.data("POST", "/wallets", {"currency": "INR"})
    path = f"/wallets/{wallet['wallet_id']}/top-ups"
    await person.data("POST", path, {"amount": amount}, key=str(uuid.uuid4()))
    return wallet["wallet_id"]


def shop_of(shop: Shop, person: Person, developer: Person | None = None) -> Shop:
    """The core, buying as this person."""
    bought = Shop(shop.store, shop.signer, shop.rails, tenant_id=person.tenant_id, user_id=person.user_id)
    if developer is not None:
        bought.developer = Party(user_id=developer.user_id, tenant_id=developer.tenant_id)
    return bought


async def test_a_wallet_is_opened_topped_up_and_read(people: People) -> None:
    user = await people.person()
    wallet = await user.data("POST", "/wallets", {"currency": "INR"})
    again = await user.data("POST", "/wallets", {})
    assert again["wallet_id"] == wallet["wallet_id"]
    path = f"/wallets/{wallet['wallet_id']}"
    topped = await user.data("POST", f"{path}/top-ups", {"amount": 500, "currency": "INR"}, key="k1")
    assert topped["top_up_id"].startswith("topup_")
    assert topped["wallet"]["available"] == 500
    assert await user.data("POST", f"{path}/top-ups", {"amount": 500, "currency": "INR"}, key="k1") == topped
    read = await user.data("GET", path)
    assert (read["available"], read["held"], read["exponent"]) == (500, 0, 2)
    listed = await user.data("GET", "/wallets")
    assert [each["wallet_id"] for each in listed["items"]] == [wallet["wallet_id"]]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"amount": 0}, "INVALID_REQUEST"),
        ({"amount": -5}, "INVALID_REQUEST"),
        ({"amount": 1.5}, "INVALID_REQUEST"),
        ({"amount": 5.0}, "INVALID_REQUEST"),
        ({"amount": "5"}, "INVALID_REQUEST"),
        ({"amount": True}, "INVALID_REQUEST"),
        ({"amount": 2**53}, "INVALID_REQUEST"),
        ({"amount": 5, "currency": "XXX"}, "INVALID_REQUEST"),
        ({"amount": 5, "unknown": 1}, "INVALID_REQUEST"),
        ({}, "INVALID_REQUEST"),
        ({"amount": 5, "currency": "USD"}, "WALLET_CURRENCY_MISMATCH"),
    ],
)
async def test_a_malformed_top_up_is_refused(people: People, body: dict[str, Any], code: str) -> None:
    user = await people.person()
    wallet = await user.data("POST", "/wallets", {})
    assert await user.refusal("POST", f"/wallets/{wallet['wallet_id']}/top-ups", body) == (400, code)


async def test_a_top_up_key_with_another_body_is_a_conflict(people: People) -> None:
    user = await people.person()
    path = f"/wallets/{await funded(user, 5)}/top-ups"
    await user.data("POST", path, {"amount": 5}, key="same")
    answer = await user.call("POST", path, {"amount": 6}, key="same")
    assert answer.status_code == 409
    assert (await user.data("GET", "/wallets"))["items"][0]["available"] == 10


async def test_a_wallet_is_nobody_elses(people: People) -> None:
    user = await people.person()
    wallet_id = await funded(user, 50)
    colleague = await people.person(tenant_id=user.tenant_id)
    stranger = await people.person(Role.ADMIN)
    for other in (colleague, stranger):
        assert await other.refusal("GET", f"/wallets/{wallet_id}") == (404, "WALLET_NOT_FOUND")
        refused = await other.refusal("POST", f"/wallets/{wallet_id}/top-ups", {"amount": 5})
        assert refused == (404, "WALLET_NOT_FOUND")
        assert await other.refusal("GET", f"/ledger/accounts/{wallet_id}") == (404, "ACCOUNT_NOT_FOUND")
        postings = await other.refusal("GET", f"/ledger/accounts/{wallet_id}/postings")
        assert postings == (404, "ACCOUNT_NOT_FOUND")
    finance = await people.person(Role.FINANCE, tenant_id=user.tenant_id)
    assert (await finance.data("GET", f"/wallets/{wallet_id}"))["available"] == 50


async def test_a_payment_is_seen_from_every_side(people: People, shop: Shop) -> None:
    user, developer = await people.person(), await people.person(Role.DEVELOPER)
    wallet_id = await funded(user, 200)
    buyer = shop_of(shop, user, developer)
    execution_id = await buyer.executed(50)
    outcome = await buyer.settle(execution_id)

    [payment] = (await user.data("GET", "/payments"))["items"]
    assert (payment["payment_id"], payment["receipt_id"]) == (outcome.payment_id, outcome.receipt_id)
    assert (payment["amount"], payment["status"], payment["provider"]) == (50, "settled", "wallet")
    assert await user.data("GET", f"/payments/{outcome.payment_id}") == payment
    receipt = await user.data("GET", f"/receipts/{outcome.receipt_id}")
    assert (receipt["chain_index"], receipt["body"]["execution_id"]) == (1, execution_id)
    intent = await user.data("GET", f"/purchase-intents/{payment['intent_id']}")
    assert (intent["status"], intent["amount"]) == ("closed", 50)
    mandate = await user.data("GET", f"/mandates/{payment['mandate_id']}")
    assert (mandate["status"], mandate["body"]["execution_id"]) == ("consumed", execution_id)
    postings = await user.data("GET", f"/ledger/accounts/{wallet_id}/postings?limit=1")
    assert postings["items"][0]["amount"] == -50
    older = await user.data(
        "GET", f"/ledger/accounts/{wallet_id}/postings?limit=1&cursor={postings['next_cursor']}"
    )
    assert (older["items"][0]["amount"], older["next_cursor"]) == (200, None)

    earnings = await developer.data("GET", "/earnings")
    (total,) = earnings["totals"]
    assert (total["currency"], total["executions"], total["pending"], total["payable"]) == ("INR", 1, 35, 35)
    assert earnings["agents"][0]["agent_id"] == buyer.agent_id
    accounts = (await developer.data("GET", "/ledger/accounts"))["items"]
    assert [(each["kind"], each["balance"]) for each in accounts] == [("developer_payable", 35)]
    for path in ("payments/" + str(outcome.payment_id), "receipts/" + str(outcome.receipt_id)):
        assert (await developer.call("GET", f"/{path}")).status_code == 404
    for path in (f"purchase-intents/{payment['intent_id']}", f"mandates/{payment['mandate_id']}"):
        assert (await developer.call("GET", f"/{path}")).status_code == 404
    colleague = await people.person(tenant_id=user.tenant_id)
    for path in (f"payments/{outcome.payment_id}", f"receipts/{outcome.receipt_id}"):
        assert (await colleague.call("GET", f"/{path}")).status_code == 404


async def test_lists_come_in_pages(people: People, shop: Shop) -> None:
    user = await people.person()
    await funded(user, 200)
    buyer = shop_of(shop, user)
    for _ in range(3):
        await buyer.settle(await buyer.executed(5))
    for path in ("/receipts", "/payments", "/purchase-intents"):
        seen: list[str] = []
        cursor = ""
        while True:
            page = await user.data("GET", f"{path}?limit=2{cursor}")
            seen += [json.dumps(item, sort_keys=True) for item in page["items"]]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        assert len(seen) == len(set(seen)) == 3


async def test_an_export_verifies_with_the_published_keys(
    people: People, shop: Shop, api: httpx.AsyncClient, api_settings: Settings
) -> None:
    from activities.signing import Signer

    user = await people.person()
    await funded(user, 200)
    buyer = shop_of(shop, user)
    buyer.signer = Signer.from_settings(api_settings)
    for _ in range(2):
        await buyer.settle(await buyer.executed(5))
    exported = await user.call("GET", "/receipts/export")
    assert exported.headers["content-type"].startswith("application/x-ndjson")
    keys = await api.get("/receipts/keys")
    result = verify_export(exported.content.splitlines(keepends=True), Verifier.from_jwks(keys.content))
    assert (result.receipts, result.readable, result.charged) == (2, 2, {"INR": 10})


async def test_finance_writes_the_policy_and_users_read_it(people: People) -> None:
    finance = await people.person(Role.FINANCE)
    user = await people.person(tenant_id=finance.tenant_id)
    before = await user.data("GET", "/payment-policy")
    assert before["rules"]["vendors"] == ["frameos"]
    rules = {"vendors": ["frameos", "acme"], "limits": {"INR": {"cap_per_transaction": 10}}}
    assert (await user.call("PUT", "/payment-policy", rules)).status_code == 403
    after = await finance.data("PUT", "/payment-policy", rules)
    assert after["revision"] == before["revision"] + 1
    shown = (await user.data("GET", "/payment-policy"))["rules"]
    assert {name: value for name, value in shown["limits"]["INR"].items() if value is not None} == {
        "cap_per_transaction": 10
    }
    assert shown["hours"] is None
    for wrong in (
        {"vendors": ["A B"], "limits": {}},
        {"vendors": [], "limits": {"XXX": {}}},
        {"vendors": [], "limits": {"INR": {"cap_per_transaction": 0.5}}},
        {"vendors": []},
    ):
        assert await finance.refusal("PUT", "/payment-policy", wrong) == (400, "INVALID_REQUEST")


async def test_nothing_is_read_without_credentials(api: httpx.AsyncClient) -> None:
    for path in ("/wallets", "/ledger/accounts", "/receipts", "/receipts/export", "/payments", "/earnings"):
        assert (await api.get(path)).status_code == 401


@pytest.mark.parametrize("setting", ["wallet_top_ups", "local_login"])
async def test_what_only_an_embedded_stack_allows_is_off_unless_it_is_set(
    api_settings: Settings, people: People, setting: str
) -> None:
    assert Settings.model_fields[setting].default is False
    user = await people.person()
    wallet_id = await funded(user, 5)
    closed = api_settings.model_copy(update={setting: False})
    async with running(create_app(closed)) as app, client_of(app) as client:
        elsewhere = Person(client, user.token, user.user_id, user.tenant_id)
        if setting == "wallet_top_ups":
            refused = await elsewhere.refusal("POST", f"/wallets/{wallet_id}/top-ups", {"amount": 5})
            assert refused == (403, "TOP_UPS_DISABLED")
        else:
            refused = await elsewhere.refusal("POST", "/login", {"name": "ada"})
            assert refused == (404, "ISSUER_DISABLED")
