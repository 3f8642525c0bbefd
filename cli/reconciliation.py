"""``switchyard reconciliation run | cases | resolve | statement | health``: where the books disagree."""

from pathlib import Path
from typing import Annotated

import typer

from cli.output import JsonOption, note, print_json, print_table

_COLUMNS = {
    "case_id": "CASE",
    "kind": "KIND",
    "subject_id": "SUBJECT",
    "evidence": "EVIDENCE",
    "created_at": "SINCE",
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    reconciliation = typer.Typer(help="Where the books disagree.", no_args_is_help=True)
    reconciliation.command("run")(run)
    reconciliation.command("cases")(cases)
    reconciliation.command("resolve")(resolve)
    reconciliation.command("statement")(statement)
    reconciliation.command("health")(health)
    app.add_typer(reconciliation, name="reconciliation", rich_help_panel="Money")


def run(json: JsonOption = False) -> None:
    """Compare records, ledger and rail now (the platform's finance)."""
    from cli.client import connect

    with connect() as client:
        found = client.post("/reconciliation/runs", {})
    if json:
        print_json(found)
    else:
        note(f"{found['found']} disagreements, {found['opened']} of them new.")


def cases(
    resolved: Annotated[bool, typer.Option("--resolved", help="Those that were resolved.")] = False,
    json: JsonOption = False,
) -> None:
    """List the cases with their evidence (the platform's finance)."""
    from cli.client import connect

    with connect() as client:
        found = client.get("/reconciliation/cases", resolved=str(resolved).lower())
    if json:
        print_json(found)
    else:
        print_table(_COLUMNS, found, empty="All books agree.")


def resolve(
    case_id: Annotated[str, typer.Argument(help="Id of the case.")],
    resolution: Annotated[str, typer.Option("--resolution", help="What was found and done.")],
    json: JsonOption = False,
) -> None:
    """Close a case (the platform's finance)."""
    from cli.client import connect

    with connect() as client:
        found = client.post(f"/reconciliation/cases/{case_id}/resolve", {"resolution": resolution})
    if json:
        print_json(found)
    else:
        note(f"{found['case_id']} is resolved.")


def statement(
    file: Annotated[Path, typer.Argument(help="The rail's statement as JSON.", exists=True, dir_okay=False)],
    json: JsonOption = False,
) -> None:
    """Compare a rail's statement with our records and the ledger (the platform's finance).

    The file: {"rail", "start", "end", "entries": [{"kind": "capture|refund|payout", "reference", "amount",
    "currency", "moved_at"}]}, amounts in minor units, references as we gave them to the rail.
    """
    from pydantic import ValidationError

    from cli.client import connect
    from models.reconciliation import RailStatement

    try:
        given = RailStatement.model_validate_json(file.read_bytes())
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in fault["loc"]) or "file"
        raise typer.BadParameter(f"{file}: {place}: {fault['msg']}") from None
    with connect() as client:
        found = client.post("/reconciliation/statements", given.model_dump(mode="json"))
    if json:
        print_json(found)
    else:
        note(f"{found['found']} disagreements, {found['opened']} of them new.")


def health(json: JsonOption = False) -> None:
    """Show what waits: open questions to rails, money in suspense and in transit (the platform's finance)."""
    from cli.client import connect

    with connect() as client:
        found = client.get("/reconciliation/health")
    if json:
        print_json(found)
        return
    print_table(
        {"kind": "OPEN", "count": "COUNT", "oldest_seconds": "OLDEST (S)"}, found["questions"], empty=""
    )
    print_table(
        {"currency": "CURRENCY", "suspense": "SUSPENSE", "in_transit": "IN TRANSIT", "held": "HELD"},
        found["money"],
        empty="No money waits.",
    )
    note(f"{found['open_cases']} open cases.")
