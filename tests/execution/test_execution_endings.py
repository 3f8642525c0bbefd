"""The ends of an execution that no agent causes: refused before it starts, lost with the infrastructure."""

from typing import Any

from temporalio.client import Client, WorkflowHandle

from activities.temporal.client import connect
from models.search_attributes import TENANT_ID
from tests.eventually import eventually
from tests.execution.conftest import World
from tests.execution.test_execution import ECHO, balance, ended, replays, start
from tests.histories.record import check_history


async def of_tenant(client: Client, tenant_id: str) -> list[str]:
    """The ids of the tenant's executions, as Temporal's visibility store shows them."""
    query = f"{TENANT_ID.name} = '{tenant_id}' AND WorkflowType = 'AgentExecution'"
    return [found.id async for found in client.list_workflows(query)]


async def test_a_refused_purchase_ends_its_workflow_as_refused(world: World) -> None:
    poor = await world.market.person("paul", "user")
    deployment_id = await world.agent(ECHO)
    deployment = await world.user.done("GET", f"/deployments/{deployment_id}")
    own = await world.market.deploy(poor, deployment["agent_id"])
    path = f"/agents/{deployment['agent_id']}/execute"
    answer = await poor.call("POST", path, {"deployment_id": own, "inputs": {}})
    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "INSUFFICIENT_FUNDS")

    client = await connect(world.settings, world.services.objects)

    async def found() -> list[str]:
        return await of_tenant(client, poor.tenant_id)

    (workflow_id,) = await eventually(found, timeout=30)
    handle = client.get_workflow_handle(workflow_id)
    result: Any = await handle.result()
    assert result["status"] == "refused"
    await check_history(handle, "agent_execution/refused", world.settings)


async def test_a_run_whose_code_is_gone_is_lost_at_once_and_not_charged(world: World) -> None:
    before = await balance(world)
    deployment_id = await world.agent(ECHO)
    await world.services.objects.delete(await world.code_key(deployment_id))
    execution_id = await start(world, deployment_id)
    shown = await ended(world, execution_id)
    assert (shown["status"], shown["error"]["code"]) == ("failed", "INFRASTRUCTURE_LOST")
    assert await balance(world) == before
    client = await connect(world.settings, world.services.objects)
    history = await client.get_workflow_handle(f"agent-execution/{execution_id}").fetch_history()
    attempts = [event.activity_task_started_event_attributes.attempt for event in history.events]
    assert max(attempts) == 1, "no retry brings the code back"
    await replays(world, execution_id, "infrastructure_lost")


async def failures(handle: WorkflowHandle[Any, Any]) -> list[str]:
    """The codes with which activities failed that are waiting for their next attempt."""
    pending = (await handle.describe()).raw_description.pending_activities
    return [each.last_failure.application_failure_info.type for each in pending if each.attempt > 1]


async def test_an_engine_that_is_away_for_a_moment_costs_an_attempt_and_not_the_run(world: World) -> None:
    deployment_id = await world.agent(ECHO)
    client = await connect(world.settings, world.services.objects)
    with world.engine.severed():
        execution_id = await start(world, deployment_id, {"n": 1})
        handle = client.get_workflow_handle(f"agent-execution/{execution_id}")
        assert await eventually(lambda: failures(handle), timeout=30) == ["SANDBOX_UNAVAILABLE"]
    shown = await ended(world, execution_id)
    assert (shown["status"], shown["outputs"]) == ("success", {"echo": {"n": 1}})
    await replays(world, execution_id, "retried")


async def test_an_engine_that_stays_away_loses_the_run_after_three_attempts_and_nobody_pays(
    world: World,
) -> None:
    before = await balance(world)
    deployment_id = await world.agent(ECHO)
    client = await connect(world.settings, world.services.objects)
    with world.engine.severed():
        execution_id = await start(world, deployment_id)
        shown = await ended(world, execution_id)
    assert (shown["status"], shown["error"]["code"]) == ("failed", "INFRASTRUCTURE_LOST")
    history = await client.get_workflow_handle(f"agent-execution/{execution_id}").fetch_history()
    attempts = [event.activity_task_started_event_attributes.attempt for event in history.events]
    assert max(attempts) == 3
    assert await balance(world) == before
    await replays(world, execution_id, "engine_lost")
