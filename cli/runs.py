"""``switchyard runs list | show | watch | cancel | pause | resume``."""

from typing import Annotated, Any

import typer

from cli.exit import ExitStatus
from cli.output import JsonOption, clean, note, print_facts, print_json, print_table
from models.run import RunKind, RunStatus

_COLUMNS = {
    "id": "RUN",
    "kind": "KIND",
    "subject": "SUBJECT",
    "status": "STATUS",
    "last_seq": "EVENTS",
    "created_at": "CREATED",
}

RunId = Annotated[str, typer.Argument(help="Run id: an execution's, instance's, version's …")]
Reason = Annotated[str, typer.Option(help="Why; kept with the run.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    runs = typer.Typer(help="Everything that runs, and what happens in it.", no_args_is_help=True)
    runs.command("list")(list_)
    runs.command("show")(show)
    runs.command("watch")(watch)
    runs.command("cancel")(cancel)
    runs.command("pause")(pause)
    runs.command("resume")(resume)
    app.add_typer(runs, name="runs", rich_help_panel="Operations")


def list_(
    kind: Annotated[RunKind | None, typer.Option(help="Only runs of this kind.")] = None,
    status: Annotated[RunStatus | None, typer.Option(help="Only those with this status.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only those about this.")] = None,
    maximum: Annotated[int, typer.Option("--maximum", min=1, help="At most so many.")] = 20,
    json: JsonOption = False,
) -> None:
    """List your tenant's runs, newest first."""
    from cli.client import connect

    with connect() as client:
        found = list(
            client.items(
                "/runs",
                maximum=maximum,
                kind=kind.value if kind else None,
                status=status.value if status else None,
                subject=subject,
            )
        )
    if json:
        print_json(found)
    else:
        print_table(_COLUMNS, found, empty="There are no such runs.")


def show(run_id: RunId, json: JsonOption = False) -> None:
    """Show one run and where its workflow is to be seen."""
    from cli.client import connect

    with connect() as client:
        found = client.get(f"/runs/{run_id}")
    if json:
        print_json(found)
    else:
        print_facts(found)


def watch(
    run_id: RunId,
    from_seq: Annotated[int, typer.Option("--from", min=1, help="First event wanted.")] = 1,
    json: JsonOption = False,
) -> None:
    """Follow a run's events to its end. The status is 0 only where it succeeded."""
    from cli.client import connect
    from cli.stream import follow_run

    with connect() as client:
        for event in follow_run(client, run_id, from_seq=from_seq):
            typer.echo(_line(event, json))
        status = client.get(f"/runs/{run_id}")["status"]
    if status != RunStatus.SUCCEEDED:
        note(f"{run_id} is {status}.")
        raise typer.Exit(ExitStatus.FAILURE)


def cancel(run_id: RunId, reason: Reason = "", json: JsonOption = False) -> None:
    """End a run."""
    _command("cancel", run_id, reason, json)


def pause(run_id: RunId, reason: Reason = "", json: JsonOption = False) -> None:
    """Hold a run where it stands, if its kind can be held."""
    _command("pause", run_id, reason, json)


def resume(run_id: RunId, reason: Reason = "", json: JsonOption = False) -> None:
    """Let a paused run go on."""
    _command("resume", run_id, reason, json)


def _command(command: str, run_id: str, reason: str, json: bool) -> None:
    from cli.client import connect

    with connect() as client:
        found = client.post(f"/runs/{run_id}/{command}", {"reason": reason})
    if json:
        print_json(found)
    else:
        note(f"{run_id} was told to {command}; it is {found['status']}.")


def _line(event: dict[str, Any], json: bool) -> str:
    if json:
        from json import dumps

        return dumps(event, ensure_ascii=False)
    text = event["data"].get("text") if event["type"] == "log" else None
    detail = text if text is not None else ", ".join(f"{key}={value}" for key, value in event["data"].items())
    return clean(f"{event['seq']:>4}  {event['timestamp']}  {event['type']:<24} {detail}".rstrip())
