"""A repeated request gets the first one's answer, whatever happens in between."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from uuid import uuid4

import httpx
import pytest
from fastapi import APIRouter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

import api.idempotency
from activities.records.idempotency import LEASE_SECONDS, KeyOwner, claim_key
from api.app import create_app
from api.envelope import Success, success
from api.idempotency import OnceDep, RequiredOnceDep
from api.state import Services
from models.errors import ConflictError, InsufficientFundsError, UnavailableError
from models.identifiers import Identifier
from models.settings import Settings
from tests.api.calling import TokenFor, bearer, client_of, running


@dataclass
class Workshop:
    """What the probe's routes did: the identifiers they worked under, and how they shall behave."""

    begun: list[str] = field(default_factory=list[str])
    fail_with: list[BaseException] = field(default_factory=list[BaseException])
    started: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")
    amount: int


class Made(BaseModel):
    id: Identifier
    amount: int


workshop = Workshop()
probe = APIRouter(prefix="/orders")


async def make(order: Order, subject_id: str) -> Success[Made]:
    workshop.begun.append(subject_id)
    workshop.started.set()
    await workshop.gate.wait()
    if workshop.fail_with:
        raise workshop.fail_with.pop(0)
    return success(Made(id=subject_id, amount=order.amount))


@probe.post("", status_code=201, response_model=Success[Made])
async def optional(body: Order, once: OnceDep) -> Response:
    return await once.answer("payment", lambda subject_id: make(body, subject_id))


@probe.post("/strict", status_code=201, response_model=Success[Made])
async def strict(body: Order, once: RequiredOnceDep) -> Response:
    return await once.answer("payment", lambda subject_id: make(body, subject_id))


@pytest.fixture(scope="module")
async def orders(api_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(api_settings)
    app.include_router(probe)
    async with running(app), client_of(app) as client:
        yield client


@pytest.fixture(autouse=True)
def fresh_workshop() -> Workshop:
    global workshop
    workshop = Workshop()
    workshop.gate.set()
    return workshop


@pytest.fixture
def caller(token_for: TokenFor) -> dict[str, str]:
    return bearer(token_for("ada"))


def keyed(caller: dict[str, str], key: str | None = None) -> dict[str, str]:
    return {**caller, "Idempotency-Key": key or uuid4().hex}


async def test_the_same_key_and_body_get_the_same_answer_and_do_the_work_once(
    orders: httpx.AsyncClient, caller: dict[str, str]
) -> None:
    headers = keyed(caller)
    answers = [await orders.post("/orders", headers=headers, json={"amount": 5}) for _ in range(3)]
    assert {answer.content for answer in answers} == {answers[0].content}
    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert [answer.headers.get("Idempotency-Replayed") for answer in answers] == [None, "true", "true"]
    assert len(workshop.begun) == 1


async def test_the_same_key_with_another_body_path_or_query_is_409(
    orders: httpx.AsyncClient, caller: dict[str, str]
) -> None:
    headers = keyed(caller)
    await orders.post("/orders", headers=headers, json={"amount": 5})
    for target, body in (
        ("/orders", {"amount": 6}),
        ("/orders/strict", {"amount": 5}),
        ("/orders?x=1", {"amount": 5}),
    ):
        answer = await orders.post(target, headers=headers, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "IDEMPOTENCY_KEY_REUSED")
    assert len(workshop.begun) == 1


async def test_without_a_key_every_request_is_done(orders: httpx.AsyncClient, caller: dict[str, str]) -> None:
    first = await orders.post("/orders", headers=caller, json={"amount": 5})
    second = await orders.post("/orders", headers=caller, json={"amount": 5})
    assert first.json()["data"]["id"] != second.json()["data"]["id"]


@pytest.mark.parametrize("key", [None, "", "x" * 256, "with space"])
async def test_a_missing_or_malformed_key_is_named(
    orders: httpx.AsyncClient, caller: dict[str, str], key: str | None
) -> None:
    headers = caller if key is None else {**caller, "Idempotency-Key": key}
    answer = await orders.post("/orders/strict", headers=headers, json={"amount": 5})
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["fields"][0]["field"] == "header.Idempotency-Key"


async def test_two_users_may_use_the_same_key(orders: httpx.AsyncClient, token_for: TokenFor) -> None:
    made = {
        (await orders.post("/orders", headers=keyed(bearer(token), "one"), json={"amount": 5})).json()[
            "data"
        ]["id"]
        for token in (token_for("ada"), token_for("bob"), token_for("ada", tenant_id=f"t{uuid4().hex}"))
    }
    assert len(made) == 3


async def test_a_body_that_was_refused_before_the_work_does_not_use_up_the_key(
    orders: httpx.AsyncClient, caller: dict[str, str]
) -> None:
    headers = keyed(caller)
    refused = await orders.post("/orders", headers=headers, json={"amount": "much"})
    assert refused.status_code == 400
    corrected = await orders.post("/orders", headers=headers, json={"amount": 5})
    assert corrected.status_code == 201


async def test_a_refusal_by_the_work_is_the_answer_to_every_repetition(
    orders: httpx.AsyncClient, caller: dict[str, str]
) -> None:
    workshop.fail_with.append(InsufficientFundsError("Top up.", details={"missing": 3}))
    headers = keyed(caller)
    first = await orders.post("/orders", headers=headers, json={"amount": 5})
    second = await orders.post("/orders", headers=headers, json={"amount": 5})
    assert first.status_code == second.status_code == 402
    assert first.content == second.content
    assert len(workshop.begun) == 1


@pytest.mark.parametrize("failure", [UnavailableError("Away."), RuntimeError("bug")])
async def test_a_passing_failure_frees_the_key_and_keeps_the_identifier(
    orders: httpx.AsyncClient, caller: dict[str, str], failure: Exception
) -> None:
    workshop.fail_with.append(failure)
    headers = keyed(caller)
    first = await orders.post("/orders", headers=headers, json={"amount": 5})
    assert first.status_code >= 500
    second = await orders.post("/orders", headers=headers, json={"amount": 5})
    assert second.status_code == 201
    assert workshop.begun == [second.json()["data"]["id"]] * 2
    third = await orders.post("/orders", headers=headers, json={"amount": 5})
    assert third.content == second.content


async def test_duplicates_that_arrive_together_wait_for_the_one_answer(
    orders: httpx.AsyncClient, caller: dict[str, str]
) -> None:
    workshop.gate.clear()
    headers = keyed(caller)
    requests = [
        asyncio.create_task(orders.post("/orders", headers=headers, json={"amount": 5})) for _ in range(8)
    ]
    await workshop.started.wait()
    workshop.gate.set()
    answers = await asyncio.gather(*requests)
    assert {answer.content for answer in answers} == {answers[0].content}
    assert {answer.status_code for answer in answers} == {201}
    assert len(workshop.begun) == 1


async def test_a_duplicate_of_a_slow_request_is_told_when_to_come_back(
    orders: httpx.AsyncClient, caller: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.idempotency, "WAIT_SECONDS", 0.1)
    workshop.gate.clear()
    headers = keyed(caller)
    first = asyncio.create_task(orders.post("/orders", headers=headers, json={"amount": 5}))
    await workshop.started.wait()
    duplicate = await orders.post("/orders", headers=headers, json={"amount": 5})
    assert (duplicate.status_code, duplicate.json()["error"]["code"]) == (409, "IDEMPOTENCY_IN_PROGRESS")
    assert duplicate.headers["Retry-After"] == "1"
    other = await orders.post("/orders", headers=headers, json={"amount": 6})
    assert other.json()["error"]["code"] == "IDEMPOTENCY_KEY_REUSED"
    workshop.gate.set()
    assert (await first).status_code == 201
    assert (await orders.post("/orders", headers=headers, json={"amount": 5})).content == (
        await first
    ).content


async def test_a_retry_after_a_crash_works_under_the_same_identifier(
    orders: httpx.AsyncClient, caller: dict[str, str], app_services: Services, tenant: str
) -> None:
    workshop.gate.clear()
    headers = keyed(caller)
    crashed = asyncio.create_task(orders.post("/orders", headers=headers, json={"amount": 5}))
    await workshop.started.wait()
    crashed.cancel()
    await asyncio.gather(crashed, return_exceptions=True)
    workshop.gate.set()
    async with app_services.database.tenant(tenant) as connection:
        await connection.execute(
            "UPDATE idempotency_records SET created_at = now() - make_interval(secs => %s)",
            [LEASE_SECONDS + 1],
        )
    answer = await orders.post("/orders", headers=headers, json={"amount": 5})
    assert answer.status_code == 201
    assert workshop.begun == [answer.json()["data"]["id"]] * 2


async def test_a_long_request_keeps_its_claim_alive(
    orders: httpx.AsyncClient,
    caller: dict[str, str],
    app_services: Services,
    tenant: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(api.idempotency, "LEASE_SECONDS", 0.15)
    workshop.gate.clear()
    running_request = asyncio.create_task(orders.post("/orders", headers=keyed(caller), json={"amount": 5}))
    first = last = None
    async with asyncio.timeout(10):
        while first is None or last == first:
            async with app_services.database.tenant(tenant) as connection:
                row = await (
                    await connection.execute("SELECT created_at FROM idempotency_records")
                ).fetchone()
            last = row and row["created_at"]
            first = first or last
            await asyncio.sleep(0.02)
    workshop.gate.set()
    assert (await running_request).status_code == 201


async def test_who_was_thought_dead_returns_the_answer_of_who_took_over(
    orders: httpx.AsyncClient, caller: dict[str, str], app_services: Services, tenant: str
) -> None:
    workshop.gate.clear()
    headers = keyed(caller)
    slow = asyncio.create_task(orders.post("/orders", headers=headers, json={"amount": 5}))
    await workshop.started.wait()
    async with app_services.database.tenant(tenant) as connection:
        await connection.execute("UPDATE idempotency_records SET created_at = now() - interval '1 hour'")
    workshop.gate.set()
    quick = await orders.post("/orders", headers=headers, json={"amount": 5})
    assert (await slow).content == quick.content
    assert len(set(workshop.begun)) == 1


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    attempts=st.lists(st.sampled_from(["ok", "unavailable", "refused"]), min_size=1, max_size=4),
    parallel=st.integers(1, 5),
)
async def test_whatever_fails_a_key_has_one_identifier_and_one_final_answer(
    orders: httpx.AsyncClient, caller: dict[str, str], attempts: list[str], parallel: int
) -> None:
    global workshop
    workshop = Workshop()
    workshop.gate.set()
    for attempt in attempts:
        if attempt == "unavailable":
            workshop.fail_with.append(UnavailableError("Away."))
        elif attempt == "refused":
            workshop.fail_with.append(ConflictError("Never."))
    headers = keyed(caller)
    finals: set[bytes] = set()
    for _ in range(len(attempts) + 1):
        answers = await asyncio.gather(
            *(orders.post("/orders", headers=headers, json={"amount": 5}) for _ in range(parallel))
        )
        finals |= {answer.content for answer in answers if answer.status_code < 500}
    assert len(finals) == 1
    assert len(set(workshop.begun)) == 1


async def test_only_one_of_many_processes_gets_a_free_key(app_services: Services, tenant: str) -> None:
    owner = KeyOwner(tenant, "usr_x", "race")

    async def claim(number: int) -> bool:
        async with app_services.database.tenant(tenant) as connection:
            record = await claim_key(
                connection, owner, operation="POST /x", request_hash=b"h", subject_id=f"pay_{number}"
            )
            return record is not None

    assert sum(await asyncio.gather(*(claim(number) for number in range(12)))) == 1
