"""Random schedules of faults: what a seed stands for, and batches of them on one world."""

import random
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from activities.rails.registry import Rails
from activities.signing import Signer
from tests.payment.shop import Shop
from tests.rails.hostile import FAULTS, Fault
from tests.rails.lines import RailLine, TransferLine, WalletLine, outside_line
from tests.rails.mortal import FATES, Fate, MortalDatabase
from tests.rails.truth import finally_
from tests.rails.world import Purchase, World

AMOUNTS = (1, 2, 3, 6, 9, 50, 99, 201, 5_000, 99_999)
LINES = ("wallet", "wallet", "wallet", "wallet", "wallet", "wallet", "stripe", "cashfree")
"""The wallet, whose books are the ledger itself, more often: it is the cheapest and has the most commits."""


class ScheduleError(AssertionError):
    """A batch broke an invariant; the message names its seeds."""


@asynccontextmanager
async def open_lines(store: MortalDatabase) -> AsyncGenerator[dict[str, RailLine]]:
    """Start the outside rails' servers; one set serves one world after the other."""
    async with AsyncExitStack() as stack:
        lines: dict[str, RailLine] = {"wallet": WalletLine(store)}
        for name in ("stripe", "cashfree"):
            lines[name] = await stack.enter_async_context(outside_line(name))
        yield lines


async def open_world(store: MortalDatabase, signer: Signer, lines: dict[str, RailLine]) -> World:
    """Begin a world with empty books."""
    for line in lines.values():
        line.forget()
    world = World(Shop(store, signer, Rails([lines["wallet"]])), lines, TransferLine())
    await world.open()
    return world


async def play_batch(
    store: MortalDatabase, signer: Signer, lines: dict[str, RailLine], seeds: range
) -> World:
    """Play the schedules of ``seeds`` one after the other on a world of their own; then check its books.

    Raises:
        ScheduleError: An invariant does not hold.
    """
    world = await open_world(store, signer, lines)
    try:
        arranged = await _arrange(world, seeds)
        for seed in seeds:
            await play(world, seed, arranged.get(seed))
        await world.quiesce()
        faults = await finally_(world)
    except AssertionError as error:
        raise ScheduleError(f"seeds {seeds.start} to {seeds.stop - 1}: {error}") from error
    if faults:
        listed = "\n  ".join(sorted(faults)[:20])
        places = {each.execution_id: each.seed for each in world.purchases}
        named = sorted({seed for name, seed in places.items() if name in listed})
        raise ScheduleError(f"seeds {seeds.start} to {seeds.stop - 1} (see {named}):\n  {listed}")
    return world


async def _arrange(world: World, seeds: range) -> dict[int, Purchase]:
    """Make the purchases of the schedules whose faults begin after the dispatch, in one transaction."""
    plans = {seed: plan for seed in seeds if (plan := _plan(random.Random(seed))) is not None}
    calm = {seed: plan for seed, plan in plans.items() if not plan.fates}
    found = await world.buy_all(
        [
            (each.line, each.amount, each.orchestrated, each.way < 0.05, each.executed)
            for each in calm.values()
        ]
    )
    for seed, purchase in zip(calm, found, strict=True):
        purchase.seed = seed
    return dict(zip(calm, found, strict=True))


async def play(world: World, seed: int, arranged: Purchase | None = None) -> None:
    """Play one schedule: a purchase or a payout, and what can happen to it.

    Args:
        world: Where.
        seed: Says everything that will happen, but for the order in which concurrent workers are served.
        arranged: Its purchase, where that was made before.
    """
    chance = random.Random(seed)
    world.seed = seed
    plan = _plan(chance)
    if plan is not None:
        await _purchase(world, chance, plan, arranged)
    elif chance.random() < 0.8:
        await _payout(world, chance)
    else:
        await _burst(world, chance)


@dataclass
class Plan:
    """How a purchase begins."""

    line: str
    amount: int
    orchestrated: bool
    executed: bool
    way: float
    """Which turn it takes between dispatch and settling."""
    fates: tuple[list[Fate], list[Fate]] | None
    """Of the reservation and of the dispatch."""


def _plan(chance: random.Random) -> Plan | None:
    if chance.random() < 0.15:
        return None
    return Plan(
        line=chance.choice(LINES),
        amount=chance.choice(AMOUNTS),
        orchestrated=chance.random() < 0.3,
        executed=chance.random() < 0.75,
        way=chance.random(),
        fates=(_fates(chance, 1), _fates(chance, 1)) if chance.random() < 0.2 else None,
    )


async def _purchase(world: World, chance: random.Random, plan: Plan, arranged: Purchase | None) -> None:
    purchase = arranged
    if purchase is None:
        before, at = plan.fates or ([], [])
        purchase = await world.buy(plan.line, plan.amount, orchestrated=plan.orchestrated, fates=before)
        if purchase is None:
            return
        await world.dispatch(purchase, at, expired=plan.way < 0.05)
        await world.finish(purchase, executed=plan.executed)
    if 0.05 <= plan.way < 0.1:
        await world.revoke(purchase)
    if 0.1 <= plan.way < 0.13:
        await world.give_up(purchase)
    for _ in range(chance.choice((1, 1, 2))):
        await _tries(world, purchase, chance, executed=plan.executed)
    if purchase.late is not None:
        await world.record_late(purchase)
    if chance.random() < 0.15:
        for _ in range(chance.randint(1, 3)):
            amount = None if chance.random() < 0.3 else chance.randint(1, purchase.amount)
            await world.refund(purchase, amount, _fates(chance, 1))


async def _tries(world: World, purchase: Purchase, chance: random.Random, *, executed: bool) -> None:
    faults = _faults(chance)
    fates = [_fates(chance, 4) for _ in range(chance.choice((1, 1, 1, 2, 3)))]
    dice = chance.random()
    if not executed and dice < 0.8:
        await world.release(purchase, faults=faults, fates=fates)
    elif dice < 0.15 and purchase.late is None:
        await world.hold_answer(purchase, faults)
    else:
        part = chance.randint(1, purchase.amount) if chance.random() < 0.1 else None
        await world.settle(
            purchase,
            faults=faults,
            fates=fates,
            part=part,
            hurried=chance.random() < 0.15,
            releasing=chance.random() < 0.1,
        )


async def _payout(world: World, chance: random.Random) -> None:
    await world.earn(chance.choice((1, 49_999, 50_000, 80_000, -10_000)))
    period = world.next_period()
    before = len(world.payouts)
    await world.claim(period, [_fates(chance, 2) for _ in range(chance.choice((1, 2)))])
    for payout_id in world.payouts[before:]:
        refused = chance.random() < 0.2
        for _ in range(chance.randint(1, 2)):
            fates = [_fates(chance, 3) for _ in range(chance.choice((1, 1, 2)))]
            await world.send(payout_id, faults=_faults(chance), fates=fates, refused=refused)
        if chance.random() < 0.2:
            await world.reverse(payout_id, [_fates(chance, 1), ()])


async def _burst(world: World, chance: random.Random) -> None:
    amount = chance.choice((7_000_000, 9_999_999, 10_000_000, 20_000_000))
    passed = await world.burst(4, amount)
    assert len(passed) == min(4, 20_000_000 // amount), f"{len(passed)} of {amount} passed the limit"
    for purchase in passed:
        await world.finish(purchase, executed=False)
        await world.release(purchase, faults=_faults(chance))


def _faults(chance: random.Random) -> list[Fault]:
    return [chance.choice(FAULTS) for _ in range(chance.choice((0, 0, 1, 1, 2, 3)))]


def _fates(chance: random.Random, most: int) -> list[Fate]:
    """Fates of one worker's transactions: mostly it lives."""
    if chance.random() < 0.6:
        return []
    lives: list[Fate] = ["lives"] * chance.randint(0, most)
    return [*lives, chance.choice(FATES)]
