"""The suite that a mutation of the payment core must not survive, as a process of its own.

``python -m bench.payment_suite``: the database is given by ``DATABASE_URL`` and its kin. Exit status 1: a
schedule or a rule failed, which is printed.
"""

import asyncio
import logging
import os
import sys
import tempfile
from pathlib import Path

import structlog

from activities.signing import Signer, generate_key
from models.settings import Settings
from tests.rails.mortal import MortalDatabase
from tests.rails.rules import RULES
from tests.rails.schedule import ScheduleError, open_lines, play_batch

BATCH = 60


async def play(settings: Settings, schedules: int) -> str:
    """Play rules and schedules; return what failed first, or nothing."""
    with tempfile.TemporaryDirectory() as directory:
        generate_key(Path(directory), "suite")
        signer = Signer.from_directory(Path(directory))
    async with (
        MortalDatabase(
            settings.database_url.get_secret_value(), settings.database_platform_url.get_secret_value()
        ) as store,
        open_lines(store) as lines,
    ):
        for name, rule in RULES.items():
            try:
                async with asyncio.timeout(60):
                    await rule(store, signer, lines)
            except Exception as error:
                return f"{name}: {type(error).__name__} {error}"
        for start in range(0, schedules, BATCH):
            try:
                async with asyncio.timeout(120):
                    await play_batch(store, signer, lines, range(start, start + BATCH))
            except (ScheduleError, TimeoutError) as error:
                return str(error) or "a schedule does not end"
            except Exception as error:
                return f"{type(error).__name__} {error}"
    return ""


def main() -> int:
    """Play; 1 where something failed."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    fault = asyncio.run(play(Settings(), int(os.environ.get("RAIL_SCHEDULES", "240"))))
    if fault:
        print(fault[:2_000])
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main())
