"""What a Python expression refers to, and where its value comes from.

`resolve` follows aliases, attribute chains, ``getattr``, ``__import__``, ``sys.modules``,
``globals()`` and their like to one dotted name such as ``os.system``. `origins` gathers over
everything that flows into an expression (decoders, character arithmetic, network, files).
"""

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from activities.scanning.findings import Origin
from activities.scanning.limits import MAX_FOLD_DEPTH
from activities.scanning.python_names import (
    BUILTIN_NAMES,
    CALL_ORIGINS,
    GETATTR,
    METHOD_ORIGINS,
    MODULE_ALIASES,
    MODULE_GETTERS,
    OPAQUE_CALLS,
    SMUGGLED,
    STDLIB,
    TEXT_CODECS,
)
from activities.scanning.python_scopes import Binding, PythonIndex, Scope

if TYPE_CHECKING:
    from activities.scanning.python_folding import PythonFolder

NAMESPACE = "<namespace>"
_SELF_ATTRIBUTES = frozenset({"__dict__", "__call__", "__func__", "__wrapped__", "__class_getitem__"})
_GETTER_METHODS = frozenset({"get", "pop", "setdefault", "__getitem__", "__getattribute__", "__getattr__"})
_MAX_ORIGIN_NODES = 12_000
_MAX_NEAR_NODES = 200
_MAX_RESOLVE_DEPTH = 150
_MAX_QUESTION = 100_000
_NEAR = 14


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


class PythonValues:
    """Questions about the expressions of one module."""

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

    # -- references ---------------------------------------------------------------------------

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

    # -- origins ------------------------------------------------------------------------------

    def origins(self, node: ast.AST | None, scope: Scope) -> int:
        """Return every origin that flows into ``node``."""
        if node is None:
            return Origin.NONE
        budget = [_MAX_ORIGIN_NODES]
        self._origin_question.clear()
        self.cut_short = False
        return self._origins(node, scope, budget, set(), 0)

    def near_origins(self, node: ast.AST | None, scope: Scope) -> int:
        """Like `origins`, but only a few steps far: what the expression itself is made of."""
        if node is None:
            return Origin.NONE
        kept, self._origin_memo = self._origin_memo, {}
        self._origin_question = {}
        self._near_budget = [_MAX_NEAR_NODES]
        try:
            return self._origins(node, scope, self._near_budget, set(), MAX_FOLD_DEPTH - _NEAR)
        finally:
            self._origin_memo = kept
            self._origin_question = {}

    def _origins(self, node: ast.AST, scope: Scope, budget: list[int], active: set[int], depth: int) -> int:
        kind = node.__class__
        if kind is ast.Constant:
            return Origin.NONE
        memo = self._origin_memo.get(id(node), self._origin_question.get(id(node)))
        if memo is not None:
            return memo
        budget[0] -= 1
        if id(node) in active:
            return Origin.NONE
        if budget[0] < 0 or depth > MAX_FOLD_DEPTH:
            if budget is not self._near_budget:
                self.cut_short = True
                self.exceeded.add("limit.origins")
            return Origin.NONE
        active.add(id(node))
        result = self._origins_of_kind(node, kind, scope, budget, active, depth + 1)
        active.discard(id(node))
        if active:
            self._origin_question[id(node)] = result
        else:
            self._origin_memo[id(node)] = result
        return result

    def _origins_of_kind(  # noqa: C901
        self, node: ast.AST, kind: type, scope: Scope, budget: list[int], active: set[int], depth: int
    ) -> int:
        result = Origin.NONE
        if kind is ast.Name:
            if node.id == "__doc__":  # type: ignore[attr-defined]
                return Origin.DECODED
            for binding in scope.lookup(node.id):  # type: ignore[attr-defined]
                result |= self._origins_of_binding(binding, budget, active, depth)
            return result
        if kind is ast.Compare:
            return result
        if kind is ast.Yield:
            return Origin.INPUT
        if kind is ast.Call:
            return self._origins_of_call(node, scope, budget, active, depth)  # type: ignore[arg-type]
        if kind is ast.BinOp:
            operator = node.op.__class__  # type: ignore[attr-defined]
            result |= Origin.ARITHMETIC if operator is ast.BitXor else Origin.FOLDED
        elif kind is ast.JoinedStr:
            result |= Origin.FOLDED
        elif kind is ast.Subscript:
            result |= _reversal(node.slice)  # type: ignore[attr-defined]
            result |= self._origins(node.value, scope, budget, active, depth)  # type: ignore[attr-defined]
            return result | self._path_origin(node, scope)
        elif kind is ast.Attribute:
            if node.attr == "__doc__":  # type: ignore[attr-defined]
                result |= Origin.DECODED
            if not isinstance(node.value, ast.Name) or node.value.id != "self":  # type: ignore[attr-defined]
                result |= self._path_origin(node, scope)
            for binding in self.index.members.get(node.attr, []):  # type: ignore[attr-defined]
                result |= self._origins_of_binding(binding, budget, active, depth)
        elif kind is ast.Lambda:
            inner = self.index.scopes.get(id(node), scope)
            return self._origins(node.body, inner, budget, active, depth)  # type: ignore[attr-defined]
        elif kind in _COMPREHENSIONS:
            inner = self.index.scopes.get(id(node), scope)
            for part in ast.iter_child_nodes(node):
                result |= self._origins(
                    part.iter if isinstance(part, ast.comprehension) else part, inner, budget, active, depth
                )
            return result
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                result |= self._origins(child, scope, budget, active, depth)
        return result

    def _path_origin(self, node: ast.AST, scope: Scope) -> int:
        reference = self.resolve(node, scope)
        if reference is None:
            return Origin.NONE
        if reference.path.startswith("."):
            return Origin.SIBLING
        if reference.path.startswith("os.environ"):
            return Origin.ENVIRONMENT
        return CALL_ORIGINS.get(reference.path, Origin.NONE)

    def _origins_of_binding(self, binding: Binding, budget: list[int], active: set[int], depth: int) -> int:
        if binding.kind == "import":
            if binding.detail.startswith(".") or self.folder.is_local_module(binding.detail):
                return Origin.SIBLING
            return Origin.NONE
        if binding.kind == "function":
            return self._origins_of_function(binding, budget, active, depth)
        if binding.node is None or binding.kind == "class":
            return Origin.NONE
        result = self._origins(binding.node, binding.scope, budget, active, depth)
        if binding.kind == "augmented" and binding.detail == "BitXor":
            result |= Origin.ARITHMETIC
        return result

    def _origins_of_function(self, binding: Binding, budget: list[int], active: set[int], depth: int) -> int:
        """Union over the returned and yielded expressions of a local function."""
        node = binding.node
        if node is None or id(node) in active:
            return Origin.NONE
        active.add(id(node))
        inner = self.index.scopes.get(id(node), binding.scope)
        result = Origin.NONE
        for part in ast.walk(node):
            budget[0] -= 1
            if budget[0] < 0:
                break
            if isinstance(part, ast.Return | ast.Yield | ast.YieldFrom) and part.value is not None:
                result |= self._origins(part.value, inner, budget, active, depth)
        active.discard(id(node))
        return result

    def _origins_of_call(
        self, node: ast.Call, scope: Scope, budget: list[int], active: set[int], depth: int
    ) -> int:
        reference = self.resolve(node.func, scope)
        path = reference.path if reference else ""
        if path in OPAQUE_CALLS:
            return Origin.NONE
        result = CALL_ORIGINS.get(path, Origin.NONE)
        if path.startswith("os.environ"):
            result |= Origin.ENVIRONMENT
        if path in ("codecs.decode", "codecs.encode", "codecs.lookup", "codecs.getdecoder"):
            result |= self._codec_origin(node, scope)
        if path == "builtins.open" or path == "io.open":
            result |= Origin.FILE
        function = node.func
        name = ""
        if isinstance(function, ast.Attribute):
            name = function.attr
            result |= METHOD_ORIGINS.get(name, Origin.NONE)
            if name in ("decode", "encode"):
                result |= self._codec_origin(node, scope)
            if name == "reverse":
                result |= Origin.REVERSED
            result |= self._origins(function.value, scope, budget, active, depth)
        elif isinstance(function, ast.Name):
            name = function.id
            result |= self._origins(function, scope, budget, active, depth)
        else:
            result |= self._origins(function, scope, budget, active, depth)
        if path in ("builtins.bytes", "builtins.bytearray") and node.args:
            display = self.container(node.args[0], scope)
            if isinstance(display, ast.List | ast.Tuple) or isinstance(
                node.args[0], ast.GeneratorExp | ast.ListComp
            ):
                result |= Origin.CHARACTERS
        for binding in self.index.functions.get(name, [])[:4]:
            result |= self._origins_of_function(binding, budget, active, depth)
        # What a sibling module computes is ordinary; only its constants can be pieces of hidden code.
        result &= ~Origin.SIBLING
        for argument in node.args:
            result |= self._map_origin(argument, scope)
            result |= self._origins(argument, scope, budget, active, depth)
        for keyword in node.keywords:
            result |= self._origins(keyword.value, scope, budget, active, depth)
        return result

    def _map_origin(self, argument: ast.expr, scope: Scope) -> int:
        """``map(chr, codes)``: a decoder passed as a value."""
        reference = self.resolve(argument, scope)
        return CALL_ORIGINS.get(reference.path, Origin.NONE) & ~Origin.FILE if reference else Origin.NONE

    def _codec_origin(self, node: ast.Call, scope: Scope) -> int:
        for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
            encoding = self.folder.fold(argument, scope)
            if isinstance(encoding, str) and encoding.lower() in TEXT_CODECS:
                return Origin.DECODED
        return Origin.NONE


_FREE_NAMES = {name: Reference(f"builtins.{name}") for name in BUILTIN_NAMES} | {
    "__builtins__": Reference("builtins"),
    "__builtin__": Reference("builtins"),
    "__loader__": Reference("importlib.loader"),
    "__spec__": Reference("importlib.loader"),
}
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_RESOLVERS: dict[type, Any] = {
    ast.Name: PythonValues._name, ast.Attribute: PythonValues._attribute, ast.Subscript: PythonValues._subscript,  # noqa: E501
    ast.Call: PythonValues._call, ast.IfExp: PythonValues._either, ast.BoolOp: PythonValues._either,
    ast.NamedExpr: PythonValues._inner, ast.Await: PythonValues._inner, ast.Starred: PythonValues._inner,
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


def _reversal(node: ast.AST) -> int:
    step = node.step if isinstance(node, ast.Slice) else None
    if isinstance(step, ast.UnaryOp) and isinstance(step.op, ast.USub):
        return Origin.REVERSED
    if isinstance(step, ast.Constant) and isinstance(step.value, int) and abs(step.value) > 1:
        return Origin.REVERSED
    return Origin.NONE
