"""The fifteen invariants (research 2.6) over real PostgreSQL and hostile rails, whatever happens.

A hypothesis state machine plays a small world step by step, checking after each; random schedules of faults,
which a campaign plays by the hundred thousand (``python -m bench.payment_chaos``), are checked per batch.
"""

import asyncio
import os
from contextlib import AsyncExitStack
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from activities.signing import Signer
from models.settings import Settings
from tests.rails.hostile import FAULTS, Fault
from tests.rails.mortal import FATES, Fate, MortalDatabase
from tests.rails.schedule import AMOUNTS, open_lines, open_world, play_batch
from tests.rails.truth import always, finally_
from tests.rails.world import World

SCHEDULES = int(os.environ.get("RAIL_SCHEDULES", "200"))
STEPS = int(os.environ.get("RAIL_STEPS", "12"))
EXAMPLES = int(os.environ.get("RAIL_EXAMPLES", "10"))

faults = st.lists(st.sampled_from(FAULTS), max_size=3)
fates = st.lists(
    st.lists(st.sampled_from(("lives", *FATES)), max_size=4),
    min_size=1,
    max_size=3,
)


class Payments(RuleBasedStateMachine):
    """Rules are what people, workers, rails and the clock do."""

    database: ClassVar[Settings]
    signer: ClassVar[Signer]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()

    @initialize()
    def begin(self) -> None:
        self.world: World = self.runner.run(self._begin())

    async def _begin(self) -> World:
        store = await self.stack.enter_async_context(
            MortalDatabase(
                self.database.database_url.get_secret_value(),
                self.database.database_platform_url.get_secret_value(),
                max_connections=6,
            )
        )
        lines = await self.stack.enter_async_context(open_lines(store))
        return await open_world(store, self.signer, lines)

    @rule(
        line=st.sampled_from(("wallet", "wallet", "stripe", "cashfree")),
        amount=st.sampled_from(AMOUNTS),
        orchestrated=st.booleans(),
        fate=st.lists(st.sampled_from(FATES), max_size=2),
    )
    def buys(self, line: str, amount: int, orchestrated: bool, fate: list[Fate]) -> None:
        self.runner.run(self.world.buy(line, amount, orchestrated=orchestrated, fates=fate))

    @precondition(lambda self: any(each.stage == "reserved" for each in self.world.purchases))
    @rule(expired=st.integers(0, 9), executed=st.integers(0, 3), data=st.data())
    def runs(self, expired: int, executed: int, data: st.DataObject) -> None:
        waiting = [each for each in self.world.purchases if each.stage == "reserved"]
        purchase = data.draw(st.sampled_from(waiting))
        self.runner.run(self.world.dispatch(purchase, expired=expired == 0))
        self.runner.run(self.world.finish(purchase, executed=executed > 0))

    @precondition(lambda self: bool(self.world.purchases))
    @rule(faults=faults, fates=fates, hurried=st.booleans(), releasing=st.integers(0, 4), data=st.data())
    def settles(
        self,
        faults: list[Fault],
        fates: list[list[Fate]],
        hurried: bool,
        releasing: int,
        data: st.DataObject,
    ) -> None:
        """Whatever its stage: what was not executed must not be charged."""
        purchase = data.draw(st.sampled_from(self.world.purchases))
        self.runner.run(
            self.world.settle(purchase, faults=faults, fates=fates, hurried=hurried, releasing=releasing == 0)
        )

    @precondition(lambda self: any(each.stage == "failed" for each in self.world.purchases))
    @rule(faults=faults, fates=fates, data=st.data())
    def releases(self, faults: list[Fault], fates: list[list[Fate]], data: st.DataObject) -> None:
        failed = [each for each in self.world.purchases if each.stage == "failed"]
        self.runner.run(self.world.release(data.draw(st.sampled_from(failed)), faults=faults, fates=fates))

    @precondition(lambda self: bool(self.world.purchases))
    @rule(data=st.data())
    def revokes(self, data: st.DataObject) -> None:
        self.runner.run(self.world.revoke(data.draw(st.sampled_from(self.world.purchases))))

    @precondition(lambda self: bool(self.world.purchases))
    @rule(faults=faults, data=st.data())
    def answers_late(self, faults: list[Fault], data: st.DataObject) -> None:
        """A worker holds an answer while others go on; at its next turn it records it."""
        purchase = data.draw(st.sampled_from(self.world.purchases))
        if purchase.late is None:
            self.runner.run(self.world.hold_answer(purchase, faults))
        else:
            self.runner.run(self.world.record_late(purchase))

    @precondition(lambda self: bool(self.world.purchases))
    @rule(amount=st.one_of(st.none(), st.integers(1, 100_000)), data=st.data())
    def refunds(self, amount: int | None, data: st.DataObject) -> None:
        self.runner.run(self.world.refund(data.draw(st.sampled_from(self.world.purchases)), amount))

    @rule(
        earned=st.sampled_from((49_999, 50_000, 80_000, -10_000)),
        faults=faults,
        fates=fates,
        refused=st.integers(0, 4),
        reversed_=st.booleans(),
    )
    def pays_out(
        self,
        earned: int,
        faults: list[Fault],
        fates: list[list[Fate]],
        refused: int,
        reversed_: bool,
    ) -> None:
        before = len(self.world.payouts)
        self.runner.run(self.world.earn(earned))
        self.runner.run(self.world.claim(self.world.next_period(), fates))
        for payout_id in self.world.payouts[before:]:
            self.runner.run(self.world.send(payout_id, faults=faults, fates=fates, refused=refused == 0))
            if reversed_:
                self.runner.run(self.world.reverse(payout_id, [[], []]))

    @rule(amount=st.sampled_from((7_000_000, 10_000_000, 20_000_000)))
    def buys_at_once(self, amount: int) -> None:
        passed = self.runner.run(self.world.burst(3, amount))
        assert len(passed) == min(3, 20_000_000 // amount)
        for purchase in passed:
            self.runner.run(self.world.finish(purchase, executed=False))

    @invariant()
    def holds_always(self) -> None:
        if hasattr(self, "world"):
            assert self.runner.run(always(self.world)) == []

    def teardown(self) -> None:
        try:
            if hasattr(self, "world"):
                self.runner.run(self.world.quiesce())
                assert self.runner.run(finally_(self.world)) == []
        finally:
            self.runner.run(self.stack.aclose())
            self.runner.close()


def test_no_order_of_events_breaks_an_invariant(database: Settings, signer: Signer) -> None:
    run_state_machine_as_test(
        type("PaymentsHere", (Payments,), {"database": database, "signer": signer}),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )


@pytest.mark.parametrize("first", range(0, SCHEDULES, 50))
async def test_no_schedule_of_faults_parts_our_books_from_the_rails(
    store: MortalDatabase, signer: Signer, first: int
) -> None:
    async with open_lines(store) as lines:
        await play_batch(store, signer, lines, range(first, first + 50))
