"""A paid run, from the request to the receipt: what succeeds is charged once, what fails is not charged."""

import asyncio
import uuid
from typing import Any

import pytest

from activities.temporal.client import connect
from models.identifiers import new_identifier
from tests.eventually import eventually
from tests.execution.conftest import World
from tests.histories.record import check_history

ECHO = "import json, sys; print(json.dumps({'echo': json.load(sys.stdin)}))"
ENDED = {"success", "failed", "cancelled"}


async def start(world: World, deployment_id: str, inputs: Any = None, **more: Any) -> str:
    deployment = await world.user.done("GET", f"/deployments/{deployment_id}")
    body = {"deployment_id": deployment_id, "inputs": inputs or {}, **more}
    data = await world.user.done("POST", f"/agents/{deployment['agent_id']}/execute", body)
    assert data["status"] == "queued"
    assert data["poll_url"] == f"/executions/{data['execution_id']}"
    return data["execution_id"]


async def ended(world: World, execution_id: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        shown = await world.user.done("GET", f"/executions/{execution_id}")
        return shown if shown["status"] in ENDED else None

    return await eventually(look, timeout=60)


async def run(world: World, code: str, inputs: Any = None, **declared: Any) -> dict[str, Any]:
    deployment_id = await world.agent(code, **declared)
    return await ended(world, await start(world, deployment_id, inputs))


async def replays(world: World, execution_id: str, name: str) -> None:
    """The run's history replays under the present code; it is kept where histories are recorded."""
    client = await connect(world.settings, world.services.objects)
    handle = client.get_workflow_handle(f"agent-execution/{execution_id}")
    await handle.result()
    await check_history(handle, f"agent_execution/{name}", world.settings)


async def balance(world: World) -> tuple[int, int]:
    """What the user may spend, and what is held."""
    wallets = await world.user.done("GET", "/wallets")
    wallet = wallets["items"][0]
    return wallet["available"], wallet["held"]


async def test_a_successful_run_is_charged_once_and_has_a_receipt(world: World) -> None:
    before, _ = await balance(world)
    shown = await run(world, ECHO, {"n": 1})
    assert shown["status"] == "success"
    assert shown["outputs"] == {"echo": {"n": 1}}
    assert shown["payment"]["amount"] == 50
    assert shown["duration_ms"] >= 0
    receipt = await world.user.done("GET", f"/receipts/{shown['payment']['receipt_id']}")
    assert receipt["body"]["payment_id"] == shown["payment"]["payment_id"]
    assert await balance(world) == (before - 50, 0)
    await replays(world, shown["execution_id"], "succeeded")


@pytest.mark.parametrize(
    ("code", "declared", "failure"),
    [
        ("import sys; print('no good', file=sys.stderr); sys.exit(3)", {}, "AGENT_ERROR"),
        ("print('this is no JSON')", {}, "OUTPUT_INVALID"),
        (
            'print(\'{"answer": "text"}\')',
            {"output_schema": {"type": "object", "properties": {"answer": {"type": "integer"}}}},
            "OUTPUT_INVALID",
        ),
        ("while True: pass", {"timeout_ms": 1000}, "TIMEOUT"),
        ("x = []\nwhile True: x.append(bytearray(10_000_000))", {"memory_mb": 64}, "OUT_OF_MEMORY"),
        ("import sys\nwhile True: sys.stdout.write('x' * 100_000)", {}, "OUTPUT_TOO_LARGE"),
    ],
)
async def test_a_failed_run_is_not_charged(
    world: World, code: str, declared: dict[str, Any], failure: str
) -> None:
    before = await balance(world)
    shown = await run(world, code, **declared)
    assert shown["status"] == "failed"
    assert shown["error"]["code"] == failure
    assert "outputs" not in shown
    assert "payment" not in shown
    assert await balance(world) == before


async def test_a_failed_agent_shows_its_exit_code_and_the_end_of_its_log(world: World) -> None:
    shown = await run(world, "import sys; print('the reason', file=sys.stderr); sys.exit(7)")
    assert shown["error"]["exit_code"] == 7
    assert "the reason" in shown["error"]["stderr"]
    await replays(world, shown["execution_id"], "failed")


async def test_an_agent_in_node_runs(world: World) -> None:
    code = (
        "let t = ''; for await (const c of process.stdin) t += c;"
        "console.log(JSON.stringify({ twice: JSON.parse(t).n * 2 }));"
    )
    shown = await run(world, code, {"n": 21}, runtime="node")
    assert shown["outputs"] == {"twice": 42}


async def test_cancelling_kills_the_container_and_releases_the_hold(world: World) -> None:
    before = await balance(world)
    deployment_id = await world.agent("import time; time.sleep(15)")
    execution_id = await start(world, deployment_id)

    async def running() -> bool:
        return (await world.user.done("GET", f"/executions/{execution_id}"))["status"] == "running"

    await eventually(running, timeout=30)
    asked = asyncio.get_running_loop().time()
    await world.user.done("POST", f"/executions/{execution_id}/cancel", {"reason": "changed my mind"})
    shown = await ended(world, execution_id)
    assert shown["status"] == "cancelled"
    assert shown["error"]["code"] == "CANCELLED"
    assert "changed my mind" in shown["error"]["message"]
    # The agent would have slept for 15 s; the promise is 2 s, the rest is slack for a busy machine.
    assert asyncio.get_running_loop().time() - asked < 8
    assert await balance(world) == before
    again = await world.user.call("POST", f"/executions/{execution_id}/cancel", {})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "EXECUTION_NOT_CANCELLABLE")
    await replays(world, execution_id, "cancelled")


async def test_code_that_is_not_the_reviewed_code_is_never_run(world: World) -> None:
    before = await balance(world)
    deployment_id = await world.agent(ECHO)
    await world.services.objects.put(await world.code_key(deployment_id), b"something else")
    shown = await ended(world, await start(world, deployment_id))
    assert (shown["status"], shown["error"]["code"]) == ("failed", "CODE_TAMPERED")
    assert await balance(world) == before


async def test_the_same_key_starts_one_execution(world: World) -> None:
    deployment_id = await world.agent(ECHO)
    deployment = await world.user.done("GET", f"/deployments/{deployment_id}")
    path, key = f"/agents/{deployment['agent_id']}/execute", str(uuid.uuid4())
    body = {"deployment_id": deployment_id, "inputs": {"n": 1}}
    answers = await asyncio.gather(*(world.user.call("POST", path, body, key=key) for _ in range(4)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["data"]["execution_id"] for answer in answers}) == 1
    other = await world.user.call("POST", path, {**body, "inputs": {"n": 2}}, key=key)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "IDEMPOTENCY_KEY_REUSED")


async def test_every_failing_input_is_named(world: World) -> None:
    schema = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string"}, "count": {"type": "integer", "minimum": 1}},
        "additionalProperties": False,
    }
    deployment_id = await world.agent(ECHO, input_schema=schema)
    deployment = await world.user.done("GET", f"/deployments/{deployment_id}")
    answer = await world.user.call(
        "POST",
        f"/agents/{deployment['agent_id']}/execute",
        {"deployment_id": deployment_id, "inputs": {"count": 0, "extra": 1}},
    )
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "INVALID_INPUTS")
    named = " ".join(field["field"] for field in error["details"]["fields"])
    assert all(name in named for name in ("name", "count", "extra"))


async def test_a_price_above_the_callers_cap_is_refused(world: World) -> None:
    deployment_id = await world.agent(ECHO)
    deployment = await world.user.done("GET", f"/deployments/{deployment_id}")
    answer = await world.user.call(
        "POST",
        f"/agents/{deployment['agent_id']}/execute",
        {"deployment_id": deployment_id, "cost_cap": 49},
    )
    assert answer.json()["error"]["code"] == "COST_CAP_EXCEEDED"


async def test_an_empty_wallet_buys_nothing(world: World) -> None:
    poor = await world.market.person("pia", "user")
    deployment_id = await world.agent(ECHO)
    deployment = await world.user.done("GET", f"/deployments/{deployment_id}")
    own = await world.market.deploy(poor, deployment["agent_id"])
    answer = await poor.call(
        "POST", f"/agents/{deployment['agent_id']}/execute", {"deployment_id": own, "inputs": {}}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "INSUFFICIENT_FUNDS")


async def test_another_tenants_deployment_and_execution_are_not_found(world: World) -> None:
    deployment_id = await world.agent(ECHO)
    deployment = await world.user.done("GET", f"/deployments/{deployment_id}")
    execution_id = await start(world, deployment_id)
    stranger = await world.market.person("sam", "user")
    answer = await stranger.call(
        "POST", f"/agents/{deployment['agent_id']}/execute", {"deployment_id": deployment_id, "inputs": {}}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "DEPLOYMENT_NOT_FOUND")
    for method, path in (("GET", ""), ("POST", "/cancel")):
        answer = await stranger.call(
            method, f"/executions/{execution_id}{path}", {} if method == "POST" else None
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "EXECUTION_NOT_FOUND")
    await ended(world, execution_id)


async def test_an_unknown_execution_is_not_found(world: World) -> None:
    answer = await world.user.call("GET", f"/executions/{new_identifier('execution')}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "EXECUTION_NOT_FOUND")


async def test_what_the_agent_logs_becomes_events_in_order(world: World) -> None:
    code = "import sys\nfor n in range(50): print(f'line {n}', file=sys.stderr)\nprint('{}')"
    shown = await run(world, code)
    page = await world.user.done("GET", f"/runs/{shown['execution_id']}/events")
    assert [event["seq"] for event in page["items"]] == list(range(1, len(page["items"]) + 1))
    text = "".join(event["data"]["text"] for event in page["items"] if event["type"] == "log")
    assert text == "".join(f"line {n}\n" for n in range(50))
    types = [event["type"] for event in page["items"] if event["type"] != "log"]
    assert types[-1] == "run.succeeded"
    assert types.index("payment.held") < types.index("run.dispatched") < types.index("run.executed")
    assert types.index("run.executed") < types.index("payment.settled") < types.index("run.succeeded")
