"""Process 1 of an agent's container: waits for one execution, runs it, reports, ends.

It starts the interpreter (the *zygote*) first and only then reads the execution from standard input, so
a container can wait ready for its one execution. The agent gets no access to this process: it is not
dumpable, so its memory, descriptors and environment are closed even to its own user; being process 1 it
cannot be killed from inside. The end tokens it was sent are unguessable, so only this process can write
the report that ends each output stream.

Frame on standard input, integers big-endian: ``SWY1``, header length (4 bytes), inputs length (8), code
length (8), header (JSON), inputs (JSON), code (tar, maybe gzipped). Standard library only.
"""

import builtins
import contextlib
import ctypes
import io
import json
import os
import selectors
import signal
import socket
import stat
import struct
import sys
import tarfile
import time
import types

MAGIC = b"SWY1"
PREFIX = struct.Struct(">4sIQQ")
READY = b"\x06"
WORK = "/work"
CODE = f"{WORK}/code"
INPUTS_FILE = f"{WORK}/inputs.json"
NODE_ZYGOTE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "node_zygote.mjs")
EGRESS_SOCKET = "/run/egress/broker.sock"
EGRESS_PORT = 3128
CONTROL_FD = 3
PR_SET_DUMPABLE = 4
SUPERVISOR_FILE = __file__

# Modules that a fresh `python3` has loaded: what the zygote loads on top must not hide an agent's own file.
LOADED_BY_SITE = frozenset(
    ("abc", "codecs", "encodings", "genericpath", "io", "os", "posixpath", "site", "stat")
)


class PayloadError(Exception):
    """The frame or the code in it cannot be used."""


def read_exactly(length: int) -> bytes:
    """Read from standard input; an early end raises PayloadError."""
    buffer = bytearray()
    while len(buffer) < length:
        piece = os.read(0, min(1 << 20, length - len(buffer)))
        if not piece:
            raise PayloadError("standard input ended early")
        buffer += piece
    return bytes(buffer)


def cgroup_value(*paths: str, field: str | None = None) -> int | None:
    """First readable counter among cgroup v1 and v2 files, or None."""
    for path in paths:
        try:
            with open(f"/sys/fs/cgroup/{path}", encoding="ascii") as file:
                text = file.read()
        except OSError:
            continue
        if field is None:
            return int(text)
        for line in text.splitlines():
            name, _, value = line.partition(" ")
            if name == field:
                return int(value)
    return None


def usage() -> dict[str, int | None]:
    """Counters of this container's cgroup: CPU in microseconds, memory in bytes, refusals as counts."""
    cpu = cgroup_value("cpu.stat", field="usage_usec")
    if cpu is None:
        nanoseconds = cgroup_value("cpuacct/cpuacct.usage", "cpu,cpuacct/cpuacct.usage")
        cpu = None if nanoseconds is None else nanoseconds // 1000
    return {
        "cpu_us": cpu,
        "memory_peak": cgroup_value("memory.peak", "memory/memory.max_usage_in_bytes"),
        "oom_kills": cgroup_value("memory.events", "memory/memory.oom_control", field="oom_kill"),
        "pids_refused": cgroup_value("pids.events", "pids/pids.events", field="max"),
    }


def unpack(code: bytes) -> None:
    """Write the archive's regular files under CODE, read-only; anything else in it is refused."""
    folders = {CODE}
    os.mkdir(CODE)
    try:
        with tarfile.open(fileobj=io.BytesIO(code), mode="r:*") as archive:
            for member in archive:
                parts = member.name.split("/")
                if member.isdir():
                    parts = [part for part in parts if part not in ("", ".")]
                if parts and parts[0] == ".":
                    parts = parts[1:]
                if any(part in ("", ".", "..") or "\0" in part for part in parts):
                    raise PayloadError(f"unsafe path in the code archive: {member.name!r}")
                folder = CODE
                for part in parts if member.isdir() else parts[:-1]:
                    folder = f"{folder}/{part}"
                    if folder not in folders:
                        os.mkdir(folder)
                        folders.add(folder)
                if member.isdir():
                    continue
                source = archive.extractfile(member) if member.isreg() else None
                if source is None:
                    raise PayloadError(f"not a regular file in the code archive: {member.name!r}")
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                target = os.open(f"{folder}/{parts[-1]}", flags, 0o444)
                with open(target, "wb") as file:
                    while piece := source.read(1 << 20):
                        file.write(piece)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise PayloadError(f"cannot unpack the code archive: {error}") from error
    for folder in folders:
        os.chmod(folder, 0o555)


def start_zygote(runtime: str, memory_mb: int) -> tuple[int, int]:
    """Start the interpreter that will run the agent; return its pid and the descriptor that starts it.

    In the child this returns ``(0, descriptor to read the go message from)`` for Python.
    """
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid:
        os.close(read_end)
        return pid, write_end
    os.close(write_end)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    # The agent goes first when memory runs out, so that the report survives.
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")
    if runtime != "node":
        return 0, read_end
    os.dup2(read_end, CONTROL_FD)
    os.set_inheritable(CONTROL_FD, True)
    # V8's own limit must lie above the cgroup's, or its abort would pass for an agent's error.
    os.execvp("node", ["node", f"--max-old-space-size={memory_mb}", NODE_ZYGOTE])
    raise AssertionError("exec does not return")


def hide_supervisor(
    kind: type[BaseException], error: BaseException, trace: types.TracebackType | None
) -> None:
    """Print an uncaught error as ``python3 main.py`` would, without the frames of this file."""
    while trace is not None and trace.tb_frame.f_code.co_filename == SUPERVISOR_FILE:
        trace = trace.tb_next
    sys.__excepthook__(kind, error.with_traceback(trace), trace)


def run_python(control: int, preloaded: set[str]) -> None:
    """Become ``python3 ENTRY`` once the go message is there; returns when the agent's main module ends."""
    os.write(2, READY)
    with open(control, "rb") as file:
        message = file.read()
    if not message:
        os._exit(1)
    go = json.loads(message)
    os.close(0)
    os.open(go["stdin"], os.O_RDONLY)
    os.environ.clear()
    os.environ.update(go["env"])
    os.chdir(CODE)
    entry = os.path.join(CODE, go["entry"])
    folder = os.path.dirname(entry)
    sys.argv = [go["entry"]]
    sys.orig_argv = ["python3", go["entry"]]
    sys.path[0] = folder
    sys.excepthook = hide_supervisor
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if os.path.isdir(folder):
        for name in os.listdir(folder):
            top = name.partition(".")[0]
            for module in [m for m in preloaded if m == top or m.startswith(f"{top}.")]:
                sys.modules.pop(module, None)
    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=entry, __builtins__=builtins, __cached__=None)
    sys.modules["__main__"] = main
    try:
        with open(entry, "rb") as file:
            source = file.read()
    except OSError as error:
        sys.stderr.write(f"python3: can't open file {entry!r}: [Errno {error.errno}] {error.strerror}\n")
        sys.exit(2)
    exec(compile(source, entry, "exec", dont_inherit=True), main.__dict__)


def start_egress(control: int) -> None:
    """Fork the shim that carries the loopback proxy's bytes to the broker."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", EGRESS_PORT))
    listener.listen(64)
    if os.fork():
        listener.close()
        return
    # The zygote waits for the end of the go message: no other process may hold it open.
    os.close(control)
    try:
        from egress_shim import EgressShim  # beside this file in the image; only some containers need it

        EgressShim(listener, EGRESS_SOCKET).serve()
    finally:
        os._exit(1)


def send_all(descriptor: int, message: bytes) -> None:
    """Write everything to a pipe whose reader may have gone."""
    view = memoryview(message)
    while view:
        view = view[os.write(descriptor, view) :]


def await_agent(pid: int, deadline: float) -> tuple[int | None, int]:
    """Wait for the agent's main process; return its wait status (None: deadline) and orphans reaped."""
    orphans = 0
    while True:
        while True:
            try:
                reaped, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return None, orphans
            if reaped == pid:
                return status, orphans
            if not reaped:
                break
            orphans += 1
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return None, orphans
        signal.sigtimedwait({signal.SIGCHLD}, remaining)


def kill_everything() -> int:
    """Kill and reap every other process of the container; return how many there were."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    count = 0
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return count
        count += 1


def await_payload(idle_seconds: float) -> dict[str, object]:
    """Read one execution; unpack it; return its header. Ends the process when none comes."""
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    if not selector.select(idle_seconds):
        sys.exit(0)
    first = os.read(0, 1)
    if not first:
        sys.exit(0)
    magic, header_length, inputs_length, code_length = PREFIX.unpack(first + read_exactly(PREFIX.size - 1))
    if magic != MAGIC:
        raise PayloadError("not an execution frame")
    header = json.loads(read_exactly(header_length))
    inputs = read_exactly(inputs_length)
    code = read_exactly(code_length)
    try:
        with open(INPUTS_FILE, "wb") as file:
            file.write(inputs)
        os.chmod(INPUTS_FILE, stat.S_IRUSR)
        unpack(code)
    except (PayloadError, OSError) as error:
        header["refused"] = str(error)
    return header


def supervise(pid: int, control: int, idle_seconds: float) -> int:
    """Run one execution in the zygote and report; return the exit code for the container."""
    header = await_payload(idle_seconds)
    before = usage()
    report: dict[str, object] = {"started": False, "timed_out": False, "status": None, "orphans": 0}
    begun = time.monotonic()
    exit_code = 1
    if "refused" in header:
        report["refused"] = header["refused"]
    else:
        if header["egress"]:
            start_egress(control)
        go = {
            "entry": header["entry"],
            "env": header["env"],
            "stdin": INPUTS_FILE,
            "egress": header["egress"],
        }
        try:
            send_all(control, json.dumps(go).encode())
            os.close(control)
            report["started"] = True
        except BrokenPipeError:
            report["lost"] = "the interpreter ended before the agent was started"
        status, orphans = await_agent(pid, begun + float(str(header["deadline_seconds"])))
        if status is None:
            report["timed_out"] = True
            exit_code = 124
        else:
            report["status"] = exit_code = os.waitstatus_to_exitcode(status)
            exit_code = exit_code if exit_code >= 0 else 128 - exit_code
        report["orphans"] = orphans
    report["duration_us"] = int((time.monotonic() - begun) * 1e6)
    report["killed_at_end"] = kill_everything()
    report["before"], report["after"] = before, usage()
    end_token = str(header["end_token"]).encode()
    send_all(1, end_token)
    send_all(2, end_token + json.dumps(report).encode() + end_token)
    return exit_code


def main() -> None:
    """``supervisor.py RUNTIME MEMORY_MB IDLE_SECONDS``."""
    runtime, memory_mb, idle_seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    preloaded = {name for name in sys.modules if name.partition(".")[0] not in LOADED_BY_SITE}
    preloaded -= set(sys.builtin_module_names) | {"__main__"}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    pid, control = start_zygote(runtime, memory_mb)
    if not pid:
        run_python(control, preloaded)
        return
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    os._exit(supervise(pid, control, idle_seconds))


main()
