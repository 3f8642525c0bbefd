"""The monitoring API: the document's fields, the tenant's own figures, parts that are down."""

from typing import Any

import httpx
import pytest

from activities.records.database import Database
from activities.storage import ObjectStore
from activities.telemetry.health import check_health
from activities.temporal.client import connect
from cli.stack.ports import free_ports
from models.event import EventType, NewEvent
from models.identifiers import new_identifier
from models.run import RunKind, RunStatus
from models.settings import Settings
from tests.api.calling import TokenFor, bearer
from tests.monitoring.conftest import Measured, Story

Read = Any


@pytest.fixture
def read(web: httpx.AsyncClient, token: TokenFor) -> Read:
    async def get(tenant: str, path: str) -> Any:
        answer = await web.get(f"/api/monitoring/{path}", headers=bearer(token(tenant)))
        assert answer.status_code == 200, answer.text
        return answer.json()

    return get


def flow_of(definition: str) -> list[NewEvent]:
    step = {"element": "classify", "key": 7, "kind": "serviceTask"}
    return [
        NewEvent(type=EventType.FLOW_STARTED, key="flow", data={"definition_id": definition}),
        NewEvent(type=EventType.TASK_DISPATCHED, key="sent", data=step),
        NewEvent(type=EventType.TASK_STARTED, key="begun", data=step),
        NewEvent(type=EventType.TASK_COMPLETED, key="done", data={**step, "duration_ms": 4000}),
        NewEvent(type=EventType.APPROVAL_CREATED, key="asked", data={"approvalId": "apr_1"}),
    ]


async def test_the_dashboard_counts_flows_and_every_other_kind_apart(
    story: Story, measured: Measured, read: Read
) -> None:
    tenant = new_identifier("tenant")
    await story(tenant, RunKind.FLOW, "incident", flow_of("flow_1"))
    await story(tenant, RunKind.FLOW, "incident", ends=RunStatus.SUCCEEDED)
    await story(tenant, RunKind.FLOW, "incident", ends=RunStatus.FAILED)
    await story(tenant, RunKind.AGENT_EXECUTION, "coupons", ends=RunStatus.SUCCEEDED)
    await measured()
    found = await read(tenant, "dashboard")
    assert found["activeFlows"] == 1
    assert (found["completedToday"], found["failedToday"], found["pendingApprovals"]) == (1, 1, 1)
    assert isinstance(found["avgDuration"], int)
    kinds = {entry["kind"]: entry for entry in found["byKind"]}
    assert kinds["agent_execution"]["completedToday"] == 1
    assert kinds["flow"]["active"] == 1


async def test_another_tenant_sees_none_of_it(story: Story, measured: Measured, read: Read) -> None:
    tenant = new_identifier("tenant")
    await story(tenant, RunKind.FLOW, "incident", flow_of("flow_shared"), ends=RunStatus.SUCCEEDED)
    await measured()
    other = new_identifier("tenant")
    assert (await read(other, "dashboard"))["byKind"] == []
    assert (await read(other, "flows/flow_shared/analytics"))["instances"] == 0
    assert (await read(other, "costs"))["total"] == []


async def test_an_agents_metrics_name_its_errors_and_its_cost(
    story: Story, measured: Measured, read: Read
) -> None:
    tenant = new_identifier("tenant")
    paid = NewEvent(type=EventType.PAYMENT_SETTLED, key="paid", data={"amount": 50, "currency": "INR"})
    await story(tenant, RunKind.AGENT_EXECUTION, "coupons", [paid], ends=RunStatus.SUCCEEDED)
    failed = NewEvent(type=EventType.RUN_FAILED, key="ended", data={"code": "TIMEOUT"})
    await story(tenant, RunKind.AGENT_EXECUTION, "coupons", ends=RunStatus.FAILED, ending=[failed])
    called = {"agent": "coupons", "model": "m-1", "input_tokens": 10, "output_tokens": 2, "cost_usd": "0.25"}
    said = NewEvent(type=EventType.AGENT_COMPLETED, key="said", data=called)
    await story(tenant, RunKind.AGENT_TASK, "coupons", [said], ends=RunStatus.SUCCEEDED)
    await measured()
    found = await read(tenant, "agents/coupons/metrics?period=24h")
    assert (found["invocations"], found["completed"], found["failed"]) == (3, 2, 1)
    assert found["successRate"] == 0.6667
    assert found["topErrors"] == [{"code": "TIMEOUT", "count": 1}]
    assert found["tokens"] == [{"model": "m-1", "input": 10, "output": 2}]
    assert found["avgCost"] == [
        {"currency": "INR", "amount": "0.166666666"},
        {"currency": "USD", "amount": "0.083333333"},
    ]
    costs = await read(tenant, "costs?period=30d&groupBy=agent")
    assert costs["total"] == [
        {"currency": "INR", "amount": "0.500000000"},
        {"currency": "USD", "amount": "0.250000000"},
    ]
    assert costs["byTenant"][0]["name"] == tenant
    assert {entry["name"] for entry in costs["byModel"]} == {"", "m-1"}


async def test_a_flows_bottleneck_is_the_element_that_takes_the_time(
    story: Story, measured: Measured, read: Read
) -> None:
    tenant, definition = new_identifier("tenant"), new_identifier("process_definition")
    quick = {"element": "log", "key": 8, "duration_ms": 1}
    events = [*flow_of(definition), NewEvent(type=EventType.TASK_COMPLETED, key="quick", data=quick)]
    for _ in range(2):
        await story(tenant, RunKind.FLOW, "incident", events, ends=RunStatus.SUCCEEDED)
    await measured()
    found = await read(tenant, f"flows/{definition}/analytics?period=7d")
    assert (found["instances"], found["completed"], found["completionRate"]) == (2, 2, 1.0)
    first = found["bottlenecks"][0]
    assert (first["elementId"], first["elementType"], first["count"]) == ("classify", "serviceTask", 2)
    assert first["avgDuration"] == 4000
    assert abs(first["p95"] - 4000) < 200
    assert first["share"] > 0.99


@pytest.mark.parametrize("period", ["yesterday", "0d", "99h", "7d%00"])
async def test_a_period_that_cannot_be_read_is_refused(
    web: httpx.AsyncClient, token: TokenFor, period: str
) -> None:
    answer = await web.get(f"/api/monitoring/costs?period={period}", headers=bearer(token("t")))
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] in {"INVALID_PERIOD", "INVALID_REQUEST"}


async def test_health_names_every_part_and_queue(read: Read) -> None:
    found = await read(new_identifier("tenant"), "health")
    assert found["services"]["orchestrator"] == "healthy"
    assert found["services"]["stateStore"] == "healthy"
    assert found["services"]["objectStore"] == "healthy"
    assert {"core", "sandbox", "llm", "money"} == set(found["queues"])
    assert found["connections"]["databaseUsed"] >= 1
    assert found["events"]["publisherLagSeconds"] >= 0


async def test_a_part_that_is_away_is_down_and_the_rest_is_still_told(services: Settings) -> None:
    nowhere = free_ports(1)[0]
    away = services.model_copy(update={"s3_endpoint_url": f"http://127.0.0.1:{nowhere}"})
    objects = ObjectStore(away)
    client = await connect(services, objects, lazy=True)
    async with Database(
        services.database_url.get_secret_value(), services.database_platform_url.get_secret_value()
    ) as database:
        found = await check_health(database, client, objects, streams=0)
    assert found.services["objectStore"] == "down"
    assert found.services["stateStore"] == "healthy"
    assert found.status == "down"
