"""Live streams of runs, as server-sent events (run-events-flowchart, phase 3)."""

import re
from contextlib import AbstractAsyncContextManager
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from activities.records.database import DatabaseUnavailableError
from activities.records.runs import RunNotFoundError
from activities.streams.channel import Ephemeral, Message
from activities.streams.hub import Hub
from activities.streams.subscription import Subscription
from api.envelope import Responses, errors
from api.sse import EventStreamResponse
from api.stream_access import OriginRefusedError, StreamReader
from models.errors import InvalidRequestError
from models.identifiers import Identifier
from models.stream import InvalidTicketError

router = APIRouter(tags=["runs"])

MAX_RUNS = 50
"""Runs in one stream. A browser opens six connections per host over HTTP/1.1, so pages share one."""

_POSITIONS = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15}){0,49}")
_NUMBER = r"^[0-9]{1,15}$"

STREAM: Responses = {
    200: {
        "description": "Frames `id: <seq>`, `event: <type>`, `data: <the event as JSON>`; comments as "
        "signs of life; `event: end` after the last event of an ended run. Come back with `Last-Event-ID`.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    204: {"description": "The run has ended and nothing comes after `Last-Event-ID`: do not come back."},
}

REFUSALS = errors(RunNotFoundError, InvalidTicketError, OriginRefusedError, DatabaseUnavailableError)

LastEventId = Annotated[
    str | None,
    Header(alias="Last-Event-ID", description="`id` of the last frame received; wins over `fromSeq`."),
]


class InvalidResumeError(InvalidRequestError):
    """The stream cannot be resumed from what was given."""

    code = "INVALID_RESUME_POSITION"

    def __init__(self, field: str, rule: str) -> None:
        remedy = "Send the `id` of the last frame unchanged, or leave it out to begin anew."
        super().__init__(
            f"The stream cannot be resumed from there. {remedy}",
            details={
                "fields": [{"field": field, "rule": "resume_position", "message": rule, "remedy": remedy}]
            },
        )


def hub_of(request: Request) -> Hub:
    """Return the process's hub."""
    hub: Hub = request.app.state.hub
    return hub


@router.get(
    "/runs/stream",
    response_class=Response,
    responses={
        **STREAM,
        **errors(RunNotFoundError, InvalidTicketError, OriginRefusedError, DatabaseUnavailableError),
    },
)
async def stream_runs(
    request: Request,
    caller: StreamReader,
    runs: Annotated[
        str,
        Query(
            pattern=r"^[a-z]+_[0-9a-f]{32}(,[a-z]+_[0-9a-f]{32}){0,49}$",
            description="Up to 50 run ids, separated by commas.",
        ),
    ],
    last_event_id: LastEventId = None,
) -> Response:
    """Follow several runs over one connection; ``id`` holds one number per run, in the order of ``runs``."""
    names = list(dict.fromkeys(runs.split(",")))
    after = dict.fromkeys(names, 0)
    if last_event_id:
        numbers = last_event_id.split(".")
        if not _POSITIONS.fullmatch(last_event_id) or len(numbers) != len(names):
            raise InvalidResumeError("header.Last-Event-ID", "one number per run, separated by full stops")
        after = {name: int(number) for name, number in zip(names, numbers, strict=True)}
    hub = hub_of(request)
    found = [await hub.run_of(caller.principal.tenant_id, name) for name in names]
    if last_event_id and all(run.ended_at and after[run.id] >= run.last_seq for run in found):
        return Response(status_code=204)

    def follow() -> AbstractAsyncContextManager[Subscription]:
        return hub.follow_runs(after, expires_at=caller.expires_at)

    reached = dict(after)

    def frame(_: Subscription, message: Message | Ephemeral) -> bytes:
        if isinstance(message, Ephemeral):
            return message.sse
        reached[message.run_id] = message.number
        place = ".".join(str(reached[name]) for name in names)
        return b"id: %b\nevent: %b\ndata: %b\n\n" % (place.encode(), message.type.encode(), message.body)

    return EventStreamResponse(follow, frame)


@router.get(
    "/runs/{run_id}/stream",
    response_class=Response,
    responses={
        **STREAM,
        **errors(RunNotFoundError, InvalidTicketError, OriginRefusedError, DatabaseUnavailableError),
    },
)
async def stream_run(
    run_id: Identifier,
    request: Request,
    caller: StreamReader,
    from_seq: Annotated[int, Query(alias="fromSeq", ge=0, le=2**53, description="First number wanted.")] = 0,
    last_event_id: LastEventId = None,
) -> Response:
    """Follow a run: what was published so far, then what comes, each event once and in order, to its end."""
    after = max(0, from_seq - 1)
    if last_event_id:
        if not re.fullmatch(_NUMBER, last_event_id):
            raise InvalidResumeError("header.Last-Event-ID", "a number of this run")
        after = int(last_event_id)
    hub = hub_of(request)
    run = await hub.run_of(caller.principal.tenant_id, run_id)
    if last_event_id and run.ended_at is not None and after >= run.last_seq:
        return Response(status_code=204)
    return EventStreamResponse(lambda: hub.follow_runs({run_id: after}, expires_at=caller.expires_at))
