"""The command line of publishing: offline, and against the API over HTTP."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from structlog.testing import capture_logs

from api.app import create_app
from cli.credentials import TOKEN_VARIABLE, URL_VARIABLE
from cli.exit import ExitStatus
from cli.main import run
from tests.builders import EXAMPLES, Person, unique
from tests.publishing_world import World

Command = Callable[..., Any]


@pytest.fixture(scope="session")
async def api_url(world: World) -> AsyncIterator[str]:
    """The API on a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(create_app(world.settings), log_level="warning", lifespan="on", ws="none")
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    await serving
    listener.close()


@pytest.fixture
def switchyard(
    api_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], world: World
) -> Command:
    """Run commands as somebody: the person and the arguments in, status, output and errors out."""
    monkeypatch.setenv(URL_VARIABLE, api_url)
    monkeypatch.setenv("SWITCHYARD_DATA_DIR", str(world.settings.data_dir))

    async def command(person: Person, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv(TOKEN_VARIABLE, person.token)
        capsys.readouterr()
        # The API shares this process, and its log lines are not the command's output.
        with capture_logs():
            status = await asyncio.to_thread(run, arguments)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return command


@pytest.mark.parametrize("runtime", ["python", "node"])
def test_a_new_agent_passes_the_scan(
    tmp_path: Path, runtime: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "word-counter"
    assert run(["agents", "init", str(folder), "--runtime", runtime]) == ExitStatus.OK
    capsys.readouterr()
    assert run(["agents", "scan", str(folder), "--json"]) == ExitStatus.OK
    report = json.loads(capsys.readouterr().out)
    assert (report["verdict"], report["violations"], report["warnings"]) == ("PASS", [], [])
    assert run(["agents", "init", str(folder)]) == ExitStatus.REFUSED, "a full folder is left alone"
    assert run(["agents", "init", str(tmp_path / "No Slug")]) == ExitStatus.REFUSED


def test_a_scan_that_blocks_says_so_by_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(EXAMPLES / "coupon-finder")
    assert run(["agents", "scan", folder, "--json"]) == ExitStatus.FAILURE
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"] == "BLOCK"
    assert report["violations"]
    assert run(["agents", "scan", folder]) == ExitStatus.FAILURE
    assert "hidden" in capsys.readouterr().out


def test_a_scan_of_nothing_names_the_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["agents", "scan", str(tmp_path / "none")]) == ExitStatus.NOT_FOUND
    assert "none" in capsys.readouterr().err


async def test_from_the_folder_to_the_deployment(world: World, switchyard: Command, tmp_path: Path) -> None:
    folder = tmp_path / unique("counter")
    await switchyard(world.developer, "agents", "init", str(folder))
    status, out, _ = await switchyard(world.developer, "agents", "publish", str(folder), "--json")
    assert status == ExitStatus.OK
    version = json.loads(out)["version_id"]

    status, out, _ = await switchyard(world.reviewer, "review", "list", "--limit", "1000")
    assert version in out
    for options in ([], ["--diff"], ["--file", "main.py"]):
        status, out, _ = await switchyard(world.reviewer, "review", "show", version, *options)
        assert status == ExitStatus.OK
    assert "Counter" in out
    status, _, err = await switchyard(world.developer, "review", "approve", version)
    assert status == ExitStatus.NOT_ALLOWED
    assert "agents:review" in err
    status, _, _ = await switchyard(world.reviewer, "review", "approve", version, "--reason", "Good.")
    assert status == ExitStatus.OK

    user = await world.market.person("una", "user")
    status, out, _ = await switchyard(user, "agents", "list", folder.name, "--json")
    assert [row["slug"] for row in json.loads(out)] == [folder.name]
    for arguments in (("agents", "show", folder.name), ("agents", "list", "--sort", "name")):
        status, out, _ = await switchyard(user, *arguments)
        assert status == ExitStatus.OK
    status, out, _ = await switchyard(user, "deploy", folder.name, "--json")
    assert json.loads(out)["status"] == "configured"
    status, out, _ = await switchyard(user, "deployments", "list")
    assert folder.name in out
    status, _, err = await switchyard(user, "deploy", folder.name, "--set", "unknown=1")
    assert status == ExitStatus.REFUSED
    assert "unknown" in err
    status, out, _ = await switchyard(world.developer, "agents", "status", folder.name)
    assert "published" in out
    status, out, _ = await switchyard(world.developer, "mail", "--to", "dora@example.com")
    assert "is published" in out


async def test_a_refused_submission_lists_its_violations(
    world: World, switchyard: Command, tmp_path: Path
) -> None:
    folder = tmp_path / unique("hiding")
    await switchyard(world.developer, "agents", "init", str(folder))
    (folder / "main.py").write_text("import base64\nexec(base64.b64decode('cHJpbnQoMSk='))\n")
    status, out, err = await switchyard(world.developer, "agents", "publish", str(folder))
    assert status == ExitStatus.REFUSED
    assert "main.py:2" in out
    assert "violation" in err


async def test_a_rejection_arrives_in_the_mailbox(world: World, switchyard: Command, tmp_path: Path) -> None:
    folder = tmp_path / unique("rejected")
    await switchyard(world.developer, "agents", "init", str(folder))
    _, out, _ = await switchyard(world.developer, "agents", "publish", str(folder), "--json")
    version = json.loads(out)["version_id"]
    status, _, _ = await switchyard(world.reviewer, "review", "reject", version, "--reason", "Too short.")
    assert status == ExitStatus.OK
    await world.temporal.get_workflow_handle(f"publish-review/{version}").result()
    _, out, _ = await switchyard(world.developer, "mail", "--json")
    letter = next(each for each in json.loads(out) if "Too short." in each["text"])
    status, out, _ = await switchyard(world.developer, "mail", str(letter["number"]))
    assert "was rejected" in out
    status, _, _ = await switchyard(world.developer, "mail", "100000")
    assert status == ExitStatus.NOT_FOUND
