"""What a JavaScript expression refers to: a dotted name, or a module and its member."""

from typing import TYPE_CHECKING

from tree_sitter import Node

from activities.scanning.javascript_names import GLOBAL_OBJECTS, KNOWN_GLOBALS
from activities.scanning.javascript_scopes import FUNCTION_KINDS, Binding, JavaScriptIndex

if TYPE_CHECKING:
    from activities.scanning.javascript_folding import JavaScriptFolder
from activities.scanning.javascript_paths import (
    COMPUTED_MODULE,
    Reference,
    arguments_of,
    executing,
    is_loader,
    member_of,
    module_path,
    returned_values,
    sensitive,
)

_MAX_DEPTH = 150


_MAX_QUESTION = 100_000


_WRAPPERS = frozenset(
    [
        "parenthesized_expression",
        "await_expression",
        "non_null_expression",
        "as_expression",
        "satisfies_expression",
        "spread_element",
        "expression_statement",
        "yield_expression",
    ]
)


_FREE_NAMES: dict[str, Reference] = {name: Reference(name) for name in KNOWN_GLOBALS} | {
    name: Reference("globalThis") for name in GLOBAL_OBJECTS
}


_REFERRING = frozenset({"identifier", "member_expression", "subscript_expression", "call_expression"})


class JavaScriptReferences:
    """Questions about what the expressions of one file refer to."""

    def __init__(self, index: JavaScriptIndex, folder: "JavaScriptFolder") -> None:
        self.index = index
        self.folder = folder
        self._resolving: set[int] = set()
        self._memo: dict[int, Reference | None] = {}
        self._question: dict[int, Reference | None] = {}
        self._names: dict[int, Reference | None] = {}
        self._members: dict[str, Reference | None] = {}
        self._returns: dict[int, list[Node]] = {}
        self._cuts = 0
        self.exceeded: set[str] = set()
        self.cut_short = False
        self._tangled: set[int] = set()
        self._origin_question: dict[int, int] = {}
        self._near_budget: list[int] = [0]
        self._origin_memo: dict[int, int] = {}

    def resolve(self, node: Node | None) -> Reference | None:
        """Return what ``node`` refers to, or None."""
        if node is None:
            return None
        kind = node.type
        if kind == "identifier":
            name = self.index.text(node)
            bindings = self.index.lookup(name, self.index.scope_at(node.start_byte))
            if not bindings and "\\" not in name:
                return _FREE_NAMES.get(name)
            known = id(bindings)
            if known in self._names and "\\" not in name:
                return self._names[known]
        resolver = _RESOLVERS.get(kind)
        if resolver is None:
            if kind not in _WRAPPERS or not node.named_children:
                return None
            return self.resolve(node.named_children[0])
        key = node.id
        if key in self._memo:
            return self._memo[key]
        # Within one question every node is looked at once: cycles and diamonds cost nothing.
        if key in self._question:
            return self._question[key]
        if key in self._resolving:
            self._cuts += 1
            return None
        if len(self._resolving) > _MAX_DEPTH or len(self._question) > _MAX_QUESTION:
            self.exceeded.add("limit.names")
            self._cuts += 1
            return None
        before = self._cuts
        self._resolving.add(key)
        try:
            result = resolver(self, node)
        finally:
            self._resolving.discard(key)
        if not self._resolving:
            self._question.clear()
        if self._cuts == before or not self._resolving or key in self._tangled:
            self._memo[key] = result
        else:
            # An answer cut short is kept from the second time on, so that tangled code costs no more.
            self._tangled.add(key)
            self._question[key] = result
        return result

    def _identifier(self, node: Node) -> Reference | None:
        raw = self.index.text(node)
        name = self.folder.unescape_identifier(raw)
        escaped = name != raw
        bindings = self.index.lookup(name, self.index.scope_at(node.start_byte))
        if not bindings:
            if name in GLOBAL_OBJECTS:
                return Reference("globalThis", escaped)
            return Reference(name, escaped) if name in KNOWN_GLOBALS else None
        best = self._named(bindings)
        if best is not None and escaped:
            return Reference(best.path, True, best.reflective)
        return best

    def _named(self, bindings: list[Binding]) -> Reference | None:
        """Resolve a name by its possible values; every mention of the name shares the answer."""
        key = id(bindings)
        if key in self._names:
            return self._names[key]
        before = self._cuts
        best: Reference | None = None
        for binding in bindings:
            reference = self.binding(binding)
            if reference is not None and (best is None or sensitive(reference.path)):
                best = reference
        if self._cuts == before:
            self._names[key] = best
        return best

    def returned(self, function: Node) -> list[Node]:
        """Return the returned expressions of a function node."""
        known = self._returns.get(function.id)
        if known is None:
            known = self._returns[function.id] = returned_values(function)
        return known

    def binding(self, binding: Binding) -> Reference | None:
        """Resolve one possible value of a name."""
        if binding.kind == "import":
            module, _, name = binding.detail.partition("\0")
            base = Reference(module_path(module))
            return member_of(base, name) if name else base
        if binding.kind in ("value", "default"):
            return self.resolve(binding.node)
        if binding.kind == "member":
            base = self.resolve(binding.node)
            if base is None:
                return self._element(binding)
            for part in binding.detail.split("."):
                base = member_of(base, part)
            return base
        if binding.kind == "parameter" and binding.node is not None:
            for argument in self.arguments_for(binding):
                reference = self.resolve(argument)
                if reference is not None and sensitive(reference.path):
                    return self._destructured(reference, binding.detail)
        if binding.kind in ("element", "item") and binding.node is not None and binding.node.type == "array":
            return self._first_sensitive(binding.node.named_children)
        return None

    def _destructured(self, reference: Reference, detail: str) -> Reference:
        for part in detail.split("\0")[1:]:
            reference = member_of(reference, part)
        return reference

    def _element(self, binding: Binding) -> Reference | None:
        node = binding.node
        if node is not None and node.type == "array" and binding.detail.isdigit():
            children = node.named_children
            position = int(binding.detail)
            return self.resolve(children[position]) if position < len(children) else None
        return None

    def arguments_for(self, binding: Binding) -> list[Node]:
        """Return the expressions that visible callers pass for a parameter of a function."""
        function = binding.node
        if function is None:
            return []
        position = int(binding.detail.split("\0")[0] or 0)
        calls: list[Node] = []
        name = function.child_by_field_name("name")
        if name is not None:
            calls = self.index.callers.get(self.index.text(name), [])
        parent = function.parent
        while parent is not None and parent.type == "parenthesized_expression":
            parent = parent.parent
        if parent is not None and parent.type == "variable_declarator":
            declared = parent.child_by_field_name("name")
            if declared is not None:
                calls = self.index.callers.get(self.index.text(declared), [])
        elif parent is not None and parent.type == "call_expression":
            calls = [parent]
        elif parent is not None and parent.type == "member_expression" and parent.parent is not None:
            # (function (require) { … }).call(this, require)
            outer = parent.parent
            method = self.index.text(parent).rpartition(".")[2]
            if outer.type == "call_expression" and method in ("call", "apply"):
                calls = [outer]
                position += 1
        found: list[Node] = []
        for call in calls[:6]:
            arguments = call.child_by_field_name("arguments")
            if arguments is not None and arguments.type == "arguments":
                children = arguments.named_children
                if position < len(children):
                    found.append(children[position])
        return found

    def _first_sensitive(self, nodes: list[Node]) -> Reference | None:
        for node in nodes[:24]:
            target = node.child_by_field_name("value") if node.type == "pair" else node
            reference = self.resolve(target)
            if reference is not None and sensitive(reference.path):
                return reference
        return None

    def _member(self, node: Node) -> Reference | None:
        object_node = node.child_by_field_name("object")
        property_node = node.child_by_field_name("property")
        if object_node is None or property_node is None:
            return None
        raw = self.index.text(property_node)
        name = self.folder.unescape_identifier(raw)
        base = self.resolve(object_node)
        if base is None:
            if (
                object_node.type == "this"
                and name in KNOWN_GLOBALS
                and name in ("process", "require", "eval", "Function", "constructor")
            ):
                return Reference(name, raw != name) if name != "constructor" else None
            return self._assigned_member(name)
        found = member_of(base, name)
        return Reference(found.path, found.hidden or raw != name, found.reflective)

    def _assigned_member(self, name: str) -> Reference | None:
        if name in self._members:
            return self._members[name]
        before = self._cuts
        found: Reference | None = None
        for binding in self.index.members.get(name, []):
            if binding.node is not None and binding.node.type in _REFERRING:
                reference = self.resolve(binding.node)
                if reference is not None and executing(reference.path):
                    found = reference
                    break
        if self._cuts == before:
            self._members[name] = found
        return found

    def _subscript(self, node: Node) -> Reference | None:
        object_node = node.child_by_field_name("object")
        index_node = node.child_by_field_name("index")
        base = self.resolve(object_node)
        if base is None or index_node is None:
            container = self.container(object_node)
            if container is not None:
                position = self.folder.fold(index_node)
                children = container.named_children
                if (
                    isinstance(position, float)
                    and 0 <= position < len(children)
                    and container.type == "array"
                ):
                    return self.resolve(children[int(position)])
                return self._first_sensitive(children)
            return None
        name = self.folder.fold(index_node)
        if not isinstance(name, str):
            return None
        found = member_of(base, name)
        return Reference(found.path, found.hidden or not self.folder.is_plain(index_node), True)

    def container(self, node: Node | None) -> Node | None:
        """Return the array or object literal that ``node`` stands for, or None."""
        if node is None:
            return None
        if node.type in ("array", "object"):
            return node
        if node.type == "parenthesized_expression" and node.named_children:
            return self.container(node.named_children[0])
        if node.type == "identifier":
            bindings = self.index.lookup(self.index.text(node), self.index.scope_at(node.start_byte))
            for binding in bindings[:1]:
                if (
                    binding.kind == "value"
                    and binding.node is not None
                    and binding.node.type in ("array", "object")
                ):
                    return binding.node
        return None

    def _call(self, node: Node) -> Reference | None:
        function = node.child_by_field_name("function")
        arguments = arguments_of(node)
        if function is None:
            return None
        if function.type == "import":
            return self._loaded(arguments, Reference("import"))
        callee = self.resolve(function)
        if callee is None:
            return self._returned(function)
        path = callee.path
        if is_loader(path):
            return self._loaded(arguments, callee)
        if path in ("module:module.createRequire", "module:module.Module.createRequire"):
            return Reference("require", callee.hidden, True)
        if path in ("Reflect.get", "Object.getOwnPropertyDescriptor") and len(arguments) >= 2:
            base = self.resolve(arguments[0])
            name = self.folder.fold(arguments[1])
            if base is not None and isinstance(name, str):
                found = member_of(base, name)
                return Reference(found.path, found.hidden or not self.folder.is_plain(arguments[1]), True)
            return None
        head, _, method = path.rpartition(".")
        if method == "bind" and head:
            return Reference(head, callee.hidden, callee.reflective)
        if method in ("call", "apply") and is_loader(head):
            return self._loaded(arguments[1:], Reference(head, callee.hidden, callee.reflective))
        if path == "Object.create" and arguments:
            return self.resolve(arguments[0])
        if (
            path
            in (
                "module:util.promisify",
                "Object.freeze",
                "Object.assign",
                "Promise.resolve",
                "module:child_process.promisify",
            )
            and arguments
        ):
            return self.resolve(arguments[-1] if path == "Object.assign" else arguments[0])
        if method == "then" and head.startswith("module:"):
            return Reference(head, callee.hidden, callee.reflective)
        return None

    def _loaded(self, arguments: list[Node], callee: Reference) -> Reference | None:
        if not arguments:
            return None
        first = arguments[0]
        if first.type == "array" and first.named_children:
            first = first.named_children[0]
        name = self.folder.fold(first)
        if not isinstance(name, str):
            return Reference(COMPUTED_MODULE)
        return Reference(
            module_path(name), callee.hidden or not self.folder.is_plain(first), callee.reflective
        )

    def _returned(self, function: Node) -> Reference | None:
        """Resolve what a local function returns, when it is one expression."""
        target: Node | None = function
        while target is not None and target.type == "parenthesized_expression":
            target = target.named_children[0] if target.named_children else None
        if target is not None and target.type == "identifier":
            bindings = self.index.lookup(self.index.text(target), self.index.scope_at(target.start_byte))
            target = next(
                (
                    item.node
                    for item in bindings
                    if item.node is not None and item.node.type in FUNCTION_KINDS
                ),
                None,
            )
        if target is None or target.type not in FUNCTION_KINDS:
            return None
        for value in self.returned(target):
            reference = self.resolve(value)
            if reference is not None and sensitive(reference.path):
                return reference
        return None

    def _sequence(self, node: Node) -> Reference | None:
        children = node.named_children
        return self.resolve(children[-1]) if children else None

    def _choice(self, node: Node) -> Reference | None:
        if node.type == "binary_expression":
            operator = node.child_by_field_name("operator")
            if operator is None or operator.type not in ("||", "&&", "??"):
                return None
            parts = [node.child_by_field_name("left"), node.child_by_field_name("right")]
        else:
            parts = [node.child_by_field_name("consequence"), node.child_by_field_name("alternative")]
        references = [self.resolve(part) for part in parts]
        known = [item for item in references if item is not None]
        return next((item for item in known if sensitive(item.path)), known[0] if known else None)

    def _assigned(self, node: Node) -> Reference | None:
        return self.resolve(node.child_by_field_name("right"))


_RESOLVERS = {
    "identifier": JavaScriptReferences._identifier, "shorthand_property_identifier": JavaScriptReferences._identifier,  # noqa: E501
    "member_expression": JavaScriptReferences._member, "subscript_expression": JavaScriptReferences._subscript,  # noqa: E501
    "call_expression": JavaScriptReferences._call, "sequence_expression": JavaScriptReferences._sequence,
    "binary_expression": JavaScriptReferences._choice, "ternary_expression": JavaScriptReferences._choice,
    "assignment_expression": JavaScriptReferences._assigned,
}  # fmt: skip
