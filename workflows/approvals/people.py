"""Who may decide on a request, for whom, and what has been decided so far."""

from collections.abc import Collection

from models.approval import Actor, ApprovalRequest, ApprovalType, Opened, Pool
from models.approval_errors import (
    ActionNotPossibleError,
    AlreadyDecidedError,
    ApprovalFourEyesError,
    NotAnApproverError,
)
from models.approval_policy import Group, Stage
from workflows.approvals.quorum import StagePool, Verdict, Vote, evaluate


class People:
    """The stage that decides now: its pool, its votes, delegations; and who counts in earlier stages."""

    def __init__(self, request: ApprovalRequest, opened: Opened) -> None:
        """Begin with the first stage's people."""
        spec = request.spec
        self._approval_id = request.approval_id
        self._policy = spec.policy
        self._pools = opened.stages
        self.stages = spec.policy.stages or [Stage(groups=[Group(members=spec.assignment_rule)])]
        self.excluded = frozenset(spec.policy.exclude) | frozenset(request.excluded)
        if not spec.policy.self_approval and spec.type is not ApprovalType.INFORM:
            self.excluded |= {request.requested_by}
        self.stage = -1
        self.votes: list[Vote] = []
        self.delegations: dict[str, str] = {}
        self._used: frozenset[str] = frozenset()
        self._seats = 0
        self.pool = StagePool([], [], [])
        self.next_stage()

    def next_stage(self) -> bool:
        """Go on to the next stage; False where the last one is done."""
        if self.stage + 1 >= len(self.stages):
            return False
        self.stage += 1
        if self._policy.distinct:
            self._used = self._used.union(*(vote.people for vote in self.votes))
        self.votes = []
        pools = self._pools[self.stage]
        members = [self._allowed(pool.members) for pool in pools]
        self.pool = StagePool(members, [pool.role for pool in pools], self._needs(members))
        self._seats = len(self.pool.everybody)
        return True

    def _allowed(self, members: Collection[str]) -> set[str]:
        return set(members) - self.excluded

    def _needs(self, members: list[set[str]]) -> list[int]:
        groups = self.stages[self.stage].groups
        return [group.need.of(len(each)) for group, each in zip(groups, members, strict=True)]

    @property
    def approvals_so_far(self) -> bool:
        """Whether anybody's approval counts already, in this stage or an earlier one."""
        return self.stage > 0 or any(vote.approves for vote in self.votes)

    @property
    def needs_several(self) -> bool:
        """Whether one approval is not enough in this stage."""
        return sum(self.pool.needs) > 1

    def waiting(self) -> list[str]:
        """List whose decision is awaited: members who have not decided, and their delegates."""
        open_seats = self.pool.everybody - self._taken()
        return sorted(
            open_seats | {self.delegations[seat] for seat in open_seats if seat in self.delegations}
        )

    def waiting_roles(self) -> list[str]:
        """List the roles whose holders may still join."""
        return sorted({role for role in self.pool.roles if role is not None})

    def _taken(self) -> frozenset[str]:
        return self._used.union(*(vote.people for vote in self.votes))

    def verdict(self) -> Verdict:
        """Say what the votes have come to."""
        return evaluate(
            self.pool,
            self.votes,
            self.stages[self.stage].rejection,
            distinct=self._policy.distinct,
            used=self._used,
            seats=self._seats,
        )

    def seat_of(self, actor: Actor) -> str:
        """Return the member for whom ``actor``'s decision would count: themselves before anybody else.

        Raises:
            ApprovalFourEyesError: The actor is excluded.
            AlreadyDecidedError: The actor, or everybody they could stand in for, counts already.
            NotAnApproverError: They have no part in this stage.
        """
        me = actor.user_id
        if me in self.excluded:
            raise ApprovalFourEyesError(self._approval_id)
        members = self.pool.everybody
        candidates: list[str] = []
        if me in members or set(actor.roles) & set(self.waiting_roles()):
            candidates.append(me)
        if self._policy.delegation:
            candidates += sorted(
                seat for seat, to in self.delegations.items() if to == me and seat in members
            )
            candidates += sorted(set(actor.stands_in_for) & members)
        if not candidates:
            raise NotAnApproverError(self._approval_id)
        taken = self._taken()
        free = [seat for seat in candidates if seat not in taken]
        if me in taken or not free:
            raise AlreadyDecidedError(self._approval_id)
        return free[0]

    def concerns(self, actor: Actor) -> bool:
        """Tell whether the actor may see to the request: is asked, was asked, or manages."""
        if actor.manages:
            return True
        me = actor.user_id
        return (
            me in self.pool.everybody
            or bool(set(actor.roles) & set(self.waiting_roles()))
            or me in self.delegations.values()
            or bool(set(actor.stands_in_for) & self.pool.everybody)
        )

    def vote(self, actor: Actor, seat: str, *, approves: bool) -> None:
        """Count a decision; ``seat`` is that of `seat_of`."""
        if seat not in self.pool.everybody:
            # A holder of the role joins every group of the role.
            for members, role in zip(self.pool.members, self.pool.roles, strict=True):
                if role is not None and role in actor.roles:
                    members.add(seat)
        self.votes.append(Vote(actor.user_id, seat, approves))

    def replaced(self, members: Collection[str]) -> StagePool:
        """Return the pool with other members in every group; those whose votes count stay.

        Raises:
            ApprovalFourEyesError: All of them are excluded.
            ActionNotPossibleError: They are too few for what the stage needs.
        """
        fresh = self._allowed(members) - self._used
        if not fresh:
            raise ApprovalFourEyesError(self._approval_id)
        voted = {vote.seat for vote in self.votes}
        groups = [(each & voted) | fresh for each in self.pool.members]
        pool = StagePool(groups, [None] * len(groups), self._needs(groups))
        rule = self.stages[self.stage].rejection
        verdict = evaluate(pool, self.votes, rule, distinct=self._policy.distinct, used=self._used)
        if verdict is Verdict.IMPOSSIBLE:
            raise ActionNotPossibleError(
                self._approval_id, "be reassigned", "too few people would be left for the approvals it needs"
            )
        return pool

    def replace(self, members: Collection[str]) -> None:
        """Let others decide; see `replaced`."""
        self.pool = self.replaced(members)
        self.delegations = {}

    def add(self, pool: Pool) -> list[str]:
        """Let others decide as well; what is needed stays. Returns who is new."""
        fresh = self._allowed(pool.members) - self._used
        new = fresh - self.pool.everybody
        for members in self.pool.members:
            members |= fresh
        if pool.role is not None:
            self.pool.roles = [role or pool.role for role in self.pool.roles]
        return sorted(new)

    def check_delegation(self, principal: str, delegate: str) -> None:
        """Refuse a delegation that could not count.

        Raises:
            ApprovalFourEyesError: The delegate is excluded.
            AlreadyDecidedError: One of the two counts already.
            NotAnApproverError: The principal is not asked.
            ActionNotPossibleError: The policy forbids it, or it leads nowhere.
        """
        if not self._policy.delegation:
            raise ActionNotPossibleError(self._approval_id, "be delegated", "its policy forbids it")
        if principal not in self.pool.everybody:
            raise NotAnApproverError(self._approval_id)
        if delegate in self.excluded:
            raise ApprovalFourEyesError(self._approval_id)
        if delegate == principal:
            raise ActionNotPossibleError(
                self._approval_id, "be delegated", "a person is no delegate of themselves"
            )
        if {principal, delegate} & self._taken():
            raise AlreadyDecidedError(self._approval_id)

    def could_do(self, members: Collection[str]) -> bool:
        """Tell whether `replaced` would take these members."""
        try:
            self.replaced(members)
        except (ApprovalFourEyesError, ActionNotPossibleError):
            return False
        return True
