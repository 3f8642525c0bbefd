"""A reviewer runs a version in the sandbox before deciding."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cli.exit import ExitStatus
from cli.main import run
from models.settings import Settings
from models.task_queues import TaskQueue
from tests.builders import manifest, unique
from tests.publishing_world import World
from worker import running_workers

ECHO = {"main.py": "import json, sys\nprint(json.dumps({'echo': json.load(sys.stdin)}))\n"}
FAILING = {"main.py": "import sys\nprint('the reason', file=sys.stderr)\nsys.exit(3)\n"}


@pytest.fixture(scope="module")
async def sandbox_worker(world: World, agent_image: Settings) -> AsyncIterator[None]:
    services = world.services
    settings = services.settings.model_copy(update={"docker_host": agent_image.docker_host})
    with_sandbox = dataclasses.replace(services, settings=settings)
    async with running_workers(with_sandbox, world.temporal, [TaskQueue.SANDBOX]):
        yield


async def tried(world: World, files: Any, **declared: Any) -> dict[str, Any]:
    answer = await world.market.submit(world.developer, files, manifest(unique("tried"), **declared))
    version_id = answer.json()["data"]["version_id"]
    path = f"/agent-versions/{version_id}/test-runs"
    return await world.reviewer.done("POST", path, {"inputs": {"n": 1}}, timeout=120)


async def test_a_test_run_shows_the_output_and_charges_nobody(world: World, sandbox_worker: None) -> None:
    result = await tried(world, ECHO)
    assert result["exit_reason"] == "success"
    assert result["outputs"] == {"echo": {"n": 1}}
    assert result["duration_ms"] >= 0


async def test_a_test_run_that_fails_shows_its_log(world: World, sandbox_worker: None) -> None:
    result = await tried(world, FAILING)
    assert (result["exit_reason"], result["exit_code"]) == ("agent_error", 3)
    assert "the reason" in result["stderr"]


async def test_a_test_run_names_where_the_output_breaks_its_schema(
    world: World, sandbox_worker: None
) -> None:
    schema = {"type": "object", "required": ["answer"]}
    result = await tried(world, ECHO, output_schema=schema)
    assert result["exit_reason"] == "output_invalid"
    assert result["output_violations"][0]["field"] == "answer"


FETCHING = """
import json, urllib.request
for host in ("declared.invalid", "other.invalid"):
    try:
        urllib.request.urlopen(f"http://{host}/", timeout=10)
    except OSError:
        pass
print(json.dumps({}))
"""


async def test_a_test_run_reaches_the_declared_hosts_only(world: World, sandbox_worker: None) -> None:
    network = [{"host": "declared.invalid", "port": 80}]
    result = await tried(world, {"main.py": FETCHING}, network=network, capabilities=["network"])
    assert result["exit_reason"] == "success"
    decisions = {decision["host"]: decision["reason"] for decision in result["egress"]}
    assert "resolve" in decisions["declared.invalid"], "its name was looked up"
    assert "not declared" in decisions["other.invalid"]


async def test_a_test_run_takes_no_secrets(world: World, sandbox_worker: None) -> None:
    network = [
        {
            "host": "api.example.com",
            "credential": {"config_key": "api_key", "header": "Authorization", "prefix": "Bearer "},
        }
    ]
    schema = {
        "type": "object",
        "properties": {"api_key": {"type": "string"}, "pin": {"type": "string", "writeOnly": True}},
    }
    declared = manifest(unique("secretive"), network=network, capabilities=["network"], config_schema=schema)
    answer = await world.market.submit(world.developer, ECHO, declared)
    path = f"/agent-versions/{answer.json()['data']['version_id']}/test-runs"
    refused = await world.reviewer.call("POST", path, {"config": {"api_key": "hush", "pin": "1"}})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "TEST_RUN_SECRET")
    named = [field["field"] for field in refused.json()["error"]["details"]["fields"]]
    assert named == ["config.api_key", "config.pin"]
    assert "hush" not in refused.text


@pytest.mark.parametrize("runtime", ["python", "node"])
async def test_a_new_agent_runs_in_the_local_sandbox(
    agent_image: Settings,
    tmp_path: Path,
    runtime: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DOCKER_HOST", agent_image.docker_host)
    folder = tmp_path / "word-counter"
    run(["agents", "init", str(folder), "--runtime", runtime])
    capsys.readouterr()
    arguments = ["agents", "test", str(folder), "--inputs", str(folder / "inputs.json"), "--json"]
    assert await asyncio.to_thread(run, arguments) == ExitStatus.OK
    result = json.loads(capsys.readouterr().out)
    assert result["outputs"]["words"] == 9
    assert result["outputs"]["most_common"][0] == {"word": "the", "count": 2}
