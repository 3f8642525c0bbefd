"""Rules for functions built through constructor chains."""

import re

from tree_sitter import Node

from activities.scanning.javascript_paths import arguments_of
from activities.scanning.javascript_rule_base import JavaScriptRuleBase
from activities.scanning.javascript_scopes import FUNCTION_KINDS
from models.manifest import Capability


class JavaScriptConstructors(JavaScriptRuleBase):
    """Recognises the Function constructor reached through values."""

    def _constructor_call(self, node: Node, arguments: list[Node], function: Node) -> None:
        """``x.constructor(…)``: building a function when the argument is code."""
        chain = self._is_constructor_chain(function)
        texts = [self.folder.fold(argument) for argument in arguments]
        code = [text for text in texts if isinstance(text, str)]
        if chain:
            self._add("evasive.constructor", node, self.index.text(function)[:80])
            self._use(Capability.DYNAMIC_CODE, node, "constructor chain")
            for text in code:
                self.out.payload(text, "executed", node.start_point[0] + 1, "javascript-body")
        elif code and any(re.search(r"\breturn\b|[;()=]", text) for text in code):
            self._add("evasive.constructor", node, self.index.text(function)[:80])

    def _is_constructor_chain(self, node: Node | None, depth: int = 0) -> bool:
        """Whether ``node`` is the Function constructor reached through values."""
        if node is None or depth > 6:
            return False
        if node.type == "parenthesized_expression" and node.named_children:
            return self._is_constructor_chain(node.named_children[-1], depth + 1)
        if node.type == "sequence_expression" and node.named_children:
            return self._is_constructor_chain(node.named_children[-1], depth + 1)
        if node.type == "identifier":
            bindings = self.index.lookup(self.index.text(node), self.index.scope_at(node.start_byte))
            return any(
                item.kind in ("value", "member")
                and self._chain_of_binding(item.kind, item.node, item.detail, depth)
                for item in bindings[:4]
            )
        if self._last_name(node) != "constructor":
            return False
        base = node.child_by_field_name("object")
        return base is not None and (
            self._is_function_like(base, depth) or self._last_name(base) == "constructor"
        )

    def _chain_of_binding(self, kind: str, node: Node | None, detail: str, depth: int) -> bool:
        if kind == "member":
            return (
                detail == "constructor"
                and node is not None
                and (self._is_function_like(node, depth) or self._last_name(node) == "constructor")
            )
        return self._is_constructor_chain(node, depth + 1)

    def _is_function_like(self, node: Node, depth: int) -> bool:
        if node.type == "parenthesized_expression" and node.named_children:
            return self._is_function_like(node.named_children[-1], depth + 1)
        if node.type in FUNCTION_KINDS or node.type == "class":
            return True
        if node.type == "call_expression":
            reference = self.values.resolve(node.child_by_field_name("function"))
            if reference is not None and reference.path in (
                "Object.getPrototypeOf",
                "Reflect.getPrototypeOf",
            ):
                arguments = arguments_of(node)
                return bool(arguments) and self._is_function_like(arguments[0], depth + 1)
            return False
        if node.type in ("subscript_expression", "member_expression"):
            base = node.child_by_field_name("object")
            name = self._last_name(node)
            if (
                base is not None
                and base.type in ("array", "string", "number", "object", "regex", "template_string")
                and name is not None
                and name != "constructor"
                and name != "length"
            ):
                return True
            if name == "__proto__" and base is not None:
                return self._is_function_like(base, depth + 1)
        if node.type == "identifier":
            name = self.index.text(node)
            bindings = self.index.lookup(name, self.index.scope_at(node.start_byte))
            if any(item.kind == "function" for item in bindings):
                return True
            if any(
                item.kind == "value"
                and item.node is not None
                and depth < 5
                and self._is_function_like(item.node, depth + 1)
                for item in bindings[:3]
            ):
                return True
            return not bindings and name in (
                "Object",
                "Array",
                "String",
                "Number",
                "parseInt",
                "setTimeout",
                "isNaN",
                "RegExp",
                "Map",
                "Date",
                "Symbol",
                "Promise",
                "require",
                "Boolean",
                "Error",
                "eval",
                "alert",
                "fetch",
            )
        return False
