"""Random policies and random orders of decisions, against what must hold whatever they are."""

from itertools import combinations
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from models.approval import Action, Result, Via
from models.approval_policy import Rejection, RejectionType
from models.errors import PlatformError
from tests.approval.asking import Desk
from workflows.approvals.quorum import StagePool, Verdict, Vote, evaluate

PEOPLE = ["ann", "ben", "cara", "dan", "eve", "fred"]
SUBSTITUTES = {"sue": ["ann", "ben"], "tom": ["cara", "sue"], "ann": ["dan"]}


def random_policy(random: Random) -> tuple[list[list[list[str]]], dict[str, Any]]:
    members: list[list[list[str]]] = []
    stages: list[dict[str, Any]] = []
    for _ in range(random.choice((1, 1, 2))):
        pools: list[list[str]] = []
        groups: list[dict[str, Any]] = []
        for _ in range(random.choice((1, 1, 2, 3))):
            pools.append(random.sample(PEOPLE, random.randrange(1, 5)))
            need = random.choice(
                ({"type": "all"}, {"value": random.randrange(1, 4)}, {"type": "percentage", "value": 50})
            )
            groups.append({"members": {"type": "group", "value": "g"}, "need": need})
        kind = random.choice(list(RejectionType))
        members.append(pools)
        stages.append({"groups": groups, "rejection": {"type": kind.value, "value": random.randrange(1, 4)}})
    return members, {
        "policy": {
            "stages": stages,
            "distinct": random.random() < 0.6,
            "exclude": random.sample(PEOPLE, random.choice((0, 0, 1))),
            "delegation": random.random() < 0.8,
        }
    }


def play(seed: int, channels: Random) -> Desk:
    """Random people decide in a random order, through channels that another generator chooses."""
    random = Random(seed)
    members, policy = random_policy(random)
    desk = Desk(members, **policy)
    for _ in range(14):
        who = random.choice([*PEOPLE, *SUBSTITUTES, "stranger"])
        action = random.choice((Action.APPROVE, Action.APPROVE, Action.REJECT))
        try:
            desk.decide(who, action, via=channels.choice(list(Via)), for_=SUBSTITUTES.get(who))
        except PlatformError:
            continue
    return desk


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), one=st.integers(0, 99), other=st.integers(0, 99))
def test_the_outcome_does_not_depend_on_the_channel(seed: int, one: int, other: int) -> None:
    first, second = play(seed, Random(one)), play(seed, Random(other))
    assert first.machine.state is second.machine.state
    assert first.machine.result is second.machine.result
    assert first.decisions == second.decisions


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_nobody_counts_twice_even_through_delegation(seed: int) -> None:
    desk = play(seed, Random(seed))
    counted: dict[int, list[frozenset[str]]] = {}
    for record in desk.records:
        for decision in record.decisions:
            people = frozenset((decision.approver, decision.on_behalf_of or decision.approver))
            counted.setdefault(decision.stage, []).append(people)
    everywhere = [people for votes in counted.values() for people in votes]
    for votes in counted.values():
        assert all(not one & other for one, other in combinations(votes, 2))
    if desk.request.spec.policy.distinct:
        assert all(not one & other for one, other in combinations(everywhere, 2))
    assert not any(
        people & set(desk.request.spec.policy.exclude) and len(people) == 1 for people in everywhere
    )


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_an_open_request_can_still_be_granted_and_an_impossible_one_is_closed(seed: int) -> None:
    desk = play(seed, Random(seed))
    if desk.machine.closed:
        assert desk.machine.result in (Result.APPROVED, Result.REJECTED)
        return
    for who in PEOPLE:
        if not desk.machine.closed:
            try:
                desk.decide(who)
            except PlatformError:
                continue
    while not desk.machine.closed:
        before = desk.machine.people.stage
        for who in PEOPLE:
            if not desk.machine.closed:
                try:
                    desk.decide(who)
                except PlatformError:
                    continue
        assert desk.machine.closed or desk.machine.people.stage > before
    assert desk.machine.result in (Result.APPROVED, Result.REJECTED)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_matching_of_votes_and_groups_is_the_best_there_is(seed: int) -> None:
    random = Random(seed)
    groups = [set(random.sample(PEOPLE, random.randrange(1, 5))) for _ in range(random.randrange(1, 4))]
    needs = [random.randrange(1, 3) for _ in groups]
    voters = random.sample(PEOPLE, random.randrange(0, 6))
    pool = StagePool(groups, [None] * len(groups), needs)
    votes = [Vote(name, name, approves=True) for name in voters]
    verdict = evaluate(pool, votes, Rejection(), distinct=True)

    def possible(rest: list[str], wanted: list[int]) -> bool:
        if not any(wanted):
            return True
        index = next(i for i, need in enumerate(wanted) if need)
        fewer = [*wanted[:index], wanted[index] - 1, *wanted[index + 1 :]]
        return any(
            name in groups[index] and possible(rest[:place] + rest[place + 1 :], fewer)
            for place, name in enumerate(rest)
        )

    assert (verdict is Verdict.APPROVED) == possible(voters, needs)
    everybody = sorted(set(voters).union(*groups))
    assert (verdict is Verdict.IMPOSSIBLE) == (not possible(everybody, needs))
