"""``switchyard reconciliation run | cases | resolve``: where the books disagree."""

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
