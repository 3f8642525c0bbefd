"""What publishing does to the world: take a slug, scan, store, record decisions, write letters."""

import asyncio
import hashlib
from typing import Any

import orjson
import structlog
from temporalio import activity

from activities.channels.email import Letter, Mailer
from activities.records.publishing import (
    claim_submission,
    find_addressee,
    find_agent,
    find_version,
    lock_version,
    record_decision,
    record_rescan,
    record_scan,
    versions_due,
)
from activities.records.runs import append_events, create_run, lock_run
from activities.sandbox.runner import SandboxRunner
from activities.scanning.archive import Submission as Archive
from activities.scanning.archive import unpack
from activities.scanning.packing import sha256_hex
from activities.scanning.process import scan_submission_in_process
from activities.scanning.rulebook import RULE_SET_VERSION
from activities.services import Services
from activities.storage import ObjectNotFoundError
from activities.temporal.heartbeat import heartbeating
from models.errors import InvalidRequestError
from models.event import EventType, NewEvent
from models.execution import CodeTamperedError
from models.json_schema import violations
from models.manifest import AgentManifest
from models.publishing import (
    AWAITING_REVIEW,
    Agent,
    AgentVersion,
    DecisionRecord,
    DecisionResult,
    LetterKind,
    LetterRequest,
    PublishRequest,
    RescanAnswer,
    ReviewTestResult,
    ReviewTestRun,
    ScanAnswer,
    ScanRequest,
    Submission,
    UploadLostError,
    Verb,
    VersionReference,
    VersionsDue,
    VersionsDueRequest,
    VersionStatus,
)
from models.run import Run, RunKind, RunStatus
from models.sandbox import ExitReason, SandboxLimits, SandboxRequest, SandboxResult, SandboxUnavailableError
from models.scanning import ScanReport, Verdict
from models.table import utc_now

logger = structlog.get_logger()

MAX_FINDINGS_IN_EVENT = 10


def upload_key(version_id: str) -> str:
    """Object key of submitted bytes until they are scanned. Nothing runs from here."""
    return f"quarantine/{version_id}"


def code_key(agent_id: str, version: str) -> str:
    """Object key of a version's canonical archive (frameos-agent-runtime-flows, "Upload to S3")."""
    return f"agents/{agent_id}/v{version}.tar.gz"


class PublishingActivities:
    """The activities of ``PublishReview`` and ``RescanPublished``."""

    def __init__(self, services: Services, sandbox: SandboxRunner | None) -> None:
        """Work on ``services``; only the worker of the sandbox queue needs a sandbox."""
        self._services = services
        self._database = services.database
        self._objects = services.objects
        self._mailer = Mailer(services.settings)
        self._sandbox = sandbox

    @activity.defn(name="open_submission")
    async def open_submission(self, request: PublishRequest) -> Submission:
        """Take slug and version and open the run, in one transaction; safe to repeat.

        Raises:
            SlugTakenError: The slug is another developer's.
            VersionExistsError: The agent has this version already.
        """
        async with self._database.tenant(request.tenant_id) as connection:
            submission = await claim_submission(connection, request)
            await create_run(
                connection,
                Run(
                    id=request.version_id,
                    tenant_id=request.tenant_id,
                    kind=RunKind.PUBLISH_REVIEW,
                    subject=request.manifest["slug"],
                    correlation_id=request.correlation_id,
                    workflow_id=activity.info().workflow_id or "",
                ),
            )
            run = await lock_run(connection, request.version_id)
            if run.status is RunStatus.PENDING:
                submitted = {
                    "agent_id": submission.agent_id,
                    "slug": request.manifest["slug"],
                    "version": request.manifest["version"],
                    "upload_sha256": request.upload_hash,
                    "upload_bytes": request.upload_size,
                }
                await append_events(
                    connection,
                    request.version_id,
                    [NewEvent(type=EventType.AGENT_SUBMITTED, key="submitted", data=submitted)],
                    status=RunStatus.QUEUED,
                )
        return submission

    @activity.defn(name="discard_upload")
    async def discard_upload(self, key: str) -> None:
        """Remove submitted bytes that were refused at the door; safe to repeat."""
        await self._objects.delete(key)

    @activity.defn(name="scan_submission")
    async def scan_submission(self, request: ScanRequest) -> ScanAnswer:
        """Scan the upload in a process of its own and record the result; safe to repeat.

        What is blocked leaves its report and hash only. What passes is stored as the canonical archive
        that was scanned, so that the scanned, the stored, the hashed and the executed bytes are the same.

        Raises:
            UnavailableError: Store or database are away; the next attempt may succeed.
        """
        submission = request.submission
        async with self._database.tenant(submission.tenant_id) as connection:
            version = await find_version(connection, submission.version_id)
            if version.status is VersionStatus.SCANNING:
                await append_events(
                    connection,
                    submission.version_id,
                    [NewEvent(type=EventType.RUN_DISPATCHED, key="dispatched")],
                    status=RunStatus.DISPATCHED,
                )
        if version.status is not VersionStatus.SCANNING:
            # An earlier attempt recorded its result, and its worker died before it could say so.
            await self._objects.delete(request.upload_key)
            return _answer_of(version)
        manifest = AgentManifest.model_validate(version.manifest)
        try:
            upload = await self._upload(request.upload_key)
            async with heartbeating():
                archive, report = await asyncio.to_thread(_scan, upload, manifest)
        except InvalidRequestError as refusal:
            answer = await self._record_unreadable(submission, refusal)
        else:
            answer = await self._record_report(submission, report, archive, manifest.version)
        await self._objects.delete(request.upload_key)
        return answer

    async def _upload(self, key: str) -> bytes:
        try:
            return await self._objects.get(key)
        except ObjectNotFoundError:
            raise UploadLostError from None

    async def _record_unreadable(self, submission: Submission, refusal: InvalidRequestError) -> ScanAnswer:
        """Record that the upload is no archive that we would open."""
        async with self._database.tenant(submission.tenant_id) as connection:
            await append_events(
                connection,
                submission.version_id,
                [
                    NewEvent(
                        type=EventType.AGENT_SCANNED,
                        key="scanned",
                        data={"verdict": Verdict.BLOCK, "code": refusal.code, "message": refusal.message},
                    )
                ],
                status=RunStatus.FAILED,
            )
            version = await lock_version(connection, submission.version_id)
            await record_scan(
                connection,
                version,
                status=VersionStatus.SCAN_FAILED,
                report=None,
                reason=f"{refusal.code}: {refusal.message}",
            )
            version = await find_version(connection, submission.version_id)
        return _answer_of(version).model_copy(
            update={
                "refusal_code": refusal.code,
                "refusal_message": refusal.message,
                "refusal_details": refusal.details,
            }
        )

    async def _record_report(
        self, submission: Submission, report: ScanReport, archive: Archive, version_number: str
    ) -> ScanAnswer:
        """Store what passed, then record the report and the status that the verdict leads to."""
        blocked = report.verdict is Verdict.BLOCK
        key = None if blocked else code_key(submission.agent_id, version_number)
        if key is not None:
            await self._objects.put(
                key,
                archive.canonical_bytes,
                metadata={
                    "agent_id": submission.agent_id,
                    "version": version_number,
                    "uploaded_at": utc_now().isoformat(),
                    "sha256": archive.sha256,
                },
                content_type="application/gzip",
            )
        status = {
            Verdict.PASS: VersionStatus.PENDING,
            Verdict.REVIEW: VersionStatus.PENDING_REVIEW,
            Verdict.BLOCK: VersionStatus.SCAN_FAILED,
        }[report.verdict]
        async with self._database.tenant(submission.tenant_id) as connection:
            scanned = NewEvent(type=EventType.AGENT_SCANNED, key="scanned", data=_event_data(report))
            # Waiting for a reviewer is what a review's run does while it runs.
            await append_events(
                connection,
                submission.version_id,
                [scanned],
                status=RunStatus.FAILED if blocked else RunStatus.RUNNING,
            )
            version = await lock_version(connection, submission.version_id)
            await record_scan(
                connection,
                version,
                status=status,
                report=report,
                code_s3_key=key,
                code_hash=archive.sha256,
                code_size=len(archive.canonical_bytes),
                scan_passed=report.verdict is Verdict.PASS,
            )
            return _answer_of(await find_version(connection, submission.version_id))

    @activity.defn(name="record_decision")
    async def record_decision(self, record: DecisionRecord) -> DecisionResult:
        """Publish or reject, in one transaction with the events that say so; safe to repeat."""
        decision = record.decision
        approved = decision.verb is Verb.APPROVE
        facts = {"agent_id": record.agent_id, "reviewer": decision.reviewer_id, "reason": decision.reason}
        events = [
            NewEvent(
                type=EventType.AGENT_APPROVED if approved else EventType.AGENT_REJECTED,
                key="decided",
                data={**facts, "code_hash": decision.code_hash},
            )
        ]
        if approved:
            events.append(NewEvent(type=EventType.AGENT_PUBLISHED, key="published", data=facts))
        async with self._database.tenant(record.tenant_id) as connection:
            await append_events(
                connection,
                record.version_id,
                events,
                status=RunStatus.SUCCEEDED if approved else RunStatus.FAILED,
            )
            version = await lock_version(connection, record.version_id)
            status = version.status
            if status in AWAITING_REVIEW:
                status = await record_decision(connection, version, decision, record.decided_at)
        return DecisionResult(
            agent_id=record.agent_id,
            version_id=record.version_id,
            status=status,
            reviewed_by=decision.reviewer_id,
            reviewed_at=record.decided_at,
            review_reason=decision.reason,
        )

    @activity.defn(name="send_letter")
    async def send_letter(self, request: LetterRequest) -> None:
        """Write to a version's developer; one whose address is not known is not written to.

        Raises:
            MailUnavailableError: The mail server is away; the next attempt may succeed.
            MailRefusedError: It refuses for good.
        """
        async with self._database.tenant(request.tenant_id) as connection:
            version = await find_version(connection, request.version_id)
            agent = await find_agent(connection, version.agent_id)
            address, name = await find_addressee(connection, version.developer_id)
        if address is None:
            logger.warning("developer_has_no_address", run_id=version.id, user_id=version.developer_id)
            return
        await self._mailer.send(_letter(request.kind, address, name, agent, version))

    @activity.defn(name="list_versions_due")
    async def list_versions_due(self, request: VersionsDueRequest) -> VersionsDue:
        """List published versions of any tenant that were last scanned by other rules."""
        async with self._database.platform() as connection:
            found = await versions_due(
                connection, request.rule_set_version, after=request.after, limit=request.limit
            )
        return VersionsDue(versions=found)

    @activity.defn(name="rescan_version")
    async def rescan_version(self, reference: VersionReference) -> RescanAnswer:
        """Scan a published version's stored code again; a violation takes it out of the marketplace.

        Raises:
            UnavailableError: Store or database are away; the next attempt may succeed.
        """
        async with self._database.tenant(reference.tenant_id) as connection:
            version = await find_version(connection, reference.version_id)
        try:
            code = await self.stored_code(version)
        except (ObjectNotFoundError, CodeTamperedError) as lost:
            return await self._quarantine(version, None, lost.message)
        async with heartbeating():
            _, report = await asyncio.to_thread(_scan, code, AgentManifest.model_validate(version.manifest))
        if report.verdict is not Verdict.BLOCK:
            async with self._database.tenant(reference.tenant_id) as connection:
                locked = await lock_version(connection, reference.version_id)
                await record_rescan(connection, locked, report, status=locked.status)
            return RescanAnswer(version_id=version.id, quarantined=False)
        first = report.violations[0]
        reason = f"Rules {RULE_SET_VERSION}: {first.rule} in {first.file}:{first.line}: {first.message}"
        return await self._quarantine(version, report, reason)

    async def _quarantine(
        self, version: AgentVersion, report: ScanReport | None, reason: str
    ) -> RescanAnswer:
        kept = report or ScanReport.model_validate(version.scan_report)
        if report is None:
            # The old report stands for code that is gone; its rules count as the present ones.
            kept = kept.model_copy(update={"rule_set_version": RULE_SET_VERSION})
        async with self._database.tenant(version.tenant_id) as connection:
            event = NewEvent(
                type=EventType.AGENT_QUARANTINED,
                key=f"quarantined:{RULE_SET_VERSION}",
                data={"agent_id": version.agent_id, "version": version.version, "reason": reason},
            )
            await append_events(connection, version.id, [event])
            locked = await lock_version(connection, version.id)
            if locked.status is VersionStatus.PUBLISHED:
                await record_rescan(connection, locked, kept, status=VersionStatus.QUARANTINED, reason=reason)
        logger.error("agent_quarantined", run_id=version.id, agent_id=version.agent_id, alert=True)
        return RescanAnswer(version_id=version.id, quarantined=True)

    async def stored_code(self, version: AgentVersion) -> bytes:
        """Read a version's canonical archive and check that it is the one that was scanned.

        Raises:
            ObjectNotFoundError: The object is gone.
            CodeTamperedError: Its SHA-256 is not the recorded one.
        """
        code = await self._objects.get(version.code_s3_key or "")
        if sha256_hex(code) != version.code_hash:
            raise CodeTamperedError(version.id)
        return code

    @activity.defn(name="run_review_test")
    async def run_review_test(self, run: ReviewTestRun) -> ReviewTestResult:
        """Run a version that awaits review in the sandbox, with its declared hosts and without secrets.

        Raises:
            CodeTamperedError: The stored code is not the scanned code.
            SandboxUnavailableError: The engine is away; the next attempt may succeed.
        """
        if self._sandbox is None:
            raise SandboxUnavailableError("this worker", "it serves the queue without a sandbox")
        async with self._database.tenant(run.tenant_id) as connection:
            version = await find_version(connection, run.version_id)
        manifest = AgentManifest.model_validate(version.manifest)
        request = SandboxRequest.model_validate(
            {
                "execution_id": run.test_id,
                "attempt": activity.info().attempt,
                "runtime": manifest.runtime.value,
                "entry_point": manifest.entry_point,
                "code": await self.stored_code(version),
                "inputs": run.test.inputs,
                "config": run.test.config,
                "limits": SandboxLimits(
                    memory_mb=max(manifest.memory_mb, 64), timeout_ms=max(manifest.timeout_ms, 100)
                ),
                "network": manifest.network,
            }
        )
        result = await self._sandbox.run(request, heartbeat=activity.heartbeat)
        if result.exit_reason is ExitReason.INFRA_LOST:
            raise SandboxUnavailableError(self._services.settings.docker_host, result.detail)
        return test_result(run.test_id, result, manifest)


def _scan(code: bytes, manifest: AgentManifest) -> tuple[Archive, ScanReport]:
    """Unpack, and scan in a process that can be killed; blocks for up to half a minute."""
    archive = unpack(code)
    return archive, scan_submission_in_process(archive, manifest).report


def test_result(test_id: str, result: SandboxResult, manifest: AgentManifest) -> ReviewTestResult:
    """Say how a test run ended, with its output checked against the manifest's schema."""
    outputs: Any = orjson.loads(result.stdout) if result.succeeded else None
    broken = violations(outputs, manifest.output_schema) if result.succeeded else []
    stderr = result.stderr_tail.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
    return ReviewTestResult(
        test_id=test_id,
        exit_reason=ExitReason.OUTPUT_INVALID if broken else result.exit_reason,
        exit_code=result.exit_code,
        detail="The output does not fit the manifest's output schema." if broken else result.detail,
        outputs=outputs,
        output_violations=[violation.model_dump() for violation in broken],
        stderr=stderr,
        duration_ms=result.duration_ms,
        memory_peak_bytes=result.memory_peak_bytes,
        egress=[decision.model_dump(mode="json") for decision in result.egress],
    )


def _answer_of(version: AgentVersion) -> ScanAnswer:
    report = version.scan_report or {}
    code, separator, message = (version.review_reason or "").partition(": ")
    unreadable = version.status is VersionStatus.SCAN_FAILED and not report and bool(separator)
    return ScanAnswer(
        agent_id=version.agent_id,
        version_id=version.id,
        status=version.status,
        scan_passed=version.scan_passed,
        code_hash=version.code_hash,
        rule_set_version=version.rule_set_version,
        violations=len(report.get("violations", [])),
        warnings=len(report.get("warnings", [])),
        refusal_code=code if unreadable else None,
        refusal_message=message if unreadable else None,
    )


def _event_data(report: ScanReport) -> dict[str, Any]:
    shown = [*report.violations, *report.warnings][:MAX_FINDINGS_IN_EVENT]
    return {
        "verdict": report.verdict,
        "code_hash": report.archive_sha256,
        "rule_set_version": report.rule_set_version,
        "files_scanned": report.files_scanned,
        "violations": len(report.violations),
        "warnings": len(report.warnings),
        "findings": [
            {"rule": each.rule, "file": each.file, "line": each.line, "severity": each.severity}
            for each in shown
        ],
    }


def _letter(kind: LetterKind, to: str, name: str | None, agent: Agent, version: AgentVersion) -> Letter:
    what = f"{version.manifest['name']} {version.version}"
    reason = version.review_reason
    words: dict[LetterKind, tuple[str, tuple[str, ...]]] = {
        LetterKind.PUBLISHED: (
            f"{what} is published",
            (
                f"{what} was approved and is in the marketplace now, as '{agent.slug}'.",
                *((f"The reviewer's remark:\n{reason}",) if reason else ()),
            ),
        ),
        LetterKind.REJECTED: (
            f"{what} was rejected",
            (
                f"A reviewer looked at {what} and rejected it for this reason:",
                reason or "",
                "Correct it, raise the version in the manifest, and submit it again with "
                "'switchyard agents publish'.",
            ),
        ),
        LetterKind.QUARANTINED: (
            f"{what} was taken out of the marketplace",
            (
                f"{what} was scanned again and no longer passes, so it cannot be deployed or executed:",
                reason or "",
                f"'switchyard agents status {version.id}' shows the findings. Correct the code, raise the "
                "version, and submit it again.",
            ),
        ),
    }
    subject, paragraphs = words[kind]
    return Letter(
        key=f"{version.id}:{kind}:{hashlib.sha256((reason or '').encode()).hexdigest()[:8]}",
        to=to,
        subject=subject,
        paragraphs=(f"Hello {name or to},", *paragraphs, "Switchyard"),
    )
