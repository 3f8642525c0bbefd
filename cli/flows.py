"""``switchyard flows …``: business processes, from the file to the running instance."""

import typer

from cli import flows_files


def register(app: typer.Typer) -> None:
    """Add the commands."""
    flows = typer.Typer(help="Business processes (BPMN): check, simulate, deploy, run.", no_args_is_help=True)
    flows.command("validate")(flows_files.validate)
    flows.command("simulate")(flows_files.simulate)
    app.add_typer(flows, name="flows", rich_help_panel="Processes")
