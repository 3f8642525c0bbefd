"""Folding of Python expressions without names and calls: operators, displays, comprehensions."""

import ast
import operator
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from activities.scanning.limits import MAX_FOLDED_LENGTH
from activities.scanning.python_library import BINARY, COMPARE, Unknown, has_wide_field, iterate
from activities.scanning.python_scopes import Scope

Environment = Mapping[str, Any] | None


class PythonExpressions(ABC):
    """Evaluates operators, displays, comprehensions and comparisons; the folder adds names and calls."""

    @abstractmethod
    def _evaluate(self, node: ast.AST, scope: Scope, environment: Environment) -> Any: ...

    def _binary(self, node: ast.BinOp, scope: Scope, environment: Environment) -> Any:
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
                raise Unknown
            product: Any = operator.mul(left, right)  # pyright: ignore[reportCallIssue, reportArgumentType]
            return product
        if kind is ast.Mod:
            if (
                isinstance(left, str | bytes)
                and len(str(left)) > 4_000
                and b"%" not in (left if isinstance(left, bytes) else left.encode())
            ):
                raise Unknown
            if isinstance(left, str | bytes) and has_wide_field(left):
                raise Unknown
            return left % right
        if kind is ast.Pow:
            if not (isinstance(left, int) and isinstance(right, int) and 0 <= right <= 256):
                raise Unknown
            return left**right
        if kind is ast.LShift:
            if not (isinstance(right, int) and 0 <= right <= 256):
                raise Unknown
            return left << right
        function = BINARY.get(kind)
        if function is None:
            raise Unknown
        return function(left, right)

    def _long_addition(self, node: ast.BinOp, scope: Scope, environment: Environment) -> Any:
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
                raise Unknown
        return result

    def _unary(self, node: ast.UnaryOp, scope: Scope, environment: Environment) -> Any:
        value = self._evaluate(node.operand, scope, environment)
        if isinstance(node.op, ast.USub):
            return -value
        if isinstance(node.op, ast.Invert):
            return ~value
        return (not value) if isinstance(node.op, ast.Not) else +value

    def _formatted(self, node: ast.JoinedStr, scope: Scope, environment: Environment) -> Any:
        parts: list[str] = []
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                value = self._evaluate(part.value, scope, environment)
                value = {115: str, 114: repr, 97: ascii}.get(part.conversion, lambda item: item)(value)
                specification = (
                    self._evaluate(part.format_spec, scope, environment) if part.format_spec else ""
                )
                if any(character.isdigit() for character in specification) and len(specification) > 4:
                    raise Unknown
                parts.append(format(value, specification))
            else:
                parts.append(str(self._evaluate(part, scope, environment)))
        return "".join(parts)

    def _subscript(self, node: ast.Subscript, scope: Scope, environment: Environment) -> Any:
        value = self._evaluate(node.value, scope, environment)
        if isinstance(node.slice, ast.Slice):
            bounds = [
                None if bound is None else self._evaluate(bound, scope, environment)
                for bound in (node.slice.lower, node.slice.upper, node.slice.step)
            ]
            return value[slice(*bounds)]
        return value[self._evaluate(node.slice, scope, environment)]

    def _sequence(self, node: ast.List | ast.Tuple | ast.Set, scope: Scope, environment: Environment) -> Any:
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

    def _dict(self, node: ast.Dict, scope: Scope, environment: Environment) -> Any:
        result: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                result.update(self._evaluate(value, scope, environment))
            else:
                result[self._evaluate(key, scope, environment)] = self._evaluate(value, scope, environment)
        return result

    def _comprehension(self, node: Any, scope: Scope, environment: Environment) -> Any:
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
        for item in iterate(self._evaluate(generator.iter, scope, bound)):
            self._assign(generator.target, item, bound)
            if all(self._evaluate(condition, scope, bound) for condition in generator.ifs):
                self._generate(node, level + 1, scope, bound, results)

    def _assign(self, target: ast.AST, value: Any, environment: dict[str, Any]) -> None:
        if isinstance(target, ast.Name):
            environment[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            items = list(value)
            if len(items) != len(target.elts):
                raise Unknown
            for item, part in zip(target.elts, items, strict=True):
                self._assign(item, part, environment)
        else:
            raise Unknown

    def _compare(self, node: ast.Compare, scope: Scope, environment: Environment) -> Any:
        left = self._evaluate(node.left, scope, environment)
        for kind, right_node in zip(node.ops, node.comparators, strict=True):
            right = self._evaluate(right_node, scope, environment)
            if isinstance(kind, ast.In | ast.NotIn):
                holds = (left in right) == isinstance(kind, ast.In)
            else:
                holds = COMPARE[kind.__class__](left, right)
            if not holds:
                return False
            left = right
        return True

    def _boolean(self, node: ast.BoolOp, scope: Scope, environment: Environment) -> Any:
        value: Any = None
        for item in node.values:
            value = self._evaluate(item, scope, environment)
            if bool(value) is isinstance(node.op, ast.Or):
                return value
        return value

    def _conditional(self, node: ast.IfExp, scope: Scope, environment: Environment) -> Any:
        chosen = node.body if self._evaluate(node.test, scope, environment) else node.orelse
        return self._evaluate(chosen, scope, environment)

    def _inner(self, node: Any, scope: Scope, environment: Environment) -> Any:
        return self._evaluate(node.value, scope, environment)
