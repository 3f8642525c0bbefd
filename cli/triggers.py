"""``switchyard triggers list | create | show | pause | resume | run | backfill | delete``."""

from typing import Annotated, Any

import typer

from cli.flows_files import Variables, read_variables
from cli.output import JsonOption, note, print_facts, print_json, print_table
from models.trigger import OverlapPolicy, TriggerKind

BASE = "/api/orchestrator/triggers"
TriggerId = Annotated[str, typer.Argument(help="Trigger id.")]
Overlap = Annotated[OverlapPolicy | None, typer.Option(help="When an earlier instance still runs.")]

_COLUMNS = {
    "triggerId": "TRIGGER",
    "processKey": "PROCESS",
    "kind": "KIND",
    "when": "WHEN",
    "enabled": "ENABLED",
    "lastTriggeredAt": "LAST",
    "nextTriggerAt": "NEXT",
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    triggers = typer.Typer(help="What starts processes by itself.", no_args_is_help=True)
    triggers.command("list")(list_)
    triggers.command("create")(create)
    triggers.command("show")(show)
    triggers.command("pause")(pause)
    triggers.command("resume")(resume)
    triggers.command("run")(run)
    triggers.command("backfill")(backfill)
    triggers.command("delete")(delete)
    app.add_typer(triggers, name="triggers", rich_help_panel="Processes")


def list_(
    process: Annotated[str | None, typer.Option(help="Only triggers of this process.")] = None,
    kind: Annotated[TriggerKind | None, typer.Option(help="Only those of this kind.")] = None,
    json: JsonOption = False,
) -> None:
    """List triggers: schedules, start events of deployed processes, event triggers."""
    from cli.client import connect

    with connect() as client:
        found = client.get(BASE, processKey=process, kind=kind.value if kind else None, limit=100)["triggers"]
    if json:
        print_json(found)
    else:
        print_table(_COLUMNS, [_shown(each) for each in found], empty="There are no triggers.")


def _shown(trigger: dict[str, Any]) -> dict[str, Any]:
    when = trigger["name"]
    if trigger["cronExpression"] is not None:
        when = f"{trigger['cronExpression']} {trigger['timeZone']}"
    return {**trigger, "when": when}


def create(
    process: Annotated[str, typer.Argument(help="Process key (its newest version) or definition id.")],
    cron: Annotated[str | None, typer.Option(help='Five fields, such as "0 9 * * MON-FRI".')] = None,
    time_zone: Annotated[str, typer.Option(help="IANA time zone of the cron expression.")] = "UTC",
    event: Annotated[
        str | None, typer.Option(help="Type of event instead, such as payment.declined.")
    ] = None,
    match: Annotated[
        str | None, typer.Option(help="What the event's data must contain (JSON).", metavar="JSON")
    ] = None,
    variables: Variables = None,
    overlap: Annotated[
        OverlapPolicy, typer.Option(help="When an earlier instance still runs.")
    ] = OverlapPolicy.SKIP,
    json: JsonOption = False,
) -> None:
    """Start a process by the calendar, or for every event of a type."""
    from cli.client import connect

    body: dict[str, Any] = {
        "definitionId" if process.startswith("flow_") else "processKey": process,
        "variables": read_variables(variables),
        "overlapPolicy": overlap.value,
    }
    if event is not None:
        body |= {"kind": "event", "eventType": event, "match": read_variables(match)}
    else:
        body |= {"cronExpression": cron, "timeZone": time_zone}
    with connect() as client:
        found = client.post(BASE, body)
    _print(found, json)


def show(trigger_id: TriggerId, json: JsonOption = False) -> None:
    """Show a trigger and what it has started."""
    from cli.client import connect

    with connect() as client:
        found = client.get(f"{BASE}/{trigger_id}")
        found["starts"] = client.get(f"{BASE}/{trigger_id}/starts", limit=10)["starts"]
    _print(found, json)


def pause(trigger_id: TriggerId, json: JsonOption = False) -> None:
    """Hold a trigger."""
    _change(trigger_id, {"enabled": False}, json)


def resume(trigger_id: TriggerId, json: JsonOption = False) -> None:
    """Let a paused trigger go on."""
    _change(trigger_id, {"enabled": True}, json)


def run(trigger_id: TriggerId, overlap: Overlap = None) -> None:
    """Let a time trigger start its process now, paused or not."""
    _post(f"{trigger_id}/run", {"overlapPolicy": overlap.value if overlap else None})


def backfill(
    trigger_id: TriggerId,
    start: Annotated[str, typer.Option("--from", help="First moment, ISO 8601 with offset.")],
    end: Annotated[str, typer.Option("--to", help="Last moment.")],
    overlap: Overlap = None,
) -> None:
    """Make up for the periods of a span of time; one that has its instance gets no second one."""
    body = {"start": start, "end": end, "overlapPolicy": overlap.value if overlap else None}
    _post(f"{trigger_id}/backfill", body)


def delete(trigger_id: TriggerId) -> None:
    """Remove a trigger; instances that it started go on."""
    from cli.client import connect

    with connect() as client:
        client.delete(f"{BASE}/{trigger_id}")
    note(f"{trigger_id} is gone.")


def _change(trigger_id: str, body: dict[str, Any], json: bool) -> None:
    from cli.client import connect

    with connect() as client:
        found = client.patch(f"{BASE}/{trigger_id}", body)
    _print(found, json)


def _post(path: str, body: dict[str, Any]) -> None:
    from cli.client import connect

    with connect() as client:
        client.post(f"{BASE}/{path}", {name: value for name, value in body.items() if value is not None})
    note("Accepted; see `switchyard triggers show`.")


def _print(found: dict[str, Any], json: bool) -> None:
    if json:
        print_json(found)
    else:
        print_facts(found)
