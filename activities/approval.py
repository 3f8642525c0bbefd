"""What an approval does to the world: find its people, write down what happens, let people be written to."""

from datetime import timedelta

from temporalio import activity

from activities.calendar import pin_calendar
from activities.channels.routing import route
from activities.records.approval import apply_changes, insert_request
from activities.records.approval_deliveries import (
    close_deliveries,
    insert_delivery,
    mark_acted,
    preferences_of,
)
from activities.records.approval_people import (
    find_calendar,
    find_group,
    next_turn,
    open_requests_of,
    substitutes_of,
)
from activities.records.database import Connection, Database
from activities.records.runs import append_events, create_run, lock_run
from models.approval import ApprovalRequest, ApprovalState, Changes, Creation, Notice, Opened, Pool
from models.approval_errors import UnknownAssigneeError
from models.approval_policy import AssignmentRule, AssignmentType, Channel, EscalationLevel, Group, Sla, Stage
from models.approval_records import ApprovalRow
from models.calendar import CalendarDefinition, PinnedCalendar
from models.channel import DeliveryRow
from models.identifiers import derived_identifier
from models.run import Run, RunKind, RunStatus
from models.table import utc_now

MAX_NOTIFIED = 500
"""People who are written to for one notice; everybody else finds it in their inbox."""


class ApprovalActivities:
    """The activities of ``Approval``."""

    def __init__(self, database: Database) -> None:
        """Work on ``database``."""
        self._database = database

    @activity.defn(name="open_approval")
    async def open_approval(self, request: ApprovalRequest) -> Opened:
        """Find out whom the request asks and by which calendar its clock runs; what is found is pinned.

        Raises:
            UnknownAssigneeError: A group does not exist.
            CalendarNotFoundError: The calendar does not exist.
        """
        async with self._database.tenant(request.tenant_id) as connection:
            return await find_people(connection, request)

    @activity.defn(name="create_approval")
    async def create_approval(self, creation: Creation) -> None:
        """Insert the request with its first changes, in one transaction; safe to repeat."""
        request, changes = creation.request, creation.changes
        async with self._database.tenant(request.tenant_id) as connection:
            if request.own_run:
                await create_run(
                    connection,
                    Run(
                        id=request.run_id,
                        tenant_id=request.tenant_id,
                        kind=RunKind.APPROVAL,
                        status=RunStatus.PENDING,
                        subject=request.spec.title[:200],
                        correlation_id=request.correlation_id,
                        workflow_id=activity.info().workflow_id or "",
                    ),
                )
                run = await lock_run(connection, request.run_id)
                if run.status is RunStatus.PENDING:
                    for status in (RunStatus.QUEUED, RunStatus.DISPATCHED, RunStatus.RUNNING):
                        await append_events(connection, request.run_id, [], status=status)
            await insert_request(connection, request, changes.events[0].timestamp or utc_now())
            await _record(connection, changes)

    @activity.defn(name="record_approval")
    async def record_approval(self, changes: Changes) -> None:
        """Write changes down, in one transaction with the events that report them; safe to repeat."""
        async with self._database.tenant(changes.tenant_id) as connection:
            await _record(connection, changes)


async def find_people(connection: Connection, request: ApprovalRequest) -> Opened:
    """Resolve a request's rules to people and pin its calendar, in a tenant's transaction.

    Raises:
        UnknownAssigneeError: A group does not exist.
        CalendarNotFoundError: The calendar does not exist.
        InvalidCalendarError: Its holidays or time zone are not known any more.
    """
    spec = request.spec
    excluded = {*spec.policy.exclude, *request.excluded}
    if not spec.policy.self_approval:
        excluded.add(request.requested_by)
    stages = spec.policy.stages or [Stage(groups=[Group(members=spec.assignment_rule)])]
    return Opened(
        stages=[
            [await _pool(connection, group.members, excluded) for group in stage.groups] for stage in stages
        ],
        levels=[await _level(connection, level, excluded) for level in spec.escalation.levels],
        calendar=await pinned(connection, spec.sla),
    )


async def pinned(connection: Connection, sla: Sla) -> PinnedCalendar | None:
    """Pin the calendar that a clock runs by; None: wall time.

    Raises:
        CalendarNotFoundError: It does not exist.
    """
    if sla.calendar is None:
        return None
    row = await find_calendar(connection, sla.calendar)
    return pin_calendar(row.name, CalendarDefinition.model_validate(row.definition), utc_now().year)


async def _level(connection: Connection, level: EscalationLevel, excluded: set[str]) -> Pool:
    if isinstance(level.assign_to, AssignmentRule):
        return await _pool(connection, level.assign_to, excluded)
    return Pool(members=await members_of(connection, level.assign_to))


async def members_of(connection: Connection, name: str) -> list[str]:
    """Return a group's members, or ``name`` itself where it is no group: a person."""
    group = await find_group(connection, name)
    return [name] if group is None else group.members


async def _pool(connection: Connection, rule: AssignmentRule, excluded: set[str]) -> Pool:
    if rule.type is AssignmentType.USER:
        return Pool(members=[rule.value])
    group = await find_group(connection, rule.value)
    if rule.type is AssignmentType.ROLE:
        # Whoever was listed under the role's name can be written to; its other holders join by acting.
        return Pool(members=[] if group is None else group.members, role=rule.value)
    if group is None:
        raise UnknownAssigneeError(rule.value, "body.assignmentRule.value")
    if rule.type is AssignmentType.GROUP:
        return Pool(members=group.members)
    candidates = sorted(set(group.members) - excluded)
    away = await substitutes_of(connection, candidates, utc_now())
    present = [name for name in candidates if name not in away] or candidates
    if not present:
        return Pool(members=[])
    if rule.type is AssignmentType.ROUND_ROBIN:
        return Pool(members=[present[await next_turn(connection, rule.value) % len(present)]])
    busy = await open_requests_of(connection, present)
    return Pool(members=[min(present, key=lambda name: (busy.get(name, 0), name))])


async def _record(connection: Connection, changes: Changes) -> None:
    closed = changes.facts.state is not ApprovalState.OPEN
    status = None
    if closed and changes.own_run:
        withdrawn = changes.facts.state in (ApprovalState.CANCELLED, ApprovalState.SUPERSEDED)
        status = RunStatus.CANCELED if withdrawn else RunStatus.SUCCEEDED
    await append_events(connection, changes.run_id, changes.events, status=status)
    row = await apply_changes(connection, changes)
    if row is None:
        return
    for decision in changes.decisions:
        await mark_acted(connection, row.id, decision.approver, decision.via)
    if closed:
        await close_deliveries(connection, row.id)
        return
    for place, notice in enumerate(changes.notices):
        await _queue(connection, row, changes.number * 100 + place, notice)


async def _queue(connection: Connection, row: ApprovalRow, number: int, notice: Notice) -> None:
    """Store whom to write to, by which channels, and when; nobody is written to twice for one notice."""
    if all(channel is Channel.WEB for channel in notice.channels):
        return
    now = utc_now()
    away = await substitutes_of(connection, notice.recipients, now)
    people = list(dict.fromkeys([*notice.recipients, *(name for names in away.values() for name in names)]))
    preferences = await preferences_of(connection, people)
    fallback_after = timedelta(seconds=Sla.model_validate(row.sla).fallback_after)
    for person in people[:MAX_NOTIFIED]:
        chain = route(
            notice.channels, preferences.get(person), row.priority, now, fallback_after=fallback_after
        )
        for place, (channel, due_at) in enumerate(chain):
            delivery = DeliveryRow(
                id=derived_identifier("delivery", row.id, number, person, channel),
                tenant_id=row.tenant_id,
                approval_id=row.id,
                notice=number,
                kind=notice.kind,
                recipient=person,
                channel=channel,
                place=place,
                due_at=due_at,
            )
            await insert_delivery(connection, delivery)
