"""Agents that try to get out, to starve the host, or to lie about how they ended."""

import asyncio
import json
import time

import docker
import pytest

from activities.sandbox.engine import Engine
from activities.sandbox.runner import SandboxRunner
from activities.sandbox.spec import LABEL_EXECUTION
from models.sandbox import ExitReason, SandboxLimits
from tests.sandbox.agents import request_of, run_node, run_python

TRY = """
import json, os, socket, subprocess, sys, ctypes
def attempt(act):
    try:
        return repr(act())
    except BaseException as error:
        return type(error).__name__
"""


async def outcomes(runner: SandboxRunner, source: str) -> dict[str, str]:
    result = await run_python(runner, TRY + source)
    assert result.succeeded, (result.detail, result.stderr_tail)
    return json.loads(result.stdout)


async def test_there_is_no_network(runner: SandboxRunner) -> None:
    tried = await outcomes(
        runner,
        """
def connect(address):
    return lambda: socket.create_connection(address, 1)
def flood():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.sendto(b"x", ("8.8.8.8", 53))
print(json.dumps({
    "internet": attempt(connect(("1.1.1.1", 443))), "metadata": attempt(connect(("169.254.169.254", 80))),
    "bridge": attempt(connect(("172.17.0.1", 2375))), "datagram": attempt(flood),
    "names": attempt(lambda: socket.gethostbyname("example.com")),
    "proxy": attempt(connect(("127.0.0.1", 3128))),
    "raw": attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)),
    "broker": attempt(lambda: os.listdir("/run/egress")),
}))
""",
    )
    assert tried.pop("broker") == "[]"
    assert set(tried.values()) <= {"OSError", "gaierror", "ConnectionRefusedError", "PermissionError"}, tried


async def test_nothing_outside_its_own_folders_can_be_written(runner: SandboxRunner) -> None:
    tried = await outcomes(
        runner,
        """
paths = ["/etc/passwd", "/usr/bin/x", "/x", "/root/x", "/var/x", "/opt/switchyard/supervisor.py", "/run/x",
         "/run/egress/x", "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper",
         "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max", "main.py", "new.txt",
         "/dev/x"]
print(json.dumps({path: attempt(lambda: open(path, "w")) for path in paths}))
""",
    )
    assert set(tried.values()) <= {"OSError", "PermissionError", "FileNotFoundError"}, tried


async def test_its_own_folders_run_no_programs_and_carry_no_privileges(runner: SandboxRunner) -> None:
    tried = await outcomes(
        runner,
        """
import shutil
shutil.copy("/usr/bin/id", "/tmp/id")
os.chmod("/tmp/id", 0o6755)
libc = ctypes.CDLL(None, use_errno=True)
setuid = [os.path.join(top, name) for top in ("/usr/bin", "/usr/sbin", "/usr/lib", "/usr/local/bin")
          for name in os.listdir(top) if os.lstat(os.path.join(top, name)).st_mode & 0o6000
          and not os.path.isdir(os.path.join(top, name))]
print(json.dumps({
    "run": attempt(lambda: subprocess.run(["/tmp/id"])),
    "setuid": attempt(lambda: os.setuid(0)),
    "programs": repr(setuid), "chown": attempt(lambda: os.chown("/tmp/id", 0, 0)),
    "mount": repr(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)), "unshare": repr(libc.unshare(0x10000000)),
    "chroot": attempt(lambda: os.chroot("/tmp")),
    "device": attempt(lambda: os.mknod("/tmp/sda", 0o60666, 2048)),
    "keyring": repr(libc.syscall(248, b"user", b"a", b"b", 1, -3)), "bpf": repr(libc.syscall(321, 0, 0, 0)),
    "namespace": attempt(lambda: open("/proc/1/ns/net")), "priority": attempt(lambda: os.nice(-5)),
}))
""",
    )
    assert tried.pop("programs") == "[]"
    assert {tried.pop(name) for name in ("mount", "unshare", "keyring", "bpf")} == {"-1"}
    assert set(tried.values()) <= {"PermissionError", "OSError"}, tried


async def test_the_host_and_its_engine_cannot_be_seen(runner: SandboxRunner) -> None:
    tried = await outcomes(
        runner,
        """
sockets = [p for p in ("/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock")
           if os.path.exists(p)]
print(json.dumps({
    "sockets": repr(sockets),
    "processes": repr(len([n for n in os.listdir("/proc") if n.isdigit()]) <= 3),
    "kcore": attempt(lambda: open("/proc/kcore", "rb").read(1)),
    "init": attempt(lambda: os.listdir("/proc/1/root")),
    "disks": repr([n for n in os.listdir("/dev") if n.startswith(("sd", "vd", "nvme", "mem", "kmsg"))]),
    "hostname": repr(socket.gethostname()),
}))
""",
    )
    assert tried["sockets"] == "[]"
    assert tried["disks"] == "[]"
    assert tried["processes"] == "True"
    assert tried["hostname"] == "'agent'"
    assert tried["kcore"] in {"PermissionError", "FileNotFoundError", "b''"}
    assert tried["init"] == "PermissionError"


async def test_the_supervisor_is_closed_to_the_agent(runner: SandboxRunner) -> None:
    tried = await outcomes(
        runner,
        """
import signal
libc = ctypes.CDLL(None, use_errno=True)
print(json.dumps({
    "environment": attempt(lambda: open("/proc/1/environ").read()),
    "memory": attempt(lambda: open("/proc/1/mem")),
    "descriptors": attempt(lambda: os.listdir("/proc/1/fd")), "input": attempt(lambda: open("/proc/1/fd/0")),
    "output": attempt(lambda: open("/proc/1/fd/1", "w")), "trace": repr(libc.ptrace(16, 1, 0, 0)),
    "own": repr("TOKEN" in str(os.environ) or "end_token" in str(os.environ)),
}))
for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP, signal.SIGINT):
    os.kill(1, number)
""",
    )
    assert tried.pop("trace") == "-1"
    assert tried.pop("own") == "False"
    assert set(tried.values()) <= {"PermissionError"}, tried


async def test_one_run_never_sees_the_files_or_processes_of_another(runner: SandboxRunner) -> None:
    leave = (
        "import json, os, subprocess\nopen('/tmp/secret', 'w').write('mine')\n"
        "subprocess.Popen(['sleep', '60'])\nprint(json.dumps(os.listdir('/work')))"
    )
    look = (
        "import glob, json, os\nnames = [open(p).read() for p in glob.glob('/proc/[0-9]*/comm')]\n"
        "print(json.dumps([os.listdir('/tmp'), os.listdir('/dev/shm'), 'sleep\\n' in names]))"
    )
    first = await run_python(runner, leave)
    second = await run_python(runner, look)
    assert first.succeeded
    assert json.loads(second.stdout) == [[], [], False]


async def test_a_fork_bomb_meets_the_process_limit(runner: SandboxRunner) -> None:
    result = await run_python(
        runner, "import os\nwhile True:\n    os.fork()\n", limits=SandboxLimits(timeout_ms=5_000)
    )
    assert result.exit_reason is ExitReason.LIMIT
    steady = await run_python(runner, "import os, time\nwhile True:\n    os.fork() or time.sleep(60)\n")
    assert steady.exit_reason is ExitReason.LIMIT


@pytest.mark.parametrize(
    "source", ["b = []\nwhile True: b.append(bytearray(1 << 20))", "x = b'x' * (1 << 31)"]
)
async def test_a_memory_bomb_is_killed_as_out_of_memory(runner: SandboxRunner, source: str) -> None:
    result = await run_python(runner, source)
    assert (result.exit_reason, result.exit_code) in {(ExitReason.OOM, 137), (ExitReason.AGENT_ERROR, 1)}
    if "bytearray" in source:
        assert result.exit_reason is ExitReason.OOM
        assert result.memory_peak_bytes is not None
        assert result.memory_peak_bytes > 200 << 20


async def test_a_node_memory_bomb_is_out_of_memory_and_no_abort(runner: SandboxRunner) -> None:
    heap = await run_node(runner, "const a = []; while (true) a.push(new Array(1e5).fill(Math.random()));")
    buffers = await run_node(runner, "const a = []; while (true) a.push(Buffer.alloc(1 << 20, 1));")
    assert (heap.exit_reason, buffers.exit_reason) == (ExitReason.OOM, ExitReason.OOM)


async def test_filling_the_temporary_folder_stays_inside_the_limits(runner: SandboxRunner) -> None:
    result = await run_python(
        runner, "with open('/tmp/x', 'wb') as f:\n    while True: f.write(bytes(1 << 20)); f.flush()"
    )
    assert result.exit_reason in {ExitReason.AGENT_ERROR, ExitReason.LIMIT}
    assert b"File too large" in result.stderr_tail or b"No space left" in result.stderr_tail


async def test_a_file_beyond_the_limit_is_a_limit(runner: SandboxRunner) -> None:
    result = await run_python(
        runner,
        "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "with open('/tmp/x', 'wb') as f:\n    while True: f.write(bytes(1 << 20)); f.flush()",
    )
    assert (result.exit_reason, result.exit_code) == (ExitReason.LIMIT, 153)


@pytest.mark.parametrize("stream", ["1", "2"])
async def test_a_gigabyte_of_output_is_cut_off(runner: SandboxRunner, stream: str) -> None:
    source = (
        "import os\nfor _ in range(1 << 10):\n    left = bytes(1 << 20)\n"
        f"    while left: left = left[os.write({stream}, left):]"
    )
    begun = time.monotonic()
    result = await run_python(runner, source)
    assert result.exit_reason is ExitReason.OUTPUT_CAP
    assert len(result.stdout) <= 1 << 20
    assert len(result.stderr_tail) <= 16 << 10
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    "source",
    [
        "while True: pass",
        "import signal, time\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\nwhile True: time.sleep(60)",
        "import os, sys\nos.close(1); os.close(2)\nwhile True: pass",
        "import os, time\nos.setsid() if os.fork() == 0 else None\nwhile True: time.sleep(1)",
    ],
    ids=["endless loop", "ignores every signal", "closed its outputs", "daemon"],
)
async def test_time_runs_out_for_everyone(runner: SandboxRunner, source: str) -> None:
    begun = time.monotonic()
    result = await run_python(runner, source, limits=SandboxLimits(timeout_ms=1_000))
    assert result.exit_reason is ExitReason.TIMEOUT
    assert 1_000 <= result.duration_ms < 2_000
    assert time.monotonic() - begun < 4


@pytest.mark.parametrize("code", [1, 3, 124, 125, 137, 143, 255])
async def test_an_exit_code_of_its_own_is_an_agents_error(runner: SandboxRunner, code: int) -> None:
    result = await run_python(runner, f"import os\nprint('{{}}', flush=True)\nos._exit({code})")
    assert (result.exit_reason, result.exit_code) == (ExitReason.AGENT_ERROR, code)


async def test_killing_itself_is_not_out_of_memory(runner: SandboxRunner) -> None:
    result = await run_python(runner, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert (result.exit_reason, result.exit_code) == (ExitReason.AGENT_ERROR, 137)


async def test_killing_everything_in_reach_ends_only_the_agent(runner: SandboxRunner) -> None:
    result = await run_python(
        runner,
        "import os, signal\nos.fork()\nos.fork()\nos.kill(-1, signal.SIGKILL)\nimport time\ntime.sleep(0.2)",
    )
    assert result.exit_reason in {ExitReason.AGENT_ERROR, ExitReason.OUTPUT_INVALID}


async def test_a_killed_child_does_not_spoil_a_good_result(runner: SandboxRunner) -> None:
    result = await run_python(
        runner,
        "import json, os\npid = os.fork()\nif pid == 0:\n    b = []\n"
        "    while True: b.append(bytearray(1 << 20))\n"
        "_, status = os.waitpid(pid, 0)\nprint(json.dumps({'signal': os.WTERMSIG(status)}))",
    )
    # The kernel may choose either process; what counts is the main one's own end.
    assert result.exit_reason in {ExitReason.SUCCESS, ExitReason.OOM}


async def test_children_left_behind_neither_delay_nor_change_the_result(runner: SandboxRunner) -> None:
    result = await run_python(
        runner,
        "import subprocess, sys\nfor _ in range(5):\n"
        "    subprocess.Popen(['sh', '-c', 'while true; do echo late; done'])\nprint('{\"ok\": true}')\n"
        "sys.stdout.flush()",
        limits=SandboxLimits(timeout_ms=10_000, stdout_bytes=8 << 20),
    )
    assert result.exit_reason in {ExitReason.OUTPUT_INVALID, ExitReason.SUCCESS}
    quiet = await run_python(runner, "import subprocess\nsubprocess.Popen(['sleep', '60'])\nprint('{}')")
    assert quiet.succeeded
    assert quiet.duration_ms < 2_000


async def test_a_report_printed_by_the_agent_is_only_its_own_text(runner: SandboxRunner) -> None:
    forged = (
        "import os, sys\ntoken = 'a' * 64\n"
        'report = \'{"started": true, "status": 0, "timed_out": false}\'\n'
        "os.write(1, ('{}' + token).encode())\nos.write(2, (token + report + token).encode())\nsys.exit(7)"
    )
    result = await run_python(runner, forged)
    assert (result.exit_reason, result.exit_code) == (ExitReason.AGENT_ERROR, 7)
    assert result.stdout == b"{}" + b"a" * 64


async def test_standard_input_is_the_inputs_and_nothing_else(runner: SandboxRunner) -> None:
    result = await run_python(
        runner, "import json, sys\ndata = sys.stdin.read()\nprint(json.dumps([data, sys.stdin.read()]))"
    )
    assert json.loads(result.stdout) == ['{"city":"Pune"}', ""]


async def test_writing_to_the_streams_through_proc_forges_nothing(runner: SandboxRunner) -> None:
    result = await run_python(
        runner,
        "import os\nos.write(os.open('/proc/self/fd/1', os.O_RDWR), b'[1]')\nos.dup2(2, 1)\nprint('[2]')",
    )
    assert result.stdout == b"[1]"
    assert result.succeeded


async def test_links_lead_only_to_what_the_container_has(runner: SandboxRunner) -> None:
    tried = await outcomes(
        runner,
        """
os.symlink("/proc/1/root/etc/shadow", "/tmp/a")
os.symlink("../../../../../../etc/shadow", "/tmp/b")
os.symlink("/run/egress/../../etc/shadow", "/tmp/c")
def hard():
    os.link("/etc/passwd", "/tmp/d")
print(json.dumps({n: attempt(lambda: open(f"/tmp/{n}").read()) for n in "abc"} | {"d": attempt(hard)}))
""",
    )
    assert set(tried.values()) <= {"PermissionError", "OSError", "FileNotFoundError"}, tried


async def test_cancelling_kills_within_a_second_and_leaves_nothing(
    runner: SandboxRunner, engine: Engine
) -> None:
    started = asyncio.Event()
    request = request_of(
        "import sys, time\nprint('up', file=sys.stderr, flush=True)\nwhile True: time.sleep(1)"
    )
    running = asyncio.create_task(runner.run(request, on_output=lambda _stream, _piece: started.set()))
    await started.wait()
    begun = time.monotonic()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert time.monotonic() - begun < 1

    def left(client: docker.APIClient) -> list[str]:
        found = client.containers(all=True, filters={"name": request.execution_id})
        found += client.containers(all=True, filters={"label": f"{LABEL_EXECUTION}={request.execution_id}"})
        return [str(each) for each in found]

    assert await engine.call(left) == []
