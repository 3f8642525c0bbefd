"""``switchyard calendars list | show | set | delete``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.output import JsonOption, note, print_facts, print_json, print_table

NameArgument = Annotated[str, typer.Argument(help="The calendar's name.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    calendars = typer.Typer(help="When people work.", no_args_is_help=True)
    for name, command in (("list", list_), ("show", show), ("set", set_), ("delete", delete)):
        calendars.command(name)(command)
    app.add_typer(calendars, name="calendars", rich_help_panel="People")


def list_(json: JsonOption = False) -> None:
    """List the tenant's calendars."""
    from cli.client import connect

    with connect() as client:
        rows: list[dict[str, Any]] = client.get("/api/calendars")["calendars"]
    if json:
        print_json(rows)
        return
    listed = [{**row, "zone": row["definition"]["timeZone"]} for row in rows]
    columns = {"name": "NAME", "zone": "TIME ZONE", "updatedAt": "SET"}
    print_table(columns, listed, empty="There are no calendars.")


def show(name: NameArgument, json: JsonOption = False) -> None:
    """Show a calendar."""
    from cli.client import connect

    with connect() as client:
        shown: dict[str, Any] = client.get(f"/api/calendars/{name}")
    if json:
        print_json(shown)
    else:
        print_facts({"name": shown["name"], **shown["definition"]})


def set_(
    name: NameArgument,
    file: Annotated[Path, typer.Argument(help="JSON file with the definition (docs/approvals.md).")],
    json: JsonOption = False,
) -> None:
    """Set a calendar (administrators and operators)."""
    from cli.agents import json_file
    from cli.client import connect

    with connect() as client:
        shown: dict[str, Any] = client.put(f"/api/calendars/{name}", json_file(file))
    if json:
        print_json(shown)
    else:
        print_facts({"name": shown["name"], **shown["definition"]})


def delete(name: NameArgument) -> None:
    """Remove a calendar; clocks that run by it go on."""
    from cli.client import connect

    with connect() as client:
        client.delete(f"/api/calendars/{name}")
    note(f"{name} is removed.")
