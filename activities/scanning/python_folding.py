"""Constant folding of Python: a bounded evaluator of pure expressions.

It evaluates what an obfuscator can only hide from text search: concatenation, formatting, slices,
joins, character codes, comprehensions, lambdas, small local functions with loops, and the standard
decoders. Anything else, or any bound reached, folds to UNKNOWN (None stands for it outside).
"""

import ast
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from activities.scanning.decoding import decode_a_base, decode_with, inflate
from activities.scanning.limits import MAX_FOLD_DEPTH, MAX_FOLD_STEPS, MAX_FOLDED_LENGTH
from activities.scanning.python_expressions import Environment, PythonExpressions
from activities.scanning.python_library import (
    CONSTANTS,
    CONTAINER_METHODS,
    CONVERSIONS,
    LAZY,
    SIMPLE,
    TEXT_METHODS,
    Unknown,
    big_to_bytes,
    has_wide_field,
    iterate,
)
from activities.scanning.python_names import DECODERS
from activities.scanning.python_scopes import Binding, PythonIndex, Scope
from activities.scanning.python_values import PythonValues

_MAX_TOTAL_STEPS = 1_500_000


class _Return(Exception):  # noqa: N818
    def __init__(self, value: object) -> None:
        super().__init__()
        self.value = value


class PythonFolder(PythonExpressions):
    """Folds expressions of one module."""

    def __init__(
        self, index: PythonIndex, source: str, local_modules: Mapping[str, Mapping[str, object]]
    ) -> None:
        self.index = index
        # The two ask each other; a weak side lets the tree go as soon as the file is done.
        self.values = PythonValues(index, weakref.proxy(self))
        self._lines = source.split("\n")
        self._local_modules = local_modules
        self._steps = 0
        self._total = 0
        self._active: set[int] = set()
        self._memo: dict[tuple[int, int], object] = {}
        self._failed: dict[int, ast.AST] = {}
        self._depth = 0

    def is_local_module(self, dotted: str) -> bool:
        """Whether ``dotted`` is a constant of another module of the submission, or a module that holds some."""  # noqa: E501
        head, _, name = dotted.rpartition(".")
        if name in self._local_modules.get(head, {}):
            return True
        package = f"{dotted}."
        return bool(self._local_modules.get(dotted)) and not any(
            key.startswith(package) for key in self._local_modules
        )

    def fold(self, node: ast.AST | None, scope: Scope) -> Any:
        """Return the constant value of ``node``, or None when it has none (or is None)."""
        if node is None:
            return None
        if isinstance(node, ast.Constant):
            return node.value
        if node.__class__ not in _EVALUATORS:
            return None
        if self._total > _MAX_TOTAL_STEPS:
            self.values.exceeded.add("limit.constants")
            return None
        key = (id(node), id(scope))
        if key in self._memo:
            return self._memo[key]
        outermost = self._depth == 0
        if outermost:
            self._steps = 0
            self._failed.clear()
        try:
            result: object = self._evaluate(node, scope, None)
        except Unknown:
            result = None
        except (
            ArithmeticError,
            LookupError,
            TypeError,
            ValueError,
            AttributeError,
            RecursionError,
            MemoryError,
            StopIteration,
        ):
            result = None
        if outermost:
            self._total += self._steps
            self._memo[key] = result
        return result

    def is_plain(self, node: ast.AST) -> bool:
        """Whether ``node`` is a literal that shows its value in the source, without escapes or splits."""
        if isinstance(node, ast.Name):
            bindings = self.index.module.lookup(node.id)
            values = [
                binding.node
                for binding in bindings
                if binding.kind == "value" and isinstance(binding.node, ast.Constant)
            ]
            return len(values) == 1 and len(bindings) == 1 and self.is_plain(values[0])
        if not isinstance(node, ast.Constant):
            return False
        if not isinstance(node.value, str):
            return not isinstance(node.value, bytes)
        if not 0 < node.lineno <= len(self._lines):
            return True
        return node.value in self._lines[node.lineno - 1] or (
            node.end_lineno != node.lineno and len(node.value) > 40
        )

    def _evaluate(self, node: ast.AST, scope: Scope, environment: Environment) -> Any:
        self._steps += 1
        if self._steps > MAX_FOLD_STEPS or self._depth > MAX_FOLD_DEPTH:
            self.values.exceeded.add("limit.constants")
            raise Unknown
        if isinstance(node, ast.Constant):
            return node.value
        evaluator = _EVALUATORS.get(node.__class__)
        if evaluator is None or (environment is None and self._failed.get(id(node)) is node):
            raise Unknown
        self._depth += 1
        try:
            value = evaluator(self, node, scope, environment)
        except Unknown:
            if environment is None:
                self._failed[id(node)] = node
            raise
        finally:
            self._depth -= 1
        if (
            isinstance(value, str | bytes | list | tuple | dict | set | bytearray)
            and len(value) > MAX_FOLDED_LENGTH
        ):
            raise Unknown
        if isinstance(value, int) and value.bit_length() > 4_096:
            raise Unknown
        return value

    def _name(self, node: ast.Name, scope: Scope, environment: Environment) -> Any:
        if environment is not None and node.id in environment:
            return environment[node.id]
        bindings = scope.lookup(node.id)
        if not bindings or id(bindings) in self._active:
            raise Unknown
        self._active.add(id(bindings))
        try:
            values = [
                binding for binding in bindings if not (binding.kind == "parameter" and binding.node is None)
            ]
            if len(values) == 1 and values[0].kind in ("value", "parameter"):
                return self._evaluate_binding(values[0])
            if len(values) == 1 and values[0].kind == "part" and values[0].detail:
                return self._evaluate_binding(values[0])[int(values[0].detail)]
            if len(values) == 1 and values[0].kind == "import":
                return self._imported(values[0].detail)
            if (
                values
                and values[0].kind == "value"
                and all(binding.kind == "augmented" and binding.detail == "Add" for binding in values[1:])
            ):
                result = self._evaluate_binding(values[0])
                for binding in values[1:]:
                    result = result + self._evaluate_binding(binding)
                return result
        finally:
            self._active.discard(id(bindings))
        raise Unknown

    def _imported(self, dotted: str) -> Any:
        module, _, name = dotted.lstrip(".").rpartition(".")
        known = self._local_modules.get(module, {})
        if name in known:
            return known[name]
        raise Unknown

    def _evaluate_binding(self, binding: Binding) -> Any:
        if binding.node is None:
            raise Unknown
        return self._evaluate(binding.node, binding.scope, None)

    def _attribute(self, node: ast.Attribute, scope: Scope, environment: Environment) -> Any:
        reference = self.values.resolve(node, scope)
        if reference is not None:
            if reference.path in CONSTANTS:
                return CONSTANTS[reference.path]
            module, _, name = reference.path.lstrip(".").rpartition(".")
            known = self._local_modules.get(module, {})
            if name in known:
                return known[name]
        if node.attr == "__name__" and isinstance(node.value, ast.Name):
            return node.value.id
        members = self.index.members.get(node.attr, [])
        if (
            members
            and members[0].kind == "value"
            and all(binding.kind == "augmented" and binding.detail == "Add" for binding in members[1:])
            and id(members[0].node) not in self._active
        ):
            self._active.add(id(members[0].node))
            try:
                result = self._evaluate_binding(members[0])
                for binding in members[1:]:
                    result = result + self._evaluate_binding(binding)
                return result
            finally:
                self._active.discard(id(members[0].node))
        raise Unknown

    def _call(self, node: ast.Call, scope: Scope, environment: Environment) -> Any:
        function = node.func
        if isinstance(function, ast.Lambda):
            return self._apply_lambda(function, self._arguments(node, scope, environment), scope)
        if isinstance(function, ast.Attribute):
            method = function.attr
            if method in TEXT_METHODS or method in CONTAINER_METHODS:
                try:
                    receiver = self._evaluate(function.value, scope, environment)
                except Unknown:
                    receiver = None
                if receiver is not None:
                    return self._method(
                        receiver, method, self._arguments(node, scope, environment), node, scope
                    )
        reference = self.values.resolve(function, scope)
        if reference is not None:
            return self._library(reference.path, node, scope, environment)
        return self._local_call(node, scope, environment)

    def _arguments(self, node: ast.Call, scope: Scope, environment: Environment) -> list[Any]:
        values: list[Any] = []
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                values.extend(self._evaluate(argument.value, scope, environment))
            else:
                values.append(self._evaluate(argument, scope, environment))
        return values

    def _method(self, receiver: Any, method: str, arguments: list[Any], node: ast.Call, scope: Scope) -> Any:
        if isinstance(receiver, list | tuple | dict | set | range) and method in CONTAINER_METHODS:
            result = getattr(receiver, method)(*arguments)
            return list(result) if method in ("keys", "values", "items") else result
        if isinstance(receiver, int) and method == "to_bytes":
            return big_to_bytes(receiver, *arguments)
        if not isinstance(receiver, str | bytes | bytearray) or method not in TEXT_METHODS:
            raise Unknown
        if method == "format_map":
            if not isinstance(receiver, str) or has_wide_field(receiver) or "__" in receiver:
                raise Unknown
            return receiver.format_map(arguments[0])
        if method in ("decode", "encode"):
            return self._codec(receiver, method, arguments, node, scope)
        if method == "format":
            if not isinstance(receiver, str) or has_wide_field(receiver) or "__" in receiver:
                raise Unknown
            keywords = {
                keyword.arg: self._evaluate(keyword.value, scope, None)
                for keyword in node.keywords
                if keyword.arg
            }
            return receiver.format(*arguments, **keywords)
        if method == "replace" and len(arguments) >= 2:
            if len(receiver) * (len(arguments[1]) + 1) > MAX_FOLDED_LENGTH * 4:
                raise Unknown
        elif method == "zfill" and arguments and arguments[0] > 1_000:
            raise Unknown
        elif method == "join" and arguments:
            pieces = [item for item in iterate(arguments[0])]
            if len(receiver) * len(pieces) > MAX_FOLDED_LENGTH:
                raise Unknown
            return receiver.join(pieces)
        return getattr(receiver, method)(*arguments)

    def _codec(self, receiver: Any, method: str, arguments: list[Any], node: ast.Call, scope: Scope) -> Any:
        encodings = [item for item in arguments if isinstance(item, str)]
        encodings += [
            value for keyword in node.keywords if isinstance(value := self.fold(keyword.value, scope), str)
        ]
        encoding = encodings[0] if encodings else "utf-8"
        if method == "encode" and isinstance(receiver, str):
            return (
                receiver.encode(encoding)
                if encoding.lower() in ("utf-8", "utf8", "ascii", "latin-1", "latin1", "utf-16")
                else decode_with(encoding, receiver)
            )
        decoded = decode_with(encoding, receiver)
        if decoded is None:
            raise Unknown
        return decoded

    def _library(self, path: str, node: ast.Call, scope: Scope, environment: Environment) -> Any:
        if path in ("builtins.map", "builtins.filter", "functools.reduce"):
            return self._higher_order(path, node, scope, environment)
        decoder = DECODERS.get(path)
        if decoder is None and path not in SIMPLE and path not in LAZY and path not in CONVERSIONS:
            return self._local_call(node, scope, environment)
        arguments = self._arguments(node, scope, environment)
        if decoder is not None:
            return self._decode(path, decoder, arguments, node, scope)
        if path in CONVERSIONS:
            return CONVERSIONS[path](*arguments)
        if path in LAZY:
            return LAZY[path](
                *[iterate(item) if isinstance(item, str | bytes | range) else item for item in arguments]
            )
        if path == "builtins.repr" and isinstance(arguments[0], list | dict | tuple | set):
            raise Unknown
        return SIMPLE[path](*arguments)

    def _decode(self, path: str, decoder: str, arguments: list[Any], node: ast.Call, scope: Scope) -> Any:
        if not arguments:
            raise Unknown
        if decoder == "codecs":
            encodings = arguments[1:2] or [self.fold(keyword.value, scope) for keyword in node.keywords]
            encoding = str(encodings[0]) if encodings else "unicode_escape" if "escape" in path else "utf-8"
            result = decode_with(encoding, arguments[0])
        elif decoder in ("zlib", "gzip", "bz2", "lzma"):
            result = inflate(arguments[0])
        elif decoder in ("base64", "binascii", "hex"):
            result = decode_a_base(path.rpartition(".")[2], arguments[0])
        else:
            raise Unknown
        if result is None:
            raise Unknown
        return result

    def _higher_order(self, path: str, node: ast.Call, scope: Scope, environment: Environment) -> Any:
        function = node.args[0]
        sequences = [
            list(iterate(self._evaluate(argument, scope, environment))) for argument in node.args[1:]
        ]
        if path == "builtins.map":
            return [self._apply(function, list(items), scope) for items in zip(*sequences, strict=False)]
        if path == "builtins.filter":
            return [item for item in sequences[0] if self._apply(function, [item], scope)]
        items = sequences[0]
        start = self._evaluate(node.args[2], scope, environment) if len(node.args) > 2 else items.pop(0)
        for item in items:
            start = self._apply(function, [start, item], scope)
        return start

    def _apply(self, function: ast.expr, arguments: list[Any], scope: Scope) -> Any:
        if isinstance(function, ast.Lambda):
            return self._apply_lambda(function, arguments, scope)
        synthetic = ast.Call(
            func=function, args=[ast.Constant(value=item) for item in arguments], keywords=[]
        )
        return self._call(synthetic, scope, None)

    def _apply_lambda(self, function: ast.Lambda, arguments: list[Any], scope: Scope) -> Any:
        names = [parameter.arg for parameter in function.args.args]
        environment: dict[str, Any] = {}
        for parameter, default in zip(reversed(names), reversed(function.args.defaults), strict=False):
            environment[parameter] = self._evaluate(default, scope, None)
        environment.update(zip(names, arguments, strict=False))
        inner = self.index.scopes.get(id(function), scope)
        return self._evaluate(function.body, inner, environment)

    def _local_call(self, node: ast.Call, scope: Scope, environment: Environment) -> Any:
        function = node.func
        name = (
            function.id
            if isinstance(function, ast.Name)
            else function.attr
            if isinstance(function, ast.Attribute)
            else ""
        )
        if isinstance(function, ast.Name):
            for binding in scope.lookup(name):
                if isinstance(binding.node, ast.Lambda):
                    return self._apply_lambda(
                        binding.node, self._arguments(node, scope, environment), binding.scope
                    )
        known = self.index.functions.get(name, [])
        if len(known) != 1 or not isinstance(known[0].node, ast.FunctionDef):
            raise Unknown
        definition = known[0].node
        names = [parameter.arg for parameter in definition.args.args]
        if names[:1] in (["self"], ["cls"]) and isinstance(function, ast.Attribute):
            names = names[1:]
        bound: dict[str, Any] = {}
        for parameter, default in zip(reversed(names), reversed(definition.args.defaults), strict=False):
            bound[parameter] = self._evaluate(default, known[0].scope, None)
        bound.update(zip(names, self._arguments(node, scope, environment), strict=False))
        for keyword in node.keywords:
            if keyword.arg:
                bound[keyword.arg] = self._evaluate(keyword.value, scope, environment)
        inner = self.index.scopes.get(id(definition), known[0].scope)
        # The same function with the same arguments, within itself: it would never end.
        call = hash((id(definition), repr(bound)[:1_000]))
        if call in self._active:
            raise Unknown
        self._active.add(call)
        try:
            self._run(definition.body, inner, bound)
        except _Return as returned:
            return returned.value
        finally:
            self._active.discard(call)
        raise Unknown

    def _run(self, body: list[ast.stmt], scope: Scope, environment: dict[str, Any]) -> None:
        """Run the statements of a pure local function."""
        for statement in body:
            self._steps += 1
            if self._steps > MAX_FOLD_STEPS:
                self.values.exceeded.add("limit.constants")
                raise Unknown
            if isinstance(statement, ast.Return):
                raise _Return(
                    None if statement.value is None else self._evaluate(statement.value, scope, environment)
                )
            if isinstance(statement, ast.Assign):
                value = self._evaluate(statement.value, scope, environment)
                for target in statement.targets:
                    self._assign(target, value, environment)
            elif isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
                combined = ast.BinOp(
                    left=ast.Name(id=statement.target.id, ctx=ast.Load()),
                    op=statement.op,
                    right=statement.value,
                )
                environment[statement.target.id] = self._binary(combined, scope, environment)
            elif isinstance(statement, ast.For):
                for item in list(iterate(self._evaluate(statement.iter, scope, environment))):
                    self._assign(statement.target, item, environment)
                    self._run(statement.body, scope, environment)
            elif isinstance(statement, ast.While):
                while self._evaluate(statement.test, scope, environment):
                    self._run(statement.body, scope, environment)
            elif isinstance(statement, ast.If):
                chosen = (
                    statement.body if self._evaluate(statement.test, scope, environment) else statement.orelse
                )
                self._run(chosen, scope, environment)
            elif isinstance(statement, ast.Expr):
                self._effect(statement.value, scope, environment)
            elif not isinstance(statement, ast.Pass | ast.Import | ast.ImportFrom):
                raise Unknown

    def _effect(self, node: ast.expr, scope: Scope, environment: dict[str, Any]) -> None:
        if isinstance(node, ast.Constant):
            return
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            raise Unknown
        receiver = self._evaluate(node.func.value, scope, environment)
        if isinstance(receiver, list | bytearray) and node.func.attr in (
            "append",
            "extend",
            "reverse",
            "insert",
        ):
            getattr(receiver, node.func.attr)(*self._arguments(node, scope, environment))
            if len(receiver) > MAX_FOLDED_LENGTH:
                raise Unknown
            return
        raise Unknown


_EVALUATORS: dict[type, Callable[[PythonFolder, Any, Scope, Environment], Any]] = {
    ast.Constant: PythonExpressions._inner, ast.Name: PythonFolder._name, ast.BinOp: PythonExpressions._binary,  # noqa: E501
    ast.UnaryOp: PythonExpressions._unary, ast.JoinedStr: PythonExpressions._formatted, ast.Subscript: PythonExpressions._subscript,  # noqa: E501
    ast.List: PythonExpressions._sequence, ast.Tuple: PythonExpressions._sequence, ast.Set: PythonExpressions._sequence,  # noqa: E501
    ast.Dict: PythonExpressions._dict, ast.ListComp: PythonExpressions._comprehension, ast.GeneratorExp: PythonExpressions._comprehension,  # noqa: E501
    ast.SetComp: PythonExpressions._comprehension, ast.DictComp: PythonExpressions._comprehension, ast.Compare: PythonExpressions._compare,  # noqa: E501
    ast.BoolOp: PythonExpressions._boolean, ast.IfExp: PythonExpressions._conditional, ast.NamedExpr: PythonExpressions._inner,  # noqa: E501
    ast.Call: PythonFolder._call, ast.Attribute: PythonFolder._attribute, ast.Starred: PythonExpressions._inner,  # noqa: E501
}  # fmt: skip
