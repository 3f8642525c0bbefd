"""Loops and multi-instance activities (clauses 10.3.7, 13.3.6 and 13.3.7).

A body instance stands for the whole activity: boundary events belong to it, and it counts. The rounds
are ordinary instances of the same node inside it. Rounds are started through the queue, so that ten
thousand instant ones need no stack, and at most a window of them is alive at once.
"""

from typing import Any

from workflows.bpmn.activities import Activities
from workflows.bpmn.core import StuckError
from workflows.bpmn.graph import LoopSpec, Node
from workflows.bpmn.state import Instance, Role

MAX_INSTANCES = 1_000_000


class Looping(Activities):
    """Runs loop and multi-instance bodies."""

    def start_loop(self, node: Node, loop: LoopSpec, parent: Instance) -> None:
        """Start a looping activity."""
        body = self.create(node, parent, Role.MULTI if loop.definition.multi else Role.LOOP)
        self.trace("started", node.id, body.key, "multi-instance" if loop.definition.multi else "loop")
        self.begin_loop(body)

    def begin_loop(self, body: Instance) -> None:
        """Begin a body, or begin it again after an incident."""
        node = self.nodes[body.node]
        loop = node.loop
        if loop is None:
            return
        try:
            if loop.definition.multi:
                self._begin_multi(body, node, loop)
            else:
                self._begin_standard(body, node, loop)
        except StuckError as stuck:
            self.close_subscriptions(body)
            body.data = {"stage": "begin"}
            self.raise_incident(body, stuck)

    # --- multi-instance -------------------------------------------------------------------------

    def _begin_multi(self, body: Instance, node: Node, loop: LoopSpec) -> None:
        items: list[Any] | None = None
        if loop.collection is not None:
            value = self.value(loop.collection, body, node.id)
            if value is None:
                value = []
            if not isinstance(value, list):
                raise StuckError("COLLECTION", f"The collection of {node.id} is no list.")
            items = value
            total = len(items)
        else:
            total = 1 if loop.cardinality is None else self._cardinality(body, node, loop)
        data: dict[str, Any] = {"n": total, "next": 0, "active": 0, "done": 0}
        if items is not None:
            data["items"] = items
        if loop.definition.output_collection and loop.output is not None:
            data["out"] = [None] * total
        body.data = data
        self.open_boundaries(body, node)
        if total == 0:
            self._end_body(body, node)
            return
        window = 1 if loop.definition.sequential else min(loop.definition.window, total)
        for _ in range(window):
            self.queue.append((node, body.key))

    def _cardinality(self, body: Instance, node: Node, loop: LoopSpec) -> int:
        if loop.cardinality is None:
            return 1
        value = self.value(loop.cardinality, body, node.id)
        number = whole_number(value)
        if number is None or not 0 <= number <= MAX_INSTANCES:
            raise StuckError(
                "CARDINALITY",
                f"The number of instances of {node.id} is {str(value)[:40]!r}, not 0 to {MAX_INSTANCES}.",
            )
        return number

    def next_round(self, body: Instance) -> None:
        """Start the next round of a body."""
        node = self.nodes[body.node]
        data = body.data
        if data is None or node.loop is None or "next" not in data:
            return
        index = data["next"]
        if body.role == Role.MULTI and index >= data["n"]:
            return
        variables: dict[str, Any] = {"loopCounter": index + 1}
        if body.role == Role.MULTI:
            data["active"] += 1
            items = data.get("items")
            if items is not None and node.loop.definition.item:
                variables[node.loop.definition.item] = items[index]
        data["next"] = index + 1
        self.start_activity(node, body, variables)

    def round_ended(self, body: Instance, instance: Instance, node: Node) -> None:
        """Count a completed round and decide how the body goes on."""
        loop = node.loop
        data = body.data
        if loop is None or data is None:
            return
        try:
            if body.role == Role.LOOP:
                self._standard_ended(body, instance, node, loop)
            else:
                self._item_ended(body, instance, node, loop, data)
        except StuckError as stuck:
            if instance.key in self.instances:
                self.remove(instance)
            data["stage"] = "round"
            self.raise_incident(body, stuck)

    def _item_ended(
        self, body: Instance, instance: Instance, node: Node, loop: LoopSpec, data: dict[str, Any]
    ) -> None:
        data["active"] -= 1
        data["done"] += 1
        if "out" in data and loop.output is not None:
            index = (instance.vars or {}).get("loopCounter", 1) - 1
            data["out"][index] = self.value(loop.output, instance, node.id)
        self.remove(instance)
        if loop.event is not None and (
            loop.definition.behavior == "None" or (loop.definition.behavior == "One" and data["done"] == 1)
        ):
            self.throw_implicit(body, node, loop.event)
        ended_by_behavior = self._complex_behavior(body, node, loop)
        if body.key not in self.instances:
            return
        self.decide_round(body, node, loop, data, ended=ended_by_behavior)

    def decide_round(
        self, body: Instance, node: Node, loop: LoopSpec, data: dict[str, Any], *, ended: bool = False
    ) -> None:
        """End the body, start the next round or wait for those that run.

        Raises:
            StuckError: The completion condition has no truth value.
        """
        if not ended and loop.completion is not None:
            ended = self.truth(loop.completion, body, node.id, counters(data))
        if ended or data["done"] >= data["n"]:
            self._end_body(body, node)
        elif data["next"] < data["n"]:
            self.queue.append((node, body.key))

    def retry_round(self, body: Instance) -> None:
        """Decide again how a body goes on after an incident."""
        node = self.nodes[body.node]
        loop = node.loop
        if loop is None:
            return
        try:
            if body.role == Role.LOOP:
                self.decide_standard(body, node, loop)
            else:
                self.decide_round(body, node, loop, body.data or {})
        except StuckError as stuck:
            body.data = {**(body.data or {}), "stage": "round"}
            self.raise_incident(body, stuck)

    def _complex_behavior(self, body: Instance, node: Node, loop: LoopSpec) -> bool:
        """Throw the events whose condition holds; tell whether one of them ends the activity.

        An event that an interrupting boundary event of the activity catches ends it: what still runs is
        cancelled and the activity completes. Other events report progress.
        """
        ended = False
        for condition, event in loop.complexes:
            if body.key not in self.instances:
                return True
            if self.truth(condition, body, node.id, counters(body.data or {})):
                ended = ended or any(
                    boundary.interrupting
                    and any(
                        waiting.kind is event.kind and waiting.name in (None, event.name)
                        for waiting in boundary.events
                    )
                    for boundary in node.boundaries
                )
                self.throw_implicit(body, node, event)
        return ended

    def _end_body(self, body: Instance, node: Node) -> None:
        """Complete the activity: cancel the rounds that still run and hand on the results."""
        self.cancel_children(body, "completion condition")
        loop = node.loop
        data = body.data or {}
        parent = self.instances[body.parent]
        if loop is not None and loop.definition.output_collection and "out" in data:
            self.assign(parent, loop.definition.output_collection, data["out"])
        self.trace("completed", node.id, body.key)
        self.remove(body)
        self.leave(node, parent, node.completion_quantity)
        if self.nodes[parent.node].kind == "adHocSubProcess":
            self.inner_ended(parent)

    # --- standard loop --------------------------------------------------------------------------

    def _begin_standard(self, body: Instance, node: Node, loop: LoopSpec) -> None:
        data: dict[str, Any] = {"next": 0}
        maximum = None if loop.maximum is None else self.value(loop.maximum, body, node.id)
        if maximum is not None:
            number = whole_number(maximum)
            if number is None or number < 0:
                raise StuckError("LOOP", f"The loop maximum of {node.id} is {str(maximum)[:40]!r}.")
            data["max"] = number
        body.data = data
        self.open_boundaries(body, node)
        if (loop.definition.test_before and not self._again(body, node, loop, data)) or data.get("max") == 0:
            self._end_body(body, node)
        else:
            self.queue.append((node, body.key))

    def _standard_ended(self, body: Instance, instance: Instance, node: Node, loop: LoopSpec) -> None:
        self.remove(instance)
        self.decide_standard(body, node, loop)

    def decide_standard(self, body: Instance, node: Node, loop: LoopSpec) -> None:
        """Go round again or end.

        Raises:
            StuckError: The loop condition has no truth value.
        """
        data = body.data or {}
        if self._again(body, node, loop, data):
            self.queue.append((node, body.key))
        else:
            self._end_body(body, node)

    def _again(self, body: Instance, node: Node, loop: LoopSpec, data: dict[str, Any]) -> bool:
        if "max" in data and data["next"] >= data["max"]:
            return False
        if loop.condition is None:
            # Without a condition the maximum alone decides; without either there is one round.
            return "max" in data or data["next"] == 0
        return self.truth(loop.condition, body, node.id, {"loopCounter": data["next"]})


def counters(data: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a running multi-instance activity under BPMN's and Camunda's names."""
    total, active, done = data.get("n", 0), data.get("active", 0), data.get("done", 0)
    return {
        "numberOfInstances": total,
        "numberOfActiveInstances": active,
        "numberOfCompletedInstances": done,
        "numberOfTerminatedInstances": 0,
        "nrOfInstances": total,
        "nrOfActiveInstances": active,
        "nrOfCompletedInstances": done,
        "loopCounter": data.get("next", 0),
    }


def whole_number(value: Any) -> int | None:
    """Return a JSON number as an integer, None where it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 10:
        return int(value)
    return None
