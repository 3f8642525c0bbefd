"""Gateways (clauses 10.6 and 13.4), the joins above all.

Tokens before a join are counts per incoming flow in the scope. Inclusive and complex joins are asked
again whenever a scope has come to rest after any change in it, the death of a token included.
"""

from typing import Any

from workflows.bpmn.adhoc import AdHoc
from workflows.bpmn.core import StuckError
from workflows.bpmn.definition import NodeKind
from workflows.bpmn.graph import FlowEdge, Node
from workflows.bpmn.state import Instance, Role

_RESET = "#reset"
"""Key in a complex join's counts that marks the reset phase; no flow can be named so (not an NCName)."""


class Gateways(AdHoc):
    """Splits and joins."""

    def exclusive(self, node: Node, scope: Instance) -> None:
        """Pass every token on over the first flow whose condition holds (13.4.2)."""
        self.trace("completed", node.id)
        if len(node.outgoing) == 1 and node.outgoing[0].condition is None:
            self.queue.append((node.outgoing[0], scope.key))
        elif node.outgoing:
            self.route(node, scope)

    def arrive(self, node: Node, scope: Instance, edge: FlowEdge | None) -> dict[str, int]:
        """Count a token before a join and return the counts."""
        if scope.joins is None:
            scope.joins = {}
        counts = scope.joins.setdefault(node.id, {})
        flow = edge.id if edge is not None else ""
        counts[flow] = counts.get(flow, 0) + 1
        return counts

    def parallel(self, node: Node, scope: Instance, edge: FlowEdge | None) -> None:
        """Wait for one token per incoming flow, then send one over each outgoing flow (13.4.1)."""
        if len(node.incoming) > 1 and edge is not None:
            counts = self.arrive(node, scope, edge)
            if len(counts) < len(node.incoming):
                return
            self.consume(scope, node, list(counts))
        self.trace("completed", node.id)
        for item in node.outgoing:
            self.queue.append((item, scope.key))

    def consume(self, scope: Instance, node: Node, flows: list[str]) -> None:
        """Take one token from each of the flows before a join."""
        joins = scope.joins or {}
        counts = joins.get(node.id, {})
        for flow in flows:
            if counts.get(flow, 0) > 1:
                counts[flow] -= 1
            else:
                counts.pop(flow, None)
        if not counts:
            joins.pop(node.id, None)
        if not joins:
            scope.joins = None

    def inclusive(self, node: Node, scope: Instance, edge: FlowEdge | None) -> None:
        """Join as the settling finds it enabled, then choose inclusively (13.4.3)."""
        if len(node.incoming) > 1 and edge is not None:
            self.arrive(node, scope, edge)
            return
        self.trace("completed", node.id)
        self.split(node, scope)

    def split(self, node: Node, scope: Instance) -> None:
        """Send tokens on after a join: chosen where conditions are, else over all flows."""
        if node.conditional:
            self.route(node, scope)
        else:
            for item in node.outgoing:
                self.queue.append((item, scope.key))

    # --- what a join still has to expect ----------------------------------------------------------

    def expected(self, join: Node, scope: Instance, filled: int) -> bool:
        """Tell whether a token elsewhere in the scope keeps the join waiting.

        It does if it can reach an empty incoming flow of the join and cannot reach a filled one, by paths
        that do not visit the join (13.4.3). ``filled`` has a bit per filled incoming flow.
        """
        reach = self.graph.reach(join)
        for key in scope.children:
            mask = reach.get(self.instances[key].node, 0)
            if mask & ~filled and not mask & filled:
                return True
        for other, counts in (scope.joins or {}).items():
            if other == join.id or not counts:
                continue
            mask = reach.get(other, 0)
            if mask & ~filled and not mask & filled:
                return True
        return False

    def fire_joins(self, scope: Instance) -> bool:
        """Fire the first inclusive or complex join that is enabled; tell whether one did."""
        for name in list(scope.joins or ()):
            node = self.nodes[name]
            counts = (scope.joins or {}).get(name)
            if counts is None:
                continue
            if node.kind is NodeKind.INCLUSIVE and self._fire_inclusive(node, scope, counts):
                return True
            if node.kind is NodeKind.COMPLEX and self._reset_complex(node, scope, counts):
                return True
        return False

    def _fire_inclusive(self, node: Node, scope: Instance, counts: dict[str, int]) -> bool:
        filled = self._bits(node, counts)
        if self.expected(node, scope, filled):
            return False
        self.consume(scope, node, list(counts))
        self.trace("completed", node.id)
        self.split(node, scope)
        return True

    def _bits(self, node: Node, flows: Any) -> int:
        return sum(1 << index for index, edge in enumerate(node.incoming) if edge.id in flows)

    # --- complex ----------------------------------------------------------------------------------

    def complex(self, node: Node, scope: Instance, edge: FlowEdge | None) -> None:
        """Activate by its condition, then wait for the rest before it may start again (13.4.5)."""
        if node.activation is None or edge is None:
            self.trace("completed", node.id)
            self.split(node, scope)
            return
        counts = self.arrive(node, scope, edge)
        if _RESET in counts:
            return
        self._activate_complex(node, scope, counts)

    def _activate_complex(self, node: Node, scope: Instance, counts: dict[str, int]) -> None:
        if node.activation is None:
            return
        context = self._complex_context(node, counts, waiting_for_start=True)
        try:
            active = self.truth(node.activation, scope, node.id, context)
        except StuckError as stuck:
            if not any(
                self.instances[key].role == Role.PARKED and self.instances[key].node == node.id
                for key in scope.children
            ):
                self.park(node, scope, "activation", stuck)
            return
        if not active:
            return
        consumed = list(counts)
        self.consume(scope, node, consumed)
        self.trace("completed", node.id)
        try:
            edges = self.choose(node, scope, first=False, extra=context)
        except StuckError as stuck:
            self.park(node, scope, "route", stuck)
            edges = []
        for item in edges:
            self.queue.append((item, scope.key))
        if len(consumed) < len(node.incoming):
            self._await_reset(node, scope, consumed)

    def reconsider(self, node: Node, scope: Instance) -> None:
        """Ask the activation condition of a complex join again."""
        counts = (scope.joins or {}).get(node.id)
        if counts and _RESET not in counts:
            self._activate_complex(node, scope, counts)

    def _await_reset(self, node: Node, scope: Instance, consumed: list[str]) -> None:
        if scope.joins is None:
            scope.joins = {}
        counts = scope.joins.setdefault(node.id, {})
        counts[_RESET] = self._bits(node, consumed)

    def _reset_complex(self, node: Node, scope: Instance, counts: dict[str, int]) -> bool:
        """End the reset phase once no token can come that it still waits for."""
        if _RESET not in counts:
            return False
        first = counts[_RESET]
        waiting = [
            edge.id for i, edge in enumerate(node.incoming) if edge.id in counts and not first >> i & 1
        ]
        if self.expected(node, scope, first | self._bits(node, counts)):
            return False
        context = self._complex_context(node, counts, waiting_for_start=False)
        self.consume(scope, node, [_RESET])
        if scope.joins is not None and node.id in scope.joins:
            scope.joins[node.id].pop(_RESET, None)
        self.consume(scope, node, waiting)
        self._leave_reset(node, scope, waiting, context)
        counts = (scope.joins or {}).get(node.id) or {}
        if counts:
            # Tokens of the next round have been waiting for the start.
            self._activate_complex(node, scope, counts)
        return True

    def _leave_reset(self, node: Node, scope: Instance, waiting: list[str], context: dict[str, Any]) -> None:
        """Send tokens over the flows whose condition holds in the reset phase; none is no error.

        A flow without a condition has had its token in the first phase and gets no second one: that is
        what makes the gateway a discriminator.
        """
        self.dirty[scope.key] = None
        if not waiting:
            return
        for edge in node.outgoing:
            if edge.condition is None or edge is node.default:
                continue
            try:
                if self.truth(edge.condition, scope, edge.id, context):
                    self.queue.append((edge, scope.key))
            except StuckError as stuck:
                self.park(node, scope, "reset", stuck)
                return

    def _complex_context(
        self, node: Node, counts: dict[str, int], *, waiting_for_start: bool
    ) -> dict[str, Any]:
        arrived = {edge.id: counts.get(edge.id, 0) for edge in node.incoming}
        return {
            **arrived,
            "activationCount": sum(arrived.values()),
            "waitingForStart": waiting_for_start,
        }

    # --- rest ---------------------------------------------------------------------------------------

    def settle(self) -> bool:
        """Bring scopes that changed to rest; tell whether tokens move again."""
        while self.dirty:
            key = next(iter(self.dirty))
            del self.dirty[key]
            scope = self.instances.get(key)
            if scope is None or scope.role != Role.SCOPE:
                continue
            if scope.joins and self.fire_joins(scope):
                self.dirty[key] = None
                return True
            if not scope.children:
                self._at_rest(scope)
            if self.queue:
                return True
        return bool(self.queue)

    def _at_rest(self, scope: Instance) -> None:
        """Complete a scope without living children, or report tokens that wait for ever."""
        node = self.nodes[scope.node]
        if node.definition.ad_hoc is not None and not self.ad_hoc_quiet(scope, node):
            return
        stuck = [name for name, counts in (scope.joins or {}).items() if any(key != _RESET for key in counts)]
        if stuck:
            if scope.key not in self.state.incidents:
                names = ", ".join(stuck)
                self.raise_incident(
                    scope, StuckError("DEADLOCK", f"Tokens wait for ever before {names}: no other can come.")
                )
            return
        incident = self.state.incidents.get(scope.key)
        if incident is not None:
            if incident[0] != "DEADLOCK":
                return
            self.close_incident(scope)
        self.complete_scope(scope)
