"""The scanning child: limits itself, reads one submission, writes one report.

Big submissions are divided between two forks so that both cores work; a fork that dies names the
file it was at, which is then scanned alone and blamed if it kills that fork too.
"""

import gc
import json
import os
import pickle
import resource
import struct
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from activities.scanning.archive import Submission
from activities.scanning.constants_index import build_context
from activities.scanning.file_scan import Context, FileResult, scan_file
from activities.scanning.limits import CPU_SECONDS, MEMORY_BYTES, PARALLEL_THRESHOLD
from activities.scanning.rulebook import RULES
from activities.scanning.scanner import assemble, read_manifest
from activities.scanning.yara_rules import compiled
from models.manifest import AgentManifest
from models.scanning import Finding, ScannedFile

_LENGTH = struct.Struct("<I")
# Rules free their trees themselves; the collector only sweeps up after unforeseen cycles.
_COLLECT_BYTES = 4_000_000


def main() -> None:
    """Read a framed submission from standard input and write its report to standard output."""
    raw = sys.stdin.buffer.read()
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    header_bytes, _, body = raw.partition(b"\n")
    del raw
    header = json.loads(header_bytes)
    files: dict[str, bytes] = {}
    offset = 0
    for path, size in header["files"]:
        files[path] = body[offset : offset + size]
        offset += size
    del body
    submission = Submission(files, b"", header["sha256"])
    if header["manifest"] is None:
        declared, findings = read_manifest(files)
    else:
        manifest = AgentManifest.model_validate(header["manifest"])
        declared, findings = frozenset(manifest.capabilities), []
        if manifest.entry_point not in files:
            _, findings = read_manifest({"manifest.json": json.dumps(header["manifest"]).encode(), **files})
    sys.setrecursionlimit(3_000)
    context = build_context(files, declared)
    compiled()
    gc.freeze()
    results = _scan_all(files, context)
    report = assemble(submission, results, context, manifest_findings=findings)
    sys.stdout.write(report.model_dump_json())
    sys.stdout.flush()


@dataclass
class _Shard:
    pid: int
    reader: int
    paths: list[str]


def _scan_all(files: Mapping[str, bytes], context: Context) -> list[FileResult]:
    big = (
        sum(len(data) for data in files.values()) > PARALLEL_THRESHOLD
        and len(files) > 1
        and (os.cpu_count() or 1) > 1
    )
    pending = sorted(files, key=lambda path: -len(files[path]))
    groups: list[list[str]] = [[], []] if big else [[]]
    loads = [0] * len(groups)
    for path in pending:
        lightest = loads.index(min(loads))
        groups[lightest].append(path)
        loads[lightest] += len(files[path]) + 2_000
    results: dict[str, FileResult] = {}
    memory = MEMORY_BYTES // len(groups)
    suspects = _run(groups, files, context, memory, results)
    for path in suspects:
        blamed = _run([[path]], files, context, MEMORY_BYTES, results)
        for name in blamed:
            results[name] = _limit_result(name, files[name])
    return list(results.values())


def _run(
    groups: list[list[str]],
    files: Mapping[str, bytes],
    context: Context,
    memory: int,
    results: dict[str, FileResult],
) -> list[str]:
    """Scan each group in a fork; return the files whose fork died at them, their group's rest included."""
    suspects: list[str] = []
    waiting = [list(group) for group in groups if group]
    while waiting:
        shards = [_fork(group, files, context, memory) for group in waiting]
        waiting = []
        # One reader per fork: a fork must never wait for the other one's pipe to be emptied.
        with ThreadPoolExecutor(max_workers=len(shards)) as readers:
            collected = list(readers.map(lambda shard: _collect(shard, results), shards))
        for shard, done in zip(shards, collected, strict=True):
            if len(done) < len(shard.paths):
                suspects.append(shard.paths[len(done)])
                rest = shard.paths[len(done) + 1 :]
                if rest:
                    waiting.append(rest)
    return suspects


def _fork(paths: list[str], files: Mapping[str, bytes], context: Context, memory: int) -> _Shard:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        status = 1
        try:
            _work(paths, files, context, memory, writer)
            status = 0
        except BaseException:
            status = 1
        finally:
            os._exit(status)
    os.close(writer)
    return _Shard(pid, reader, paths)


def _work(paths: list[str], files: Mapping[str, bytes], context: Context, memory: int, writer: int) -> None:
    gc.disable()
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    with os.fdopen(writer, "wb") as stream:
        pending = 0
        for path in paths:
            result = scan_file(path, files[path], context)
            data = pickle.dumps(result, protocol=5)
            stream.write(_LENGTH.pack(len(data)) + data)
            stream.flush()
            pending += len(files[path])
            if pending > _COLLECT_BYTES:
                gc.collect()
                pending = 0


def _collect(shard: _Shard, results: dict[str, FileResult]) -> list[str]:
    done: list[str] = []
    with os.fdopen(shard.reader, "rb") as stream:
        while True:
            head = stream.read(_LENGTH.size)
            if len(head) < _LENGTH.size:
                break
            data = stream.read(_LENGTH.unpack(head)[0])
            if len(data) < _LENGTH.unpack(head)[0]:
                break
            result: FileResult = pickle.loads(data)
            results[result.file.path] = result
            done.append(result.file.path)
    os.waitpid(shard.pid, 0)
    return done


def _limit_result(path: str, data: bytes) -> FileResult:
    import hashlib

    rule = RULES["scanner.limit"]
    finding = Finding(
        rule="scanner.limit",
        file=path,
        severity=rule.severity,
        message=f"{rule.message}: this file",
        remedy=rule.remedy,
    )
    return FileResult(
        ScannedFile(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest(), kind="unscannable"),
        [finding],
        {},
    )
