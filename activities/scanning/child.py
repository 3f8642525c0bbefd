"""The scanning child: limits itself, reads one submission, writes one report.

Big submissions are divided between two forks so that both cores work; a fork that dies names the
file it was at, which is then scanned alone and blamed if it kills that fork too.
"""

import gc
import hashlib
import json
import os
import pickle
import resource
import struct
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from activities.scanning.archive import Submission
from activities.scanning.constants_index import build_context
from activities.scanning.file_kinds import Kind, sniff
from activities.scanning.file_scan import Context, FileResult, scan_file, scan_span
from activities.scanning.findings import Collector
from activities.scanning.limits import ANSWER_BYTES, CPU_SECONDS, FORK_BYTES, PARALLEL_THRESHOLD, SPAN_BYTES
from activities.scanning.parts import middle
from activities.scanning.scanner import assemble, read_manifest
from activities.scanning.verdict import by_weight
from activities.scanning.yara_rules import compiled
from models.manifest import AgentManifest
from models.scanning import Finding, ScannedFile

_STACK_BYTES = 512 * 1024
_ADDING = threading.Lock()
# Of one file; the whole submission's findings must fit into memory beside the forks.
_KEPT_FINDINGS = 6_000
_LEAST_FINDINGS = 8
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
    threading.stack_size(_STACK_BYTES)
    results = _scan_all(files, context)
    _limit_memory(ANSWER_BYTES)
    report = assemble(submission, results, context, manifest_findings=findings)
    sys.stdout.write(report.model_dump_json())
    sys.stdout.flush()


@dataclass(frozen=True)
class _Job:
    """A file, or a span of one: path, byte range, lines before it, kind when it is known."""

    path: str
    start: int
    end: int
    first_line: int = 0
    kind: Kind | None = None


@dataclass
class _Shard:
    pid: int
    reader: int
    jobs: list[_Job]


def _scan_all(files: Mapping[str, bytes], context: Context) -> list[FileResult]:
    jobs = [job for path in files for job in _jobs(path, files[path])]
    total = sum(map(len, files.values()))
    parallel = total > PARALLEL_THRESHOLD and len(jobs) > 1 and (os.cpu_count() or 1) > 1
    groups: list[list[_Job]] = [[], []] if parallel else [[]]
    loads = [0] * len(groups)
    for job in sorted(jobs, key=lambda job: job.start - job.end):
        lightest = loads.index(min(loads))
        groups[lightest].append(job)
        loads[lightest] += job.end - job.start + 2_000
    results: dict[str, FileResult] = {}
    room = max(_LEAST_FINDINGS, _KEPT_FINDINGS // max(1, len(files)))
    run = _Run(files, context, results, room)
    for job in run.all(groups, FORK_BYTES // len(groups)):
        for blamed in run.all([[job]], FORK_BYTES):
            run.add(_limit_result(blamed.path))
    return [_whole(result, files[result.file.path]) for result in results.values()]


def _jobs(path: str, data: bytes) -> list[_Job]:
    """Divide a large source in two, so that both cores have something to do."""
    if len(data) > SPAN_BYTES:
        kind = sniff(path, data)
        cut = middle(data, kind.language) if kind.language != "text" else None
        if cut is not None:
            lines = data.count(b"\n", 0, cut)
            return [_Job(path, 0, cut, 0, kind), _Job(path, cut, len(data), lines, kind)]
    return [_Job(path, 0, len(data))]


def _whole(result: FileResult, data: bytes) -> FileResult:
    """Give the result of the spans of a file the size and digest of the file."""
    if result.file.size != len(data):
        digest = hashlib.sha256(data).hexdigest()
        result.file = result.file.model_copy(update={"size": len(data), "sha256": digest})
    return result


@dataclass
class _Run:
    """Forks and what they answered; ``room`` is how many findings of a file are kept."""

    files: Mapping[str, bytes]
    context: Context
    results: dict[str, FileResult]
    room: int

    def all(self, groups: list[list[_Job]], memory: int) -> list[_Job]:
        """Scan each group in a fork; return the jobs at which a fork died."""
        suspects: list[_Job] = []
        waiting = [group for group in groups if group]
        while waiting:
            shards = [self._fork(group, memory) for group in waiting]
            waiting = []
            # One reader per fork: a fork must never wait for the other one's pipe to be emptied.
            with ThreadPoolExecutor(max_workers=len(shards)) as readers:
                counts = list(readers.map(self._collect, shards))
            for shard, done in zip(shards, counts, strict=True):
                suspects.extend(shard.jobs[done : done + 1])
                if shard.jobs[done + 1 :]:
                    waiting.append(shard.jobs[done + 1 :])
        return suspects

    def add(self, result: FileResult) -> None:
        """Keep a result, or add it to what another span of the file gave; the most serious findings stay."""
        known = self.results.get(result.file.path)
        if known is not None:
            known.findings.extend(result.findings)
            known.dropped += result.dropped
            known.capabilities = {**result.capabilities, **known.capabilities}
            result = known
        if len(result.findings) > self.room:
            result.findings.sort(key=by_weight)
            result.dropped += len(result.findings) - self.room
            del result.findings[self.room :]
        self.results[result.file.path] = result

    def _fork(self, jobs: list[_Job], memory: int) -> _Shard:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            status = 1
            try:
                self._work(jobs, memory, writer)
                status = 0
            except BaseException:
                status = 1
            finally:
                os._exit(status)
        os.close(writer)
        return _Shard(pid, reader, jobs)

    def _work(self, jobs: list[_Job], memory: int, writer: int) -> None:
        gc.disable()
        _limit_memory(memory)
        with os.fdopen(writer, "wb") as stream:
            pending = 0
            for job in jobs:
                data = pickle.dumps(self._scan(job), protocol=5)
                stream.write(_LENGTH.pack(len(data)) + data)
                stream.flush()
                pending += job.end - job.start
                if pending > _COLLECT_BYTES:
                    gc.collect()
                    pending = 0

    def _scan(self, job: _Job) -> FileResult:
        data = self.files[job.path]
        if job.kind is None:
            return scan_file(job.path, data, self.context)
        result = scan_span(job.path, data[job.start : job.end], self.context, job.kind, job.first_line)
        result.findings.append(_finding("limit.parts", job.path))
        return result

    def _collect(self, shard: _Shard) -> int:
        """Read what a fork answers; return how many of its jobs it finished."""
        done = 0
        with os.fdopen(shard.reader, "rb") as stream:
            while True:
                head = stream.read(_LENGTH.size)
                if len(head) < _LENGTH.size:
                    break
                data = stream.read(_LENGTH.unpack(head)[0])
                if len(data) < _LENGTH.unpack(head)[0]:
                    break
                with _ADDING:
                    self.add(pickle.loads(data))
                done += 1
        os.waitpid(shard.pid, 0)
        return done


def _limit_memory(more: int) -> None:
    """Let this process take ``more`` bytes of memory of its own, beyond what it has (or shares) now."""
    with open("/proc/self/status", encoding="ascii") as status:
        kibibytes = next(int(line.split()[1]) for line in status if line.startswith("VmData:"))
    limit = (kibibytes << 10) + more
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _finding(rule: str, path: str, detail: str = "") -> Finding:
    out = Collector(path, "")
    out.add(rule, detail=detail)
    return out.findings[0]


def _limit_result(path: str) -> FileResult:
    """The result of a file that no fork survived; its size and digest are filled in later."""
    file = ScannedFile(path=path, size=-1, sha256="", kind="unscannable")
    return FileResult(file, [_finding("scanner.limit", path, "this file")], {})
