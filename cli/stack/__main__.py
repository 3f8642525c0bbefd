"""The supervisor as a process: ``python -m cli.stack DATA_DIR``.

It stops in order on SIGINT, SIGTERM, or (unless detached) at the end of its standard input, so that it
never outlives whoever started it.
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from cli.stack.layout import DataDirectory
from cli.stack.parts import parts_named
from cli.stack.state import StackState
from cli.stack.supervisor import StackOptions, Supervisor
from models.errors import PlatformError


def _options(arguments: argparse.Namespace) -> StackOptions:
    names: str | None = arguments.parts
    pairs: list[str] = arguments.temporal_option
    return StackOptions(
        directory=DataDirectory.create(Path(arguments.data_dir)),
        parts=parts_named(names.split(",") if names is not None else None),
        ports=arguments.ports,
        durable=not arguments.not_durable,
        temporal_options=dict(pair.split("=", 1) for pair in pairs),
    )


async def supervise(
    options: StackOptions,
    *,
    until_end_of_input: bool,
    on_change: Callable[[StackState], None] | None = None,
) -> None:
    """Run a stack until a signal, or the end of standard input, asks it to stop."""
    supervisor = Supervisor(options, on_change)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, supervisor.request_stop)
    if until_end_of_input:

        def input_ready() -> None:
            if not os.read(0, 4096):
                loop.remove_reader(0)
                supervisor.request_stop()

        loop.add_reader(0, input_ready)
    await supervisor.run()


def main() -> int:
    """Parse the arguments and supervise; the status is 0 after an orderly stop."""
    parser = argparse.ArgumentParser(prog="python -m cli.stack")
    parser.add_argument("data_dir")
    parser.add_argument("--parts")
    parser.add_argument("--ports", choices=("fixed", "auto"), default="fixed")
    parser.add_argument("--not-durable", action="store_true")
    parser.add_argument("--temporal-option", action="append", default=[])
    parser.add_argument("--detached", action="store_true")
    arguments = parser.parse_args()
    try:
        asyncio.run(supervise(_options(arguments), until_end_of_input=not arguments.detached))
    except PlatformError as error:
        print(error.message, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
