"""The `switchyard` command.

Exit statuses are those of `cli.exit.ExitStatus`. Errors are one line with what to do next on standard
error; standard output carries results only, so that ``--json`` can be piped.
"""

import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import NoReturn, TextIO

import typer
from rich.console import Console
from rich.markup import escape

import cli.agents
import cli.approvals
import cli.calendars
import cli.demo
import cli.deploy
import cli.executions
import cli.flows
import cli.groups
import cli.keys
import cli.login
import cli.mail
import cli.monitoring
import cli.payouts
import cli.receipts
import cli.reconciliation
import cli.review
import cli.runs
import cli.stack.commands
import cli.triggers
import cli.wallet
import cli.webhooks
from cli.exit import ExitStatus, status_of
from models.errors import PlatformError

# One module per noun; each has `register(app)`, which adds its commands. Modules must be cheap to import:
# heavy imports belong into the command that needs them.
MODULES: tuple[ModuleType, ...] = (
    cli.stack.commands,
    cli.demo,
    cli.agents,
    cli.review,
    cli.deploy,
    cli.executions,
    cli.runs,
    cli.monitoring,
    cli.groups,
    cli.webhooks,
    cli.flows,
    cli.approvals,
    cli.calendars,
    cli.triggers,
    cli.wallet,
    cli.receipts,
    cli.payouts,
    cli.reconciliation,
    cli.mail,
    cli.login,
    cli.keys,
)

_EXIT_STATUSES = (
    "Exit statuses: 0 done, 1 failure, 2 wrong usage, 3 refused, 4 not found, 5 not allowed, "
    "6 unavailable, 130 interrupted."
)


def build_app() -> typer.Typer:
    """The command line with every module's commands."""
    app = typer.Typer(
        name="switchyard",
        help="Durable operations for AI agents and business processes, on Temporal.",
        epilog=_EXIT_STATUSES,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )

    @app.callback()
    def root() -> None:  # pyright: ignore[reportUnusedFunction]
        """Durable operations for AI agents and business processes, on Temporal."""

    for module in MODULES:
        module.register(app)
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status; nothing but `KeyboardInterrupt` of the caller escapes."""
    complain = Console(stderr=True, soft_wrap=True, highlight=False).print
    try:
        # Standalone mode would end the process; the result is the status of `typer.Exit`, or None.
        result = build_app()(args=list(arguments), prog_name="switchyard", standalone_mode=False)
    except PlatformError as error:
        complain(f"[red]error:[/red] {escape(error.message)}")
        return status_of(error)
    except (typer.Abort, KeyboardInterrupt):
        return ExitStatus.INTERRUPTED
    except typer.TyperException as error:
        show: Callable[[TextIO], None] | None = getattr(error, "show", None)
        if show is not None:
            show(sys.stderr)
        return getattr(error, "exit_code", ExitStatus.USAGE)
    except BrokenPipeError:  # `switchyard logs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.OK
    except Exception as error:
        if os.environ.get("SWITCHYARD_DEBUG"):
            raise
        complain(
            f"[red]error:[/red] {escape(f'{type(error).__name__}: {error}')} "
            "(unexpected; set SWITCHYARD_DEBUG=1 to see where)"
        )
        return ExitStatus.FAILURE
    return result if isinstance(result, int) else ExitStatus.OK


def main() -> NoReturn:
    """Entry point of the console script.

    Leaves by `os._exit`: a Temporal client with a call in flight may crash the interpreter's own shutdown
    (temporalio/sdk-python issue 300).
    """
    status = run(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            continue
    os._exit(status)
