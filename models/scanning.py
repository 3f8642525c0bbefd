"""What the code scanner says about a submission: findings, report, verdict, and its refusals.

Source: frameos-agent-runtime-flows, code scanning flow (``scan_report`` has ``scanned_at``,
``files_scanned``, ``violations``, ``warnings``, ``dependencies_checked``; refusal ``SCAN_FAILED``).
"""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from models.errors import InvalidRequestError
from models.manifest import Capability

MAX_DECODED_CHARACTERS = 400


class Severity(StrEnum):
    """Weight of a finding. CRITICAL and HIGH block, MEDIUM asks for review, LOW only informs."""

    CRITICAL = "CRITICAL"
    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    LOW = "LOW"


class Verdict(StrEnum):
    """PASS: pending the ordinary approval. REVIEW: pending with warnings. BLOCK: refused."""

    PASS = "PASS"
    REVIEW = "REVIEW"
    BLOCK = "BLOCK"


class Finding(BaseModel):
    """One thing the scanner noticed.

    Attributes:
        rule: Stable rule id, e.g. ``hidden.import``.
        file: Path inside the submission; layers of decoding are appended, e.g. ``a.py!base64``.
        line: 1-based line, 0 when the finding concerns the whole file.
        column: 1-based column, 0 when unknown.
        severity: Weight.
        message: What was found.
        remedy: What the developer can do.
        decoded_value: The folded or decoded value, cut to 400 characters; never a secret.
        snippet_hash: SHA-256 (first 16 hex digits) of the source line, to follow a finding over versions.
        capability: The capability used, for findings about capabilities.
    """

    model_config = ConfigDict(frozen=True)

    rule: str
    file: str
    line: int = 0
    column: int = 0
    severity: Severity
    message: str
    remedy: str
    decoded_value: str | None = Field(default=None, max_length=MAX_DECODED_CHARACTERS)
    snippet_hash: str = ""
    capability: Capability | None = None


class ScannedFile(BaseModel):
    """One file that was read, with what its content is.

    Attributes:
        path: Path inside the submission.
        size: Bytes.
        sha256: Hex digest of the bytes.
        kind: Content type by sniffing, e.g. ``python``, ``javascript``, ``elf``, ``text``.
    """

    model_config = ConfigDict(frozen=True)

    path: str
    size: int
    sha256: str
    kind: str


class ScanReport(BaseModel):
    """The scanner's answer for one submission.

    Attributes:
        verdict: Outcome.
        scanned_at: UTC time of the scan.
        rule_set_version: Version of rules and data; a new one triggers re-scans.
        archive_sha256: Digest of the canonical archive that was scanned.
        files_scanned: Number of files, every one of the submission.
        violations: Findings that block.
        warnings: Findings for the reviewer (MEDIUM) and the developer (LOW).
        dependencies_checked: Number of declared dependencies looked at.
        capabilities_used: Capabilities seen in the code.
        files: Every file with digest and kind.
        suppressed_findings: Findings beyond the report's cap; they count in the verdict.
    """

    verdict: Verdict
    scanned_at: datetime
    rule_set_version: str
    archive_sha256: str
    files_scanned: int
    violations: list[Finding]
    warnings: list[Finding]
    dependencies_checked: int
    capabilities_used: list[Capability] = Field(default_factory=list)
    files: list[ScannedFile] = Field(default_factory=list)
    suppressed_findings: int = 0


class ScanFailedError(InvalidRequestError):
    """The scan blocks the submission; ``details["violations"]`` lists why."""

    code = "SCAN_FAILED"

    def __init__(self, report: ScanReport) -> None:
        first = report.violations[0] if report.violations else None
        where = f" First: {first.rule} in {first.file}:{first.line}: {first.message}" if first else ""
        super().__init__(
            f"The code scan found {len(report.violations)} violation(s).{where}"[:2_000],
            details={"violations": [finding.model_dump(mode="json") for finding in report.violations]},
        )


class InvalidBase64Error(InvalidRequestError):
    """``code_base64`` is not strict standard base64."""

    code = "INVALID_BASE64"

    def __init__(self) -> None:
        super().__init__(
            "code_base64 is not valid base64. Encode the archive with the standard alphabet and padding, "
            "without line breaks.",
            details={"fields": [{"field": "code_base64", "rule": "standard base64 with padding"}]},
        )


class ArchiveTooLargeError(InvalidRequestError):
    """The archive is over a size limit, compressed or expanded."""

    code = "ARCHIVE_TOO_LARGE"

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(
            f"{what} is larger than {limit} bytes. Remove files that the agent does not need at run time.",
            details={"limit_bytes": limit},
        )


class InvalidArchiveError(InvalidRequestError):
    """The archive is malformed or holds something that is not a plain file with a plain name."""

    code = "INVALID_ARCHIVE"

    def __init__(self, rule: str, message: str, *, member: str | None = None) -> None:
        details: dict[str, str] = {"rule": rule}
        if member is not None:
            details["member"] = member[:200]
        super().__init__(f"{message} Build it with: tar -czf agent.tar.gz <files>.", details=details)
