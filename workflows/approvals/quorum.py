"""Counting votes: what a stage has come to, and whether it can still come to anything.

A person counts once in a stage, whether they decide themselves or somebody decides for them; with
``distinct`` once in the whole request, and in one of a stage's groups only. Which vote serves which group is
then a matching in a bipartite graph, found by augmenting paths.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from models.approval_policy import Rejection


@dataclass(frozen=True, slots=True)
class Vote:
    """One counted decision.

    Attributes:
        approver: Who decided.
        seat: The member of the pool for whom it counts; the approver where they are one.
        approves: Whether it is an approval.
    """

    approver: str
    seat: str
    approves: bool

    @property
    def people(self) -> frozenset[str]:
        """Whom it uses up."""
        return frozenset((self.approver, self.seat))


@dataclass(slots=True)
class StagePool:
    """The groups of the stage that decides now.

    Attributes:
        members: For each group, who belongs to it. Reassigning and escalating change it.
        roles: For each group the platform role whose holders join it when they act.
        needs: For each group, how many approvals; fixed when the stage began.
    """

    members: list[set[str]]
    roles: list[str | None]
    needs: list[int]

    @property
    def everybody(self) -> set[str]:
        """All members of all groups."""
        found: set[str] = set()
        return found.union(*self.members)

    def groups_of(self, seat: str) -> list[int]:
        """Return the numbers of the groups that ``seat`` belongs to."""
        return [index for index, members in enumerate(self.members) if seat in members]


class Verdict(Enum):
    """What the votes of a stage have come to."""

    OPEN = "open"
    APPROVED = "approved"
    REJECTED = "rejected"
    IMPOSSIBLE = "impossible"


def evaluate(
    pool: StagePool,
    votes: Sequence[Vote],
    rejection: Rejection,
    *,
    distinct: bool,
    used: frozenset[str] = frozenset(),
    seats: int | None = None,
) -> Verdict:
    """Say what a stage's votes have come to.

    Args:
        pool: Who may vote.
        votes: The votes of this stage; no person is in two of them.
        rejection: The stage's rule for rejections.
        distinct: Whether a vote serves one group only.
        used: People who count in earlier stages already.
        seats: Size of the pool when the stage began, of which a percentage of rejections is taken.
    """
    approvals = [vote.seat for vote in votes if vote.approves]
    limit = rejection.of(len(pool.everybody) if seats is None else seats)
    if limit is not None and len(votes) - len(approvals) >= limit:
        return Verdict.REJECTED
    if _satisfied(pool, approvals, distinct=distinct):
        return Verdict.APPROVED
    taken = used.union(*(vote.people for vote in votes))
    open_seats = sorted(pool.everybody - taken)
    if any(role is not None for role in pool.roles):
        # Holders of the role whom nobody listed may still come.
        return Verdict.OPEN
    if _satisfied(pool, [*approvals, *open_seats], distinct=distinct):
        return Verdict.OPEN
    return Verdict.IMPOSSIBLE


def _satisfied(pool: StagePool, seats: Iterable[str], *, distinct: bool) -> bool:
    """Tell whether approvals for ``seats`` would satisfy every group."""
    groups = [(seat, pool.groups_of(seat)) for seat in seats]
    if not distinct:
        counts = [0] * len(pool.needs)
        for _, belongs in groups:
            for index in belongs:
                counts[index] += 1
        return all(count >= need for count, need in zip(counts, pool.needs, strict=True))
    serving: list[list[int]] = [[] for _ in pool.needs]
    for vote, _ in enumerate(groups):
        _place(vote, groups, pool.needs, serving, set())
    return all(len(votes) == need for votes, need in zip(serving, pool.needs, strict=True))


def _place(
    vote: int,
    groups: Sequence[tuple[str, list[int]]],
    needs: Sequence[int],
    serving: list[list[int]],
    tried: set[int],
) -> bool:
    """Let ``vote`` serve a group, moving others to another one where that makes room."""
    for index in groups[vote][1]:
        if index in tried:
            continue
        tried.add(index)
        if len(serving[index]) < needs[index]:
            serving[index].append(vote)
            return True
        for place, other in enumerate(serving[index]):
            if _place(other, groups, needs, serving, tried):
                serving[index][place] = vote
                return True
    return False
