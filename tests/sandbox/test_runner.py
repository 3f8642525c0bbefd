"""What an agent is given, and how its end is told."""

import asyncio
import dataclasses
import json
from pathlib import Path

import pytest

from activities.sandbox.runner import SandboxRunner
from activities.sandbox.settings import SandboxSettings
from activities.sandbox.spec import ContainerClass
from models.manifest import Runtime
from models.sandbox import ExitReason, SandboxLimits, SandboxResult
from tests.eventually import eventually
from tests.sandbox.agents import request_of, run_node, run_python


async def test_a_python_agent_gets_its_inputs_three_ways(runner: SandboxRunner) -> None:
    result = await run_python(
        runner,
        "import json, os, sys\nprint(json.dumps([json.load(sys.stdin), json.loads(os.environ['INPUTS']),\n"
        "    json.load(open(os.environ['INPUTS_FILE'])), json.loads(os.environ['CONFIG'])]))",
        config={"region": "in"},
    )
    city = {"city": "Pune"}
    assert json.loads(result.stdout) == [city, city, city, {"region": "in"}]


async def test_a_node_agent_gets_its_inputs_three_ways(runner: SandboxRunner) -> None:
    result = await run_node(
        runner,
        "let text = ''; process.stdin.on('data', d => text += d)\n"
        ".on('end', () => console.log(JSON.stringify([\n"
        "  JSON.parse(text), JSON.parse(process.env.INPUTS),\n"
        "  JSON.parse(require('fs').readFileSync(process.env.INPUTS_FILE)),\n"
        "  JSON.parse(process.env.CONFIG)])));",
    )
    city = {"city": "Pune"}
    assert json.loads(result.stdout) == [city, city, city, {}]


async def test_large_inputs_come_by_file_and_standard_input_only(runner: SandboxRunner) -> None:
    result = await run_python(
        runner,
        "import json, os, sys\nprint(json.dumps([len(json.load(sys.stdin)), 'INPUTS' in os.environ]))",
        inputs="é" * 3_000_000,
    )
    assert json.loads(result.stdout) == [3_000_000, False]


async def test_python_runs_as_from_the_command_line(runner: SandboxRunner) -> None:
    result = await run_python(
        runner,
        "import json, sys, os, helper, types\n"
        "import __main__\n"
        "assert __main__.__file__ == __file__ == '/work/code/main.py' and __name__ == '__main__'\n"
        "print(json.dumps([sys.argv, os.getcwd(), sys.path[0], helper.NAME, sys.version_info >= (3, 11)]))",
        files={"helper.py": "NAME = 'helper'"},
    )
    assert json.loads(result.stdout) == [["main.py"], "/work/code", "/work/code", "helper", True]


async def test_an_agents_own_module_comes_before_the_standard_library(runner: SandboxRunner) -> None:
    result = await run_python(
        runner, "import tarfile\nprint(tarfile.MINE)", files={"tarfile.py": "MINE = 41"}
    )
    assert result.stdout == b"41\n", result.stderr_tail


async def test_node_runs_as_from_the_command_line(runner: SandboxRunner) -> None:
    result = await run_node(
        runner,
        "const dep = require('dep'); \n"
        "console.log(JSON.stringify([require.main === module, process.argv.slice(1),"
        " process.cwd(), __filename, dep, Number(process.versions.node.split('.')[0]) >= 22]));",
        files={
            "node_modules/dep/package.json": '{"name": "dep", "main": "lib/a.js"}',
            "node_modules/dep/lib/a.js": "module.exports = 'dep';",
        },
    )
    path = "/work/code/index.js"
    assert json.loads(result.stdout) == [True, [path], "/work/code", path, "dep", True]


async def test_node_runs_modules_with_top_level_await(runner: SandboxRunner) -> None:
    result = await run_node(
        runner,
        "import { setTimeout as wait } from 'node:timers/promises'; await wait(1);"
        " console.log(JSON.stringify(import.meta.url));",
        files={"package.json": '{"type": "module"}'},
    )
    assert json.loads(result.stdout) == "file:///work/code/index.js"


async def test_an_uncaught_error_shows_only_the_agents_frames(runner: SandboxRunner) -> None:
    python = await run_python(runner, "def f():\n    1 / 0\nf()")
    node = await run_node(runner, "throw new Error('boom')")
    promise = await run_node(runner, "Promise.reject(new Error('later'))")
    assert (python.exit_reason, python.exit_code) == (ExitReason.AGENT_ERROR, 1)
    assert b"ZeroDivisionError" in python.stderr_tail
    assert b"supervisor" not in python.stderr_tail
    assert (node.exit_code, promise.exit_code) == (1, 1)
    assert b"Error: boom" in node.stderr_tail


async def test_a_missing_entry_point_is_an_agents_error(runner: SandboxRunner) -> None:
    python = await run_python(runner, "", entry_point="nothing.py")
    node = await run_node(runner, "", entry_point="nothing.js")
    assert (python.exit_reason, python.exit_code) == (ExitReason.AGENT_ERROR, 2)
    assert b"can't open file" in python.stderr_tail
    assert (node.exit_reason, node.exit_code) == (ExitReason.AGENT_ERROR, 1)


@pytest.mark.parametrize("output", ["", "hello", "{} {}", "NaN", '{"a":', "'x'", '"\\ud800"'])
async def test_output_that_is_not_one_json_document_is_invalid(runner: SandboxRunner, output: str) -> None:
    result = await run_python(runner, f"print({output!r})")
    assert (result.exit_reason, result.exit_code) == (ExitReason.OUTPUT_INVALID, 0)
    assert "standard output" in result.detail


async def test_code_that_is_no_archive_or_leaves_its_folder_is_refused(runner: SandboxRunner) -> None:
    garbage = await run_python(runner, "", code=b"not a tar archive")
    outside = await run_python(runner, "", files={"../outside.py": "x"})
    assert garbage.exit_reason is outside.exit_reason is ExitReason.AGENT_ERROR
    assert not garbage.started
    assert "unsafe path" in outside.detail


async def test_code_larger_than_its_folder_is_a_limit(runner: SandboxRunner) -> None:
    result = await run_python(
        runner, "print(1)", files={"data.bin": bytes(49 << 20), "more.bin": bytes(30 << 20)}
    )
    assert result.exit_reason in {ExitReason.LIMIT, ExitReason.OOM}


async def test_output_comes_live_and_without_our_marks(runner: SandboxRunner) -> None:
    seen: dict[str, bytes] = {"stdout": b"", "stderr": b""}
    first = asyncio.Event()

    def listen(stream: str, piece: bytes) -> None:
        seen[stream] += piece
        first.set()

    request = request_of("import sys, time\nprint('one', file=sys.stderr)\ntime.sleep(1)\nprint('[1]')")
    running = asyncio.create_task(runner.run(request, on_output=listen))
    await first.wait()
    assert not running.done()
    result = await running
    assert seen == {"stdout": b"[1]\n", "stderr": b"one\n"}
    assert (result.stdout, result.stderr_tail) == (b"[1]\n", b"one\n")


async def test_the_heartbeat_beats_while_the_agent_runs(runner: SandboxRunner) -> None:
    beats: list[int] = []
    request = request_of("import time\ntime.sleep(1.7)\nprint(1)")
    await runner.run(request, heartbeat=lambda: beats.append(1))
    assert len(beats) >= 3


async def test_usage_is_measured(runner: SandboxRunner) -> None:
    result = await run_python(runner, "x = bytearray(60 << 20)\nfor i in range(10**6): pass\nprint(1)")
    assert result.memory_peak_bytes is not None
    assert 60 << 20 < result.memory_peak_bytes < 256 << 20
    assert result.cpu_ms is not None
    assert 0 < result.cpu_ms < 10_000


async def test_limits_of_its_own_start_a_container_of_its_own(runner: SandboxRunner) -> None:
    limits = SandboxLimits(memory_mb=100, pids=20, timeout_ms=20_000)
    result = await run_python(
        runner,
        "import json, glob\npaths = glob.glob('/sys/fs/cgroup/memory/memory.limit_in_bytes') + "
        "glob.glob('/sys/fs/cgroup/memory.max')\nprint(open(paths[0]).read())",
        limits=limits,
    )
    assert not result.warm
    assert json.loads(result.stdout) == 128 << 20


async def test_an_engine_that_is_away_is_lost_infrastructure(tmp_path: Path) -> None:
    settings = SandboxSettings(docker_host=f"unix://{tmp_path}/none.sock", state_folder=tmp_path / "state")
    runner = SandboxRunner(settings)
    result = await runner.run(request_of("print(1)"))
    await runner.close()
    assert (result.exit_reason, result.started) == (ExitReason.INFRA_LOST, False)


async def test_a_container_killed_by_others_is_lost_infrastructure(runner: SandboxRunner) -> None:
    up = asyncio.Event()
    request = request_of("import sys, time\nprint('up', file=sys.stderr, flush=True)\ntime.sleep(60)")
    running = asyncio.create_task(runner.run(request, on_output=lambda _stream, _piece: up.set()))
    await up.wait()
    found = await runner.engine.call(lambda client: client.containers(filters={"name": request.execution_id}))
    await runner.engine.call(lambda client: client.kill(found[0]["Id"]))
    result = await running
    assert (result.exit_reason, result.started) == (ExitReason.INFRA_LOST, True)


async def test_an_execution_whose_worker_vanished_ends_at_its_deadline(runner: SandboxRunner) -> None:
    request = request_of("while True: pass", limits=SandboxLimits(timeout_ms=500))
    box = await runner.starter.cold(ContainerClass.of(request.runtime, request.limits), request)
    await box.feed(request, "token")
    box.abandon()

    async def ended() -> bool:
        state = await runner.engine.call(lambda client: client.inspect_container(box.id)["State"])
        return not state["Running"]

    await eventually(ended, timeout=10)
    await runner.starter.discard(box)


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.03, 0.1, 0.2])
async def test_cancelling_while_the_container_starts_leaves_nothing(
    sandbox_settings: SandboxSettings, seconds: float
) -> None:
    cold = SandboxRunner(dataclasses.replace(sandbox_settings, warm={}))
    request = request_of("import time\ntime.sleep(60)")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await cold.run(request)
    await cold.starter.close()
    name = {"name": request.execution_id}
    assert await cold.engine.call(lambda client: client.containers(all=True, filters=name)) == []
    await cold.close()


async def test_a_container_left_by_a_lost_answer_is_replaced(runner: SandboxRunner) -> None:
    request = request_of("print(1)")
    image = (await runner.starter.host()).image_id
    name = f"agent-{request.execution_id}-{request.attempt}"
    await runner.engine.call(lambda client: client.create_container(image, name=name))
    result = await runner.run(request)
    assert result.succeeded


async def test_many_at_once_all_end_well(runner: SandboxRunner) -> None:
    runs = [run_python(runner, f"print({number})") for number in range(12)]
    results = await asyncio.gather(*runs)
    assert [json.loads(result.stdout) for result in results] == list(range(12))


def test_a_result_survives_its_journey_as_json() -> None:
    result = SandboxResult(exit_reason=ExitReason.SUCCESS, started=True, stdout=b"\xff\x00{}")
    assert SandboxResult.model_validate_json(result.model_dump_json()) == result


def test_a_request_shows_neither_code_nor_inputs() -> None:
    request = request_of("SECRET", Runtime.PYTHON, inputs={"key": "SECRET"}, config={"key": "SECRET"})
    assert "SECRET" not in repr(request)
