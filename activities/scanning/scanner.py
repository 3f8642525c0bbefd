"""The scanner: a pure function from a submission and its manifest to a report."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from activities.scanning import dependencies
from activities.scanning.archive import Submission
from activities.scanning.constants_index import build_context
from activities.scanning.file_scan import Context, FileResult, scan_file
from activities.scanning.findings import Collector
from activities.scanning.rulebook import RULE_SET_VERSION
from activities.scanning.verdict import CapabilityUse, divide, undeclared
from models.manifest import AgentManifest, Capability, InvalidManifestError, parse_manifest
from models.scanning import Finding, ScanReport

MANIFEST_NAME = "manifest.json"


def scan(submission: Submission, manifest: AgentManifest) -> ScanReport:
    """Scan every file of ``submission``, in this process.

    Use `activities.scanning.process.scan_in_process` for code of strangers: a parser may use up
    memory or time, and only a child process can be killed.
    """
    context = build_context(submission.files, frozenset(manifest.capabilities))
    results = [scan_file(path, data, context) for path, data in submission.files.items()]
    return assemble(
        submission, results, context, manifest_findings=_entry_point(submission, manifest.entry_point)
    )


def assemble(
    submission: Submission,
    results: Iterable[FileResult],
    context: Context,
    *,
    manifest_findings: Iterable[Finding] = (),
) -> ScanReport:
    """Add dependencies and undeclared capabilities to the files' results and judge."""
    ordered = sorted(results, key=lambda result: result.file.path)
    used: dict[Capability, CapabilityUse] = {}
    findings: list[Finding] = list(manifest_findings)
    dropped = 0
    for result in ordered:
        findings.extend(result.findings)
        dropped += result.dropped
        for capability, (line, column, what) in result.capabilities.items():
            used.setdefault(capability, (result.file.path, line, column, what))
    checked = dependencies.check_dependencies(submission.files)
    findings.extend(checked.findings)
    findings.extend(undeclared(used, context.declared))
    verdict, violations, warnings, cut = divide(findings)
    return ScanReport(
        verdict=verdict,
        scanned_at=datetime.now(UTC),
        rule_set_version=RULE_SET_VERSION,
        archive_sha256=submission.sha256,
        files_scanned=len(ordered),
        violations=violations,
        warnings=warnings,
        dependencies_checked=checked.count,
        capabilities_used=sorted(used),
        files=[result.file for result in ordered],
        suppressed_findings=dropped + cut,
    )


def read_manifest(files: Mapping[str, bytes]) -> tuple[frozenset[Capability], list[Finding]]:
    """Read ``manifest.json`` of a submission as far as it goes.

    An invalid manifest still declares the capabilities it names, so that a scan on a developer's
    machine says something useful; registration refuses it.

    Returns:
        Declared capabilities and findings about the manifest.
    """
    out = Collector(MANIFEST_NAME, "")
    raw = files.get(MANIFEST_NAME)
    value: Any = None
    if raw is not None and len(raw) < 1 << 20:
        try:
            value = json.loads(raw)
        except (ValueError, RecursionError):
            value = None
    if not isinstance(value, dict):
        out.add("manifest.missing")
        return frozenset(), out.findings
    try:
        manifest = parse_manifest(value)
    except InvalidManifestError as error:
        fields = ", ".join(entry["field"] for entry in error.details["fields"][:12])
        out.add("manifest.invalid", detail=fields)
        names = value.get("capabilities")
        known = {item.value for item in Capability}
        declared = (
            {Capability(name) for name in names if isinstance(name, str) and name in known}
            if isinstance(names, list)
            else set()
        )
        return frozenset(declared), out.findings
    out.findings.extend(_entry_point_of(files, manifest.entry_point))
    return frozenset(manifest.capabilities), out.findings


def _entry_point(submission: Submission, entry_point: str) -> list[Finding]:
    return _entry_point_of(submission.files, entry_point)


def _entry_point_of(files: Mapping[str, bytes], entry_point: str) -> list[Finding]:
    out = Collector(MANIFEST_NAME, "")
    if entry_point not in files:
        out.add("manifest.entry_point", detail=entry_point)
    return out.findings
