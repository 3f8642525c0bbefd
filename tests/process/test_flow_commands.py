"""``switchyard flows`` and ``switchyard triggers`` against a served API."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from activities.streams.publisher import publishing
from activities.trigger import serving_triggers
from cli.exit import ExitStatus
from cli.flows_watch import Progress
from cli.main import run
from models.settings import Settings
from tests.api.calling import serving
from tests.bpmn.builders import bpmn, flows
from tests.builders import unique
from tests.eventually import eventually
from tests.process.world import ProcessWorld

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def url(process_settings: Settings) -> Iterator[str]:
    # The server shares this process; its log must not mix with what commands print.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(io.StringIO()))
    with serving(process_settings) as address:
        yield address
    structlog.reset_defaults()


@pytest.fixture(scope="module")
async def published(processes: ProcessWorld) -> AsyncIterator[ProcessWorld]:
    """The world of processes with its events published, for who watches."""
    async with publishing(processes.services.database):
        yield processes


@pytest.fixture
def command(
    published: ProcessWorld,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("SWITCHYARD_API_URL", url)
    monkeypatch.setenv("SWITCHYARD_TOKEN", published.user.token)

    async def call(*arguments: str, status: int = ExitStatus.OK) -> Any:
        capsys.readouterr()
        found = await asyncio.to_thread(run, [*arguments])
        captured = capsys.readouterr()
        assert found == status, captured.err
        return json.loads(captured.out) if "--json" in arguments else captured.out + captured.err

    return call


def file_of(folder: Path, data: bytes) -> str:
    path = folder / f"{unique('model')}.bpmn"
    path.write_bytes(data)
    return str(path)


async def test_a_process_is_deployed_started_signalled_and_traced(
    processes: ProcessWorld, command: Command, tmp_path: Path
) -> None:
    key = unique("hire")
    model = file_of(tmp_path, bpmn('<userTask id="ask" name="Ask"/>', flows("s>ask>e"), name=key))
    (deployed,) = await command("flows", "deploy", model, "--json")
    assert deployed["processKey"] == key
    assert key in await command("flows", "definitions")
    started = await command("flows", "start", key, "--variables", '{"n": 1}', "--json")
    instance = started["instanceId"]
    await processes.waiting(instance, "ask")
    assert instance in await command("flows", "list", "--process", key)
    await command("flows", "signal", instance, "ask", "--variables", '{"ok": true}')
    await processes.ended(instance)
    shown = await command("flows", "show", instance, "--json")
    assert (shown["status"], shown["variables"]) == ("completed", {"n": 1, "ok": True})
    traced = await command("flows", "trace", instance)
    assert "flow.started" in traced
    assert "task.completed" in traced
    watched = await command("flows", "watch", instance)
    assert "flow.completed" in watched


async def test_an_instance_is_migrated_and_cancelled(
    processes: ProcessWorld, command: Command, tmp_path: Path
) -> None:
    key = unique("move")
    old = bpmn('<userTask id="ask"/>', flows("s>ask>e"), name=key)
    new = bpmn('<userTask id="ask"/><userTask id="more"/>', flows("s>ask>more>e"), name=key)
    await command("flows", "deploy", file_of(tmp_path, old))
    instance = (await command("flows", "start", key, "--json"))["instanceId"]
    await processes.waiting(instance, "ask")
    (target,) = await command("flows", "deploy", file_of(tmp_path, new), "--json")
    plan = ["flows", "migrate", instance, "--to", target["definitionId"]]
    assert "could be" in await command(*plan, "--dry-run")
    await command(*plan)
    await command("flows", "signal", instance, "ask")
    await processes.waiting(instance, "more")
    await command("flows", "cancel", instance, "--reason", "enough")
    await processes.ended(instance, "cancelled")
    await command("flows", "watch", instance, status=ExitStatus.FAILURE)


async def test_an_incident_is_listed_and_resolved(
    processes: ProcessWorld, command: Command, tmp_path: Path
) -> None:
    key = unique("stuck")
    gateway = '<exclusiveGateway id="g"/><manualTask id="m"/>'
    await command(
        "flows", "deploy", file_of(tmp_path, bpmn(gateway, flows("s>g", "g>m: go", "m>e"), name=key))
    )
    instance = (await command("flows", "start", key, "--json"))["instanceId"]

    async def stuck() -> list[dict[str, Any]]:
        return await command("flows", "incidents", "--instance", instance, "--json")

    (incident,) = await eventually(stuck)
    assert incident["type"] == "NO_FLOW"
    await command("flows", "resolve", incident["id"], "--variables", '{"go": true}')
    await processes.ended(instance)


async def test_a_trigger_is_made_run_paused_and_deleted(
    processes: ProcessWorld, command: Command, tmp_path: Path
) -> None:
    key = unique("nightly")
    model = bpmn('<manualTask id="m"/>', flows("s>m>e"), name=key)
    await command("flows", "deploy", file_of(tmp_path, model))
    arguments = ["triggers", "create", key, "--cron", "0 2 * * *", "--time-zone", "Asia/Kolkata", "--json"]
    trigger = (await command(*arguments))["triggerId"]
    assert "Asia/Kolkata" in await command("triggers", "list", "--process", key)
    async with serving_triggers(processes.services.database, processes.temporal):
        await command("triggers", "run", trigger)

        async def begun() -> list[Any]:
            starts = (await command("triggers", "show", trigger, "--json"))["starts"]
            return [start for start in starts if start["status"] != "pending"]

        (start,) = await eventually(begun)
        await processes.ended(start["instanceId"])
        assert (await command("triggers", "pause", trigger, "--json"))["enabled"] is False
        await command("triggers", "delete", trigger)
    await command("triggers", "show", trigger, status=ExitStatus.NOT_FOUND)
    await command("flows", "message", unique("nobody"), "--ttl", "0")


def test_the_tree_shows_what_has_happened_at_each_element() -> None:
    inside = '<startEvent id="s1"/><userTask id="deep" name="Deep"/>' + flows("s1>deep")
    data = bpmn(f'<subProcess id="u" name="Outer">{inside}</subProcess>', flows("s>u>e"), name="tree")
    progress = Progress(data.decode(), "tree", "inst_1")
    for seq, (kind, element) in enumerate(
        [("element.completed", "s"), ("element.started", "u"), ("task.started", "deep")], 1
    ):
        progress.note({"seq": seq, "type": kind, "data": {"element": element}})
    tree = progress.tree()
    outer = next(branch for branch in tree.children if "Outer" in str(branch.label))
    assert any("Deep" in str(branch.label) for branch in outer.children)
    progress.note({"seq": 4, "type": "incident.raised", "data": {"element": "deep", "message": "down"}})
    assert "down" in str(progress.tree().children[1].children[1].label)
