"""Folding of JavaScript expressions without names and calls: literals, operators, displays."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from tree_sitter import Node

from activities.scanning.javascript_coercions import (
    UNDEFINED,
    Unknown,
    add,
    arithmetic,
    int32,
    to_number,
    to_text,
    truthy,
    unescape,
    unknown,
)
from activities.scanning.javascript_scopes import JavaScriptIndex
from activities.scanning.limits import MAX_FOLDED_LENGTH

Environment = Mapping[str, Any] | None


class JavaScriptExpressions(ABC):
    """Evaluates literals, operators and displays; the folder adds names and calls."""

    index: JavaScriptIndex

    @abstractmethod
    def _evaluate(self, node: Node, environment: Environment) -> Any: ...

    def _string(self, node: Node, _: Environment) -> Any:
        return unescape(self.index.text(node)[1:-1])

    def _template(self, node: Node, environment: Environment) -> Any:
        parts: list[str] = []
        position = node.start_byte + 1
        for child in node.named_children:
            if child.type == "template_substitution":
                parts.append(
                    unescape(self.index.source[position : child.start_byte].decode("utf-8", "replace"))
                )
                parts.append(to_text(self._evaluate(child.named_children[0], environment)))
                position = child.end_byte
        parts.append(unescape(self.index.source[position : node.end_byte - 1].decode("utf-8", "replace")))
        return "".join(parts)

    def _number(self, node: Node, _: Environment) -> Any:
        text = self.index.text(node).replace("_", "").rstrip("n").lower()
        if text[:2] in ("0x", "0b", "0o"):
            return float(int(text, 0))
        if len(text) > 1 and text[0] == "0" and text.isdigit():
            return float(int(text, 8 if all(digit < "8" for digit in text) else 10))
        return float(text)

    def _keyword(self, node: Node, _: Environment) -> Any:
        return {"true": True, "false": False, "null": None, "undefined": UNDEFINED}[node.type]

    def _array(self, node: Node, environment: Environment) -> Any:
        items: list[Any] = []
        for child in node.named_children:
            if child.type == "spread_element":
                spread = self._evaluate(child.named_children[0], environment)
                items.extend([float(byte) for byte in spread] if isinstance(spread, bytes) else list(spread))
            elif child.type != "comment":
                items.append(self._evaluate(child, environment))
        return items

    def _object(self, node: Node, environment: Environment) -> Any:
        result: dict[str, Any] = {}
        for child in node.named_children:
            if child.type == "method_definition":
                raise Unknown
            if child.type == "pair":
                key_node = child.child_by_field_name("key")
                value_node = child.child_by_field_name("value")
                if key_node is None or value_node is None:
                    raise Unknown
                if key_node.type == "computed_property_name":
                    key = to_text(self._evaluate(key_node.named_children[0], environment))
                else:
                    key = unescape(self.index.text(key_node).strip("'\""))
                if key in ("toString", "valueOf"):
                    raise Unknown
                try:
                    result[key] = self._evaluate(value_node, environment)
                except Unknown:
                    continue
        return result

    def _inner(self, node: Node, environment: Environment) -> Any:
        return self._evaluate(node.named_children[-1], environment)

    def _unary(self, node: Node, environment: Environment) -> Any:
        operator = node.child_by_field_name("operator")
        argument = node.child_by_field_name("argument")
        if operator is None or argument is None:
            raise Unknown
        kind = operator.type
        if kind == "void":
            return UNDEFINED
        value = self._evaluate(argument, environment)
        if kind == "!":
            return not truthy(value)
        if kind == "typeof":
            return {str: "string", float: "number", bool: "boolean"}.get(type(value), "object")
        number = to_number(value)
        if kind == "-":
            return -number
        if kind == "~":
            return float(~int32(number))
        return number

    def _binary(self, node: Node, environment: Environment) -> Any:
        operator = node.child_by_field_name("operator")
        left_node = node.child_by_field_name("left")
        right_node = node.child_by_field_name("right")
        if operator is None or left_node is None or right_node is None:
            raise Unknown
        kind = operator.type
        if kind == "+":
            terms = [right_node]
            current = left_node
            while current.type == "binary_expression":
                inner = current.child_by_field_name("operator")
                left = current.child_by_field_name("left")
                right = current.child_by_field_name("right")
                if inner is None or inner.type != "+" or left is None or right is None:
                    break
                terms.append(right)
                current = left
            result = self._evaluate(current, environment)
            for term in reversed(terms):
                result = add(result, self._evaluate(term, environment))
                if isinstance(result, str) and len(result) > MAX_FOLDED_LENGTH:
                    raise Unknown
            return result
        left_value = self._evaluate(left_node, environment)
        if kind in ("||", "&&", "??"):
            take_right = (
                (not truthy(left_value))
                if kind == "||"
                else truthy(left_value)
                if kind == "&&"
                else left_value in (None, UNDEFINED)
            )
            return self._evaluate(right_node, environment) if take_right else left_value
        return arithmetic(kind, left_value, self._evaluate(right_node, environment))

    def _ternary(self, node: Node, environment: Environment) -> Any:
        condition = node.child_by_field_name("condition")
        if condition is None:
            raise Unknown
        field = "consequence" if truthy(self._evaluate(condition, environment)) else "alternative"
        chosen = node.child_by_field_name(field)
        return self._evaluate(chosen, environment) if chosen is not None else unknown()
