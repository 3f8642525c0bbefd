"""Ad-hoc sub-processes (clauses 10.3.5 and 13.3.5): inner activities in an order that nobody drew.

All activated elements share one scope, so flows and joins between them work as anywhere else.
"""

from typing import Any

from workflows.bpmn.core import StuckError
from workflows.bpmn.graph import Node
from workflows.bpmn.loops import Looping
from workflows.bpmn.state import Instance, Role


class AdHoc(Looping):
    """Activates and completes ad-hoc sub-processes."""

    def start_inside(self, scope: Instance, node: Node) -> None:
        """Put the first tokens into a scope; ad-hoc sub-processes choose theirs."""
        spec = node.definition.ad_hoc
        if spec is None:
            super().start_inside(scope, node)
            return
        data = scope.data = scope.data or {}
        self.dirty[scope.key] = None
        chosen = [item.id for item in node.initial]
        if node.active_elements is not None:
            value = self.value(node.active_elements, scope, node.id)
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise StuckError("AD_HOC", f"The active elements of {node.id} are no list of identifiers.")
            chosen = value
        work = node.work
        if work is not None and (work.definition.type is not None or work.type_expression is not None):
            data["manual"] = True
            self.ask_agent(scope, node)
        elif spec.manual:
            data["manual"] = True
        elif spec.sequential:
            data["waiting"] = chosen
            self._next_in_order(scope, node)
        else:
            for element in chosen:
                self.activate(scope, node, element)

    def ask_agent(self, scope: Instance, node: Node) -> None:
        """Ask the choosing agent what to activate next; the job's results say it."""

    def activate(self, scope: Instance, node: Node, element: str) -> None:
        """Give an inner element a token.

        Raises:
            StuckError: It is not an element of the sub-process that can be activated.
        """
        target = next((item for item in node.initial if item.id == element), None)
        if target is None:
            raise StuckError("AD_HOC", f"{element!r} is no element of {node.id} that can be activated.")
        self.queue.append((target, scope.key))
        self.dirty[scope.key] = None

    def _next_in_order(self, scope: Instance, node: Node) -> None:
        data = scope.data or {}
        waiting = list(data.get("waiting") or ())
        if waiting:
            self.activate(scope, node, waiting.pop(0))
        data["waiting"] = waiting

    def inner_ended(self, scope: Instance) -> None:
        """Ask the completion condition after each inner activity."""
        node = self.nodes[scope.node]
        if node.ad_hoc_completion is None:
            return
        try:
            done = self.truth(node.ad_hoc_completion, scope, node.id)
        except StuckError as stuck:
            self.raise_incident(scope, stuck)
            return
        if done:
            self.complete_ad_hoc(scope, node)

    def complete_ad_hoc(self, scope: Instance, node: Node) -> None:
        """End the sub-process: cancel what runs, or let it end and activate nothing new."""
        data = scope.data = scope.data or {}
        data["completing"] = True
        data.pop("waiting", None)
        self.dirty[scope.key] = None
        spec = node.definition.ad_hoc
        if spec is not None and spec.cancel_remaining:
            self.cancel_children(scope, "completion condition")

    def ad_hoc_quiet(self, scope: Instance, node: Node) -> bool:
        """Decide what an ad-hoc scope without tokens does; tell whether it may complete."""
        data = scope.data or {}
        if data.get("completing"):
            return True
        if data.get("waiting"):
            self._next_in_order(scope, node)
            return False
        return not data.get("manual")

    def is_ad_hoc(self, instance: Instance) -> bool:
        """Tell whether the instance is an ad-hoc scope."""
        return instance.role == Role.SCOPE and self.nodes[instance.node].definition.ad_hoc is not None

    def agent_answer(self, scope: Instance, results: dict[str, Any]) -> None:
        """Follow the choosing agent: ``activate`` lists elements, ``complete`` ends the sub-process.

        Raises:
            StuckError: An element cannot be activated.
        """
        node = self.nodes[scope.node]
        chosen = results.get("activate") or []
        self.write_all(scope, {k: v for k, v in results.items() if k not in ("activate", "complete")})
        if results.get("complete") is True:
            self.complete_ad_hoc(scope, node)
            return
        for item in chosen if isinstance(chosen, list) else []:
            element = item.get("element") if isinstance(item, dict) else item
            if isinstance(item, dict) and isinstance(item.get("variables"), dict):
                self.write_all(scope, item["variables"])
            self.activate(scope, node, str(element))
