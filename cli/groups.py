"""``switchyard groups create | list | show | replay | delete | dead-letters | redrive``."""

from typing import Annotated

import typer

from cli.output import JsonOption, note, print_facts, print_json, print_table
from models.event import EventType

_COLUMNS = {
    "name": "GROUP",
    "position": "POSITION",
    "waiting": "WAITING",
    "failures": "FAILURES",
    "member": "MEMBER",
    "last_error": "LAST ERROR",
}
_LETTERS = {
    "dead_letter_id": "DEAD LETTER",
    "position": "POSITION",
    "event_type": "TYPE",
    "event_id": "EVENT",
    "failures": "FAILURES",
    "error": "ERROR",
    "redrive_at": "REDRIVEN",
}

Name = Annotated[str, typer.Argument(help="The group's name.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    groups = typer.Typer(help="Consumer groups: who works through the events.", no_args_is_help=True)
    groups.command("create")(create)
    groups.command("list")(list_)
    groups.command("show")(show)
    groups.command("replay")(replay)
    groups.command("delete")(delete)
    groups.command("dead-letters")(dead_letters)
    groups.command("redrive")(redrive)
    app.add_typer(groups, name="groups", rich_help_panel="Operations")


def create(
    name: Name,
    event_type: Annotated[
        list[EventType] | None, typer.Option("--type", help="Only events of this type; several times.")
    ] = None,
    position: Annotated[
        int | None, typer.Option("--from", min=0, help="Begin after this position; 0: at the beginning.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make a group that begins now, or after a position."""
    from cli.client import connect

    body = {"name": name, "event_types": [each.value for each in event_type or []], "position": position}
    with connect() as client:
        made = client.post("/consumer-groups", body)
    if json:
        print_json(made)
    else:
        note(f"{name} begins after position {made['position']}; {made['waiting']} events wait.")


def list_(json: JsonOption = False) -> None:
    """List the groups of your tenant and where they stand."""
    from cli.client import connect

    with connect() as client:
        found = client.get("/consumer-groups")["items"]
    if json:
        print_json(found)
    else:
        print_table(_COLUMNS, found, empty="There are no groups. Make one with `switchyard groups create`.")


def show(name: Name, json: JsonOption = False) -> None:
    """Show one group."""
    from cli.client import connect

    with connect() as client:
        found = client.get(f"/consumer-groups/{name}")
    if json:
        print_json(found)
    else:
        print_facts(found)


def replay(
    name: Name,
    position: Annotated[int, typer.Argument(min=0, help="The next event is the first one after this.")],
) -> None:
    """Set a group to any position; its events from there on come again."""
    from cli.client import connect

    with connect() as client:
        found = client.post(f"/consumer-groups/{name}/replay", {"position": position})
    note(f"{name} goes on after position {found['position']}; {found['waiting']} events wait.")


def delete(name: Name) -> None:
    """Forget a group with its position and dead letters."""
    from cli.client import connect

    with connect() as client:
        client.delete(f"/consumer-groups/{name}")
    note(f"{name} is forgotten.")


def dead_letters(name: Name, json: JsonOption = False) -> None:
    """List what a group gave up on."""
    from cli.client import connect

    with connect() as client:
        found = client.get(f"/consumer-groups/{name}/dead-letters", limit=500)["items"]
    if json:
        print_json(found)
    else:
        print_table(_LETTERS, found, empty=f"{name} has no dead letters.")


def redrive(
    name: Name,
    dead_letter_id: Annotated[str | None, typer.Argument(help="One of them; default: all.")] = None,
) -> None:
    """Let a group try its dead letters again."""
    from cli.client import connect

    with connect() as client:
        path = f"/consumer-groups/{name}/dead-letters"
        letters = (
            [dead_letter_id]
            if dead_letter_id
            else [each["dead_letter_id"] for each in client.get(path, limit=500)["items"]]
        )
        for letter in letters:
            client.post(f"{path}/{letter}/redrive")
    note(f"{name} tries {len(letters)} dead letters again.")
