"""``switchyard flows signal | message | cancel | migrate | incidents | resolve``."""

from typing import Annotated, Any

import typer

from cli.flows_deployed import BASE
from cli.flows_files import FlowFileError, Variables, read_variables
from cli.flows_instances import InstanceId
from cli.output import JsonOption, note, print_json, print_table
from models.process import IncidentStatus

Reason = Annotated[str, typer.Option(help="Why; kept with the instance.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Tell what would happen; nothing does.")]

_INCIDENTS = {
    "id": "INCIDENT",
    "instanceId": "INSTANCE",
    "taskId": "ELEMENT",
    "type": "TYPE",
    "status": "STATUS",
    "message": "MESSAGE",
}


def signal(
    instance_id: InstanceId,
    task: Annotated[str, typer.Argument(help="The waiting task or event.")],
    variables: Variables = None,
    json: JsonOption = False,
) -> None:
    """Let a waiting task of an instance go on, with what it brings."""
    body = {"taskId": task, "payload": read_variables(variables)}
    _post(f"/instances/{instance_id}/signal", body, f"{task} goes on.", json)


def message(
    name: Annotated[str, typer.Argument(help="Name of the message.")],
    key: Annotated[str | None, typer.Option(help="Correlation key.")] = None,
    variables: Variables = None,
    message_id: Annotated[str | None, typer.Option(help="Published twice under one id, it is one.")] = None,
    ttl: Annotated[int, typer.Option(min=0, help="Seconds that it waits for a taker.")] = 3600,
    json: JsonOption = False,
) -> None:
    """Publish a message: who waits for its name and key gets it, or a process starts by it."""
    from cli.client import connect

    body = {
        "name": name,
        "correlationKey": key,
        "variables": read_variables(variables),
        "messageId": message_id,
        "ttlSeconds": ttl,
    }
    with connect() as client:
        answer = client.post(f"{BASE}/messages", {k: v for k, v in body.items() if v is not None})
    if json:
        print_json(answer)
    else:
        note(f"{name} is {answer['status']}{_at(answer['instanceId'])}.")


def cancel(instance_id: InstanceId, reason: Reason = "", json: JsonOption = False) -> None:
    """End an instance with everything that is under way for it."""
    _post(f"/instances/{instance_id}/cancel", {"reason": reason}, f"{instance_id} is cancelled.", json)


def migrate(
    instance_id: InstanceId,
    to: Annotated[str, typer.Option("--to", help="Definition id of the other version.")],
    element: Annotated[list[str] | None, typer.Option(help="OLD=NEW where identifiers differ.")] = None,
    drop: Annotated[list[str] | None, typer.Option(help="Element that is given up.")] = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    json: JsonOption = False,
) -> None:
    """Move an instance to another version of its process; every reason against it is listed."""
    body = {
        "definitionId": to,
        "elements": _pairs(element or []),
        "drop": drop or [],
        "reason": reason,
        "dryRun": dry_run,
    }
    done = f"{instance_id} {'could be' if dry_run else 'is'} migrated to {to}."
    _post(f"/instances/{instance_id}/migrate", body, done, json)


def incidents(
    instance_id: Annotated[str | None, typer.Option("--instance", help="Only this instance's.")] = None,
    status: Annotated[IncidentStatus | None, typer.Option(help="Only those with this status.")] = None,
    json: JsonOption = False,
) -> None:
    """List incidents: tokens that are stuck until somebody helps."""
    from cli.client import connect

    with connect() as client:
        found = client.get(
            f"{BASE}/incidents", instanceId=instance_id, status=status.value if status else None, limit=100
        )["incidents"]
    if json:
        print_json(found)
    else:
        print_table(_INCIDENTS, found, empty="There are no incidents.")


def resolve(
    incident_id: Annotated[str, typer.Argument(help="Incident id.")],
    skip: Annotated[bool, typer.Option("--skip", help="Go on as if the element had completed.")] = False,
    variables: Variables = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    json: JsonOption = False,
) -> None:
    """Retry or skip what is stuck, with other variables if need be."""
    body: dict[str, Any] = {
        "action": "skip" if skip else "retry",
        "variables": read_variables(variables),
        "reason": reason,
        "dryRun": dry_run,
    }
    _post(f"/incidents/{incident_id}/resolve", body, f"{incident_id} is resolved.", json)


def _post(path: str, body: dict[str, Any], done: str, json: bool) -> None:
    from cli.client import connect

    with connect() as client:
        answer = client.post(BASE + path, body)
    if json:
        print_json(answer)
        return
    for line in answer.get("trace", ()):
        note(f"  {line}")
    note(done)


def _pairs(texts: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        old, separator, new = text.partition("=")
        if not (old and separator and new):
            raise FlowFileError(f"{text!r} is not OLD=NEW.")
        found[old] = new
    return found


def _at(instance: str | None) -> str:
    return f" to {instance}" if instance else ""
