"""The stack's commands as a user runs them: processes, output, exit statuses."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cli.exit import ExitStatus
from cli.main import run
from cli.stack.process import ProcessRecord, wait_until

ONLY_TEMPORAL = [f"--without={part}" for part in ("postgres", "s3", "docker", "migrations", "worker", "api")]


def switchyard(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from cli.main import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_nothing_running_is_said_in_one_line_with_its_own_status(tmp_path: Path) -> None:
    for command in ("status", "down"):
        done = switchyard(command, "--data-dir", str(tmp_path))
        assert done.returncode == ExitStatus.UNAVAILABLE
        assert done.stderr.count("\n") == 1
        assert "switchyard up" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_status_as_json_is_json_even_when_nothing_runs(tmp_path: Path) -> None:
    done = switchyard("status", "--json", "--data-dir", str(tmp_path))
    assert json.loads(done.stdout)["phase"] == "stopped"


@pytest.mark.parametrize("arguments", [["launch"], ["up", "--ports", "some"], ["logs", "--lines", "x"]])
def test_a_wrong_command_line_has_the_usage_status(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == ExitStatus.USAGE
    assert capsys.readouterr().err


def test_an_unknown_part_is_named_with_the_known_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["up", "--data-dir", str(tmp_path), "--without", "redis"]) == ExitStatus.FAILURE
    message = capsys.readouterr().err
    assert "redis" in message
    assert "postgres" in message


def test_a_malformed_setting_stops_the_command_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("API_PORT", "x")
    assert run(["up", "--data-dir", str(tmp_path)]) == ExitStatus.FAILURE
    assert "API_PORT" in capsys.readouterr().err


def test_a_detached_stack_shows_its_status_and_stops_without_a_trace(tmp_path: Path) -> None:
    directory = ("--data-dir", str(tmp_path))
    started = switchyard("up", "--detach", "--ports=auto", *ONLY_TEMPORAL, *directory)
    assert started.returncode == 0, started.stderr
    assert "Temporal" in started.stdout
    status = switchyard("status", "--json", *directory)
    assert status.returncode == 0
    state = json.loads(status.stdout)
    assert state["parts"]["temporal"]["phase"] == "healthy"
    assert state["memory_bytes"]["temporal"] > 10_000_000
    again = switchyard("up", *directory)
    assert again.returncode == ExitStatus.FAILURE
    assert "already running" in again.stderr
    logs = switchyard("logs", "temporal", *directory)
    assert logs.returncode == 0
    records = [ProcessRecord(**one) for one in (state["supervisor"], state["parts"]["temporal"]["process"])]
    assert all(record.process() for record in records)
    stopped = switchyard("down", *directory)
    assert stopped.returncode == 0
    assert not any(record.process() for record in records)


def test_ctrl_c_stops_a_stack_in_the_foreground(tmp_path: Path) -> None:
    up = [*ONLY_TEMPORAL, "--ports=auto", "--data-dir", str(tmp_path)]
    code = "from cli.main import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "up", *up], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert any("Temporal Web UI" in line for line in lines)
        children = psutil.Process(process.pid).children()
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(20) == 0
        assert wait_until(lambda: not any(child.is_running() for child in children), 5)
