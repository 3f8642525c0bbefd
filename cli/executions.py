"""``switchyard execute`` and ``switchyard executions list | show | cancel``."""

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from cli.exit import ExitStatus
from cli.output import JsonOption, clean, note, print_facts, print_json, print_table
from models.errors import InvalidRequestError, NotFoundError

if TYPE_CHECKING:
    from cli.client import ApiClient

ENDED = frozenset({"success", "failed", "cancelled"})

_COLUMNS = {
    "execution_id": "EXECUTION",
    "agent_id": "AGENT",
    "status": "STATUS",
    "created_at": "CREATED",
    "duration_ms": "MS",
    "paid": "PAID",
    "code": "FAILURE",
}


class InputFileError(InvalidRequestError):
    """A file named on the command line cannot be used."""

    code = "INPUT_FILE_UNUSABLE"


class NotDeployedError(NotFoundError):
    """The caller has no deployment of the agent."""

    code = "NOT_DEPLOYED"

    def __init__(self, agent: str) -> None:
        super().__init__(f"You have no deployment of {agent}. Make one: switchyard deploy {agent}")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    executions = typer.Typer(help="Runs of agents.", no_args_is_help=True)
    executions.command("list")(list_)
    executions.command("show")(show)
    executions.command("cancel")(cancel)
    app.command(rich_help_panel="Agents")(execute)
    app.add_typer(executions, name="executions", rich_help_panel="Agents")


def parse_inputs(pairs: list[str], file: Path | None) -> dict[str, Any]:
    """Put the inputs together: those of ``file`` first, then each ``name=value`` or ``name=@file``.

    A value is JSON where it reads as JSON, else text; a file's content is always text.

    Raises:
        InputFileError: A file cannot be read, or ``file`` is not a JSON object.
        typer.BadParameter: A pair has no ``=``.
    """
    inputs: dict[str, Any] = {}
    if file is not None:
        try:
            loaded: Any = json_module.loads(_read(file))
        except ValueError as error:
            raise InputFileError(f"{file} is not JSON: {error}") from None
        if not isinstance(loaded, dict):
            raise InputFileError(f"{file} must hold a JSON object, one entry per input.")
        inputs.update(loaded)
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise typer.BadParameter(f"{pair!r} is not name=value or name=@file")
        if value.startswith("@"):
            inputs[name] = _read(Path(value[1:]))
            continue
        try:
            inputs[name] = json_module.loads(value)
        except ValueError:
            inputs[name] = value
    return inputs


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise InputFileError(f"{path} cannot be read: {error}") from None


def deployment_of(client: "ApiClient", agent: str) -> dict[str, Any]:
    """Find the caller's newest deployment of an agent, named by slug, agent id or deployment id.

    Raises:
        NotDeployedError: There is none.
    """
    for deployment in client.items("/deployments"):
        if agent in {deployment.get("slug"), deployment["agent_id"], deployment["deployment_id"]}:
            found: dict[str, Any] = deployment
            return found
    raise NotDeployedError(agent)


def execute(
    agent: Annotated[str, typer.Argument(help="Slug, agent id or deployment id.")],
    pairs: Annotated[
        list[str] | None,
        typer.Option("--input", help="name=value or name=@file; may be given several times."),
    ] = None,
    inputs_file: Annotated[Path | None, typer.Option("--inputs", help="JSON file with all inputs.")] = None,
    cost_cap: Annotated[
        int | None, typer.Option(help="Refuse when the price is above this, in minor units.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end.")] = False,
    json: JsonOption = False,
) -> None:
    """Run a deployed agent. With --wait, the status is 0 only where it succeeded."""
    from cli.client import connect
    from cli.stream import follow_run

    inputs = parse_inputs(pairs or [], inputs_file)
    with connect() as client:
        deployment = deployment_of(client, agent)
        body: dict[str, Any] = {"deployment_id": deployment["deployment_id"], "inputs": inputs}
        if cost_cap is not None:
            body["cost_cap"] = cost_cap
        started = client.post(f"/agents/{deployment['agent_id']}/execute", body)
        if not wait:
            if json:
                print_json(started)
            else:
                note(f"Queued. Follow it: switchyard executions show {started['execution_id']}")
                typer.echo(started["execution_id"])
            return
        execution_id = str(started["execution_id"])
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        for event in follow_run(client, execution_id):
            console.print(_progress(event), end="")
        ended = client.get(f"/executions/{execution_id}")
    if json:
        print_json(ended)
    elif ended["status"] == "success":
        print_json(ended["outputs"])
        note(_receipt(ended))
    else:
        note(f"{ended['status']}: {ended['error']['message']} ({ended['error']['code']}; nobody is charged)")
    if ended["status"] != "success":
        raise typer.Exit(ExitStatus.FAILURE)


def list_(
    status: Annotated[str | None, typer.Option(help="queued, running, success, failed or cancelled.")] = None,
    maximum: Annotated[int, typer.Option("--maximum", min=1, help="At most so many.")] = 20,
    json: JsonOption = False,
) -> None:
    """List your executions, newest first."""
    from cli.client import connect

    with connect() as client:
        found = list(client.items("/executions", maximum=maximum, status=status))
    if json:
        print_json(found)
        return
    rows = [
        {
            **entry,
            "paid": entry.get("payment", {}).get("amount"),
            "code": entry.get("error", {}).get("code"),
        }
        for entry in found
    ]
    print_table(_COLUMNS, rows, empty="There are no executions yet. Start one: switchyard execute AGENT")


def show(
    execution_id: Annotated[str, typer.Argument(help="Execution id.")],
    events: Annotated[bool, typer.Option("--events", help="Its events, too.")] = False,
    json: JsonOption = False,
) -> None:
    """Show one execution and where its workflow is to be seen."""
    from cli.client import connect

    with connect() as client:
        found = client.get(f"/executions/{execution_id}")
        found["temporal_url"] = client.get(f"/runs/{execution_id}")["temporal_url"]
        if events:
            found["events"] = client.get(f"/runs/{execution_id}/events", limit=1000)["items"]
    if json:
        print_json(found)
        return
    listed = found.pop("events", [])
    print_facts(found)
    for event in listed:
        typer.echo(f"{event['seq']:>4}  {event['timestamp']}  {event['type']}")


def cancel(
    execution_id: Annotated[str, typer.Argument(help="Execution id.")],
    reason: Annotated[str, typer.Option(help="Why; kept with the execution.")] = "",
    json: JsonOption = False,
) -> None:
    """End an execution whose agent has not finished; nobody is charged."""
    from cli.client import connect

    with connect() as client:
        found = client.post(f"/executions/{execution_id}/cancel", {"reason": reason})
    if json:
        print_json(found)
    else:
        note(f"{execution_id} is being cancelled.")


def _progress(event: dict[str, Any]) -> str:
    if event["type"] == "log":
        return f"[dim]{escape(clean(event['data']['text']))}[/dim]"
    return f"[bold]{escape(event['type'])}[/bold]\n"


def _receipt(ended: dict[str, Any]) -> str:
    paid = ended["payment"]
    return f"Paid {paid['amount']} {paid['currency']} (minor units); receipt {paid['receipt_id']}"
