"""``switchyard keys create | list | revoke``: API keys for machines."""

from datetime import timedelta
from typing import Annotated

import typer

from cli.output import JsonOption, note, print_json, print_table
from models.identity import Permission
from models.table import utc_now

_COLUMNS = {
    "api_key_id": "KEY",
    "name": "NAME",
    "hint": "BEGINS",
    "scopes": "SCOPES",
    "created_at": "CREATED",
    "expires_at": "EXPIRES",
    "revoked_at": "REVOKED",
    "last_used_at": "LAST USED",
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    keys = typer.Typer(help="API keys for machines.", no_args_is_help=True)
    keys.command("create")(create)
    keys.command("list")(list_)
    keys.command("revoke")(revoke)
    app.add_typer(keys, name="keys", rich_help_panel="Identity")


def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[list[Permission], typer.Option("--scope", help="What it may do; several times.")],
    days: Annotated[int | None, typer.Option("--days", min=1, max=366, help="Life; default: no end.")] = None,
    json: JsonOption = False,
) -> None:
    """Make a key and print it, this once."""
    from cli.client import connect

    body: dict[str, object] = {"name": name, "scopes": [str(entry) for entry in scope]}
    if days is not None:
        body["expires_at"] = (utc_now() + timedelta(days=days)).isoformat()
    with connect() as client:
        made = client.post("/api-keys", body)
    if json:
        print_json(made)
        return
    note(f"{made['api_key_id']}: keep the key now, it is not shown again.")
    typer.echo(made["key"])


def list_(json: JsonOption = False) -> None:
    """List your keys."""
    from cli.client import connect

    with connect() as client:
        keys = list(client.items("/api-keys"))
    if json:
        print_json(keys)
    else:
        print_table(_COLUMNS, keys, empty="You have no API keys. Make one with `switchyard keys create`.")


def revoke(
    api_key_id: Annotated[str, typer.Argument(help="Id of the key (`switchyard keys list`).")],
) -> None:
    """Revoke a key, at once and for good."""
    from urllib.parse import quote

    from cli.client import connect

    with connect() as client:
        revoked = client.delete(f"/api-keys/{quote(api_key_id, safe='')}")
    note(f"Revoked {revoked['api_key_id']} ({revoked['name']}).")
