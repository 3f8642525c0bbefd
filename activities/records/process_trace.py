"""Where an instance's tokens were when an event had happened: read from its events."""

from dataclasses import dataclass

from activities.records.database import Connection
from activities.records.runs import find_run
from models.event import EventType
from models.process_errors import SeqNotReachedError

_BEGIN = (EventType.TASK_STARTED, EventType.ELEMENT_STARTED)
_END = (
    EventType.TASK_COMPLETED,
    EventType.TASK_CANCELLED,
    EventType.ELEMENT_COMPLETED,
    EventType.ELEMENT_CANCELLED,
)

_ELEMENTS = """
SELECT seq, type, data FROM run_events
WHERE run_id = %(run_id)s AND seq <= %(seq)s AND type = ANY(%(types)s) AND data ? 'key'
ORDER BY seq
"""


@dataclass(frozen=True)
class ActiveToken:
    """An element instance that was active.

    Attributes:
        key: Unique in the instance.
        element: BPMN identifier.
        kind: BPMN kind.
        since: Event that began it.
    """

    key: int
    element: str
    kind: str
    since: int


async def tokens_as_of(
    connection: Connection, instance_id: str, seq: int | None
) -> tuple[int, list[ActiveToken]]:
    """Read which elements were active when event ``seq`` (None: the last) had happened.

    Returns:
        The event's number, and the tokens by the event that began them.

    Raises:
        SeqNotReachedError: The instance has not so many events.
    """
    run = await find_run(connection, instance_id)
    wanted = run.last_seq if seq is None else seq
    if wanted > run.last_seq:
        raise SeqNotReachedError(instance_id, wanted, run.last_seq)
    cursor = await connection.execute(
        _ELEMENTS, {"run_id": instance_id, "seq": wanted, "types": [*_BEGIN, *_END]}
    )
    active: dict[int, ActiveToken] = {}
    for row in await cursor.fetchall():
        data = row["data"]
        if row["type"] in _BEGIN:
            token = ActiveToken(data["key"], data["element"], data.get("kind", ""), row["seq"])
            active[data["key"]] = token
        else:
            active.pop(data["key"], None)
    return wanted, list(active.values())
