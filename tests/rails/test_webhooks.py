"""Webhooks: only what the rail signed just now is taken, each event once, and as a hint."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from activities.rails.webhooks import read_hint, verify_cashfree, verify_stripe
from activities.records.database import Database
from api.app import create_app
from models.identifiers import new_identifier
from models.rail import RailName, WebhookSignatureError
from models.settings import Settings
from tests.api.calling import client_of, running

SECRET = "whsec_1"


def stripe_signature(raw: bytes, at: int, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), f"{at}.".encode() + raw, hashlib.sha256).hexdigest()


def cashfree_signature(raw: bytes, at: str, secret: str = SECRET) -> str:
    return base64.b64encode(hmac.new(secret.encode(), at.encode() + raw, hashlib.sha256).digest()).decode()


def event(**facts: Any) -> bytes:
    return json.dumps({"id": new_identifier("event"), "type": "transfer.paid"} | facts).encode()


def test_a_signature_of_now_is_accepted_also_among_others_during_rotation() -> None:
    good = stripe_signature(b"{}", 1_000)
    verify_stripe(b"{}", f"t=1000,v1={good}", SECRET, 1_299.0)
    verify_stripe(b"{}", f"t=1000,v1={'0' * 64},v1={good},v0=x", SECRET, 701.0)


@pytest.mark.parametrize("header", ["", "t=1000", "v1=00", "t=x,v1=00", "t=1000,t=1000,v1=00", "t=1000,v1=é"])
def test_a_header_that_is_none_is_refused(header: str) -> None:
    with pytest.raises(WebhookSignatureError):
        verify_stripe(b"{}", header, SECRET, 1_000.0)


@pytest.mark.parametrize("now", [1_301.0, 698.0])
def test_a_replay_after_five_minutes_is_refused(now: float) -> None:
    with pytest.raises(WebhookSignatureError):
        verify_stripe(b"{}", f"t=1000,v1={stripe_signature(b'{}', 1_000)}", SECRET, now)
    with pytest.raises(WebhookSignatureError):
        verify_cashfree(b"{}", cashfree_signature(b"{}", "1000000"), "1000000", SECRET, now)


@given(st.binary(min_size=1, max_size=60), st.data())
def test_any_changed_bit_of_the_body_is_refused(raw: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(raw) * 8 - 1))
    changed = bytearray(raw)
    changed[position // 8] ^= 1 << position % 8
    with pytest.raises(WebhookSignatureError):
        verify_stripe(bytes(changed), f"t=1000,v1={stripe_signature(raw, 1_000)}", SECRET, 1_000.0)
    with pytest.raises(WebhookSignatureError):
        verify_cashfree(bytes(changed), cashfree_signature(raw, "1000000"), "1000000", SECRET, 1_000.0)
    verify_cashfree(raw, cashfree_signature(raw, "1000000"), "1000000", SECRET, 1_000.0)


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.text(), st.lists, max_leaves=5).map(
        lambda value: json.dumps({"id": value, "type": value, "data": value}).encode()
    )
)
def test_a_body_of_any_kind_is_read_without_failing(raw: bytes) -> None:
    for rail in (RailName.STRIPE, RailName.CASHFREE):
        assert read_hint(rail, raw).event_id


def test_references_are_found_where_each_rail_puts_them() -> None:
    stripe = event(data={"object": {"metadata": {"reference": "hold_1"}}})
    assert read_hint(RailName.STRIPE, stripe).reference == "hold_1"
    assert read_hint(RailName.CASHFREE, event(data={"order": {"order_id": "hold_2"}})).reference == "hold_2"
    assert read_hint(RailName.CASHFREE, event(data={"transfer_id": "po_3"})).reference == "po_3"
    assert read_hint(RailName.STRIPE, event()).reference is None


@pytest.fixture
async def store(database: Settings) -> AsyncIterator[Database]:
    async with Database(
        database.database_url.get_secret_value(), database.database_platform_url.get_secret_value()
    ) as opened:
        yield opened


@pytest.fixture
async def api(database: Settings) -> AsyncIterator[httpx.AsyncClient]:
    settings = database.model_copy(
        update={"stripe_webhook_secret": SecretStr(SECRET), "cashfree_client_secret": SecretStr(SECRET)}
    )
    async with running(create_app(settings)) as app, client_of(app) as client:
        yield client


async def inbox(store: Database, event_id: str) -> list[dict[str, Any]]:
    async with store.platform() as connection:
        cursor = await connection.execute("SELECT * FROM rail_webhooks WHERE event_id = %s", [event_id])
        return list(await cursor.fetchall())


async def test_an_event_is_kept_once_and_parked_while_its_reference_is_unknown(
    api: httpx.AsyncClient, store: Database
) -> None:
    raw = event(data={"object": {"metadata": {"reference": "po_nobody"}}})
    at = int(time.time())
    headers = {
        "Stripe-Signature": f"t={at},v1={stripe_signature(raw, at)}",
        "Content-Type": "application/json",
    }
    for _ in range(3):
        assert (await api.post("/webhooks/rails/stripe", content=raw, headers=headers)).status_code == 200
    [row] = await inbox(store, json.loads(raw)["id"])
    assert (row["reference"], row["handled_at"]) == ("po_nobody", None)


async def test_cashfree_is_verified_over_the_bytes_as_they_came(
    api: httpx.AsyncClient, store: Database
) -> None:
    raw = b'{ "type":"TRANSFER_SUCCESS",  "data":{"transfer_id":"po_%s", "amount": 1.10} }' % (
        new_identifier("event").encode()
    )
    at = str(int(time.time() * 1_000))
    headers = {
        "x-webhook-signature": cashfree_signature(raw, at),
        "x-webhook-timestamp": at,
        "Content-Type": "application/json",
    }
    assert (await api.post("/webhooks/rails/cashfree", content=raw, headers=headers)).status_code == 200
    assert len(await inbox(store, hashlib.sha256(raw).hexdigest())) == 1


@pytest.mark.parametrize("rail", ["stripe", "cashfree"])
async def test_a_forged_event_is_refused_with_its_code(api: httpx.AsyncClient, rail: str) -> None:
    at = int(time.time())
    headers = {
        "Stripe-Signature": f"t={at},v1={'0' * 64}",
        "x-webhook-signature": "AAAA",
        "x-webhook-timestamp": str(at * 1_000),
        "Content-Type": "application/json",
    }
    answer = await api.post(f"/webhooks/rails/{rail}", content=b"{}", headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "WEBHOOK_SIGNATURE_INVALID"


async def test_without_a_secret_there_is_no_such_rail(database: Settings) -> None:
    async with running(create_app(database)) as app, client_of(app) as client:
        answer = await client.post("/webhooks/rails/stripe", content=b"{}")
    assert answer.json()["error"]["code"] == "RAIL_NOT_CONFIGURED"
