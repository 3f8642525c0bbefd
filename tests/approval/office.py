"""People, groups and requests on real servers, with a clock that a test moves."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx
from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDReusePolicy
from temporalio.testing import TimeSkipper, TimeSkippingConfig

from activities.records.approval import find_approval
from activities.records.approval_people import put_calendar, put_group
from activities.records.runs import read_events
from activities.services import Services
from models.approval import (
    Action,
    Actor,
    ApprovalOutcome,
    ApprovalRequest,
    ApprovalSpec,
    Decide,
    Decided,
    Facts,
    Order,
    approval_workflow_id,
)
from models.approval_records import ApprovalRow
from models.calendar import CalendarDefinition
from models.event import EventType
from models.identifiers import new_identifier
from models.task_queues import TaskQueue
from tests.builders import Marketplace, unique
from tests.eventually import eventually
from workflows.approval import Approval


@dataclass
class Question:
    """One request on the server."""

    office: "Office"
    request: ApprovalRequest
    handle: WorkflowHandle[Any, ApprovalOutcome]

    @property
    def id(self) -> str:
        return self.request.approval_id

    async def pass_time(self, seconds: float) -> bool:
        """Move this request's clock; False where it ended before."""
        return await self.office.skipper.fast_forward(self.handle, timedelta(seconds=seconds))

    async def decide(self, who: str, action: Action = Action.APPROVE, **more: Any) -> Decided:
        facts = await self.facts()
        command = Decide(
            actor=Actor(user_id=who),
            action=action,
            key=more.pop("key", f"{who}:{action}"),
            payload_hash=more.pop("seen", facts.payload_hash),
            comment="because",
            **more,
        )
        return await self.handle.execute_update(Approval.decide, command)

    async def acknowledge(self, who: str) -> None:
        await self.handle.execute_update(Approval.acknowledge, Order(actor=Actor(user_id=who)))

    async def facts(self) -> Facts:
        # The first answer may come before the request is stored.
        return await eventually(lambda: self.handle.query(Approval.facts))

    async def row(self) -> ApprovalRow:
        async with self.office.services.database.tenant(self.request.tenant_id) as connection:
            return await find_approval(connection, self.id)

    async def told(self, *kinds: EventType) -> list[tuple[EventType, datetime]]:
        """Type and time of the request's events."""
        async with self.office.services.database.tenant(self.request.tenant_id) as connection:
            events = await read_events(connection, self.request.run_id)
        return [(event.type, event.timestamp) for event in events if not kinds or event.type in kinds]

    async def seconds(self, kind: EventType) -> list[int]:
        """When events of one type happened: whole seconds of the request's clock since its opening."""
        ((_, opened),) = await self.told(EventType.APPROVAL_CREATED)
        return [int((at - opened).total_seconds()) for _, at in await self.told(kind)]

    async def history_events(self) -> int:
        return len((await self.handle.fetch_history()).events)


class Office:
    """Asks for approvals."""

    def __init__(self, services: Services, temporal: Client, market: Marketplace) -> None:
        self.services, self.temporal, self.market = services, temporal, market
        # Clocks stand as the machine's own until a test moves them.
        self.skipper = TimeSkipper(temporal, config=TimeSkippingConfig(enabled=False))

    @classmethod
    async def open(cls, services: Services, temporal: Client, client: httpx.AsyncClient) -> "Office":
        return cls(services, temporal, Marketplace(client))

    async def group(self, tenant_id: str, name: str, *members: str) -> None:
        async with self.services.database.tenant(tenant_id) as connection:
            await put_group(connection, tenant_id=tenant_id, name=name, members=list(members), by="test")

    async def calendar(self, tenant_id: str, name: str, definition: CalendarDefinition) -> None:
        async with self.services.database.tenant(tenant_id) as connection:
            await put_calendar(connection, tenant_id=tenant_id, name=name, definition=definition, by="test")

    def request(self, tenant_id: str | None = None, **changes: Any) -> ApprovalRequest:
        """A request of its own to the group ``ops``."""
        approval = new_identifier("approval")
        spec = {"title": "Deploy", "assignmentRule": {"type": "group", "value": "ops"}, **changes}
        return ApprovalRequest(
            approval_id=approval,
            tenant_id=tenant_id or unique("tenant"),
            run_id=approval,
            task_id="approval",
            own_run=True,
            requested_by="requester",
            correlation_id=unique("corr"),
            spec=ApprovalSpec.model_validate(spec),
        )

    async def ask(
        self, members: list[str], *, start_delay: timedelta | None = None, **changes: Any
    ) -> Question:
        """Ask a group of a tenant of its own and wait until the request is there."""
        request = self.request(**changes)
        await self.group(request.tenant_id, "ops", *members)
        for level in request.spec.escalation.levels:
            assert isinstance(level.assign_to, str)
            await self.group(request.tenant_id, level.assign_to, f"{level.assign_to}-1")
        return await self.start(request, start_delay)

    async def start(self, request: ApprovalRequest, start_delay: timedelta | None = None) -> Question:
        handle = await self.skipper.client.start_workflow(
            Approval.run,
            request,
            id=approval_workflow_id(request.approval_id),
            task_queue=TaskQueue.CORE,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            start_delay=start_delay,
        )
        question = Question(self, request, handle)
        if start_delay is None:
            await question.facts()
        return question
