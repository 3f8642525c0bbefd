"""Container start-to-finish of the sandbox against ``docker run`` of the same work, in the same run.

``python -m bench.sandbox [--samples N] [--json]``. Both sides run the same agent on the same image with the
same inputs and wait for its result document; the sandbox's side includes hand-over, reading and the verdict.
Ratios are what matters: absolute times depend on the machine and on what else it does.
"""

import argparse
import asyncio
import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from activities.sandbox.runner import SandboxRunner
from activities.sandbox.settings import SandboxSettings
from activities.sandbox.spec import ContainerClass
from cli.stack.embedded import EmbeddedStack
from models.manifest import Runtime
from models.sandbox import SandboxLimits, SandboxRequest
from tests.builders import archive
from tests.eventually import eventually

GOAL = 0.25
INPUTS: JsonValue = {"numbers": list(range(100))}
AGENTS = {
    Runtime.PYTHON: (
        "main.py",
        "import json, sys\nprint(json.dumps(sum(json.load(sys.stdin)['numbers'])))\n",
    ),
    Runtime.NODE: (
        "index.js",
        "const { numbers } = JSON.parse(require('fs').readFileSync(0));\n"
        "console.log(JSON.stringify(numbers.reduce((a, b) => a + b)));\n",
    ),
}
# The source document's own line, with the limits that the sandbox sets.
DOCKER_RUN = (
    "docker run --rm -i --network none --read-only --memory 256m --cpus 1 --pids-limit 64 --user 65534:65534"
)


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Median and 90th percentile in milliseconds."""
    ordered = sorted(seconds)
    return {
        "p50_ms": round(statistics.median(ordered) * 1000, 1),
        "p90_ms": round(ordered[int(len(ordered) * 0.9)] * 1000, 1),
    }


def docker_run(settings: SandboxSettings, runtime: Runtime, folder: Path) -> float:
    entry, _source = AGENTS[runtime]
    command = [*DOCKER_RUN.split(), "--volume", f"{folder}:/code:ro", "--workdir", "/code"]
    command += ["--entrypoint", "python3" if runtime is Runtime.PYTHON else "node", settings.image, entry]
    begun = time.monotonic()
    done = subprocess.run(
        command,
        input=json.dumps(INPUTS).encode(),
        capture_output=True,
        check=True,
        env={**os.environ, "DOCKER_HOST": settings.docker_host},
    )
    taken = time.monotonic() - begun
    assert json.loads(done.stdout) == 4950
    return taken


def request_of(runtime: Runtime, number: int) -> SandboxRequest:
    entry, source = AGENTS[runtime]
    return SandboxRequest(
        execution_id=f"bench_{os.getpid()}_{runtime}_{number}_{time.monotonic_ns()}",
        runtime=runtime,
        entry_point=entry,
        code=archive({entry: source}),
        inputs=INPUTS,
    )


async def sandbox_run(runner: SandboxRunner, request: SandboxRequest) -> tuple[float, bool]:
    begun = time.monotonic()
    result = await runner.run(request)
    taken = time.monotonic() - begun
    assert result.succeeded, result.detail
    assert json.loads(result.stdout) == 4950
    return taken, result.warm


async def stocked(runner: SandboxRunner, runtime: Runtime) -> None:
    """Wait until the pool is full and quiet, so that a sample measures one execution."""
    kind = ContainerClass.of(runtime, SandboxLimits())

    async def full() -> bool:
        return runner.pool.idle_of(kind) >= runner.settings.warm[runtime.value]

    await eventually(full, timeout=60)


async def measure(settings: SandboxSettings, samples: int, folder: Path) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    cold_settings = dataclasses.replace(settings, warm={})
    for runtime in AGENTS:
        warm_runner, cold_runner = SandboxRunner(settings), SandboxRunner(cold_settings)
        await warm_runner.start()
        warm: list[float] = []
        cold: list[float] = []
        plain: list[float] = []
        for number in range(samples):
            # The three take turns, so that a busy moment of the machine meets all of them.
            plain.append(await asyncio.to_thread(docker_run, settings, runtime, folder))
            cold.append((await sandbox_run(cold_runner, request_of(runtime, number)))[0])
            await stocked(warm_runner, runtime)
            taken, was_warm = await sandbox_run(warm_runner, request_of(runtime, number))
            assert was_warm
            warm.append(taken)
            await stocked(warm_runner, runtime)
        await warm_runner.close()
        await cold_runner.close()
        ratio = statistics.median(warm) / statistics.median(plain)
        figures[runtime.value] = {
            "docker_run": percentiles(plain),
            "cold": percentiles(cold),
            "warm": percentiles(warm),
            "warm_to_docker_run": round(ratio, 3),
            "cold_to_docker_run": round(statistics.median(cold) / statistics.median(plain), 3),
        }
    figures["throughput"] = await throughput(settings, samples, folder)
    return figures


async def throughput(settings: SandboxSettings, samples: int, folder: Path) -> dict[str, float]:
    """Executions per second, five at once, against as many parallel ``docker run``."""
    count = samples * 2

    async def timed(one: Any) -> float:
        gate = asyncio.Semaphore(5)

        async def gated(number: int) -> None:
            async with gate:
                await one(number)

        begun = time.monotonic()
        await asyncio.gather(*(gated(number) for number in range(count)))
        return round(count / (time.monotonic() - begun), 2)

    runner = SandboxRunner(settings)
    await runner.start()
    await stocked(runner, Runtime.NODE)
    ours = await timed(lambda number: sandbox_run(runner, request_of(Runtime.NODE, number)))
    await runner.close()
    theirs = await timed(lambda _number: asyncio.to_thread(docker_run, settings, Runtime.NODE, folder))
    return {"sandbox_per_second": ours, "docker_run_per_second": theirs, "ratio": round(ours / theirs, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    state, code = Path(tempfile.mkdtemp(prefix="sbx-")), Path(tempfile.mkdtemp(prefix="bench-"))
    code.chmod(0o755)
    for entry, source in AGENTS.values():
        (code / entry).write_text(source)
    try:
        # The engine and the image of the embedded stack, or those that DOCKER_HOST names.
        with EmbeddedStack(parts=["docker", "image"]) as settings:
            wanted = SandboxSettings(docker_host=settings.docker_host, state_folder=state)
            figures = asyncio.run(measure(wanted, arguments.samples, code))
    finally:
        shutil.rmtree(state, ignore_errors=True)
        shutil.rmtree(code, ignore_errors=True)
    if arguments.json:
        print(json.dumps(figures))
        return
    for runtime in AGENTS:
        row = figures[runtime.value]
        met = "met" if row["warm_to_docker_run"] <= GOAL else "MISSED"
        print(f"{runtime.value}: docker run {row['docker_run']}  cold {row['cold']}  warm {row['warm']}")
        print(f"  warm / docker run = {row['warm_to_docker_run']} (goal <= {GOAL}: {met})")
    print(f"five at once: {figures['throughput']}")


if __name__ == "__main__":
    main()
