"""Human approvals: one workflow per request, from the question to the answer (flowgrid-level3 §2)."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.approval import ApprovalActivities
    from models.approval import (
        Actor,
        ApprovalOutcome,
        ApprovalRequest,
        ApprovalState,
        Cancel,
        Changes,
        Comment,
        Creation,
        Decide,
        Decided,
        Delegate,
        Extend,
        Facts,
        Order,
        Reassign,
        SetCalendar,
        approval_workflow_id,
    )
    from models.approval_errors import ApprovalNotFoundError
    from models.run import RunKind, RunStatus
    from models.search_attributes import RUN_STATUS, run_attributes
    from models.task_queues import TaskQueue
    from models.timeouts import RECORD_RETRY, RECORD_TIMEOUT
    from workflows.approvals.machine import ApprovalMachine

MILLISECOND = timedelta(milliseconds=1)

WITHDRAWN = Actor(user_id="switchyard", manages=True)
"""Who cancels a request when whoever waits for it was cancelled."""


@workflow.defn(name="Approval")
class Approval:
    """Ask people, wait for what their policy makes of their answers, and for what time makes of silence.

    Trigger: a workflow that waits (`ask`), or ``POST /api/approvals``.
    Messages: the updates ``decide``, ``acknowledge``, ``claim``, ``release``, ``reassign``, ``delegate``,
        ``comment``, ``extend``, ``set_calendar`` and ``cancel`` answer when what they did is recorded; their
        validators refuse what may not be. The query ``facts`` tells how it stands.
    Timers: the next of warnings, reminders, response and resolution time, escalation levels, the end of a
        claim, of a veto's window, of the chain.
    Compensation: cancelled with whatever waits for it; messages that went out get their final form.
    Ends: decided, expired (a default applied), cancelled, or superseded.
    """

    @workflow.init
    def __init__(self, request: ApprovalRequest) -> None:
        """Start before anybody was found; handlers refuse until then."""
        self._request = request
        self._machine: ApprovalMachine | None = None
        self._recorded = 0
        self._cancelled = False

    @workflow.run
    async def run(self, request: ApprovalRequest) -> ApprovalOutcome:
        """Walk one request to its end."""
        machine = await self._open()
        while not machine.closed:
            await self._until(machine)
            if self._cancelled and not machine.closed:
                machine.cancel(
                    Cancel(actor=WITHDRAWN, reason="what waited for it was cancelled"), workflow.now()
                )
            machine.elapse(workflow.now())
            await self._record(machine)
        status = RunStatus.SUCCEEDED
        if machine.state in (ApprovalState.CANCELLED, ApprovalState.SUPERSEDED):
            status = RunStatus.CANCELED
        workflow.upsert_search_attributes([RUN_STATUS.value_set(status.value)])
        await workflow.wait_condition(workflow.all_handlers_finished)
        if self._cancelled and machine.state is ApprovalState.CANCELLED:
            raise asyncio.CancelledError
        return machine.outcome()

    async def _open(self) -> ApprovalMachine:
        """Find the people, then tell that the request is there."""
        opened = await workflow.execute_local_activity_method(
            ApprovalActivities.open_approval,
            self._request,
            start_to_close_timeout=RECORD_TIMEOUT,
            retry_policy=RECORD_RETRY,
            summary="find the people",
        )
        now = workflow.now()
        machine = ApprovalMachine(self._request, opened, now)
        machine.open(now)
        changes = machine.take()
        assert changes is not None, "an opening is told"
        await self._to_its_end(
            workflow.execute_local_activity_method(
                ApprovalActivities.create_approval,
                Creation(request=self._request, changes=changes),
                start_to_close_timeout=RECORD_TIMEOUT,
                retry_policy=RECORD_RETRY,
                summary="ask",
            )
        )
        self._recorded, self._machine = changes.number, machine
        self._show(machine)
        return machine

    async def _until(self, machine: ApprovalMachine) -> None:
        """Wait until somebody or time has done something."""
        if machine.changed or self._cancelled:
            return
        due = machine.next_at()
        try:
            await workflow.wait_condition(
                lambda: machine.changed,
                timeout=None if due is None else _pause(due - workflow.now()),
                timeout_summary="until time brings something",
            )
        except TimeoutError:
            return
        except asyncio.CancelledError:
            self._cancelled = True

    async def _record(self, machine: ApprovalMachine) -> None:
        """Write down what happened; what happens meanwhile is written down with the next record."""
        while (changes := machine.take()) is not None:
            await self._to_its_end(
                workflow.execute_local_activity_method(
                    ApprovalActivities.record_approval,
                    changes,
                    start_to_close_timeout=RECORD_TIMEOUT,
                    retry_policy=RECORD_RETRY,
                    summary=_summary(changes),
                )
            )
            self._recorded = changes.number
        self._show(machine)

    async def _recorded_now(self, machine: ApprovalMachine) -> None:
        """Answer only when what the caller did is stored."""
        wanted = machine.number + 1 if machine.changed else machine.number
        await workflow.wait_condition(lambda: self._recorded >= wanted)

    # -- Updates --------------------------------------------------------------------------------------

    @workflow.update
    async def decide(self, command: Decide) -> Decided:
        """Count a verdict; a repeated click gets the first answer."""
        machine = self._present()
        answer = machine.decide(command, workflow.now())
        await self._recorded_now(machine)
        return answer

    @decide.validator
    def _may_decide(self, command: Decide) -> None:
        self._present().check_decide(command)

    @workflow.update
    async def acknowledge(self, order: Order) -> None:
        """Somebody has seen it."""
        machine = self._present()
        machine.acknowledge(order, workflow.now())
        await self._recorded_now(machine)

    @acknowledge.validator
    def _may_acknowledge(self, order: Order) -> None:
        self._present().check_acknowledge(order)

    @workflow.update
    async def claim(self, order: Order) -> None:
        """Keep the others off."""
        machine = self._present()
        machine.claim(order, workflow.now())
        await self._recorded_now(machine)

    @claim.validator
    def _may_claim(self, order: Order) -> None:
        self._present().check_claim(order)

    @workflow.update
    async def release(self, order: Order) -> None:
        """Give a claim back."""
        machine = self._present()
        machine.release(order, workflow.now())
        await self._recorded_now(machine)

    @release.validator
    def _may_release(self, order: Order) -> None:
        self._present().check_release(order)

    @workflow.update
    async def reassign(self, order: Reassign) -> None:
        """Let others decide."""
        machine = self._present()
        machine.reassign(order, workflow.now())
        await self._recorded_now(machine)

    @reassign.validator
    def _may_reassign(self, order: Reassign) -> None:
        self._present().check_reassign(order)

    @workflow.update
    async def delegate(self, order: Delegate) -> None:
        """Let one more person decide in somebody's place."""
        machine = self._present()
        machine.delegate(order, workflow.now())
        await self._recorded_now(machine)

    @delegate.validator
    def _may_delegate(self, order: Delegate) -> None:
        self._present().check_delegate(order)

    @workflow.update
    async def comment(self, order: Comment) -> None:
        """Keep a remark, a question, or an answer to one."""
        machine = self._present()
        machine.comment_on(order, workflow.now())
        await self._recorded_now(machine)

    @comment.validator
    def _may_comment(self, order: Comment) -> None:
        self._present().check_comment(order)

    @workflow.update
    async def extend(self, order: Extend) -> None:
        """Give more time."""
        machine = self._present()
        machine.extend(order, workflow.now())
        await self._recorded_now(machine)

    @extend.validator
    def _may_extend(self, order: Extend) -> None:
        self._present().check_extend(order)

    @workflow.update
    async def set_calendar(self, order: SetCalendar) -> None:
        """Count by another calendar from now on."""
        machine = self._present()
        machine.set_calendar(order, workflow.now())
        await self._recorded_now(machine)

    @set_calendar.validator
    def _may_set_calendar(self, order: SetCalendar) -> None:
        self._present().check_calendar(order)

    @workflow.update
    async def cancel(self, order: Cancel) -> None:
        """Withdraw the request."""
        machine = self._present()
        machine.cancel(order, workflow.now())
        await self._recorded_now(machine)

    @cancel.validator
    def _may_cancel(self, order: Cancel) -> None:
        self._present().check_cancel(order)

    @workflow.query
    def facts(self) -> Facts | None:
        """Tell how the request stands; nothing before it is stored."""
        return None if self._machine is None else self._machine.facts()

    def _present(self) -> ApprovalMachine:
        if self._machine is None:
            raise ApprovalNotFoundError(self._request.approval_id)
        return self._machine

    def _show(self, machine: ApprovalMachine) -> None:
        """Show operators how it stands, without an entry in the history."""
        people = ", ".join(machine.people.waiting()[:10])
        waits = f"Waits for {people}." if people and not machine.closed else (machine.close_reason or "")
        workflow.set_current_details(f"**{machine.status()}** — {machine.spec.title}\n\n{waits}")

    async def _to_its_end(self, step: Coroutine[Any, Any, None]) -> None:
        """Await a record that a cancellation of the workflow must not tear; the wish is remembered."""
        task = asyncio.ensure_future(step)
        while True:
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                if task.cancelled():
                    raise
                self._cancelled = True


def _pause(left: timedelta) -> timedelta:
    """Round up to whole milliseconds: a timer that fires early would have to be set again."""
    return max(MILLISECOND, -(-left // MILLISECOND) * MILLISECOND)


def _summary(changes: Changes) -> str:
    return ", ".join(event.type.value for event in changes.events[:5]) or "record"


async def ask(request: ApprovalRequest) -> ApprovalOutcome:
    """Ask people from within a workflow and wait for the outcome, as a child that ends with its parent.

    ``models.approval.approval_id`` gives an identifier that tells repeated visits of one task apart.
    Cancelling the awaiting task cancels the request, and is over when that is recorded.

    Args:
        request: Whom to ask what; its ``run_id`` is the waiting run.

    Returns:
        What it came to. ``outcome.approved`` says whether to go on, ``outcome.payload`` with what.

    Raises:
        ChildWorkflowError: The request could not be opened (its cause names the group that does not exist).
    """
    return await workflow.execute_child_workflow(
        Approval.run,
        request,
        id=approval_workflow_id(request.approval_id),
        task_queue=TaskQueue.CORE,
        parent_close_policy=workflow.ParentClosePolicy.REQUEST_CANCEL,
        cancellation_type=workflow.ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
        search_attributes=run_attributes(
            tenant_id=request.tenant_id,
            kind=RunKind.APPROVAL,
            status=RunStatus.RUNNING,
            subject=request.spec.title[:200],
            correlation_id=request.correlation_id,
        ),
        static_summary=request.spec.title[:200],
    )


async def ask_until_bound(
    visit: Callable[[int], ApprovalRequest], present: Callable[[], Awaitable[str]], *, first_visit: int = 1
) -> ApprovalOutcome:
    """Ask, and ask again as long as what was approved is not what would be done now.

    Args:
        visit: Makes the request of the n-th visit from the present facts.
        present: Returns ``spec.content_hash()`` of what would be done now.
        first_visit: Number of the first request.

    Returns:
        The outcome of the last request: one whose approval is bound to the present action, or a refusal.
    """
    number = first_visit
    while True:
        outcome = await ask(visit(number))
        if not outcome.approved or outcome.state_updates or outcome.payload_hash == await present():
            return outcome
        workflow.logger.info("what was approved has changed since; it is asked again")
        number += 1
