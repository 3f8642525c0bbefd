"""Agents and their versions: what a developer registers and a reviewer decides on.

Source: frameos-agent-runtime-flows, "Agent Publishing Flow". Approval belongs to one version and the
SHA-256 of its code, never to the agent: a new version never ships unreviewed.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel
from pydantic import Field as Limit
from sqlalchemy import BigInteger, Index, Text, text
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlmodel import Field

from models.errors import ConflictError, InvalidRequestError, NotFoundError, PermissionDeniedError
from models.table import Record, json_field, time_field


class AgentStatus(StrEnum):
    """Where an agent stands in the marketplace."""

    DRAFT = "draft"
    """Its owner has the slug; no version passed the scan yet."""
    PENDING = "pending"
    """A version waits for its first review."""
    PUBLISHED = "published"
    """At least one version is published: the marketplace shows it."""
    REJECTED = "rejected"
    """Nothing is published and the last decision was no."""
    QUARANTINED = "quarantined"
    """Everything that was published failed a later scan."""


class VersionStatus(StrEnum):
    """Where one version of an agent stands."""

    SCANNING = "scanning"
    PENDING = "pending"
    """Scanned without remarks; waits for a reviewer."""
    PENDING_REVIEW = "pending_review"
    """Scanned with warnings; waits for a reviewer, who sees them."""
    PUBLISHED = "published"
    """Approved: can be deployed and executed, also after a newer version is published."""
    REJECTED = "rejected"
    SCAN_FAILED = "scan_failed"
    """Refused by the scanner. Only report and hash are kept, and the version may be uploaded again."""
    QUARANTINED = "quarantined"
    """Was published, then a newer rule set blocked it: cannot be deployed or executed."""


AWAITING_REVIEW = frozenset({VersionStatus.PENDING, VersionStatus.PENDING_REVIEW})


class Agent(Record, table=True):
    """One agent of the marketplace. Name, description and category are those of the published version."""

    __tablename__ = "agents"
    __table_args__ = (
        Index("ix_agents_tenant_id_created_at", "tenant_id", "created_at"),
        Index("ix_agents_category", "category", postgresql_where=text("status = 'published'")),
        Index("ix_agents_search", "search", postgresql_using="gin"),
    )

    id: str = Field(primary_key=True)
    tenant_id: str
    """The developer's tenant."""
    developer_id: str
    """The user who registered it; the payee of its executions."""
    slug: str = Field(unique=True)
    name: str
    description: str
    category: str
    status: AgentStatus = Field(default=AgentStatus.DRAFT, sa_type=Text)
    published_version_id: str | None = None
    """The newest published version: what a deployment without a version gets."""
    search: str | None = Field(default=None, sa_type=TSVECTOR)
    """Words of name, category and description, for the marketplace's text search."""
    created_at: datetime = time_field()
    updated_at: datetime = time_field()


class AgentVersion(Record, table=True):
    """One uploaded version. Manifest and code never change once it awaits review."""

    __tablename__ = "agent_versions"
    __table_args__ = (
        Index(
            "uq_agent_versions_agent_id_version",
            "agent_id",
            "version",
            unique=True,
            postgresql_where=text("status <> 'scan_failed'"),
        ),
        Index("ix_agent_versions_tenant_id_submitted_at", "tenant_id", "submitted_at"),
        Index("ix_agent_versions_status_submitted_at", "status", "submitted_at"),
    )

    id: str = Field(primary_key=True)
    """Also the identifier of its ``publish_review`` run."""
    agent_id: str = Field(foreign_key="agents.id")
    tenant_id: str
    developer_id: str
    version: str
    """SemVer 2.0, unique within the agent; only a version that failed the scan may be uploaded again."""
    manifest: dict[str, Any] = json_field()
    status: VersionStatus = Field(default=VersionStatus.SCANNING, sa_type=Text)
    code_s3_key: str | None = None
    """Object key of the canonical archive; None until the scan let it through."""
    code_hash: str | None = None
    """SHA-256 (hex) of the canonical archive, or of the refused upload."""
    code_size: int | None = Field(default=None, sa_type=BigInteger)
    """Bytes of the canonical archive."""
    scan_passed: bool = False
    """No violation and nothing that needs a reviewer's attention."""
    scan_report: dict[str, Any] | None = json_field(nullable=True)
    """`models.scanning.ScanReport` of the latest scan, as JSON."""
    rule_set_version: str | None = None
    """Rules of the latest scan; a published version with an older one is due for a re-scan."""
    submitted_at: datetime = time_field()
    reviewed_by: str | None = None
    reviewed_at: datetime | None = time_field(nullable=True)
    review_reason: str | None = None
    """Why it was rejected or quarantined, or the reviewer's remark."""
    published_at: datetime | None = time_field(nullable=True)


class PublishRequest(BaseModel):
    """What ``PublishReview`` starts with. The code waits in S3; only its reference is here."""

    version_id: str
    agent_id: str
    """Identifier for the agent if the slug is new; an existing agent keeps its own."""
    tenant_id: str
    developer_id: str
    manifest: dict[str, Any]
    """Valid `models.manifest.AgentManifest`, as JSON."""
    upload_key: str
    """Object key of the submitted bytes, in quarantine."""
    upload_hash: str
    """SHA-256 (hex) of the submitted bytes."""
    upload_size: int
    correlation_id: str


class Submission(BaseModel):
    """A submission whose slug and version number are taken for it."""

    version_id: str
    agent_id: str
    tenant_id: str


class ScanRequest(BaseModel):
    """Scan the upload of a submission."""

    submission: Submission
    upload_key: str


class ScanAnswer(BaseModel):
    """What the scan came to; the whole report is in the store."""

    agent_id: str
    version_id: str
    status: VersionStatus
    """``pending``, ``pending_review`` or ``scan_failed``."""
    scan_passed: bool
    code_hash: str | None
    rule_set_version: str | None
    violations: int = 0
    warnings: int = 0
    refusal_code: str | None = None
    """Code of the refusal when the archive itself could not be read."""
    refusal_message: str | None = None
    refusal_details: dict[str, Any] = Limit(default_factory=dict)


class Verb(StrEnum):
    """What a reviewer can decide."""

    APPROVE = "approve"
    REJECT = "reject"


class Decision(BaseModel):
    """A reviewer's decision on the code with the given hash."""

    verb: Verb
    reviewer_id: str
    reason: str | None = None
    code_hash: str
    """The hash the reviewer saw; the decision counts for no other code."""


class DecisionRecord(BaseModel):
    """A decision to be written down for a version."""

    version_id: str
    agent_id: str
    tenant_id: str
    decision: Decision
    decided_at: datetime


class DecisionResult(BaseModel):
    """Where the version stands after the decision."""

    agent_id: str
    version_id: str
    status: VersionStatus
    reviewed_by: str
    reviewed_at: datetime
    review_reason: str | None = None


class ReviewTest(BaseModel):
    """A reviewer's wish to see the version run in the sandbox."""

    requested_by: str
    inputs: Any = None
    config: dict[str, Any] = Limit(default_factory=dict)


class ReviewTestRun(BaseModel):
    """A test run, addressed."""

    test_id: str
    version_id: str
    tenant_id: str
    test: ReviewTest


class ReviewTestResult(BaseModel):
    """How a test run ended. Nobody is charged and nothing is counted."""

    test_id: str
    exit_reason: str
    exit_code: int | None
    detail: str
    outputs: Any = None
    """The parsed output, when there is one."""
    output_violations: list[dict[str, str]] = Limit(default_factory=list)
    """Where the output breaks the manifest's output schema."""
    stderr: str = ""
    duration_ms: int = 0
    memory_peak_bytes: int | None = None
    egress: list[dict[str, Any]] = Limit(default_factory=list)


class LetterKind(StrEnum):
    """Occasions on which a developer is written to."""

    PUBLISHED = "published"
    REJECTED = "rejected"
    QUARANTINED = "quarantined"


class LetterRequest(BaseModel):
    """A letter to a version's developer."""

    kind: LetterKind
    version_id: str
    tenant_id: str


class RescanRequest(BaseModel):
    """Re-scan what was scanned by other rules than ``rule_set_version``."""

    rule_set_version: str
    batch: int = 50
    after: str = ""
    """The last version that was looked at; this and the counts are carried over continue-as-new."""
    rescanned: int = 0
    quarantined: int = 0


class VersionReference(BaseModel):
    """One version of one tenant."""

    version_id: str
    tenant_id: str


class VersionsDueRequest(BaseModel):
    """Ask for published versions whose last scan used other rules."""

    rule_set_version: str
    after: str
    """Only versions whose identifiers come after this one: each is looked at once."""
    limit: int


class VersionsDue(BaseModel):
    """Published versions with a report of other rules."""

    versions: list[VersionReference]


class RescanAnswer(BaseModel):
    """What a re-scan of one version came to."""

    version_id: str
    quarantined: bool


class RescanSummary(BaseModel):
    """What a re-scan of all published versions came to."""

    rule_set_version: str
    rescanned: int
    quarantined: int


_SEMVER = re.compile(r"^(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+.*)?$")


def version_order(version: str) -> tuple[Any, ...]:
    """Return a key that sorts SemVer versions by precedence (semver.org 2.0.0, clause 11).

    Args:
        version: A valid SemVer version, as the manifest guarantees.
    """
    match = _SEMVER.match(version)
    assert match is not None, "the manifest's pattern admits SemVer only"
    numbers = tuple(int(part) for part in match.group(1, 2, 3))
    if match.group(4) is None:
        return (*numbers, 1, ())
    identifiers = tuple(
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in match.group(4).split(".")
    )
    return (*numbers, 0, identifiers)


class UploadLostError(InvalidRequestError):
    """The submitted bytes are gone from quarantine before they were scanned."""

    code = "UPLOAD_LOST"

    def __init__(self) -> None:
        super().__init__("The submitted code was lost before it was scanned; submit it again with a new key.")


class SlugTakenError(ConflictError):
    """The slug belongs to another developer's agent."""

    code = "SLUG_TAKEN"

    def __init__(self, slug: str) -> None:
        super().__init__(
            f"The slug '{slug}' belongs to another developer. Choose another slug in the manifest.",
            details={"field": "slug", "slug": slug},
        )


class VersionExistsError(ConflictError):
    """This version of the agent was submitted before; versions are immutable."""

    code = "VERSION_EXISTS"

    def __init__(self, slug: str, version: str, status: str) -> None:
        super().__init__(
            f"Version {version} of '{slug}' exists already ({status}). Raise the version in the manifest; "
            "only a version that failed the scan can be uploaded again.",
            details={"field": "version", "slug": slug, "version": version, "status": status},
        )


class AgentNotFoundError(NotFoundError):
    """There is no such agent, or it is not published."""

    code = "AGENT_NOT_FOUND"

    def __init__(self, agent: str) -> None:
        super().__init__(
            f"There is no agent '{agent}' in the marketplace; GET /agents lists them.",
            details={"agent": agent},
        )


class VersionNotFoundError(NotFoundError):
    """There is no such agent version, or the caller may not see it."""

    code = "VERSION_NOT_FOUND"

    def __init__(self, version: str) -> None:
        super().__init__(f"There is no agent version {version}.", details={"version": version})


class CodeNotKeptError(NotFoundError):
    """The version's code is not stored: it is being scanned, or the scan refused it."""

    code = "CODE_NOT_KEPT"

    def __init__(self, version_id: str, status: str) -> None:
        super().__init__(
            f"No code is kept of version {version_id}: it is {status}.",
            details={"version_id": version_id, "status": status},
        )


class VersionFileNotFoundError(NotFoundError):
    """The version's archive has no such file."""

    code = "VERSION_FILE_NOT_FOUND"

    def __init__(self, version_id: str, path: str) -> None:
        super().__init__(
            f"Version {version_id} has no file '{path[:200]}'; "
            f"GET /agent-versions/{version_id} lists its files.",
            details={"version_id": version_id, "path": path[:200]},
        )


class TestRunSecretError(InvalidRequestError):
    """A test run's configuration holds a value that the manifest declares to be a secret."""

    code = "TEST_RUN_SECRET"

    def __init__(self, keys: Iterable[str]) -> None:
        named = sorted(keys)
        super().__init__(
            f"config.{named[0]} is a secret by the manifest, and a test run takes none. Leave it out; "
            "requests that need it are refused by the egress broker and shown in the result's egress.",
            details={"fields": [{"field": f"config.{key}", "rule": "secret"} for key in named]},
        )


class VersionNotPendingError(ConflictError):
    """The version does not wait for a decision: it is not scanned yet, or it was decided."""

    code = "VERSION_NOT_PENDING"

    def __init__(self, version_id: str, status: str, decided_by: str | None = None) -> None:
        by = f" by {decided_by}" if decided_by else ""
        super().__init__(
            f"Version {version_id} is {status}{by}; only a version that awaits review can be decided.",
            details={"version_id": version_id, "status": status, "decided_by": decided_by},
        )


class FourEyesError(PermissionDeniedError):
    """Nobody reviews their own agent."""

    code = "FOUR_EYES"

    def __init__(self, version_id: str) -> None:
        super().__init__(
            "You submitted this version, so another reviewer must decide on it.",
            details={"version_id": version_id},
        )


class ReasonRequiredError(InvalidRequestError):
    """A rejection needs a reason."""

    code = "REASON_REQUIRED"

    def __init__(self) -> None:
        super().__init__(
            "A rejection needs a reason: the developer gets it by e-mail. Fill in 'reason'.",
            details={
                "fields": [
                    {
                        "field": "reason",
                        "rule": "required",
                        "message": "is missing or empty",
                        "remedy": "Say what must change before the version can be approved.",
                    }
                ]
            },
        )


class CodeHashMismatchError(ConflictError):
    """The decision names another code than the version has."""

    code = "CODE_HASH_MISMATCH"

    def __init__(self, version_id: str, given: str, actual: str) -> None:
        super().__init__(
            f"The decision is about code {given[:16]}…, but version {version_id} has {actual[:16]}…. "
            "Look at the version again and decide on the hash it shows.",
            details={"version_id": version_id, "given": given[:64], "actual": actual},
        )


class TooManyTestRunsError(ConflictError):
    """The version was test-run as often as one submission may be."""

    code = "TOO_MANY_TEST_RUNS"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"This version has had {limit} test runs, which is the limit. Decide on what they showed.",
            details={"limit": limit},
        )
