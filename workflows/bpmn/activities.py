"""Activities: tasks, calls and sub-processes from start to completion (clauses 10.3 and 13.3).

An activity instance begins by mapping its inputs and opening its boundary events, does its work, and
completes by mapping its outputs, closing its events and sending its tokens on.
"""

from typing import Any

from workflows.bpmn.commands import Completed, StartJob
from workflows.bpmn.compensation import Compensating
from workflows.bpmn.core import StuckError
from workflows.bpmn.definition import SCOPES, NodeKind
from workflows.bpmn.graph import Node, WorkSpec
from workflows.bpmn.state import Instance, Role

_JOB_KINDS = {
    NodeKind.USER: "user",
    NodeKind.SERVICE: "service",
    NodeKind.SCRIPT: "script",
    NodeKind.RULE: "business_rule",
    NodeKind.SEND: "send",
    NodeKind.RECEIVE: "receive",
    NodeKind.MANUAL: "manual",
    NodeKind.TASK: "task",
    NodeKind.CALL: "call",
}


class Activities(Compensating):
    """Starts and finishes activity instances."""

    def start_activity(self, node: Node, parent: Instance, variables: dict[str, Any] | None = None) -> None:
        """Start one instance of an activity below ``parent``."""
        instance = self.create(node, parent, Role.SCOPE if node.kind in SCOPES else Role.TASK)
        instance.vars = variables
        self.trace("started", node.id, instance.key)
        self.begin(instance)

    def begin(self, instance: Instance) -> None:
        """Begin what the instance does, or hold it as an incident."""
        node = self.nodes[instance.node]
        try:
            if node.inputs or node.data_inputs or (node.data and instance.role == Role.TASK):
                self.prepare(instance, node)
            if node.boundaries and self.activity_of(instance) is instance:
                self.open_boundaries(instance, node)
            if instance.role == Role.SCOPE:
                self.open_scope(instance)
                self.start_inside(instance, node)
            elif node.kind is NodeKind.USER:
                self.start_job(instance, node, node.work, "user")
            else:
                self._work(instance, node)
        except StuckError as stuck:
            self.close_subscriptions(instance)
            instance.data = {**(instance.data or {}), "stage": "begin"}
            self.raise_incident(instance, stuck)

    def prepare(self, instance: Instance, node: Node) -> None:
        """Give the instance its own variables: data inputs, then input mappings in their order."""
        local = dict(instance.vars or {})
        if instance.role == Role.TASK:
            for declared in node.data:
                local.setdefault(declared.target, self.value(declared.source, instance, node.id))
        for association in node.data_inputs:
            self._associate(instance, node, association, local)
        for mapping in node.inputs:
            head, _, rest = mapping.target.partition(".")
            value = self.value(mapping.source, instance, node.id, local)
            local[head] = {**_context(local.get(head)), rest: value} if rest else value
        instance.vars = local

    def _associate(self, instance: Instance, node: Node, association: Any, local: dict[str, Any]) -> None:
        for item in association.assignments:
            local[item.target] = self.value(item.source, instance, node.id, local)
        if association.transformation is not None and association.target:
            local[association.target] = self.value(association.transformation, instance, node.id, local)
        elif association.sources and association.target:
            local[association.target] = self.visible(instance).get(association.sources[0])

    def open_scope(self, scope: Instance) -> None:
        """Declare data and open the event sub-processes of a scope.

        Raises:
            StuckError: A value, name or time cannot be computed.
        """
        node = self.nodes[scope.node]
        if node.data:
            own = scope.vars or {}
            declared = {
                item.target: self.value(item.source, scope, node.id)
                for item in node.data
                if item.target not in own
            }
            scope.vars = {**declared, **own}
        for event_scope in node.event_scopes:
            for start in event_scope.start_events:
                self.subscribe_all(scope, start)

    def start_inside(self, scope: Instance, node: Node) -> None:
        """Put the first tokens into a scope."""
        key = scope.key
        self.dirty[key] = None
        for item in node.initial:
            self.queue.append((item, key))

    def work_again(self, instance: Instance) -> None:
        """Repeat the work of an activity whose boundary events are open already."""
        node = self.nodes[instance.node]
        try:
            if node.kind in _JOB_KINDS:
                self._work(instance, node)
            else:
                self.start_job(instance, node, node.work, "send")
        except StuckError as stuck:
            instance.data = {**(instance.data or {}), "stage": "work"}
            self.raise_incident(instance, stuck)

    # --- work -----------------------------------------------------------------------------------

    def _work(self, instance: Instance, node: Node) -> None:
        kind = node.kind
        work = node.work
        job = work is not None and (
            work.definition.type is not None or work.type_expression is not None or work.message is not None
        )
        if kind is NodeKind.CALL:
            self._call(instance, node)
        elif kind is NodeKind.RECEIVE:
            if work is not None and work.message is not None:
                self.subscribe(instance, node, 0, work.message)
            else:
                self.start_job(instance, node, work, "receive")
        elif kind in (NodeKind.TASK, NodeKind.MANUAL) and not job:
            self.finish(instance, None)
        elif work is not None and work.script is not None and work.definition.type is None:
            self._evaluate(instance, node, work)
        elif kind is NodeKind.RULE and work is not None and not job and self._decide(instance, node, work):
            return
        elif kind is NodeKind.SEND and work is not None and work.message is not None and not _typed(work):
            self.throw_message(node, work.message, instance, instance.key)
            self.finish(instance, None)
        else:
            self.start_job(instance, node, work, _JOB_KINDS[kind])

    def _evaluate(self, instance: Instance, node: Node, work: WorkSpec) -> None:
        """Run a script in an expression language: a context result without a variable sets its entries."""
        if work.script is None:
            return
        self._conclude(instance, work, self.value(work.script, instance, node.id))

    def _decide(self, instance: Instance, node: Node, work: WorkSpec) -> bool:
        """Evaluate a decision in place; tell whether it is known here."""
        rule = work.rule
        if rule is None and work.decision_expression is not None:
            decision = self.text(work.decision_expression, instance, node.id)
            rules = self.graph.languages.rules
            rule = rules.resolve(decision) if rules is not None and decision else None
        if rule is None:
            return False
        self._conclude(instance, work, self.value(rule, instance, node.id))
        return True

    def _conclude(self, instance: Instance, work: WorkSpec, value: Any) -> None:
        name = work.definition.result_variable
        if name is not None:
            self.finish(instance, {name: value})
        elif isinstance(value, dict):
            self.finish(instance, value)
        else:
            self.finish(instance, None)

    def _call(self, instance: Instance, node: Node) -> None:
        work = node.work
        called = work.definition.called if work is not None else None
        if called is None and work is not None:
            called = self.text(work.called_expression, instance, node.id)
        if work is None or not called:
            raise StuckError("CALL", f"The call activity {node.id} calls nothing.")
        task = self.graph.global_tasks.get(called)
        if task is None:
            self.start_job(instance, node, work, "call", called)
        elif task.work is not None and task.work.script is not None:
            self._evaluate(instance, node, task.work)
        elif task.kind in (NodeKind.TASK, NodeKind.MANUAL) and not (task.work and _typed(task.work)):
            self.finish(instance, None)
        elif (
            task.kind is not NodeKind.RULE or task.work is None or not self._decide(instance, node, task.work)
        ):
            self.start_job(instance, node, task.work, _JOB_KINDS[task.kind])

    def start_job(
        self, instance: Instance, node: Node, work: WorkSpec | None, kind: str, called: str | None = None
    ) -> None:
        """Ask for work outside; mapped activities show it only what is mapped.

        Raises:
            StuckError: A part of the request cannot be computed.
        """
        data = instance.data
        attempt = 1 if data is None else data.get("attempt", 0) + 1
        type_ = None
        retries = None
        details: dict[str, Any] = {}
        if work is not None:
            type_ = work.definition.type or self.text(work.type_expression, instance, node.id)
            retries = self._retries(instance, node, work)
            details = self._details(instance, node, work, called)
        mapped = node.inputs or node.data_inputs
        pass_all = not mapped or (called is not None and work is not None and work.definition.pass_all_in)
        if called is not None and work is not None and not work.definition.pass_all_in:
            pass_all = False
        variables = self.visible(instance) if pass_all else (instance.vars or {})
        if data is None:
            instance.data = {"job": kind, "attempt": attempt}
        else:
            instance.data = {**data, "job": kind, "attempt": attempt}
            instance.data.pop("stage", None)
        self.commands.append(
            StartJob(instance.key, node.id, kind, type_, dict(variables), attempt, retries, details)
        )

    def _retries(self, instance: Instance, node: Node, work: WorkSpec) -> int | None:
        text = self.text(work.retries, instance, node.id)
        if text is None:
            return None
        if not text.strip().isdecimal() or len(text) > 6:
            raise StuckError("RETRIES", f"The retries of {node.id} are {text[:40]!r}, not a number.")
        return int(text)

    def _details(self, instance: Instance, node: Node, work: WorkSpec, called: str | None) -> dict[str, Any]:
        definition = work.definition
        details: dict[str, Any] = {}
        if definition.headers:
            details["headers"] = dict(definition.headers)
        for name in ("form", "decision", "binding", "implementation", "retry_backoff", "result_variable"):
            value = getattr(definition, name)
            if value is not None:
                details[name] = value
        for name in (
            "assignee",
            "candidate_groups",
            "candidate_users",
            "due_date",
            "follow_up_date",
            "priority",
        ):
            expression = getattr(work, name)
            if expression is not None:
                details[name] = self.value(expression, instance, node.id)
        if definition.script is not None:
            details["script"] = definition.script.text
            details["language"] = definition.script.language
        if work.decision_expression is not None:
            details["decision"] = self.text(work.decision_expression, instance, node.id)
        if work.message is not None:
            details["message"] = self.event_name(instance, node, work.message)
            details["correlation"] = self.text(work.message.correlation, instance, node.id)
        if called is not None:
            details["called"] = called
            if work.business_key is not None:
                details["business_key"] = self.text(work.business_key, instance, node.id)
        return details

    # --- completion -----------------------------------------------------------------------------

    def finish(self, instance: Instance, results: dict[str, Any] | None) -> None:
        """Complete an activity instance with its results, or hold it as an incident."""
        node = self.nodes[instance.node]
        try:
            self._write_results(instance, node, results)
        except StuckError as stuck:
            instance.data = {**(instance.data or {}), "stage": "finish", "results": results}
            instance.data.pop("job", None)
            self.raise_incident(instance, stuck)
            return
        self.record(instance, node, results)
        self.ended(instance, node)

    def _write_results(self, instance: Instance, node: Node, results: dict[str, Any] | None) -> None:
        visible = results or {}
        if node.outputs:
            parent = self.instances[instance.parent]
            values = [
                (item.target, self.value(item.source, instance, node.id, visible)) for item in node.outputs
            ]
            for target, value in values:
                self.assign(parent, target, value)
        elif visible and not self._passes_nothing(node):
            parent = self.instances[instance.parent]
            local = {source for item in node.data_outputs for source in item.sources}
            if node.loop is not None and node.loop.local in visible:
                local.add(node.loop.local)
                instance.vars = {**(instance.vars or {}), node.loop.local: visible[node.loop.local]}
            for name, value in visible.items():
                if name not in local:
                    self.write(parent, name, value)
        for association in node.data_outputs:
            self._write_association(instance, node, association, visible)

    def _passes_nothing(self, node: Node) -> bool:
        work = node.work
        return node.kind is NodeKind.CALL and work is not None and not work.definition.pass_all_out

    def _write_association(
        self, instance: Instance, node: Node, association: Any, results: dict[str, Any]
    ) -> None:
        parent = self.instances[instance.parent]
        for item in association.assignments:
            self.assign(parent, item.target, self.value(item.source, instance, node.id, results))
        if association.target is None:
            return
        if association.transformation is not None:
            value = self.value(association.transformation, instance, node.id, results)
            self.assign(parent, association.target, value)
        else:
            for source in association.sources:
                own = instance.vars or {}
                if source in results or source in own:
                    self.assign(parent, association.target, results.get(source, own.get(source)))

    def ended(self, instance: Instance, node: Node) -> None:
        """Remove a completed activity instance and go on after it."""
        parent = self.instances[instance.parent]
        self.trace("completed", node.id, instance.key)
        if parent.role == Role.COMPENSATION:
            self.remove(instance)
            self.queue.append((self.nodes[parent.node], parent.key))
        elif parent.role in (Role.MULTI, Role.LOOP) and parent.node == instance.node:
            self.round_ended(parent, instance, node)
        else:
            self.remove(instance)
            self.leave(node, parent, node.completion_quantity)
            if self.nodes[parent.node].kind is NodeKind.AD_HOC:
                self.inner_ended(parent)

    def round_ended(self, body: Instance, instance: Instance, node: Node) -> None:
        """Go on in a loop; the loop layer knows how."""
        self.remove(instance)

    def inner_ended(self, scope: Instance) -> None:
        """Go on in an ad-hoc sub-process; its layer knows how."""

    def complete_scope(self, scope: Instance) -> None:
        """Complete a scope in which nothing is left to happen."""
        node = self.nodes[scope.node]
        if scope.parent == 0:
            variables = dict(scope.vars or {})
            self.remove(scope)
            self.state.status = "completed"
            self.commands.append(Completed(variables))
        elif scope.data is not None and scope.data.get("restored"):
            thrower = self.instances[scope.parent]
            self.remove(scope)
            self.queue.append((self.nodes[thrower.node], thrower.key))
        elif node.triggered_by_event:
            self.remove(scope)
            self.trace("completed", node.id, scope.key)
        else:
            self.finish(scope, None)


def _typed(work: WorkSpec) -> bool:
    return work.definition.type is not None or work.type_expression is not None


def _context(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
