"""One walk over a Python syntax tree: what every name is bound to, and the nodes worth a rule.

The walk uses an explicit stack (deep nesting cannot overflow it) and judges nothing. Binding is
flow-insensitive: a name with several assignments has several possible values.
"""

import ast
from typing import Any, NamedTuple

from activities.scanning.python_names import FRAME_ATTRIBUTES
from activities.scanning.text_checks import SENSITIVE_NAMES

MAX_BINDINGS = 64
"""Values of one name that are looked at; code with more for a name that matters goes to review."""


class Scope:
    """Names of a module, class or function.

    Attributes:
        parent: Enclosing scope.
        is_class: Whether it is a class body, which nested functions do not see.
        names: Name to possible values.
    """

    __slots__ = ("is_class", "names", "parent")

    def __init__(self, parent: "Scope | None", *, is_class: bool = False) -> None:
        self.parent = parent
        self.is_class = is_class
        self.names: dict[str, list[Binding]] = {}

    def bind(self, name: str, binding: "Binding") -> None:
        """Add a possible value."""
        bindings = self.names.get(name)
        if bindings is None:
            self.names[name] = [binding]
        else:
            bindings.append(binding)

    def lookup(self, name: str) -> "list[Binding]":
        """Return the possible values visible from this scope."""
        scope: Scope | None = self
        while scope is not None:
            bindings = scope.names.get(name)
            if bindings is not None:
                return bindings
            scope = scope.parent
        return []

    def crowded(self) -> bool:
        """Drop the values beyond `MAX_BINDINGS` and tell whether there were any that refer to something."""
        found = False
        for bindings in self.names.values():
            if len(bindings) > MAX_BINDINGS:
                found = found or any(map(_is_telling, bindings[MAX_BINDINGS:]))
                del bindings[MAX_BINDINGS:]
        return found


class Binding(NamedTuple):
    """A possible value of a name.

    Attributes:
        kind: ``value``, ``augmented``, ``import``, ``function``, ``class``, ``element`` (of an
            iterable), ``part`` (of an unpacked value), ``parameter``, ``context``.
        node: The expression or definition.
        scope: Scope in which ``node`` stands.
        detail: Dotted module name for imports, index for parts.
    """

    kind: str
    node: ast.AST | None
    scope: Scope
    detail: str = ""


def _is_telling(binding: Binding) -> bool:
    """Whether a value that is left out might matter: it names something sensitive or is built from pieces."""
    node = binding.node
    if node is None or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return False
    if isinstance(node, ast.stmt):
        return binding.detail.split(".")[0] in SENSITIVE_NAMES
    return any(
        (isinstance(part, ast.Name) and part.id in SENSITIVE_NAMES | {"getattr", "chr", "globals", "vars"})
        or (isinstance(part, ast.Attribute) and part.attr in SENSITIVE_NAMES)
        or (isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value in SENSITIVE_NAMES)
        for part in ast.walk(node)
    )


class PythonIndex:
    """Everything later rules look at, in source order.

    Attributes:
        calls: Calls with their scope.
        attributes: Attributes with telling names.
        subscripts: Subscripts.
        strings: String and bytes constants that are no docstrings.
        joins: Outermost concatenations and formatted strings.
        imports: Imported module names with their node.
        assignments: Assignments to attributes and subscripts: target, value.
        decorators: Decorators with the decorated node.
        classes: Class definitions.
        functions: Local functions and methods by bare name.
        members: Values assigned to attributes anywhere, by attribute name.
        names: Loaded names that are executing builtins.
        scopes: Inner scope of a function, lambda, class or comprehension by the node's identity.
        exceeded: Rules of the limits that were reached.
    """

    def __init__(self) -> None:
        self.module = Scope(None)
        self.calls: list[tuple[ast.Call, Scope]] = []
        self.attributes: list[tuple[ast.Attribute, Scope]] = []
        self.subscripts: list[tuple[ast.Subscript, Scope]] = []
        self.strings: list[ast.Constant] = []
        self.joins: list[tuple[ast.expr, Scope]] = []
        self.imports: list[tuple[str, ast.stmt]] = []
        self.assignments: list[tuple[ast.expr, ast.expr, Scope]] = []
        self.decorators: list[tuple[ast.expr, ast.AST, Scope]] = []
        self.classes: list[tuple[ast.ClassDef, Scope]] = []
        self.functions: dict[str, list[Binding]] = {}
        self.members: dict[str, list[Binding]] = {}
        self.names: list[tuple[ast.Name, Scope]] = []
        self.scopes: dict[int, Scope] = {}
        self.exceeded: set[str] = set()

    def release(self) -> None:
        """Untie scopes and bindings, which refer to each other: the tree is freed without a collector."""
        for scope in (self.module, *self.scopes.values()):
            scope.names.clear()


_TELLING_ATTRIBUTES = FRAME_ATTRIBUTES | {
    "__globals__", "__subclasses__", "__builtins__", "__code__", "func_globals", "func_code", "__loader__", "environ",  # noqa: E501
    "meta_path", "path_hooks", "__reduce__", "co_code", "modules", "__closure__", "__self__", "environb", "excepthook",  # noqa: E501
    "displayhook", "__base__", "__mro__", "mro", "__bases__",
}  # fmt: skip
_EXECUTING_NAMES = frozenset(
    {"exec", "eval", "compile", "__import__", "execfile", "__builtins__", "__loader__", "__spec__"}
)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_STRING_OPERATORS = (ast.Add, ast.Mod)


def index_python(tree: ast.Module) -> PythonIndex:
    """Walk ``tree`` once."""
    index = PythonIndex()
    docstrings: set[int] = set()
    _note_docstring(tree, docstrings)
    stack: list[tuple[ast.AST, Scope, bool]] = [(node, index.module, False) for node in reversed(tree.body)]
    pop, push, handlers, fields = stack.pop, stack.append, _HANDLERS, _FIELDS
    while stack:
        node, scope, in_join = pop()
        kind = node.__class__
        if kind is ast.Name:
            if node.id in _EXECUTING_NAMES and node.ctx.__class__ is ast.Load:  # type: ignore[attr-defined]
                index.names.append((node, scope))  # type: ignore[arg-type]
            continue
        if kind is ast.Constant:
            value = node.value  # type: ignore[attr-defined]
            if value.__class__ in _TEXT_TYPES and len(value) > 3 and id(node) not in docstrings:
                index.strings.append(node)  # type: ignore[arg-type]
            continue
        inner = scope
        joined = False
        handler = handlers.get(kind)
        if handler is not None:
            inner, joined = handler(node, scope, index, docstrings, in_join)
            if inner is not scope:
                index.scopes[id(node)] = inner
        # Most of a tree are leaves that no rule looks at: they are not worth a turn of the loop.
        for name in fields[kind]:
            value = getattr(node, name)
            if value.__class__ is list:
                for item in reversed(value):
                    item_kind = item.__class__
                    if item_kind not in _SILENT and (
                        item_kind is not ast.Name or item.id in _EXECUTING_NAMES
                    ):
                        push((item, inner, joined))
            elif value is not None:
                value_kind = value.__class__
                if value_kind not in _SILENT and (value_kind is not ast.Name or value.id in _EXECUTING_NAMES):
                    push((value, inner, joined))
    _bind_arguments(index)
    scopes = (index.module, *index.scopes.values())
    if sum([scope.crowded() for scope in scopes]):
        index.exceeded.add("limit.names")
    return index


def _bind_arguments(index: PythonIndex) -> None:
    """Bind the parameters of local functions to what their visible callers pass."""
    for call, scope in index.calls:
        function = call.func
        name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
        known = index.functions.get(name)
        if known is None and isinstance(function, ast.Lambda):
            known = [Binding("function", function, scope)]
        elif known is None and isinstance(function, ast.Name):
            known = [item for item in scope.lookup(name) if isinstance(item.node, ast.Lambda)]
        for binding in (known or [])[:3]:
            definition = binding.node
            inner = index.scopes.get(id(definition))
            if inner is None or not isinstance(
                definition, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
            ):
                continue
            names = [parameter.arg for parameter in (*definition.args.posonlyargs, *definition.args.args)]
            if isinstance(function, ast.Attribute) and names[:1] in (["self"], ["cls"]):
                names = names[1:]
            for parameter, argument in zip(names, call.args, strict=False):
                inner.bind(parameter, Binding("value", argument, scope))
            accepted = {*names, *(parameter.arg for parameter in definition.args.kwonlyargs)}
            for keyword in call.keywords:
                if keyword.arg in accepted:
                    inner.bind(keyword.arg, Binding("value", keyword.value, scope))


def _note_docstring(node: ast.AST, docstrings: set[int]) -> None:
    body: list[Any] = node.body  # type: ignore[attr-defined]
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        docstrings.add(id(body[0].value))


def _on_import(node: ast.Import, scope: Scope, index: PythonIndex, *_: object) -> tuple[Scope, bool]:
    for alias in node.names:
        index.imports.append((alias.name, node))
        if alias.asname:
            scope.bind(alias.asname, Binding("import", node, scope, alias.name))
        else:
            top = alias.name.split(".")[0]
            scope.bind(top, Binding("import", node, scope, top))
    return scope, False


def _on_import_from(node: ast.ImportFrom, scope: Scope, index: PythonIndex, *_: object) -> tuple[Scope, bool]:
    module = "." * node.level + (node.module or "")
    index.imports.append((module, node))
    for alias in node.names:
        separator = "" if module.endswith(".") else "."
        dotted = f"{module}{separator}{alias.name}"
        index.imports.append((dotted, node))
        if alias.name == "*":
            index.module.bind("*", Binding("import", node, scope, module))
        else:
            scope.bind(alias.asname or alias.name, Binding("import", node, scope, dotted))
    return scope, False


def _bind_target(
    target: ast.AST, value: ast.AST, scope: Scope, index: PythonIndex, kind: str = "value", detail: str = ""
) -> None:
    if isinstance(target, ast.Name):
        scope.bind(target.id, Binding(kind, value, scope, detail))
    elif isinstance(target, ast.Attribute):
        bindings = index.members.setdefault(target.attr, [])
        if len(bindings) < MAX_BINDINGS:
            bindings.append(Binding(kind, value, scope, detail))
        if isinstance(value, ast.expr):
            index.assignments.append((target, value, scope))
    elif isinstance(target, ast.Subscript):
        if isinstance(target.value, ast.Name):
            scope.bind(target.value.id, Binding("element_set", value, scope))
        if isinstance(value, ast.expr):
            index.assignments.append((target, value, scope))
    elif isinstance(target, ast.Tuple | ast.List):
        same = (
            isinstance(value, ast.Tuple | ast.List)
            and len(value.elts) == len(target.elts)
            and kind == "value"
        )
        starred = any(isinstance(item, ast.Starred) for item in target.elts)
        for position, item in enumerate(target.elts):
            if same and not starred:
                _bind_target(item, value.elts[position], scope, index)  # type: ignore[attr-defined]
            else:
                _bind_target(
                    item,
                    value,
                    scope,
                    index,
                    "part" if kind == "value" else kind,
                    "" if starred else str(position),
                )
    elif isinstance(target, ast.Starred):
        _bind_target(target.value, value, scope, index, "part")


def _on_assign(node: ast.Assign, scope: Scope, index: PythonIndex, *_: object) -> tuple[Scope, bool]:
    for target in node.targets:
        _bind_target(target, node.value, scope, index)
    return scope, False


def _on_single_target(node: ast.AST, scope: Scope, index: PythonIndex, *_: object) -> tuple[Scope, bool]:
    value: ast.AST | None = node.value  # type: ignore[attr-defined]
    if value is not None:
        _bind_target(node.target, value, scope, index)  # type: ignore[attr-defined]
    return scope, False


def _on_augmented(node: ast.AugAssign, scope: Scope, index: PythonIndex, *_: object) -> tuple[Scope, bool]:
    _bind_target(node.target, node.value, scope, index, "augmented", node.op.__class__.__name__)
    return scope, False


def _on_global(node: ast.Global, scope: Scope, index: PythonIndex, *_: object) -> tuple[Scope, bool]:
    for name in node.names:
        scope.names[name] = index.module.names.setdefault(name, [])
    return scope, False


def _on_for(node: ast.AST, scope: Scope, index: PythonIndex, *_: object) -> tuple[Scope, bool]:
    _bind_target(node.target, node.iter, scope, index, "element")  # type: ignore[attr-defined]
    return scope, False


def _on_with_item(node: ast.withitem, scope: Scope, index: PythonIndex, *_: object) -> tuple[Scope, bool]:
    if node.optional_vars is not None:
        _bind_target(node.optional_vars, node.context_expr, scope, index, "context")
    return scope, False


def _on_function(
    node: ast.FunctionDef, scope: Scope, index: PythonIndex, docstrings: set[int], _: bool
) -> tuple[Scope, bool]:
    binding = Binding("function", node, scope)
    scope.bind(node.name, binding)
    known = index.functions.setdefault(node.name, [])
    if len(known) < MAX_BINDINGS:
        known.append(binding)
    _note_docstring(node, docstrings)
    for decorator in node.decorator_list:
        index.decorators.append((decorator, node, scope))
    return _parameters(node.args, scope), False


def _on_lambda(node: ast.Lambda, scope: Scope, *_: object) -> tuple[Scope, bool]:
    return _parameters(node.args, scope), False


def _parameters(arguments: ast.arguments, scope: Scope) -> Scope:
    visible = scope
    while visible.is_class and visible.parent is not None:
        visible = visible.parent
    inner = Scope(visible)
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults)) + list(
        arguments.defaults
    )
    pairs = [
        *zip(positional, defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    for parameter, default in pairs:
        inner.bind(parameter.arg, Binding("parameter", default, scope))
    for extra in (arguments.vararg, arguments.kwarg):
        if extra is not None:
            inner.bind(extra.arg, Binding("parameter", None, scope))
    return inner


def _on_class(
    node: ast.ClassDef, scope: Scope, index: PythonIndex, docstrings: set[int], _: bool
) -> tuple[Scope, bool]:
    scope.bind(node.name, Binding("class", node, scope))
    _note_docstring(node, docstrings)
    for decorator in node.decorator_list:
        index.decorators.append((decorator, node, scope))
    inner = Scope(scope, is_class=True)
    index.classes.append((node, inner))
    return inner, False


def _on_comprehension(_: ast.AST, scope: Scope, *__: object) -> tuple[Scope, bool]:
    return Scope(scope), False


def _on_call(
    node: ast.Call, scope: Scope, index: PythonIndex, _: set[int], in_join: bool
) -> tuple[Scope, bool]:
    index.calls.append((node, scope))
    function = node.func
    if not in_join and isinstance(function, ast.Attribute) and function.attr in ("join", "format", "replace"):
        index.joins.append((node, scope))
    return scope, False


def _on_attribute(node: ast.Attribute, scope: Scope, index: PythonIndex, *_: object) -> tuple[Scope, bool]:
    if node.attr in _TELLING_ATTRIBUTES:
        index.attributes.append((node, scope))
    return scope, False


def _on_subscript(node: ast.Subscript, scope: Scope, index: PythonIndex, *_: object) -> tuple[Scope, bool]:
    index.subscripts.append((node, scope))
    return scope, False


def _on_join(
    node: ast.expr, scope: Scope, index: PythonIndex, _: set[int], in_join: bool
) -> tuple[Scope, bool]:
    if isinstance(node, ast.BinOp) and not isinstance(node.op, _STRING_OPERATORS):
        return scope, False
    if not in_join:
        index.joins.append((node, scope))
    return scope, True


_TEXT_TYPES = (str, bytes)
_SILENT = frozenset({
    type(None), bool, float, complex, bytes, str, int, ast.Pass, ast.Break, ast.Continue, ast.alias,
    *ast.expr_context.__subclasses__(), *ast.operator.__subclasses__(), *ast.unaryop.__subclasses__(),
    *ast.boolop.__subclasses__(), *ast.cmpop.__subclasses__(),
})  # fmt: skip
# Fields that hold nodes, last first: the stack turns them round.
_PLAIN_FIELDS = frozenset(
    {
        "ctx",
        "op",
        "ops",
        "type_comment",
        "kind",
        "id",
        "attr",
        "arg",
        "level",
        "conversion",
        "module",
        "type_ignores",
        "simple",
        "is_async",
    }
)
_FIELDS: dict[type, tuple[str, ...]] = {
    kind: tuple(name for name in reversed(kind._fields) if name not in _PLAIN_FIELDS)
    for kind in vars(ast).values()
    if isinstance(kind, type) and issubclass(kind, ast.AST)
}
_HANDLERS: dict[type, Any] = {
    ast.Import: _on_import, ast.ImportFrom: _on_import_from, ast.Assign: _on_assign, ast.AnnAssign: _on_single_target,  # noqa: E501
    ast.Global: _on_global,
    ast.NamedExpr: _on_single_target, ast.AugAssign: _on_augmented, ast.For: _on_for, ast.AsyncFor: _on_for,
    ast.comprehension: _on_for, ast.withitem: _on_with_item, ast.FunctionDef: _on_function,
    ast.AsyncFunctionDef: _on_function, ast.Lambda: _on_lambda, ast.ClassDef: _on_class, ast.Call: _on_call,
    ast.ListComp: _on_comprehension, ast.SetComp: _on_comprehension, ast.DictComp: _on_comprehension,
    ast.GeneratorExp: _on_comprehension, ast.Attribute: _on_attribute, ast.Subscript: _on_subscript,
    ast.BinOp: _on_join, ast.JoinedStr: _on_join,
}  # fmt: skip
