"""Agents that work for a task of a process: paid executions that report back."""

import json
from typing import Any

from tests.bpmn.builders import bpmn, flows
from tests.eventually import eventually
from tests.execution.conftest import World

ECHO = "import json, sys\nprint(json.dumps({'answer': json.load(sys.stdin)['question'] + '!'}))\n"
API = "/api/orchestrator"


async def started(world: World, slug: str) -> str:
    file = bpmn(
        f'<serviceTask id="ask" sy:taskType="agent:{slug}"/>'
        '<boundaryEvent id="failed" attachedToRef="ask"><errorEventDefinition/></boundaryEvent>'
        '<endEvent id="sorry"/>',
        flows("s>ask>e", "failed>sorry"),
        name=f"ask-{slug}",
    )
    deployed = await world.user.call("POST", f"{API}/deploy", {"bpmnXml": file.decode()})
    body = {"definitionId": deployed.json()["definitionId"], "variables": {"question": "why"}}
    answer = await world.user.call("POST", f"{API}/instances", body)
    assert answer.status_code == 201, answer.text
    return answer.json()["instanceId"]


async def ended(world: World, instance: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        shown = (await world.user.call("GET", f"{API}/instances/{instance}")).json()
        return shown if shown["status"] != "running" else None

    return await eventually(look, timeout=60)


async def slug_of(world: World, deployment: str) -> str:
    async with world.services.database.platform() as connection:
        cursor = await connection.execute(
            "SELECT a.slug FROM agents a JOIN agent_deployments d ON d.agent_id = a.id WHERE d.id = %s",
            [deployment],
        )
        row = await cursor.fetchone()
    assert row is not None
    return row["slug"]


async def test_an_agent_answers_a_task_and_is_paid(world: World) -> None:
    slug = await slug_of(world, await world.agent(ECHO))
    instance = await started(world, slug)
    shown = await ended(world, instance)
    assert (shown["status"], shown["variables"]["answer"]) == ("completed", "why!"), json.dumps(shown)
    executions = await world.user.done("GET", "/executions?limit=1")
    assert executions["items"][0]["status"] == "success"
    assert executions["items"][0]["payment"]["receipt_id"]
    tasks = (await world.user.call("GET", f"{API}/tasks?instanceId={instance}")).json()["tasks"]
    assert [(task["agentSlug"], task["status"]) for task in tasks] == [(slug, "completed")]


async def test_a_failed_agent_is_an_error_that_the_process_catches(world: World) -> None:
    slug = await slug_of(world, await world.agent("raise SystemExit(3)\n"))
    shown = await ended(world, await started(world, slug))
    assert shown["status"] == "completed"
    assert "answer" not in shown["variables"]
