"""What a Python expression refers to.

`resolve` follows aliases, attribute chains, ``getattr``, ``__import__``, ``sys.modules``,
``globals()`` and their like to one dotted name such as ``os.system``.
"""

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from activities.scanning.python_names import (
    BUILTIN_NAMES,
    CALL_ORIGINS,
    GETATTR,
    MODULE_ALIASES,
    MODULE_GETTERS,
    SMUGGLED,
    STDLIB,
)
from activities.scanning.python_scopes import Binding, PythonIndex, Scope

if TYPE_CHECKING:
    from activities.scanning.python_folding import PythonFolder


NAMESPACE = "<namespace>"


_SELF_ATTRIBUTES = frozenset({"__dict__", "__call__", "__func__", "__wrapped__", "__class_getitem__"})


_GETTER_METHODS = frozenset({"get", "pop", "setdefault", "__getitem__", "__getattribute__", "__getattr__"})


_MAX_RESOLVE_DEPTH = 150


_MAX_QUESTION = 100_000


@dataclass(frozen=True, slots=True)
class Reference:
    """A dotted name that an expression stands for.

    Attributes:
        path: Canonical dotted name.
        hidden: A part of the name was folded or decoded instead of written.
        reflective: A part was fetched by name (``getattr``, ``globals()``), written plainly.
        smuggled: It was reached through another module's namespace.
    """

    path: str
    hidden: bool = False
    reflective: bool = False
    smuggled: bool = False


_FREE_NAMES = {name: Reference(f"builtins.{name}") for name in BUILTIN_NAMES} | {
    "__builtins__": Reference("builtins"),
    "__builtin__": Reference("builtins"),
    "__loader__": Reference("importlib.loader"),
    "__spec__": Reference("importlib.loader"),
}


class PythonReferences:
    """Questions about what the expressions of one module refer to."""

    def __init__(self, index: PythonIndex, folder: "PythonFolder") -> None:
        self.index = index
        self.folder = folder
        self._resolving: set[int] = set()
        self._origin_memo: dict[int, int] = {}
        self._reference_memo: dict[tuple[int, int], Reference | None] = {}
        self._question: dict[tuple[int, int], Reference | None] = {}
        self._origin_question: dict[int, int] = {}
        self._near_budget: list[int] = [0]
        self._names: dict[int, Reference | None] = {}
        self._members: dict[str, Reference | None] = {}
        self._cuts = 0
        self.exceeded: set[str] = set()
        self.cut_short = False
        self._tangled: set[tuple[int, int]] = set()

    def resolve(self, node: ast.AST | None, scope: Scope) -> Reference | None:
        """Return what ``node`` refers to, or None."""
        if node is None or node.__class__ not in _RESOLVERS:
            return None
        if len(self._resolving) > _MAX_RESOLVE_DEPTH:
            self.exceeded.add("limit.names")
            return None
        if node.__class__ is ast.Name:
            bindings = scope.lookup(node.id)  # type: ignore[attr-defined]
            if not bindings:
                return self._free_name(node.id)  # type: ignore[attr-defined]
            known = id(bindings)
            if known in self._names:
                return self._names[known]
        key = (id(node), id(scope))
        if key in self._reference_memo:
            return self._reference_memo[key]
        # Within one question every node is looked at once: cycles and diamonds cost nothing.
        if key in self._question:
            return self._question[key]
        if len(self._question) > _MAX_QUESTION:
            self.exceeded.add("limit.names")
            self._cuts += 1
            return None
        if id(node) in self._resolving:
            self._cuts += 1
            return None
        before = self._cuts
        self._resolving.add(id(node))
        try:
            result = _RESOLVERS[node.__class__](self, node, scope)
        finally:
            self._resolving.discard(id(node))
        if not self._resolving:
            self._question.clear()
        if self._cuts == before or not self._resolving or key in self._tangled:
            self._reference_memo[key] = result
        else:
            # An answer cut short is kept from the second time on, so that tangled code costs no more.
            self._tangled.add(key)
            self._question[key] = result
        return result

    def _name(self, node: ast.Name, scope: Scope) -> Reference | None:
        bindings = scope.lookup(node.id)
        if not bindings:
            return self._free_name(node.id)
        known = id(bindings)
        if known in self._names:
            return self._names[known]
        before = self._cuts
        best: Reference | None = None
        for binding in bindings:
            reference = self._binding(binding, scope)
            if reference is not None and (best is None or _is_sensitive(reference.path)):
                best = reference
        if self._cuts == before:
            self._names[known] = best
        return best

    def _free_name(self, name: str) -> Reference | None:
        return _FREE_NAMES.get(name) or self._starred(name)

    def _starred(self, name: str) -> Reference | None:
        for binding in self.index.module.names.get("*", []):
            path = canonical(f"{binding.detail}.{name}")
            if path in CALL_ORIGINS or _is_sensitive(path):
                return Reference(path)
        return None

    def _binding(self, binding: Binding, scope: Scope) -> Reference | None:
        if binding.kind == "import":
            return Reference(canonical(binding.detail))
        if binding.kind in ("value", "context", "parameter"):
            found = self.resolve(binding.node, binding.scope)
            if found is None and binding.kind == "context" and isinstance(binding.node, ast.Call):
                for entered in self.index.functions.get("__enter__", [])[:4]:
                    found = found or self._returned(entered)
            return found
        if binding.kind in ("element", "element_set", "part") and isinstance(
            binding.node, ast.List | ast.Tuple | ast.Set | ast.Dict
        ):
            items = binding.node.values if isinstance(binding.node, ast.Dict) else binding.node.elts
            return self._first_sensitive(items[:16], binding.scope)
        return None

    def _first_sensitive(self, nodes: list[ast.expr], scope: Scope) -> Reference | None:
        for item in nodes:
            reference = self.resolve(item, scope)
            if reference is not None and _is_sensitive(reference.path):
                return reference
        return None

    def _attribute(self, node: ast.Attribute, scope: Scope) -> Reference | None:
        base = self.resolve(node.value, scope)
        if base is None:
            return self._member(node)
        if node.attr in _SELF_ATTRIBUTES:
            return base
        return _member_of(base, node.attr, hidden=False, reflective=False)

    def _member(self, node: ast.Attribute) -> Reference | None:
        """Resolve ``self.run`` when some ``x.run = os.system`` is seen."""
        name = node.attr
        if name in self._members:
            return self._members[name]
        before = self._cuts
        found: Reference | None = None
        for binding in self.index.members.get(name, []):
            if binding.kind == "value":
                reference = self.resolve(binding.node, binding.scope)
                if reference is not None and _is_sensitive(reference.path):
                    found = reference
                    break
        if self._cuts == before:
            self._members[name] = found
        return found

    def _subscript(self, node: ast.Subscript, scope: Scope) -> Reference | None:
        base = self.resolve(node.value, scope)
        if base is not None:
            return self._by_name(base, node.slice, scope)
        container = self.container(node.value, scope)
        if isinstance(container, ast.Dict):
            return self._first_sensitive(container.values[:32], scope)
        if isinstance(container, ast.List | ast.Tuple):
            position = self.folder.fold(node.slice, scope)
            if isinstance(position, int) and -len(container.elts) <= position < len(container.elts):
                return self.resolve(container.elts[position], scope)
            return self._first_sensitive(container.elts[:32], scope)
        return None

    def container(self, node: ast.AST, scope: Scope) -> ast.AST | None:
        """Return the list, tuple or dict display that ``node`` stands for, or None."""
        if isinstance(node, ast.Dict | ast.List | ast.Tuple):
            return node
        if isinstance(node, ast.Name):
            bindings = [binding for binding in scope.lookup(node.id) if binding.kind == "value"]
            if len(bindings) == 1 and isinstance(bindings[0].node, ast.Dict | ast.List | ast.Tuple):
                return bindings[0].node
        return None

    def _by_name(self, base: Reference, name_node: ast.AST, scope: Scope) -> Reference | None:
        name = self.folder.fold(name_node, scope)
        if isinstance(name, bytes):
            name = name.decode("latin-1")
        if not isinstance(name, str):
            return None
        hidden = not self.folder.is_plain(name_node)
        if base.path == NAMESPACE:
            if name in ("__builtins__", "__builtin__"):
                return Reference("builtins", hidden, True)
            found = self._name(ast.Name(id=name, ctx=ast.Load()), self.index.module)
            if found is None:
                return None
            return Reference(found.path, found.hidden or hidden, True)
        if base.path == "sys.modules":
            return Reference(canonical(name), base.hidden or hidden, True)
        if "." in name and base.path not in ("builtins",):
            reference: Reference | None = base
            for part in name.split(".")[:8]:
                reference = _member_of(reference, part, hidden=hidden, reflective=True) if reference else None
            return reference
        return _member_of(base, name, hidden=hidden, reflective=True)

    def _call(self, node: ast.Call, scope: Scope) -> Reference | None:
        callee = self.resolve(node.func, scope)
        arguments = node.args
        if callee is None:
            return self._unknown_call(node, scope)
        path = callee.path
        if path in MODULE_GETTERS and arguments:
            return self._module(callee, node, scope)
        if path in GETATTR and len(arguments) >= 2:
            base = self.resolve(arguments[0], scope)
            return None if base is None else self._by_name(base, arguments[1], scope)
        if path in ("builtins.globals", "builtins.locals") or (path == "builtins.vars" and not arguments):
            return Reference(NAMESPACE, callee.hidden, True)
        if path in ("builtins.vars", "functools.partial", "functools.wraps", "staticmethod", "builtins.staticmethod",  # noqa: E501
                    "builtins.classmethod", "inspect.unwrap", "functools.lru_cache", "functools.cache") and arguments:  # fmt: skip  # noqa: E501
            return self.resolve(arguments[0], scope)
        if path == "builtins.next" and arguments:
            return self.resolve(arguments[0], scope)
        head, _, method = path.rpartition(".")
        if method in _GETTER_METHODS and head and arguments:
            return self._by_name(Reference(head, callee.hidden, True, callee.smuggled), arguments[0], scope)
        if (
            path.startswith(("importlib.loader.", "importlib.machinery.BuiltinImporter."))
            and method in ("load_module", "find_module")
            and arguments
        ):
            name = self.folder.fold(arguments[0], scope)
            return Reference(canonical(name), True, True) if isinstance(name, str) else None
        if path == "importlib.reload" and arguments:
            return self.resolve(arguments[0], scope)
        return None

    def _unknown_call(self, node: ast.Call, scope: Scope) -> Reference | None:
        function = node.func
        if isinstance(function, ast.Lambda):
            return self.resolve(function.body, self.index.scopes.get(id(function), scope))
        if isinstance(function, ast.Call) and node.args:
            outer = self.resolve(function.func, scope)
            if (
                outer is not None
                and outer.path in ("operator.attrgetter", "operator.itemgetter", "operator.methodcaller")
                and function.args
            ):
                base = self.resolve(node.args[0], scope)
                return None if base is None else self._by_name(base, function.args[0], scope)
        name = (
            function.id
            if isinstance(function, ast.Name)
            else function.attr
            if isinstance(function, ast.Attribute)
            else ""
        )
        if isinstance(function, ast.Name):
            for binding in scope.lookup(name):
                if binding.kind == "value" and isinstance(binding.node, ast.Lambda):
                    return self.resolve(
                        binding.node.body, self.index.scopes.get(id(binding.node), binding.scope)
                    )
                if binding.kind == "value" and isinstance(binding.node, ast.Call):
                    rewritten = ast.Call(func=binding.node, args=node.args, keywords=[])
                    ast.copy_location(rewritten, node)
                    return self._unknown_call(rewritten, scope)
        for binding in self.index.functions.get(name, [])[:4]:
            result = self._returned(binding)
            if result is not None:
                return result
        return None

    def _returned(self, binding: Binding) -> Reference | None:
        body: list[ast.stmt] = binding.node.body  # type: ignore[union-attr]
        for statement in body[:12]:
            if isinstance(statement, ast.Return):
                return self.resolve(statement.value, self.index.scopes.get(id(binding.node), binding.scope))
        return None

    def _module(self, callee: Reference, node: ast.Call, scope: Scope) -> Reference | None:
        name = self.folder.fold(node.args[0], scope)
        if isinstance(name, bytes):
            name = name.decode("latin-1")
        if not isinstance(name, str) or not name:
            return None
        hidden = callee.hidden or not self.folder.is_plain(node.args[0])
        dotted = name.replace(":", ".")
        if callee.path.endswith("__import__") and "." in dotted:
            from_list = node.args[3] if len(node.args) > 3 else None
            if from_list is None and not any(keyword.arg == "fromlist" for keyword in node.keywords):
                dotted = dotted.split(".")[0]
        return Reference(canonical(dotted), hidden, True, callee.smuggled)

    def _either(self, node: ast.AST, scope: Scope) -> Reference | None:
        if isinstance(node, ast.IfExp):
            return self.resolve(node.body, scope) or self.resolve(node.orelse, scope)
        values: list[ast.expr] = node.values  # type: ignore[attr-defined]
        return self._first_sensitive(values[:8], scope) or self.resolve(values[-1], scope)

    def _inner(self, node: ast.AST, scope: Scope) -> Reference | None:
        return self.resolve(node.value, scope)  # type: ignore[attr-defined]


_RESOLVERS: dict[type, Any] = {
    ast.Name: PythonReferences._name, ast.Attribute: PythonReferences._attribute, ast.Subscript: PythonReferences._subscript,  # noqa: E501
    ast.Call: PythonReferences._call, ast.IfExp: PythonReferences._either, ast.BoolOp: PythonReferences._either,  # noqa: E501
    ast.NamedExpr: PythonReferences._inner, ast.Await: PythonReferences._inner, ast.Starred: PythonReferences._inner,  # noqa: E501
}  # fmt: skip


def canonical(path: str) -> str:
    """Return the one spelling of a module or member path."""
    direct = MODULE_ALIASES.get(path)
    if direct is not None:
        return direct
    head, dot, rest = path.partition(".")
    alias = MODULE_ALIASES.get(head)
    if alias is not None:
        return f"{alias}{dot}{rest}"
    if path.startswith("six.moves."):
        return path.removeprefix("six.moves.").replace("urllib.request", "urllib.request")
    return path


def _member_of(base: Reference, name: str, *, hidden: bool, reflective: bool) -> Reference:
    if name in ("__dict__", "__call__"):
        return base
    if base.path == "importlib.loader" and name == "__import__":
        return Reference("builtins.__import__", True, True)
    root = base.path.split(".")[0]
    if (
        name in SMUGGLED
        and root in STDLIB
        and f"{root}.{name}" not in ("asyncio.subprocess", "os.sys", "copyreg.pickle")
        and base.path != name
    ):
        return Reference(name, base.hidden or hidden, True, True)
    if name == "__builtins__":
        return Reference("builtins", base.hidden or hidden, True, True)
    return Reference(
        canonical(f"{base.path}.{name}"), base.hidden or hidden, base.reflective or reflective, base.smuggled
    )


def _is_sensitive(path: str) -> bool:
    root = path.split(".")[0]
    return root in ("os", "subprocess", "builtins", "importlib", "sys", "pty", "ctypes", "socket", "pickle", "marshal",  # noqa: E501
                    "base64", "codecs", "runpy", "code", "imp", "posix", "requests", "urllib", NAMESPACE)  # fmt: skip  # noqa: E501
