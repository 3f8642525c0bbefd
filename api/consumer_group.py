"""Consumer groups: a tenant's programs get its events in order, at least once, by asking for them.

A member takes events under a lease, handles them, and says up to where it is done. Who dies loses the lease,
and the next member goes on from what was recorded.
"""

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from activities.records.database import Connection
from activities.records.events import last_position_of, read_events_at
from activities.records.groups import (
    advance_group,
    ask_redrive,
    bury_event,
    count_waiting,
    delete_group,
    ensure_group,
    fail_group,
    find_group,
    find_letter,
    lease_group,
    list_dead_letters,
    list_groups,
    read_redriven,
    replay_group,
    resolve_letter,
)
from api.authentication import requires
from api.envelope import Success, errors, success
from api.event import EventView
from api.state import ServicesDep
from models.event import EventType, RunEvent
from models.identifiers import Identifier
from models.identity import Permission, Principal
from models.stream import (
    GROUP_ATTEMPTS,
    MOST_GROUPS,
    DeadLetter,
    DeadLetterNotFoundError,
    EventGroup,
    GroupLeaseLostError,
    GroupNotFoundError,
    TooManyGroupsError,
)

router = APIRouter(prefix="/consumer-groups", tags=["consumer groups"])

Operator = Annotated[Principal, Depends(requires(Permission.RUNS_OPERATE))]

NAME = r"^[a-z0-9][a-z0-9._-]{0,62}$"
GroupName = Annotated[str, Path(pattern=NAME, description="The group's name.")]
Member = Annotated[
    str, Field(min_length=1, max_length=100, description="Who works: one name per process of yours.")
]

COUNTED = 10_000
FIRST_PAUSE = timedelta(milliseconds=200)
LONGEST_PAUSE = timedelta(minutes=1)


class NewGroup(BaseModel):
    """A group to be made."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=NAME, description="Lower-case letters, digits, dot, dash, underscore.")
    event_types: list[EventType] = Field(
        default_factory=list[EventType], max_length=100, description="Types wanted; empty: all."
    )
    position: int | None = Field(
        default=None,
        ge=0,
        le=2**53,
        strict=True,
        description="Begin after this position; 0: all there is; null: now.",
    )


class GroupView(BaseModel):
    """One group and where it stands."""

    name: str
    event_types: list[EventType]
    position: int = Field(description="Everything up to here is done, or lies in the dead letters.")
    waiting: int = Field(description=f"Events still to be handled; counted up to {COUNTED}.")
    failures: int = Field(description="How often the next event failed so far.")
    retry_at: datetime | None
    last_error: str | None
    member: str | None = Field(description="Who works for it now.")
    lease_until: datetime | None
    created_at: datetime


class Position(BaseModel):
    """Where a group is to go on."""

    model_config = ConfigDict(extra="forbid")

    position: int = Field(
        ge=0, le=2**53, strict=True, description="The next event is the first one after this."
    )


class Take(BaseModel):
    """A member that wants to work."""

    model_config = ConfigDict(extra="forbid")

    member: Member
    limit: int = Field(default=100, ge=1, le=500, strict=True, description="At most so many events.")
    lease_seconds: int = Field(
        default=30, ge=1, le=300, strict=True, description="How long the group is this member's."
    )


class TakenEvent(EventView):
    """An event to be handled."""

    run_id: str
    position: int
    dead_letter_id: str | None = Field(
        default=None, description="Set on one that is tried again; it is done by its own id."
    )


class Taken(BaseModel):
    """What to handle, in order."""

    leased: bool = Field(description="False while another member works, or the group rests after a failure.")
    position: int
    items: list[TakenEvent]


class Done(BaseModel):
    """What a member has handled."""

    model_config = ConfigDict(extra="forbid")

    member: Member
    position: int = Field(ge=0, le=2**53, strict=True, description="Position of the last event that is done.")
    lease_seconds: int = Field(
        default=30, ge=1, le=300, strict=True, description="The lease is renewed for so long."
    )


class Failed(BaseModel):
    """What a member could not handle: the first event after the group's position."""

    model_config = ConfigDict(extra="forbid")

    member: Member
    error: str = Field(max_length=2000)


class FailureView(BaseModel):
    """What became of the event."""

    failures: int
    dead_letter: bool = Field(description="Whether it was given up and the group went on.")


class LetterOutcome(BaseModel):
    """How a redriven dead letter went."""

    model_config = ConfigDict(extra="forbid")

    error: str | None = Field(default=None, max_length=2000, description="null: it is done.")


class DeadLetterView(BaseModel):
    """An event that a group gave up on."""

    dead_letter_id: str
    event_id: str
    event_type: EventType
    position: int
    error: str
    failures: int
    created_at: datetime
    redrive_at: datetime | None


class Listed(BaseModel):
    """The tenant's groups."""

    items: list[GroupView]


class ListedLetters(BaseModel):
    """A group's open dead letters, oldest first."""

    items: list[DeadLetterView]


async def _view(connection: Connection, group: EventGroup) -> GroupView:
    facts = group.model_dump(include=set(GroupView.model_fields))
    waiting = await count_waiting(connection, group, upto=COUNTED)
    return GroupView(**facts, member=group.lease_owner, waiting=waiting)


def _letter(row: DeadLetter) -> DeadLetterView:
    facts = row.model_dump(include=set(DeadLetterView.model_fields))
    return DeadLetterView(**facts, dead_letter_id=row.id)


def _event(event: RunEvent, letter_id: str | None = None) -> TakenEvent:
    facts = event.model_dump(include=set(TakenEvent.model_fields))
    return TakenEvent(**facts, dead_letter_id=letter_id)


@router.post("", status_code=201, response_model=Success[GroupView], responses=errors(TooManyGroupsError))
async def create_group(body: NewGroup, caller: Operator, services: ServicesDep) -> Success[GroupView]:
    """Make a group; one of that name keeps its position and takes the types given."""
    async with services.database.tenant(caller.tenant_id) as connection:
        groups = await list_groups(connection)
        if len(groups) >= MOST_GROUPS and all(group.name != body.name for group in groups):
            raise TooManyGroupsError(MOST_GROUPS)
        position = body.position
        if position is None:
            position = await last_position_of(connection, caller.tenant_id)
        await ensure_group(
            connection,
            caller.tenant_id,
            body.name,
            event_types=[each.value for each in body.event_types],
            position=position,
        )
        return success(await _view(connection, await find_group(connection, caller.tenant_id, body.name)))


@router.get("", response_model=Success[Listed])
async def get_groups(caller: Operator, services: ServicesDep) -> Success[Listed]:
    """List the tenant's groups by name."""
    async with services.database.tenant(caller.tenant_id) as connection:
        return success(
            Listed(items=[await _view(connection, each) for each in await list_groups(connection)])
        )


@router.get("/{name}", response_model=Success[GroupView], responses=errors(GroupNotFoundError))
async def get_group(name: GroupName, caller: Operator, services: ServicesDep) -> Success[GroupView]:
    """Show where one group stands."""
    async with services.database.tenant(caller.tenant_id) as connection:
        return success(await _view(connection, await find_group(connection, caller.tenant_id, name)))


@router.delete("/{name}", status_code=204, responses=errors(GroupNotFoundError))
async def remove_group(name: GroupName, caller: Operator, services: ServicesDep) -> Response:
    """Forget a group, its position and its dead letters."""
    async with services.database.tenant(caller.tenant_id) as connection:
        await delete_group(connection, caller.tenant_id, name)
    return Response(status_code=204)


@router.post("/{name}/replay", response_model=Success[GroupView], responses=errors(GroupNotFoundError))
async def replay(
    name: GroupName, body: Position, caller: Operator, services: ServicesDep
) -> Success[GroupView]:
    """Set a group back or forward; who works for it now loses its place."""
    async with services.database.tenant(caller.tenant_id) as connection:
        await replay_group(connection, caller.tenant_id, name, position=body.position)
        return success(await _view(connection, await find_group(connection, caller.tenant_id, name)))


@router.post("/{name}/take", response_model=Success[Taken], responses=errors(GroupNotFoundError))
async def take(name: GroupName, body: Take, caller: Operator, services: ServicesDep) -> Success[Taken]:
    """Get what comes next, if nobody else works for the group: dead letters to try again, then new events."""
    async with services.database.tenant(caller.tenant_id) as connection:
        lease = timedelta(seconds=body.lease_seconds)
        group = await lease_group(connection, caller.tenant_id, name, owner=body.member, lease=lease)
        if group is None:
            group = await find_group(connection, caller.tenant_id, name)
            return success(Taken(leased=False, position=group.position, items=[]))
        letters = await read_redriven(connection, group, limit=body.limit)
        events = await read_events_at(
            connection,
            tenant_id=caller.tenant_id,
            after=group.position,
            types=group.event_types,
            limit=body.limit,
        )
    items = [_event(event, letter.id) for letter, event in letters]
    return success(
        Taken(leased=True, position=group.position, items=[*items, *(_event(event) for event in events)])
    )


@router.post(
    "/{name}/done",
    response_model=Success[GroupView],
    responses=errors(GroupNotFoundError, GroupLeaseLostError),
)
async def done(name: GroupName, body: Done, caller: Operator, services: ServicesDep) -> Success[GroupView]:
    """Record that everything up to a position is done, and renew the lease."""
    async with services.database.tenant(caller.tenant_id) as connection:
        group = await find_group(connection, caller.tenant_id, name)
        if body.position < group.position or not await advance_group(
            connection,
            group,
            owner=body.member,
            position=body.position,
            lease=timedelta(seconds=body.lease_seconds),
        ):
            raise GroupLeaseLostError(name)
        return success(await _view(connection, await find_group(connection, caller.tenant_id, name)))


@router.post(
    "/{name}/failed",
    response_model=Success[FailureView],
    responses=errors(GroupNotFoundError, GroupLeaseLostError),
)
async def failed(
    name: GroupName, body: Failed, caller: Operator, services: ServicesDep
) -> Success[FailureView]:
    """Record that the next event could not be handled; after five times it becomes a dead letter."""
    async with services.database.tenant(caller.tenant_id) as connection:
        group = await find_group(connection, caller.tenant_id, name)
        pause = min(FIRST_PAUSE * 2**group.failures, LONGEST_PAUSE)
        failures = await fail_group(connection, group, owner=body.member, error=body.error, pause=pause)
        if failures is None:
            raise GroupLeaseLostError(name)
        events = await read_events_at(
            connection,
            tenant_id=caller.tenant_id,
            after=group.position,
            types=group.event_types,
            limit=1,
        )
        dead = failures >= GROUP_ATTEMPTS and bool(events)
        if dead:
            position = events[0].position
            assert position is not None, "only published events are read"
            await bury_event(connection, group, events[0], error=body.error, failures=failures)
            await advance_group(
                connection, group, owner=body.member, position=position, lease=timedelta(seconds=30)
            )
    return success(FailureView(failures=failures, dead_letter=dead))


@router.get(
    "/{name}/dead-letters", response_model=Success[ListedLetters], responses=errors(GroupNotFoundError)
)
async def get_dead_letters(
    name: GroupName,
    caller: Operator,
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=500, description="At most so many.")] = 100,
) -> Success[ListedLetters]:
    """List what the group gave up on, oldest first."""
    async with services.database.tenant(caller.tenant_id) as connection:
        await find_group(connection, caller.tenant_id, name)
        letters = await list_dead_letters(connection, caller.tenant_id, name, limit=limit)
    return success(ListedLetters(items=[_letter(each) for each in letters]))


@router.post(
    "/{name}/dead-letters/{dead_letter_id}/redrive",
    response_model=Success[DeadLetterView],
    responses=errors(GroupNotFoundError, DeadLetterNotFoundError),
)
async def redrive(
    name: GroupName, dead_letter_id: Identifier, caller: Operator, services: ServicesDep
) -> Success[DeadLetterView]:
    """Let the group try a dead letter again."""
    async with services.database.tenant(caller.tenant_id) as connection:
        await find_letter(connection, caller.tenant_id, name, dead_letter_id)
        await ask_redrive(connection, caller.tenant_id, dead_letter_id)
        return success(_letter(await find_letter(connection, caller.tenant_id, name, dead_letter_id)))


@router.post(
    "/{name}/dead-letters/{dead_letter_id}/outcome",
    status_code=204,
    responses=errors(DeadLetterNotFoundError),
)
async def letter_outcome(
    name: GroupName, dead_letter_id: Identifier, body: LetterOutcome, caller: Operator, services: ServicesDep
) -> Response:
    """Record how a redriven dead letter went: done, or dead again."""
    async with services.database.tenant(caller.tenant_id) as connection:
        letter = await find_letter(connection, caller.tenant_id, name, dead_letter_id)
        await resolve_letter(connection, letter, error=body.error)
    return Response(status_code=204)
