"""Constant folding of Python: a bounded evaluator of pure expressions.

It evaluates what an obfuscator can only hide from text search: concatenation, formatting, slices,
joins, character codes, comprehensions, lambdas, small local functions with loops, and the standard
decoders. Anything else, or any bound reached, folds to UNKNOWN (None stands for it outside).
"""

import ast
import operator
import string
import weakref
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from activities.scanning.decoding import decode_a_base, decode_with, inflate
from activities.scanning.limits import MAX_FOLD_DEPTH, MAX_FOLD_STEPS, MAX_FOLDED_LENGTH
from activities.scanning.python_names import DECODERS
from activities.scanning.python_scopes import Binding, PythonIndex, Scope
from activities.scanning.python_values import PythonValues

_MAX_TOTAL_STEPS = 1_500_000
_Environment = Mapping[str, Any] | None


class _Unknown(Exception):  # noqa: N818
    """The expression is not a constant, or a bound was reached."""


class _Return(Exception):  # noqa: N818
    def __init__(self, value: object) -> None:
        super().__init__()
        self.value = value


_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.BitXor: operator.xor, ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_, ast.FloorDiv: operator.floordiv, ast.Div: operator.truediv, ast.RShift: operator.rshift,  # noqa: E501
}  # fmt: skip
_COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,  # noqa: E501
    ast.GtE: operator.ge, ast.Is: operator.is_, ast.IsNot: operator.is_not,
}  # fmt: skip
_TEXT_METHODS = frozenset(
    [
        "join",
        "replace",
        "split",
        "rsplit",
        "strip",
        "lstrip",
        "rstrip",
        "lower",
        "upper",
        "swapcase",
        "title",
        "capitalize",
        "casefold",
        "zfill",
        "partition",
        "rpartition",
        "removeprefix",
        "removesuffix",
        "startswith",
        "endswith",
        "find",
        "rfind",
        "index",
        "rindex",
        "count",
        "splitlines",
        "hex",
        "isalpha",
        "isdigit",
        "isupper",
        "islower",
        "isspace",
        "isalnum",
        "encode",
        "decode",
        "translate",
        "format",
        "format_map",
        "to_bytes",
    ]
)
_CONTAINER_METHODS = frozenset(["index", "count", "copy", "get", "keys", "values", "items"])
_CONSTANTS = {
    "string.ascii_letters": string.ascii_letters, "string.ascii_lowercase": string.ascii_lowercase,
    "string.ascii_uppercase": string.ascii_uppercase, "string.digits": string.digits, "string.hexdigits": string.hexdigits,  # noqa: E501
    "string.printable": string.printable, "string.punctuation": string.punctuation, "os.sep": "/",
}  # fmt: skip
_SIMPLE: dict[str, Callable[..., Any]] = {
    "builtins.ord": ord, "builtins.len": len, "builtins.abs": abs, "builtins.min": min, "builtins.max": max,
    "builtins.sum": sum, "builtins.bool": bool, "builtins.round": round, "builtins.hex": hex, "builtins.bin": bin,  # noqa: E501
    "builtins.oct": oct, "builtins.repr": repr, "builtins.ascii": ascii, "operator.xor": operator.xor,
    "operator.add": operator.add, "operator.sub": operator.sub, "operator.mod": operator.mod, "operator.concat": operator.concat,  # noqa: E501
    "urllib.parse.unquote": unquote, "builtins.str.maketrans": str.maketrans, "builtins.bytes.maketrans": bytes.maketrans,  # noqa: E501
    "builtins.any": any, "builtins.all": all,
}  # fmt: skip
_LAZY: dict[str, Callable[..., Any]] = {
    "builtins.reversed": lambda value: list(value)[::-1], "builtins.sorted": sorted, "builtins.list": list, "builtins.tuple": tuple,  # noqa: E501
    "builtins.set": set, "builtins.dict": dict, "builtins.zip": lambda *values: list(zip(*values, strict=False)),  # noqa: E501
    "builtins.enumerate": lambda *values: list(enumerate(*values)), "builtins.iter": list, "builtins.frozenset": set,  # noqa: E501
    "itertools.chain": lambda *values: [item for value in values for item in value], "builtins.next": lambda value: next(iter(value)),  # noqa: E501
    "itertools.chain.from_iterable": lambda values: [item for value in values for item in value], "builtins.divmod": divmod,  # noqa: E501
    "itertools.cycle": lambda value: (list(value) * (20_000 // max(1, len(value)) + 1))[:20_000],
}  # fmt: skip


class PythonFolder:
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
        except _Unknown:
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

    # -- evaluation ---------------------------------------------------------------------------

    def _evaluate(self, node: ast.AST, scope: Scope, environment: _Environment) -> Any:
        self._steps += 1
        if self._steps > MAX_FOLD_STEPS or self._depth > MAX_FOLD_DEPTH:
            self.values.exceeded.add("limit.constants")
            raise _Unknown
        if isinstance(node, ast.Constant):
            return node.value
        evaluator = _EVALUATORS.get(node.__class__)
        if evaluator is None or (environment is None and self._failed.get(id(node)) is node):
            raise _Unknown
        self._depth += 1
        try:
            value = evaluator(self, node, scope, environment)
        except _Unknown:
            if environment is None:
                self._failed[id(node)] = node
            raise
        finally:
            self._depth -= 1
        if (
            isinstance(value, str | bytes | list | tuple | dict | set | bytearray)
            and len(value) > MAX_FOLDED_LENGTH
        ):
            raise _Unknown
        if isinstance(value, int) and value.bit_length() > 4_096:
            raise _Unknown
        return value

    def _name(self, node: ast.Name, scope: Scope, environment: _Environment) -> Any:
        if environment is not None and node.id in environment:
            return environment[node.id]
        bindings = scope.lookup(node.id)
        if not bindings or id(bindings) in self._active:
            raise _Unknown
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
        raise _Unknown

    def _imported(self, dotted: str) -> Any:
        module, _, name = dotted.lstrip(".").rpartition(".")
        known = self._local_modules.get(module, {})
        if name in known:
            return known[name]
        raise _Unknown

    def _evaluate_binding(self, binding: Binding) -> Any:
        if binding.node is None:
            raise _Unknown
        return self._evaluate(binding.node, binding.scope, None)

    def _binary(self, node: ast.BinOp, scope: Scope, environment: _Environment) -> Any:
        kind = node.op.__class__
        left: Any
        right: Any
        if kind is ast.Add and isinstance(node.left, ast.BinOp):
            return self._long_addition(node, scope, environment)
        left = self._evaluate(node.left, scope, environment)
        right = self._evaluate(node.right, scope, environment)
        if kind is ast.Mult:
            size = (
                len(left)
                if isinstance(left, str | bytes | list | tuple)
                else len(right)
                if isinstance(right, str | bytes | list)
                else 1
            )
            if isinstance(left, int) and isinstance(right, int):
                return left * right
            if (
                size * max(left if isinstance(left, int) else 0, right if isinstance(right, int) else 0)
                > MAX_FOLDED_LENGTH
            ):
                raise _Unknown
            product: Any = operator.mul(left, right)  # pyright: ignore[reportCallIssue, reportArgumentType]
            return product
        if kind is ast.Mod:
            if (
                isinstance(left, str | bytes)
                and len(str(left)) > 4_000
                and b"%" not in (left if isinstance(left, bytes) else left.encode())
            ):
                raise _Unknown
            if isinstance(left, str | bytes) and _has_wide_field(left):
                raise _Unknown
            return left % right
        if kind is ast.Pow:
            if not (isinstance(left, int) and isinstance(right, int) and 0 <= right <= 256):
                raise _Unknown
            return left**right
        if kind is ast.LShift:
            if not (isinstance(right, int) and 0 <= right <= 256):
                raise _Unknown
            return left << right
        function = _BINARY.get(kind)
        if function is None:
            raise _Unknown
        return function(left, right)

    def _long_addition(self, node: ast.BinOp, scope: Scope, environment: _Environment) -> Any:
        """Fold ``a + b + c + …`` without one level of recursion for each plus."""
        terms: list[ast.expr] = []
        current: ast.expr = node
        while isinstance(current, ast.BinOp) and isinstance(current.op, ast.Add):
            terms.append(current.right)
            current = current.left
        result = self._evaluate(current, scope, environment)
        for term in reversed(terms):
            result = result + self._evaluate(term, scope, environment)
            if isinstance(result, str | bytes | list) and len(result) > MAX_FOLDED_LENGTH:
                raise _Unknown
        return result

    def _unary(self, node: ast.UnaryOp, scope: Scope, environment: _Environment) -> Any:
        value = self._evaluate(node.operand, scope, environment)
        if isinstance(node.op, ast.USub):
            return -value
        if isinstance(node.op, ast.Invert):
            return ~value
        return (not value) if isinstance(node.op, ast.Not) else +value

    def _formatted(self, node: ast.JoinedStr, scope: Scope, environment: _Environment) -> Any:
        parts: list[str] = []
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                value = self._evaluate(part.value, scope, environment)
                value = {115: str, 114: repr, 97: ascii}.get(part.conversion, lambda item: item)(value)
                specification = (
                    self._evaluate(part.format_spec, scope, environment) if part.format_spec else ""
                )
                if any(character.isdigit() for character in specification) and len(specification) > 4:
                    raise _Unknown
                parts.append(format(value, specification))
            else:
                parts.append(str(self._evaluate(part, scope, environment)))
        return "".join(parts)

    def _subscript(self, node: ast.Subscript, scope: Scope, environment: _Environment) -> Any:
        value = self._evaluate(node.value, scope, environment)
        if isinstance(node.slice, ast.Slice):
            bounds = [
                None if bound is None else self._evaluate(bound, scope, environment)
                for bound in (node.slice.lower, node.slice.upper, node.slice.step)
            ]
            return value[slice(*bounds)]
        return value[self._evaluate(node.slice, scope, environment)]

    def _sequence(self, node: ast.List | ast.Tuple | ast.Set, scope: Scope, environment: _Environment) -> Any:
        items: list[Any] = []
        for item in node.elts:
            if isinstance(item, ast.Starred):
                items.extend(self._evaluate(item.value, scope, environment))
            elif isinstance(item, ast.Constant):
                items.append(item.value)
            else:
                items.append(self._evaluate(item, scope, environment))
        return (
            items
            if isinstance(node, ast.List)
            else tuple(items)
            if isinstance(node, ast.Tuple)
            else set(items)
        )

    def _dict(self, node: ast.Dict, scope: Scope, environment: _Environment) -> Any:
        result: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                result.update(self._evaluate(value, scope, environment))
            else:
                result[self._evaluate(key, scope, environment)] = self._evaluate(value, scope, environment)
        return result

    def _comprehension(self, node: Any, scope: Scope, environment: _Environment) -> Any:
        results: list[Any] = []
        bound: dict[str, Any] = dict(environment or {})

        self._generate(node, 0, scope, bound, results)
        if isinstance(node, ast.DictComp):
            return dict(results)
        return set(results) if isinstance(node, ast.SetComp) else results

    def _generate(
        self, node: Any, level: int, scope: Scope, bound: dict[str, Any], results: list[Any]
    ) -> None:
        """Append what the comprehension gives from its ``for`` number ``level`` on."""
        if level == len(node.generators):
            if isinstance(node, ast.DictComp):
                key = self._evaluate(node.key, scope, bound)
                results.append((key, self._evaluate(node.value, scope, bound)))
            else:
                results.append(self._evaluate(node.elt, scope, bound))
            return
        generator = node.generators[level]
        for item in _iterate(self._evaluate(generator.iter, scope, bound)):
            self._assign(generator.target, item, bound)
            if all(self._evaluate(condition, scope, bound) for condition in generator.ifs):
                self._generate(node, level + 1, scope, bound, results)

    def _assign(self, target: ast.AST, value: Any, environment: dict[str, Any]) -> None:
        if isinstance(target, ast.Name):
            environment[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            items = list(value)
            if len(items) != len(target.elts):
                raise _Unknown
            for item, part in zip(target.elts, items, strict=True):
                self._assign(item, part, environment)
        else:
            raise _Unknown

    def _compare(self, node: ast.Compare, scope: Scope, environment: _Environment) -> Any:
        left = self._evaluate(node.left, scope, environment)
        for kind, right_node in zip(node.ops, node.comparators, strict=True):
            right = self._evaluate(right_node, scope, environment)
            if isinstance(kind, ast.In | ast.NotIn):
                holds = (left in right) == isinstance(kind, ast.In)
            else:
                holds = _COMPARE[kind.__class__](left, right)
            if not holds:
                return False
            left = right
        return True

    def _boolean(self, node: ast.BoolOp, scope: Scope, environment: _Environment) -> Any:
        value: Any = None
        for item in node.values:
            value = self._evaluate(item, scope, environment)
            if bool(value) is isinstance(node.op, ast.Or):
                return value
        return value

    def _conditional(self, node: ast.IfExp, scope: Scope, environment: _Environment) -> Any:
        chosen = node.body if self._evaluate(node.test, scope, environment) else node.orelse
        return self._evaluate(chosen, scope, environment)

    def _inner(self, node: Any, scope: Scope, environment: _Environment) -> Any:
        return self._evaluate(node.value, scope, environment)

    def _attribute(self, node: ast.Attribute, scope: Scope, environment: _Environment) -> Any:
        reference = self.values.resolve(node, scope)
        if reference is not None:
            if reference.path in _CONSTANTS:
                return _CONSTANTS[reference.path]
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
        raise _Unknown

    # -- calls --------------------------------------------------------------------------------

    def _call(self, node: ast.Call, scope: Scope, environment: _Environment) -> Any:
        function = node.func
        if isinstance(function, ast.Lambda):
            return self._apply_lambda(function, self._arguments(node, scope, environment), scope)
        if isinstance(function, ast.Attribute):
            method = function.attr
            if method in _TEXT_METHODS or method in _CONTAINER_METHODS:
                try:
                    receiver = self._evaluate(function.value, scope, environment)
                except _Unknown:
                    receiver = None
                if receiver is not None:
                    return self._method(
                        receiver, method, self._arguments(node, scope, environment), node, scope
                    )
        reference = self.values.resolve(function, scope)
        if reference is not None:
            return self._library(reference.path, node, scope, environment)
        return self._local_call(node, scope, environment)

    def _arguments(self, node: ast.Call, scope: Scope, environment: _Environment) -> list[Any]:
        values: list[Any] = []
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                values.extend(self._evaluate(argument.value, scope, environment))
            else:
                values.append(self._evaluate(argument, scope, environment))
        return values

    def _method(self, receiver: Any, method: str, arguments: list[Any], node: ast.Call, scope: Scope) -> Any:
        if isinstance(receiver, list | tuple | dict | set | range) and method in _CONTAINER_METHODS:
            result = getattr(receiver, method)(*arguments)
            return list(result) if method in ("keys", "values", "items") else result
        if isinstance(receiver, int) and method == "to_bytes":
            return _big_to_bytes(receiver, *arguments)
        if not isinstance(receiver, str | bytes | bytearray) or method not in _TEXT_METHODS:
            raise _Unknown
        if method == "format_map":
            if not isinstance(receiver, str) or _has_wide_field(receiver) or "__" in receiver:
                raise _Unknown
            return receiver.format_map(arguments[0])
        if method in ("decode", "encode"):
            return self._codec(receiver, method, arguments, node, scope)
        if method == "format":
            if not isinstance(receiver, str) or _has_wide_field(receiver) or "__" in receiver:
                raise _Unknown
            keywords = {
                keyword.arg: self._evaluate(keyword.value, scope, None)
                for keyword in node.keywords
                if keyword.arg
            }
            return receiver.format(*arguments, **keywords)
        if method == "replace" and len(arguments) >= 2:
            if len(receiver) * (len(arguments[1]) + 1) > MAX_FOLDED_LENGTH * 4:
                raise _Unknown
        elif method == "zfill" and arguments and arguments[0] > 1_000:
            raise _Unknown
        elif method == "join" and arguments:
            pieces = [item for item in _iterate(arguments[0])]
            if len(receiver) * len(pieces) > MAX_FOLDED_LENGTH:
                raise _Unknown
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
            raise _Unknown
        return decoded

    def _library(self, path: str, node: ast.Call, scope: Scope, environment: _Environment) -> Any:
        if path in ("builtins.map", "builtins.filter", "functools.reduce"):
            return self._higher_order(path, node, scope, environment)
        decoder = DECODERS.get(path)
        if decoder is None and path not in _SIMPLE and path not in _LAZY and path not in _CONVERSIONS:
            return self._local_call(node, scope, environment)
        arguments = self._arguments(node, scope, environment)
        if decoder is not None:
            return self._decode(path, decoder, arguments, node, scope)
        if path in _CONVERSIONS:
            return _CONVERSIONS[path](*arguments)
        if path in _LAZY:
            return _LAZY[path](
                *[_iterate(item) if isinstance(item, str | bytes | range) else item for item in arguments]
            )
        if path == "builtins.repr" and isinstance(arguments[0], list | dict | tuple | set):
            raise _Unknown
        return _SIMPLE[path](*arguments)

    def _decode(self, path: str, decoder: str, arguments: list[Any], node: ast.Call, scope: Scope) -> Any:
        if not arguments:
            raise _Unknown
        if decoder == "codecs":
            encodings = arguments[1:2] or [self.fold(keyword.value, scope) for keyword in node.keywords]
            encoding = str(encodings[0]) if encodings else "unicode_escape" if "escape" in path else "utf-8"
            result = decode_with(encoding, arguments[0])
        elif decoder in ("zlib", "gzip", "bz2", "lzma"):
            result = inflate(arguments[0])
        elif decoder in ("base64", "binascii", "hex"):
            result = decode_a_base(path.rpartition(".")[2], arguments[0])
        else:
            raise _Unknown
        if result is None:
            raise _Unknown
        return result

    def _higher_order(self, path: str, node: ast.Call, scope: Scope, environment: _Environment) -> Any:
        function = node.args[0]
        sequences = [
            list(_iterate(self._evaluate(argument, scope, environment))) for argument in node.args[1:]
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

    def _local_call(self, node: ast.Call, scope: Scope, environment: _Environment) -> Any:
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
            raise _Unknown
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
            raise _Unknown
        self._active.add(call)
        try:
            self._run(definition.body, inner, bound)
        except _Return as returned:
            return returned.value
        finally:
            self._active.discard(call)
        raise _Unknown

    def _run(self, body: list[ast.stmt], scope: Scope, environment: dict[str, Any]) -> None:
        """Run the statements of a pure local function."""
        for statement in body:
            self._steps += 1
            if self._steps > MAX_FOLD_STEPS:
                self.values.exceeded.add("limit.constants")
                raise _Unknown
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
                for item in list(_iterate(self._evaluate(statement.iter, scope, environment))):
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
                raise _Unknown

    def _effect(self, node: ast.expr, scope: Scope, environment: dict[str, Any]) -> None:
        if isinstance(node, ast.Constant):
            return
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            raise _Unknown
        receiver = self._evaluate(node.func.value, scope, environment)
        if isinstance(receiver, list | bytearray) and node.func.attr in (
            "append",
            "extend",
            "reverse",
            "insert",
        ):
            getattr(receiver, node.func.attr)(*self._arguments(node, scope, environment))
            if len(receiver) > MAX_FOLDED_LENGTH:
                raise _Unknown
            return
        raise _Unknown


def _iterate(value: Any) -> Any:
    if isinstance(value, str | bytes | bytearray | list | tuple | set | dict):
        return value
    if isinstance(value, range) and len(value) <= MAX_FOLD_STEPS:
        return value
    raise _Unknown


def _has_wide_field(template: str | bytes) -> bool:
    """Whether a format could produce a string far longer than itself."""
    text = template.decode("latin-1") if isinstance(template, bytes) else template
    run = 0
    for character in text:
        run = run + 1 if character.isdigit() else 0
        if run > 3:
            return "%" in text or "{" in text
    return "*" in text and "%" in text


def _to_bytes(value: Any = b"", *_: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, int):
        raise _Unknown
    return bytes(value)


def _to_text(value: Any = "", *arguments: Any) -> str:
    if isinstance(value, bytes | bytearray):
        decoded = decode_with(str(arguments[0]) if arguments else "utf-8", bytes(value))
        if not isinstance(decoded, str):
            raise _Unknown
        return decoded
    if isinstance(value, list | dict | tuple | set):
        raise _Unknown
    return str(value)


def _to_range(*arguments: Any) -> range:
    result = range(*arguments)
    if len(result) > MAX_FOLD_STEPS:
        raise _Unknown
    return result


def _to_character(value: Any) -> str:
    return chr(value)


def _literal(value: Any) -> Any:
    if not isinstance(value, str) or len(value) > 20_000:
        raise _Unknown
    try:
        return ast.literal_eval(value)
    except (SyntaxError, RecursionError, MemoryError):
        raise _Unknown from None


def _to_int(value: Any = 0, base: Any = 10) -> int:
    return int(value, base) if isinstance(value, str | bytes) else int(value)


def _big_to_bytes(value: Any, length: Any, order: Any = "big") -> bytes:
    if not 0 < length < 10_000:
        raise _Unknown
    return int(value).to_bytes(length, order)


_CONVERSIONS: dict[str, Callable[..., Any]] = {
    "builtins.chr": _to_character, "builtins.unichr": _to_character, "builtins.bytes": _to_bytes, "builtins.bytearray": _to_bytes,  # noqa: E501
    "builtins.str": _to_text, "builtins.range": _to_range, "builtins.xrange": _to_range, "builtins.int": _to_int,  # noqa: E501
    "ast.literal_eval": _literal, "builtins.bytes.decode": _to_text, "builtins.int.to_bytes": _big_to_bytes,
    "builtins.str.encode": _to_bytes, "builtins.memoryview": _to_bytes,
    "builtins.str.join": lambda glue, parts: glue.join(parts), "builtins.str.format": lambda *_: (_ for _ in ()).throw(_Unknown()),  # noqa: E501
    "builtins.str.lower": lambda text: text.lower(), "builtins.str.replace": lambda text, old, new: text.replace(old, new),  # noqa: E501
    "os.path.join": lambda *parts: "/".join(parts), "textwrap.dedent": lambda text: text,
}  # fmt: skip
_EVALUATORS: dict[type, Callable[[PythonFolder, Any, Scope, _Environment], Any]] = {
    ast.Constant: PythonFolder._inner, ast.Name: PythonFolder._name, ast.BinOp: PythonFolder._binary,
    ast.UnaryOp: PythonFolder._unary, ast.JoinedStr: PythonFolder._formatted, ast.Subscript: PythonFolder._subscript,  # noqa: E501
    ast.List: PythonFolder._sequence, ast.Tuple: PythonFolder._sequence, ast.Set: PythonFolder._sequence,
    ast.Dict: PythonFolder._dict, ast.ListComp: PythonFolder._comprehension, ast.GeneratorExp: PythonFolder._comprehension,  # noqa: E501
    ast.SetComp: PythonFolder._comprehension, ast.DictComp: PythonFolder._comprehension, ast.Compare: PythonFolder._compare,  # noqa: E501
    ast.BoolOp: PythonFolder._boolean, ast.IfExp: PythonFolder._conditional, ast.NamedExpr: PythonFolder._inner,  # noqa: E501
    ast.Call: PythonFolder._call, ast.Attribute: PythonFolder._attribute, ast.Starred: PythonFolder._inner,
}  # fmt: skip
