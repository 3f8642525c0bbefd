"""Submissions and manifests for scanner tests."""

import gzip
import io
import tarfile
from collections.abc import Mapping

from activities.scanning import Submission, scan, submission_of
from models.manifest import AgentManifest, Capability
from models.scanning import ScanReport

EVERY_CAPABILITY = tuple(Capability)


def manifest(
    runtime: str = "python", entry_point: str | None = None, capabilities: tuple[Capability, ...] = ()
) -> AgentManifest:
    return AgentManifest.model_validate(
        {
            "name": "Sample",
            "slug": "sample",
            "version": "1.0.0",
            "description": "A sample.",
            "category": "test",
            "runtime": runtime,
            "entry_point": entry_point or ("main.py" if runtime == "python" else "index.js"),
            "capabilities": [capability.value for capability in capabilities],
        }
    )


def submission(files: Mapping[str, str | bytes]) -> Submission:
    return submission_of(
        {path: data.encode() if isinstance(data, str) else data for path, data in files.items()}
    )


def scan_files(
    files: Mapping[str, str | bytes],
    runtime: str = "python",
    capabilities: tuple[Capability, ...] = EVERY_CAPABILITY,
) -> ScanReport:
    entry = "main.py" if runtime == "python" else "index.js"
    return scan(submission({entry: "", **files}), manifest(runtime, entry, capabilities))


def scan_python_code(code: str, capabilities: tuple[Capability, ...] = EVERY_CAPABILITY) -> ScanReport:
    return scan_files({"main.py": code}, "python", capabilities)


def scan_node_code(code: str, capabilities: tuple[Capability, ...] = EVERY_CAPABILITY) -> ScanReport:
    return scan_files({"index.js": code}, "node", capabilities)


def rules_of(report: ScanReport) -> set[str]:
    return {finding.rule for finding in (*report.violations, *report.warnings)}


def tar_of(*members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.GNU_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    return info


def packed(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    return gzip.compress(tar_of(*members))
