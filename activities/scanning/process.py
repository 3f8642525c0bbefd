"""Scanning in a child that can be killed: own interpreter, memory, processor and wall-clock limits."""

import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from activities.scanning.archive import Submission, read_folder, submission_of, unpack
from activities.scanning.limits import SUBMISSION_LIMITS, WALL_SECONDS, ArchiveLimits
from activities.scanning.packing import sha256_hex
from activities.scanning.rulebook import RULE_SET_VERSION, RULES
from models.errors import PlatformError
from models.manifest import AgentManifest
from models.scanning import Finding, ScanReport, Verdict

_MAX_REPLY = 64 << 20
_ROOT = str(Path(__file__).resolve().parents[2])


@dataclass(frozen=True, slots=True)
class ScanOutcome:
    """What the child answered.

    Attributes:
        report: Always there; a child that died or ran over its limits gives BLOCK by ``scanner.limit``.
        limit_exceeded: Whether the child was stopped.
    """

    report: ScanReport
    limit_exceeded: bool = False


def scan_in_process(
    archive: bytes,
    manifest: AgentManifest | None = None,
    *,
    limits: ArchiveLimits = SUBMISSION_LIMITS,
    wall_seconds: float = WALL_SECONDS,
) -> ScanOutcome:
    """Unpack and scan ``archive`` in a child process. Blocks; call it from a thread.

    Args:
        archive: The ``tar.gz`` (or tar) as uploaded or stored.
        manifest: Declared capabilities; read from the archive's ``manifest.json`` when absent.
        limits: Archive bounds.
        wall_seconds: After this time the child is killed.

    Raises:
        ArchiveTooLargeError: See `activities.scanning.archive.unpack`.
        InvalidArchiveError: See `activities.scanning.archive.unpack`.
    """
    submission = unpack(archive, limits)
    return scan_submission_in_process(submission, manifest, wall_seconds=wall_seconds)


def scan_submission_in_process(
    submission: Submission, manifest: AgentManifest | None, *, wall_seconds: float = WALL_SECONDS
) -> ScanOutcome:
    """Scan an already unpacked submission in a child process."""
    request = _frame(submission, manifest)
    child = subprocess.Popen(
        [sys.executable, "-I", "-c", _BOOT, _ROOT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.defpath, "LANG": "C.UTF-8"},
        start_new_session=True,
    )
    try:
        reply, _ = child.communicate(request, timeout=wall_seconds)
    except subprocess.TimeoutExpired:
        _kill(child)
        return _limited(submission, f"no answer within {wall_seconds:g} s")
    except BaseException:
        _kill(child)
        raise
    if child.returncode != 0 or len(reply) > _MAX_REPLY:
        return _limited(submission, f"the scanning process ended with status {child.returncode}")
    try:
        report = ScanReport.model_validate_json(reply)
    except ValueError:
        return _limited(submission, "the scanning process gave no report")
    return ScanOutcome(report)


_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from activities.scanning.child import main; main()"


def _frame(submission: Submission, manifest: AgentManifest | None) -> bytes:
    """Header line with paths and sizes, then the files' bytes."""
    header = {
        "sha256": submission.sha256,
        "files": [[path, len(data)] for path, data in submission.files.items()],
        "manifest": None if manifest is None else manifest.model_dump(mode="json"),
    }
    return b"".join([json.dumps(header).encode(), b"\n", *submission.files.values()])


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End the child and the processes it forked: they are one session."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        child.kill()
    child.communicate()


def _limited(submission: Submission, detail: str) -> ScanOutcome:
    report = blocked_report(
        "scanner.limit", detail, archive_sha256=submission.sha256, files_scanned=len(submission.files)
    )
    return ScanOutcome(report, limit_exceeded=True)


def blocked_report(rule: str, detail: str, *, archive_sha256: str = "", files_scanned: int = 0) -> ScanReport:
    """Return a BLOCK report with one violation, for what could not be scanned."""
    definition = RULES[rule]
    finding = Finding(
        rule=rule,
        file="",
        severity=definition.severity,
        message=f"{definition.message}: {detail}"[:500],
        remedy=definition.remedy,
    )
    return ScanReport(
        verdict=Verdict.BLOCK,
        scanned_at=datetime.now(UTC),
        rule_set_version=RULE_SET_VERSION,
        archive_sha256=archive_sha256,
        files_scanned=files_scanned,
        violations=[finding],
        warnings=[],
        dependencies_checked=0,
    )


def scan_path(
    path: Path | str, *, limits: ArchiveLimits = SUBMISSION_LIMITS, wall_seconds: float = WALL_SECONDS
) -> ScanReport:
    """Scan a folder, ``tar.gz``, tar or zip on disk, in a child process; offline.

    The manifest is the submission's own ``manifest.json``. A missing or invalid manifest is a
    finding, an archive that is refused gives BLOCK by ``archive.refused``: every path that can be
    read gets a verdict.

    Raises:
        FileNotFoundError: There is no such path.
    """
    source = Path(path)
    if not source.exists():
        raise FileNotFoundError(f"There is no file or folder at {source}.")
    digest = ""
    try:
        if source.is_dir():
            submission = read_folder(source, limits)
        else:
            data = _read_capped(source, limits)
            digest = sha256_hex(data)
            submission = open_archive(source.name, data, limits)
    except PlatformError as error:
        return blocked_report("archive.refused", f"{error.code}: {error.message}", archive_sha256=digest)
    except OSError as error:
        return blocked_report("archive.refused", f"cannot be read: {error.strerror}", archive_sha256=digest)
    return scan_submission_in_process(
        without_wrapper(submission, limits), None, wall_seconds=wall_seconds
    ).report


def _read_capped(source: Path, limits: ArchiveLimits) -> bytes:
    with source.open("rb") as stream:
        return stream.read(max(limits.compressed, limits.stream) + 1)


def open_archive(name: str, data: bytes, limits: ArchiveLimits) -> Submission:
    """Read a ``tar.gz``, tar or zip (a single other file counts as a submission of one file)."""
    if data[:2] == b"\x1f\x8b" or data[257:262] == b"ustar":
        return unpack(data, limits)
    if data[:2] == b"PK":
        return _unzip(data, limits)
    return submission_of({name: data}, limits)


def _unzip(data: bytes, limits: ArchiveLimits) -> Submission:
    from models.scanning import ArchiveTooLargeError, InvalidArchiveError

    files: dict[str, bytes] = {}
    total = 0
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if len(entries) > limits.count * 2:
                raise InvalidArchiveError("file_count", f"The archive holds more than {limits.count} files.")
            for entry in entries:
                if entry.is_dir():
                    continue
                if (entry.external_attr >> 28) not in (0, 8):
                    raise InvalidArchiveError("member_type", "A member is a link or a special file.")
                if entry.filename in files:
                    raise InvalidArchiveError("duplicate_name", "Two members have the same name.")
                with archive.open(entry) as stream:
                    content = stream.read(limits.file + 1)
                total += len(content)
                if len(content) > limits.file or total > limits.total:
                    raise ArchiveTooLargeError("The code", limits.total)
                files[entry.filename] = content
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise InvalidArchiveError("zip", f"The zip cannot be read: {type(error).__name__}.") from None
    except Exception as error:
        if isinstance(error, PlatformError):
            raise
        raise InvalidArchiveError("zip", f"The zip cannot be read: {type(error).__name__}.") from None
    return submission_of(files, limits)


def without_wrapper(submission: Submission, limits: ArchiveLimits) -> Submission:
    """Drop the one folder that holds everything, as ``npm pack`` and ``tar -czf x.tar.gz agent/`` make."""
    tops = {path.split("/", 1)[0] for path in submission.files}
    if (
        len(tops) != 1
        or any("/" not in path for path in submission.files)
        or "manifest.json" in submission.files
    ):
        return submission
    return submission_of({path.split("/", 1)[1]: data for path, data in submission.files.items()}, limits)
