"""Where the value of a Python expression comes from: decoders, arithmetic, network, files."""

import ast
from typing import TYPE_CHECKING

from activities.scanning.findings import Origin
from activities.scanning.limits import MAX_FOLD_DEPTH
from activities.scanning.python_names import (
    CALL_ORIGINS,
    METHOD_ORIGINS,
    OPAQUE_CALLS,
    TEXT_CODECS,
)
from activities.scanning.python_scopes import Binding, Scope

if TYPE_CHECKING:
    pass
from activities.scanning.python_references import PythonReferences

_MAX_ORIGIN_NODES = 12_000


_MAX_NEAR_NODES = 200


_NEAR = 14


_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class PythonValues(PythonReferences):
    """Questions about the expressions of one module."""

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


def _reversal(node: ast.AST) -> int:
    step = node.step if isinstance(node, ast.Slice) else None
    if isinstance(step, ast.UnaryOp) and isinstance(step.op, ast.USub):
        return Origin.REVERSED
    if isinstance(step, ast.Constant) and isinstance(step.value, int) and abs(step.value) > 1:
        return Origin.REVERSED
    return Origin.NONE
