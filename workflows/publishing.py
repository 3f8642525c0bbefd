"""From a submitted archive to a published version: scan, human decision, letter."""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, FailureError

with workflow.unsafe.imports_passed_through():
    from activities.publishing import PublishingActivities
    from activities.temporal.failures import refusal_of
    from models.publishing import (
        AWAITING_REVIEW,
        CodeHashMismatchError,
        Decision,
        DecisionRecord,
        DecisionResult,
        FourEyesError,
        LetterKind,
        LetterRequest,
        PublishRequest,
        ReasonRequiredError,
        RescanRequest,
        RescanSummary,
        ReviewTest,
        ReviewTestResult,
        ReviewTestRun,
        ScanAnswer,
        ScanRequest,
        Submission,
        TooManyTestRunsError,
        Verb,
        VersionNotPendingError,
        VersionsDueRequest,
        VersionStatus,
    )
    from models.run import RunStatus
    from models.search_attributes import RUN_STATUS
    from models.task_queues import TaskQueue
    from models.timeouts import (
        MAIL_RETRY,
        MAIL_TIMEOUT,
        OBJECT_TIMEOUT,
        RECORD_RETRY,
        RECORD_TIMEOUT,
        SANDBOX_HEARTBEAT,
        SANDBOX_MARGIN,
        SANDBOX_RETRY,
        SCAN_TIMEOUT,
    )

MAX_TEST_RUNS = 100
"""Per version; every one is an update, and a workflow takes 2 000 of them."""


@workflow.defn(name="PublishReview")
class PublishReview:
    """Scan a submission, wait for a reviewer, publish or reject, tell the developer.

    Trigger: ``POST /agents/register``, as update-with-start.
    Messages: the update ``scanned`` answers what the scan came to, or refuses the submission (slug or
        version taken); the update ``decide`` approves or rejects the version, once; the update ``test``
        runs the version in the sandbox for a reviewer.
    Timers: none; a review may take as long as it takes.
    Compensation: what the scan refuses leaves only its report and hash.
    Ends: ``published``, ``rejected`` or ``scan_failed``, or refused before anything was stored.
    """

    @workflow.init
    def __init__(self, request: PublishRequest) -> None:
        """Start before anything is known; handlers see a whole object from the first moment."""
        self._request = request
        self._status = VersionStatus.SCANNING
        self._answer: ScanAnswer | None = None
        self._refusal: ApplicationError | None = None
        self._decision: Decision | None = None
        self._result: DecisionResult | None = None
        self._tests = 0

    @workflow.run
    async def run(self, request: PublishRequest) -> VersionStatus | None:
        """Walk one submission to its end; the answer is None where it was refused at the door."""
        submission = await self._claim()
        if submission is not None:
            await self._scan(submission)
        if self._status in AWAITING_REVIEW and submission is not None:
            await workflow.wait_condition(lambda: self._decision is not None)
            await self._record_decision(submission)
            await self._write_to_developer()
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self._status if submission is not None else None

    @workflow.update
    async def scanned(self) -> ScanAnswer:
        """Answer once the scan has ended.

        Raises:
            ApplicationError: The submission was refused; its type is the refusal's code.
        """
        await workflow.wait_condition(lambda: self._answer is not None or self._refusal is not None)
        if self._refusal is not None:
            raise self._refusal
        assert self._answer is not None
        return self._answer

    @workflow.update
    async def decide(self, decision: Decision) -> DecisionResult:
        """Approve or reject; answers when the marketplace shows it."""
        # Set before anything is awaited: of two decisions that arrive together the first one counts.
        self._decision = decision
        await workflow.wait_condition(lambda: self._result is not None)
        assert self._result is not None
        return self._result

    @decide.validator
    def _may_decide(self, decision: Decision) -> None:
        request = self._request
        if self._decision is not None:
            verb = "approved" if self._decision.verb is Verb.APPROVE else "rejected"
            raise VersionNotPendingError(request.version_id, verb, self._decision.reviewer_id)
        if self._status not in AWAITING_REVIEW or self._answer is None:
            raise VersionNotPendingError(request.version_id, self._status)
        if decision.reviewer_id == request.developer_id:
            raise FourEyesError(request.version_id)
        if decision.verb is Verb.REJECT and not (decision.reason or "").strip():
            raise ReasonRequiredError
        if decision.code_hash != self._answer.code_hash:
            raise CodeHashMismatchError(request.version_id, decision.code_hash, self._answer.code_hash or "")

    @workflow.update
    async def test(self, test: ReviewTest) -> ReviewTestResult:
        """Run the version in the sandbox; nobody is charged."""
        self._tests += 1
        manifest = self._request.manifest
        return await workflow.execute_activity_method(
            PublishingActivities.run_review_test,
            ReviewTestRun(
                test_id=f"test.{self._request.version_id}.{self._tests}",
                version_id=self._request.version_id,
                tenant_id=self._request.tenant_id,
                test=test,
            ),
            task_queue=TaskQueue.SANDBOX,
            start_to_close_timeout=timedelta(milliseconds=manifest["timeout_ms"]) + SANDBOX_MARGIN,
            heartbeat_timeout=SANDBOX_HEARTBEAT,
            retry_policy=SANDBOX_RETRY,
            summary=f"test run by {test.requested_by}",
        )

    @test.validator
    def _may_test(self, test: ReviewTest) -> None:
        if self._status not in AWAITING_REVIEW or self._decision is not None:
            raise VersionNotPendingError(self._request.version_id, self._status)
        if test.requested_by == self._request.developer_id:
            raise FourEyesError(self._request.version_id)
        if self._tests >= MAX_TEST_RUNS:
            raise TooManyTestRunsError(MAX_TEST_RUNS)

    @workflow.query
    def status(self) -> VersionStatus:
        """Tell where the version stands."""
        return self._status

    async def _claim(self) -> Submission | None:
        """Take slug and version; None when they are not to be had."""
        self._show(RunStatus.QUEUED, "Takes slug and version.")
        try:
            return await workflow.execute_local_activity_method(
                PublishingActivities.open_submission,
                self._request,
                start_to_close_timeout=RECORD_TIMEOUT,
                retry_policy=RECORD_RETRY,
                summary="take slug and version",
            )
        except FailureError as error:
            # A local activity's failure arrives bare, not inside an ActivityError.
            refusal = refusal_of(error)
            if refusal is None:
                raise
            self._refusal = ApplicationError(
                refusal.message, refusal.details, type=refusal.code, non_retryable=True
            )
            self._show(RunStatus.FAILED, refusal.message)
        await workflow.execute_activity_method(
            PublishingActivities.discard_upload,
            self._request.upload_key,
            start_to_close_timeout=OBJECT_TIMEOUT,
            retry_policy=RECORD_RETRY,
            summary="discard the upload",
        )
        return None

    async def _scan(self, submission: Submission) -> None:
        """Scan the upload; what passes is stored in its canonical form."""
        self._show(RunStatus.DISPATCHED, "The code is being scanned.")
        answer = await workflow.execute_activity_method(
            PublishingActivities.scan_submission,
            ScanRequest(submission=submission, upload_key=self._request.upload_key),
            start_to_close_timeout=SCAN_TIMEOUT,
            heartbeat_timeout=SANDBOX_HEARTBEAT,
            retry_policy=RECORD_RETRY,
            summary="scan the code",
        )
        self._status, self._answer = answer.status, answer
        if answer.status in AWAITING_REVIEW:
            self._show(RunStatus.RUNNING, f"Waits for a reviewer; {answer.warnings} warning(s).")
        else:
            self._show(RunStatus.FAILED, f"The scan refused it: {answer.violations} violation(s).")

    async def _record_decision(self, submission: Submission) -> None:
        """Write the decision down; from then on the marketplace shows it."""
        assert self._decision is not None
        self._result = await workflow.execute_local_activity_method(
            PublishingActivities.record_decision,
            DecisionRecord(
                version_id=submission.version_id,
                agent_id=submission.agent_id,
                tenant_id=submission.tenant_id,
                decision=self._decision,
                decided_at=workflow.now(),
            ),
            start_to_close_timeout=RECORD_TIMEOUT,
            retry_policy=RECORD_RETRY,
            summary=f"{self._decision.verb} by {self._decision.reviewer_id}",
        )
        self._status = self._result.status
        published = self._status is VersionStatus.PUBLISHED
        self._show(
            RunStatus.SUCCEEDED if published else RunStatus.FAILED,
            f"{self._status} by {self._decision.reviewer_id}.",
        )

    async def _write_to_developer(self) -> None:
        """Send the letter; a mail server that is away for long does not undo a decision."""
        published = self._status is VersionStatus.PUBLISHED
        try:
            await workflow.execute_activity_method(
                PublishingActivities.send_letter,
                LetterRequest(
                    kind=LetterKind.PUBLISHED if published else LetterKind.REJECTED,
                    version_id=self._request.version_id,
                    tenant_id=self._request.tenant_id,
                ),
                start_to_close_timeout=MAIL_TIMEOUT,
                retry_policy=MAIL_RETRY,
                summary="write to the developer",
            )
        except ActivityError as error:
            workflow.logger.warning("the developer could not be written to", exc_info=error)

    def _show(self, status: RunStatus, details: str) -> None:
        """Show the stage to operators."""
        workflow.set_current_details(f"**{self._status}** — {details}")
        workflow.upsert_search_attributes([RUN_STATUS.value_set(status.value)])


@workflow.defn(name="RescanPublished")
class RescanPublished:
    """Scan every published version again after the rules changed; a new violation quarantines it.

    Trigger: ``POST /rescans``; one workflow per rule set, so that starting it twice scans once.
    Messages: none.
    Timers: none.
    Ends: when every published version that had a report of other rules was looked at.
    """

    @workflow.run
    async def run(self, request: RescanRequest) -> RescanSummary:
        """Scan one version after the other, oldest first."""
        after, rescanned, quarantined = request.after, request.rescanned, request.quarantined
        while True:
            due = await workflow.execute_local_activity_method(
                PublishingActivities.list_versions_due,
                VersionsDueRequest(
                    rule_set_version=request.rule_set_version, after=after, limit=request.batch
                ),
                start_to_close_timeout=RECORD_TIMEOUT,
                retry_policy=RECORD_RETRY,
            )
            if not due.versions:
                return RescanSummary(
                    rule_set_version=request.rule_set_version, rescanned=rescanned, quarantined=quarantined
                )
            for version in due.versions:
                answer = await workflow.execute_activity_method(
                    PublishingActivities.rescan_version,
                    version,
                    start_to_close_timeout=SCAN_TIMEOUT,
                    heartbeat_timeout=SANDBOX_HEARTBEAT,
                    retry_policy=RECORD_RETRY,
                    summary=version.version_id,
                )
                after, rescanned = version.version_id, rescanned + 1
                if answer.quarantined:
                    quarantined += 1
                    await self._write_to_developer(version.version_id, version.tenant_id)
            workflow.set_current_details(f"{rescanned} scanned again, {quarantined} quarantined.")
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(
                    request.model_copy(
                        update={"after": after, "rescanned": rescanned, "quarantined": quarantined}
                    )
                )

    async def _write_to_developer(self, version_id: str, tenant_id: str) -> None:
        try:
            await workflow.execute_activity_method(
                PublishingActivities.send_letter,
                LetterRequest(kind=LetterKind.QUARANTINED, version_id=version_id, tenant_id=tenant_id),
                start_to_close_timeout=MAIL_TIMEOUT,
                retry_policy=MAIL_RETRY,
            )
        except ActivityError as error:
            workflow.logger.warning("the developer could not be written to", exc_info=error)
