"""The supervisor with small made-up parts: order, restarts, crash loops, stopping."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from cli.stack.errors import AlreadyRunningError, PartFailedError, PortTakenError, StackError
from cli.stack.layout import DataDirectory
from cli.stack.part import Command, Context, Part
from cli.stack.process import ProcessRecord, spawn
from cli.stack.state import PartState, StackState, is_running, read_state
from cli.stack.supervisor import StackOptions, Supervisor, in_start_order

FOREVER = "import time; print('up', flush=True); time.sleep(3600)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(3600)"


@pytest.fixture
def directory(tmp_path: Path) -> DataDirectory:
    return DataDirectory.create(tmp_path / "data")


def python_part(name: str, code: str = FOREVER, **fields: object) -> Part:
    def command(context: Context) -> Command:
        del context
        return Command((sys.executable, "-S", "-c", code))

    defaults: dict[str, object] = {"name": name, "title": name.title(), "command": command}
    return Part(**(defaults | fields))  # pyright: ignore[reportArgumentType]


async def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the state is a plain object without events
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(directory: DataDirectory, parts: Sequence[Part]) -> AsyncGenerator[Supervisor]:
    supervisor = Supervisor(StackOptions(directory, parts, ports="auto"))
    run = asyncio.create_task(supervisor.run())
    try:
        await eventually(lambda: run.done() or supervisor.state.phase == "running")
        if run.done():
            await run
        yield supervisor
    finally:
        supervisor.request_stop()
        await asyncio.wait({run})


def pid_of(supervisor: Supervisor, part: str) -> int:
    process = supervisor.state.parts[part].process
    return process.pid if process else 0


def test_parts_start_after_those_they_depend_on() -> None:
    parts = [python_part("c", depends_on=("b",)), python_part("b", depends_on=("a",)), python_part("a")]
    assert [part.name for part in in_start_order(parts)] == ["a", "b", "c"]


def test_a_dependency_that_is_not_wanted_is_not_waited_for() -> None:
    assert [part.name for part in in_start_order([python_part("b", depends_on=("a",))])] == ["b"]


def test_parts_that_depend_on_each_other_in_a_circle_are_refused() -> None:
    with pytest.raises(StackError, match="circle"):
        in_start_order([python_part("a", depends_on=("b",)), python_part("b", depends_on=("a",))])


async def test_a_killed_part_is_started_again_with_what_it_left_behind_ended(
    directory: DataDirectory,
) -> None:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(3600)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(3600)\n"
    )
    log = directory.log_file("a")
    async with running(directory, [python_part("a", code)]) as supervisor:
        await eventually(lambda: log.exists() and log.read_text().endswith("\n"))
        grandchild = int(log.read_text().splitlines()[0])
        first = pid_of(supervisor, "a")
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: pid_of(supervisor, "a") not in (0, first))
        await eventually(lambda: supervisor.state.parts["a"].phase == "healthy")
        assert supervisor.state.parts["a"].restarts == 1
        assert (
            not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE
        )


async def test_a_part_that_keeps_exiting_at_start_fails_the_stack_with_its_last_words(
    directory: DataDirectory,
) -> None:
    part = python_part("a", "raise SystemExit('no such planet')", healthy=never_healthy)
    with pytest.raises(PartFailedError, match=r"exited with status 1.*no such planet"):
        async with running(directory, [part, python_part("b")]):
            pytest.fail("the stack must not come up")
    state = read_state(directory)
    assert state is not None
    assert state.phase == "failed"
    assert state.error_code == "PART_FAILED"
    assert state.processes() == []


async def never_healthy(context: Context, pid: int) -> bool:
    del context, pid
    return False


async def test_a_part_that_never_becomes_healthy_fails_the_stack(directory: DataDirectory) -> None:
    part = python_part("a", healthy=never_healthy, start_deadline_seconds=0.1)
    with pytest.raises(PartFailedError, match="was not healthy within"):
        async with running(directory, [part]):
            pytest.fail("the stack must not come up")


async def test_a_part_that_begins_to_crash_later_is_given_a_rest_and_the_others_go_on(
    directory: DataDirectory, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    code = f"import os, time\nif os.path.exists({str(broken)!r}): raise SystemExit(1)\ntime.sleep(3600)"
    async with running(directory, [python_part("a", code), python_part("b")]) as supervisor:
        before = pid_of(supervisor, "b")
        broken.touch()
        os.kill(pid_of(supervisor, "a"), signal.SIGKILL)
        await eventually(lambda: supervisor.state.parts["a"].phase == "failed", 20)
        assert pid_of(supervisor, "b") == before


async def test_parts_stop_in_reverse_order_and_the_deaf_are_killed(
    directory: DataDirectory, tmp_path: Path
) -> None:
    order = tmp_path / "order"
    code = (
        "import pathlib, signal, sys, time\n"
        "def stop(*_):\n"
        f"    open({str(order)!r}, 'a').write(sys.argv[0] + NAME)\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        f"open({str(order)!r} + NAME, 'w')\n"
        "time.sleep(3600)\n"
    )

    def ready(name: str) -> object:
        marker = tmp_path / f"order{name}"

        async def healthy(context: Context, pid: int) -> bool:
            del context, pid
            return marker.exists()

        return healthy

    parts = [
        python_part("a", code.replace("NAME", "'a'"), healthy=ready("a")),
        python_part("b", code.replace("NAME", "'b'"), depends_on=("a",), healthy=ready("b")),
        python_part("deaf", DEAF, stop_deadline_seconds=0.2),
    ]
    async with running(directory, parts) as supervisor:
        pids = [pid_of(supervisor, name) for name in ("a", "b", "deaf")]
    assert order.read_text().replace("-c", "") == "ba"
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert not is_running(directory)


async def test_a_second_supervisor_on_the_same_directory_is_refused(directory: DataDirectory) -> None:
    async with running(directory, [python_part("a")]):
        with pytest.raises(AlreadyRunningError, match=f"process {os.getpid()}"):
            await Supervisor(StackOptions(directory, [])).run()


async def test_a_taken_port_is_named_with_its_holder(directory: DataDirectory) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        part = python_part("a", ports={"a": port})
        with pytest.raises(PortTakenError) as caught:
            await Supervisor(StackOptions(directory, [part], ports="fixed")).run()
    message = caught.value.message
    assert f"Port {port}, needed by A, is taken by" in message
    assert f"(process {os.getpid()})" in message
    assert "--ports auto" in message


async def test_automatic_ports_stay_the_same_from_one_start_to_the_next(directory: DataDirectory) -> None:
    part = python_part("a", ports={"a": 1, "b": 2})
    async with running(directory, [part]) as supervisor:
        first = dict(supervisor.state.ports)
    async with running(directory, [part]) as supervisor:
        assert supervisor.state.ports == first


async def test_processes_left_by_a_killed_supervisor_are_ended_at_the_next_start(
    directory: DataDirectory,
) -> None:
    left = spawn(
        [sys.executable, "-S", "-c", FOREVER],
        environment={},
        log_file=directory.log_file("a"),
        working_directory=directory.root,
    )
    record = ProcessRecord.of(left.pid)
    assert record is not None
    StackState(phase="running", parts={"a": PartState("A", process=record)}).save(directory.state_file)
    async with running(directory, [python_part("a")]):
        assert record.process() is None
    left.wait()


async def test_a_stale_record_never_ends_a_stranger_that_got_the_same_process_id(
    directory: DataDirectory,
) -> None:
    stranger = spawn(
        [sys.executable, "-S", "-c", FOREVER],
        environment={},
        log_file=directory.log_file("stranger"),
        working_directory=directory.root,
    )
    try:
        stale = ProcessRecord(stranger.pid, time.time() - 86_400)
        StackState(phase="running", parts={"a": PartState("A", process=stale)}).save(directory.state_file)
        async with running(directory, [python_part("a")]):
            assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_an_unreadable_state_file_does_not_prevent_the_start(directory: DataDirectory) -> None:
    directory.state_file.write_text("{half a")
    async with running(directory, [python_part("a")]) as supervisor:
        assert supervisor.state.phase == "running"


async def test_a_part_whose_address_is_in_the_settings_is_not_started(
    directory: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "temporal.example:7233")
    part = python_part("a", settings_given=("temporal_address",))
    async with running(directory, [part, python_part("b", depends_on=("a",))]) as supervisor:
        assert supervisor.state.parts["a"].phase == "elsewhere"
        assert supervisor.state.parts["a"].process is None
        assert supervisor.state.parts["b"].phase == "healthy"


async def test_a_failing_step_fails_the_stack(directory: DataDirectory) -> None:
    step = python_part("step", "raise SystemExit('revision missing')", job=True)
    with pytest.raises(PartFailedError, match=r"failed with status 1.*revision missing"):
        async with running(directory, [step, python_part("b", depends_on=("step",))]):
            pytest.fail("the stack must not come up")


async def test_the_state_file_and_the_logs_hold_no_secret(directory: DataDirectory) -> None:
    async with running(directory, [python_part("a")]):
        pass
    key = (directory.secrets / "encryption_keys").read_text()
    assert key not in directory.state_file.read_text()
    for path in (*directory.secrets.rglob("*"), directory.environment_file):
        assert path.stat().st_mode & 0o077 == 0, path
