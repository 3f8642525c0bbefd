"""The state of one process instance: a tree of element instances with their subscriptions.

Nothing in it grows with the number of steps taken: finished elements are removed, tokens exist only as
waiting instances and as counts before joins. `State.to_json` and `State.from_json` are exact inverses.
"""

from datetime import datetime
from typing import Any, NamedTuple

from workflows.bpmn.definition import SEMANTICS

FORMAT = 1


class Role:
    """What an element instance is. Strings, because they are written a million times a day."""

    SCOPE = "scope"
    TASK = "task"
    WAIT = "wait"
    GATEWAY = "gateway"
    MULTI = "multi"
    LOOP = "loop"
    COMPENSATION = "compensation"
    PARKED = "parked"


class Subscription(NamedTuple):
    """Something an element instance waits for.

    Attributes:
        key: Its own key: the timer's or message subscription's name outside.
        owner: The element instance that waits: closing it closes the subscription.
        node: The event: a boundary event, an event sub-process's start, a catch event, a receive task.
        part: Which of the event's definitions.
        kind: ``message``, ``signal``, ``timer`` or ``conditional``.
        name: Of a message or signal.
        correlation: Of a message.
        due: Of a timer, UTC.
        remaining: Firings left of a timer, -1 endless.
        interval: ISO 8601 duration of a timer cycle.
        last: Last value of a condition.
    """

    key: int
    owner: int
    node: str
    part: int
    kind: str
    name: str | None = None
    correlation: str | None = None
    due: datetime | None = None
    remaining: int = 1
    interval: str | None = None
    last: bool = False

    def to_json(self) -> list[Any]:
        """Return the subscription as a list."""
        return [*self[:7], self.due.isoformat() if self.due else None, *self[8:]]

    @classmethod
    def from_json(cls, fields: list[Any]) -> "Subscription":
        """Return the subscription that `to_json` wrote."""
        due = datetime.fromisoformat(fields[7]) if fields[7] else None
        key, owner, node, part, kind, name, correlation = fields[:7]
        remaining, interval, last = fields[8:]
        return cls(key, owner, node, part, kind, name, correlation, due, remaining, interval, last)


class Instance:
    """A living element instance.

    Attributes:
        key: Unique in the process instance, never reused.
        node: Identifier of its flow node, or of the process for the root.
        parent: Key of the enclosing instance, 0 for the root.
        role: See `Role`.
        vars: Local variables, None where it has none.
        data: What its role needs: job attempt, loop counters, gathered events, ….
        joins: Scopes: tokens waiting before joins, ``{node: {flow: count}}``.
        ledger: Scopes: completed activities that can be compensated, oldest first.
        children: Keys of inner instances in order of creation (derived).
        subs: Keys of subscriptions (derived).
    """

    __slots__ = ("children", "data", "joins", "key", "ledger", "node", "parent", "role", "subs", "vars")

    def __init__(self, key: int, node: str, parent: int, role: str) -> None:
        self.key = key
        self.node = node
        self.parent = parent
        self.role = role
        self.vars: dict[str, Any] | None = None
        self.data: dict[str, Any] | None = None
        self.joins: dict[str, dict[str, int]] | None = None
        self.ledger: list[dict[str, Any]] | None = None
        self.children: dict[int, None] = {}
        self.subs: list[int] = []

    def copy(self) -> "Instance":
        """Return an independent copy; variable values are shared, being never changed in place."""
        # Without the constructor, which would build what is replaced here: this is the cost of `step`.
        twin = _blank(Instance)
        twin.key = self.key
        twin.node = self.node
        twin.parent = self.parent
        twin.role = self.role
        twin.vars = None if self.vars is None else self.vars.copy()
        data = twin.data = None if self.data is None else self.data.copy()
        if data:
            for name, value in data.items():
                kind = type(value)
                if kind is list or kind is dict:
                    data[name] = value.copy()
        joins = twin.joins = None if self.joins is None else self.joins.copy()
        if joins:
            for name, counts in joins.items():
                joins[name] = counts.copy()
        twin.ledger = None if self.ledger is None else self.ledger.copy()
        twin.children = self.children.copy()
        twin.subs = self.subs.copy()
        return twin


_blank = object.__new__


class State:
    """The whole of an instance.

    Attributes:
        definition: SHA-256 of the definition it runs.
        semantics: Interpreter behaviour it was started with.
        status: ``new``, ``active``, ``suspended``, ``completed``, ``failed`` or ``terminated``.
        next_key: The next key to hand out.
        instances: By key, oldest first.
        subs: Subscriptions by key, oldest first.
        queue: Tokens on their way when a step's budget was spent: ``[flow or node, scope key]``.
        inbox: Events kept while suspended.
        incidents: By key of the element instance: ``[type, message]``.
        continues: Steps since the last event from outside, to find endless loops.
        business_key: The caller's name of the instance.
    """

    __slots__ = (
        "business_key", "continues", "definition", "inbox", "incidents", "instances", "next_key", "queue",
        "semantics", "status", "subs",
    )  # fmt: skip

    def __init__(self, definition: str) -> None:
        self.definition = definition
        self.semantics = SEMANTICS
        self.status = "new"
        self.next_key = 1
        self.instances: dict[int, Instance] = {}
        self.subs: dict[int, Subscription] = {}
        self.queue: list[list[Any]] = []
        self.inbox: list[dict[str, Any]] = []
        self.incidents: dict[int, list[str]] = {}
        self.continues = 0
        self.business_key: str | None = None

    @property
    def variables(self) -> dict[str, Any]:
        """Variables of the process scope; empty once the instance has ended."""
        root = next(iter(self.instances.values()), None)
        return {} if root is None or root.vars is None else root.vars

    @property
    def ended(self) -> bool:
        """Whether nothing will happen any more."""
        return self.status in ("completed", "failed", "terminated")

    @property
    def next_due(self) -> datetime | None:
        """The earliest due time of all timers."""
        return min((sub.due for sub in self.subs.values() if sub.due is not None), default=None)

    def copy(self) -> "State":
        """Return an independent copy."""
        twin = _blank(State)
        twin.definition = self.definition
        twin.semantics = self.semantics
        twin.status = self.status
        twin.next_key = self.next_key
        twin.instances = instances = self.instances.copy()
        for key, instance in instances.items():
            instances[key] = instance.copy()
        twin.subs = self.subs.copy()
        twin.queue = self.queue.copy()
        twin.inbox = self.inbox.copy()
        twin.incidents = self.incidents.copy()
        twin.continues = self.continues
        twin.business_key = self.business_key
        return twin

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain, compact JSON."""
        value: dict[str, Any] = {
            "format": FORMAT,
            "definition": self.definition,
            "semantics": self.semantics,
            "status": self.status,
            "next": self.next_key,
            "instances": [_instance_json(item) for item in self.instances.values()],
        }
        if self.subs:
            value["subs"] = [sub.to_json() for sub in self.subs.values()]
        if self.queue:
            value["queue"] = [list(item) for item in self.queue]
        if self.inbox:
            value["inbox"] = list(self.inbox)
        if self.incidents:
            value["incidents"] = [[key, *incident] for key, incident in self.incidents.items()]
        if self.continues:
            value["continues"] = self.continues
        if self.business_key is not None:
            value["businessKey"] = self.business_key
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "State":
        """Return the state that `to_json` wrote."""
        state = cls(value["definition"])
        state.semantics = value["semantics"]
        state.status = value["status"]
        state.next_key = value["next"]
        for fields in value["instances"]:
            instance = Instance(fields["k"], fields["n"], fields["p"], fields["r"])
            instance.vars = dict(fields["v"]) if "v" in fields else None
            instance.data = dict(fields["d"]) if "d" in fields else None
            instance.joins = {k: dict(v) for k, v in fields["j"].items()} if "j" in fields else None
            instance.ledger = list(fields["l"]) if "l" in fields else None
            state.instances[instance.key] = instance
            if instance.parent:
                state.instances[instance.parent].children[instance.key] = None
        for fields in value.get("subs", ()):
            sub = Subscription.from_json(fields)
            state.subs[sub.key] = sub
            state.instances[sub.owner].subs.append(sub.key)
        state.queue = [list(item) for item in value.get("queue", ())]
        state.inbox = list(value.get("inbox", ()))
        state.incidents = {item[0]: item[1:] for item in value.get("incidents", ())}
        state.continues = value.get("continues", 0)
        state.business_key = value.get("businessKey")
        return state


def _instance_json(item: Instance) -> dict[str, Any]:
    fields: dict[str, Any] = {"k": item.key, "n": item.node, "p": item.parent, "r": item.role}
    if item.vars is not None:
        fields["v"] = item.vars
    if item.data is not None:
        fields["d"] = item.data
    if item.joins:
        fields["j"] = item.joins
    if item.ledger:
        fields["l"] = item.ledger
    return fields
