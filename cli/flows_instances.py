"""``switchyard flows list | show | trace``."""

from typing import Annotated, Any

import typer

from cli.flows_deployed import BASE
from cli.output import JsonOption, clean, print_facts, print_json, print_table
from models.process import InstanceStatus

InstanceId = Annotated[str, typer.Argument(help="Instance id.")]

_COLUMNS = {
    "instanceId": "INSTANCE",
    "status": "STATUS",
    "currentTasks": "WAITS AT",
    "openIncidents": "INCIDENTS",
    "businessKey": "BUSINESS KEY",
    "startedAt": "STARTED",
}


def list_(
    process: Annotated[str | None, typer.Option(help="Only instances of this process.")] = None,
    status: Annotated[InstanceStatus | None, typer.Option(help="Only those with this status.")] = None,
    business_key: Annotated[str | None, typer.Option(help="Only those with this business key.")] = None,
    with_incidents: Annotated[bool, typer.Option(help="Only those that need help.")] = False,
    maximum: Annotated[int, typer.Option("--maximum", min=1, max=100, help="At most so many.")] = 20,
    json: JsonOption = False,
) -> None:
    """List instances, newest first."""
    from cli.client import connect

    with connect() as client:
        found = client.get(
            f"{BASE}/instances",
            processKey=process,
            status=status.value if status else None,
            businessKey=business_key,
            withIncidents="true" if with_incidents else None,
            limit=maximum,
        )
    if json:
        print_json(found)
    else:
        print_table(_COLUMNS, found["instances"], empty="There are no such instances.")


def show(instance_id: InstanceId, json: JsonOption = False) -> None:
    """Show an instance: status, where it waits, variables."""
    from cli.client import connect

    with connect() as client:
        found = client.get(f"{BASE}/instances/{instance_id}")
    if json:
        print_json(found)
    else:
        print_facts(found)


def trace(instance_id: InstanceId, json: JsonOption = False) -> None:
    """Print what has happened in an instance, with the time since its start."""
    from cli.client import connect

    with connect() as client:
        events = events_of(client, instance_id)
    if json:
        print_json(events)
        return
    for event in events:
        typer.echo(trace_line(event, events[0]["timestamp"]))


def events_of(client: Any, instance_id: str) -> list[dict[str, Any]]:
    """Read all events of an instance so far, in order."""
    events: list[dict[str, Any]] = []
    next_seq = 1
    while True:
        page = client.get(f"/runs/{instance_id}/events", fromSeq=next_seq, limit=1000)
        events += page["items"]
        if not page["items"] or page["ended"]:
            return events
        next_seq = page["next_seq"]


def trace_line(event: dict[str, Any], began: str) -> str:
    """Return an event as a line: seconds since the start, type, element, the rest."""
    from datetime import datetime

    since = datetime.fromisoformat(event["timestamp"]) - datetime.fromisoformat(began)
    data = dict(event["data"])
    element = data.pop("element", "")
    data.pop("key", None)
    rest = ", ".join(f"{name}={value}" for name, value in data.items() if value not in (None, "", {}, []))
    return clean(f"{since.total_seconds():>10.3f}  {event['type']:<20} {element:<24} {rest}".rstrip())
