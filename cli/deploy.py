"""``switchyard deploy`` and ``switchyard deployments list | re-encrypt``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.output import JsonOption, note, print_facts, print_json, print_table

_COLUMNS = {
    "deployment_id": "DEPLOYMENT",
    "slug": "AGENT",
    "version": "VERSION",
    "version_status": "VERSION STATUS",
    "created_at": "CREATED",
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    deployments = typer.Typer(help="Your set-ups of agents.", no_args_is_help=True)
    deployments.command("list")(list_)
    deployments.command("re-encrypt")(re_encrypt)
    app.command(rich_help_panel="Agents")(deploy)
    app.add_typer(deployments, name="deployments", rich_help_panel="Agents")


def deploy(
    agent: Annotated[str, typer.Argument(help="Slug or agent id.")],
    version: Annotated[str | None, typer.Option(help="A published version; the newest by default.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="JSON file with the configuration. It is stored encrypted and never shown."),
    ] = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option("--set", help="name=value or name=@file of the configuration; may be repeated."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Set up an agent for yourself; then: switchyard execute."""
    from cli.client import connect
    from cli.executions import parse_inputs

    body: dict[str, Any] = {"config": parse_inputs(pairs or [], config)}
    if version is not None:
        body["version"] = version
    with connect() as client:
        made: dict[str, Any] = client.post(f"/agents/{agent}/deploy", body)
    if json:
        print_json(made)
    else:
        print_facts(made)
        note(f"Run it: switchyard execute {made['slug'] or made['deployment_id']} --wait")


def list_(
    agent: Annotated[str | None, typer.Option(help="Only of this agent, by slug or id.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    json: JsonOption = False,
) -> None:
    """List your tenant's deployments."""
    from cli.client import connect

    with connect() as client:
        rows = list(client.items("/deployments", maximum=limit, agent=agent))
    if json:
        print_json(rows)
    else:
        print_table(_COLUMNS, rows, empty="There are no deployments. Make one: switchyard deploy AGENT")


def re_encrypt(json: JsonOption = False) -> None:
    """Bring every stored configuration under the current encryption key (operators)."""
    from cli.client import connect

    with connect() as client:
        done = client.post("/deployments/re-encrypt")
    if json:
        print_json(done)
    else:
        print_facts(done)
