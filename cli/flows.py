"""``switchyard flows …``: business processes, from the file to the running instance."""

import typer

from cli import flows_deployed, flows_files, flows_instances, flows_operations, flows_watch


def register(app: typer.Typer) -> None:
    """Add the commands."""
    flows = typer.Typer(help="Business processes (BPMN): check, simulate, deploy, run.", no_args_is_help=True)
    flows.command("validate")(flows_files.validate)
    flows.command("simulate")(flows_files.simulate)
    flows.command("deploy")(flows_deployed.deploy)
    flows.command("definitions")(flows_deployed.definitions)
    flows.command("start")(flows_deployed.start)
    flows.command("list")(flows_instances.list_)
    flows.command("show")(flows_instances.show)
    flows.command("trace")(flows_instances.trace)
    flows.command("watch")(flows_watch.watch)
    flows.command("signal")(flows_operations.signal)
    flows.command("message")(flows_operations.message)
    flows.command("cancel")(flows_operations.cancel)
    flows.command("migrate")(flows_operations.migrate)
    flows.command("incidents")(flows_operations.incidents)
    flows.command("resolve")(flows_operations.resolve)
    app.add_typer(flows, name="flows", rich_help_panel="Processes")
