"""The short form of ``make chaos``: parts are killed while paid executions run, and the books are right."""

import asyncio

from bench.chaos import campaign
from cli.stack.embedded import EmbeddedStack
from models.settings import Settings


def test_killed_parts_cost_nobody_anything(embedded_stack: EmbeddedStack, stack: Settings) -> None:
    outcome = asyncio.run(campaign(embedded_stack, stack, executions=14, kills=3, seed=3))
    assert outcome.violations == []
    assert sum(outcome.statuses.values()) == 14
    assert sum(outcome.kills.values()) > 0
