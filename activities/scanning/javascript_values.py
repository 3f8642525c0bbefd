"""Where the value of a JavaScript expression comes from: decoders, arithmetic, network, files."""

from typing import TYPE_CHECKING

from tree_sitter import Node

from activities.scanning.findings import Origin
from activities.scanning.javascript_names import CALL_ORIGINS, METHOD_ORIGINS
from activities.scanning.javascript_scopes import FUNCTION_KINDS, Binding, Scope

if TYPE_CHECKING:
    pass
from activities.scanning.javascript_paths import LEAVES, arguments_of, module_path
from activities.scanning.javascript_references import JavaScriptReferences

_MAX_ORIGIN_NODES = 2_500


_MAX_NEAR_NODES = 200


_MAX_ORIGIN_DEPTH = 150


_NEAR = 14


class JavaScriptValues(JavaScriptReferences):
    """Questions about the expressions of one file."""

    def origins(self, node: Node | None) -> int:
        """Return every origin that flows into ``node``."""
        if node is None:
            return Origin.NONE
        self._origin_question.clear()
        self.cut_short = False
        return self._origins(node, [_MAX_ORIGIN_NODES], set(), 0)

    def near_origins(self, node: Node | None) -> int:
        """Like `origins`, but only a few steps far: what the expression itself is made of."""
        if node is None:
            return Origin.NONE
        kept, self._origin_memo = self._origin_memo, {}
        self._origin_question = {}
        self._near_budget = [_MAX_NEAR_NODES]
        try:
            return self._origins(node, self._near_budget, set(), _MAX_ORIGIN_DEPTH - _NEAR)
        finally:
            self._origin_memo = kept
            self._origin_question = {}

    def _origins(self, node: Node, budget: list[int], active: set[int], depth: int) -> int:
        kind = node.type
        if kind in LEAVES:
            return Origin.NONE
        key = node.id
        memo = self._origin_memo.get(key, self._origin_question.get(key))
        if memo is not None:
            return memo
        budget[0] -= 1
        if key in active:
            return Origin.NONE
        if budget[0] < 0 or depth > _MAX_ORIGIN_DEPTH:
            if budget is not self._near_budget:
                self.cut_short = True
                self.exceeded.add("limit.origins")
            return Origin.NONE
        active.add(key)
        handler = _ORIGIN_HANDLERS.get(kind)
        if handler is not None:
            result = handler(self, node, budget, active, depth + 1)
        else:
            result = (
                Origin.FOLDED if kind == "template_string" and node.named_child_count > 1 else Origin.NONE
            )
            for child in node.named_children:
                result |= self._origins(child, budget, active, depth + 1)
        active.discard(key)
        if active:
            self._origin_question[key] = result
        else:
            self._origin_memo[key] = result
        return result

    def _origins_of_identifier(self, node: Node, budget: list[int], active: set[int], depth: int) -> int:
        result = Origin.NONE
        scope: Scope = self.index.scope_at(node.start_byte)
        bindings = self.index.lookup(self.index.text(node), scope)
        if not bindings:
            return CALL_ORIGINS.get(self.index.text(node), Origin.NONE)
        for binding in bindings:
            result |= self._origins_of_binding(binding, budget, active, depth)
        return result

    def _origins_of_binding(self, binding: Binding, budget: list[int], active: set[int], depth: int) -> int:
        if binding.kind == "import":
            module = binding.detail.partition("\0")[0]
            return (
                Origin.SIBLING
                if module.startswith((".", "/"))
                else CALL_ORIGINS.get(module_path(module), Origin.NONE)
            )
        node = binding.node
        if node is None:
            return Origin.NONE
        if binding.kind == "function":
            return self._origins_of_function(node, budget, active, depth)
        if binding.kind == "parameter":
            result = Origin.NONE
            for argument in self.arguments_for(binding):
                result |= self._origins(argument, budget, active, depth)
            return result | self._callback_origin(node, budget, active, depth)
        result = self._origins(node, budget, active, depth)
        if binding.kind == "augmented" and binding.detail == "^=":
            result |= Origin.ARITHMETIC
        return result

    def _callback_origin(self, function: Node, budget: list[int], active: set[int], depth: int) -> int:
        """A callback's parameters carry what the call that receives the callback carries."""
        parent = function.parent
        if parent is None or parent.type != "arguments" or parent.parent is None:
            return Origin.NONE
        call = parent.parent
        callee = call.child_by_field_name("function") or call.child_by_field_name("constructor")
        result = Origin.NONE
        if callee is not None:
            reference = self.resolve(callee)
            if reference is not None:
                result |= _origin_of_path(reference.path)
            base = callee.child_by_field_name("object")
            if base is not None:
                result |= self._origins(base, budget, active, depth)
        for argument in parent.named_children:
            if argument.type not in FUNCTION_KINDS:
                result |= self._origins(argument, budget, active, depth)
        return result

    def _origins_of_function(self, node: Node, budget: list[int], active: set[int], depth: int) -> int:
        result = Origin.NONE
        for value in self.returned(node):
            result |= self._origins(value, budget, active, depth)
        return result

    def _origins_of_call(self, node: Node, budget: list[int], active: set[int], depth: int) -> int:  # noqa: C901
        function = node.child_by_field_name("function") or node.child_by_field_name("constructor")
        result = Origin.NONE
        if function is not None:
            reference = self.resolve(function)
            if reference is not None:
                result |= _origin_of_path(reference.path)
                if reference.path in ("require", "import"):
                    name = self.folder.fold(next(iter(arguments_of(node)), None))
                    if isinstance(name, str) and name.startswith("."):
                        result |= Origin.SIBLING
                if reference.path in ("Buffer.from", "Buffer"):
                    result |= self._buffer_origin(node)
                if reference.path == "parseInt" and len(arguments_of(node)) > 1:
                    result |= Origin.FOLDED
            if function.type == "member_expression":
                name_node = function.child_by_field_name("property")
                name = self.index.text(name_node) if name_node is not None else ""
                result |= METHOD_ORIGINS.get(name, Origin.NONE)
                if name in ("toString", "decode") and any(
                    self.folder.fold(argument) in ("base64", "hex", "base64url")
                    for argument in arguments_of(node)
                ):
                    result |= Origin.DECODED
                base = function.child_by_field_name("object")
                if base is not None:
                    result |= self._origins(base, budget, active, depth)
                for known in self.index.functions.get(name, [])[:3]:
                    result |= self._origins_of_function(known, budget, active, depth)
                for binding in self.index.members.get(name, [])[:3]:
                    if binding.node is not None and binding.node.type in FUNCTION_KINDS:
                        result |= self._origins_of_function(binding.node, budget, active, depth)
            else:
                result |= self._origins(function, budget, active, depth)
        arguments = node.child_by_field_name("arguments")
        for argument in arguments.named_children if arguments is not None else []:
            result |= self._origins(argument, budget, active, depth)
            if argument.type in ("identifier", "member_expression"):
                reference = self.resolve(argument)
                if reference is not None:
                    result |= _origin_of_path(reference.path) & ~(Origin.FILE | Origin.NETWORK)
        return result

    def _buffer_origin(self, node: Node) -> int:
        arguments = arguments_of(node)
        if len(arguments) > 1:
            encoding = self.folder.fold(arguments[1])
            return (
                Origin.DECODED
                if encoding in ("base64", "hex", "base64url", "binary", "latin1", "ucs2")
                else Origin.NONE
            )
        return Origin.CHARACTERS if arguments and arguments[0].type == "array" else Origin.NONE

    def _origins_of_member(self, node: Node, budget: list[int], active: set[int], depth: int) -> int:
        result = Origin.NONE
        reference = self.resolve(node)
        if reference is not None:
            result |= _origin_of_path(reference.path) & ~Origin.FILE
        base = node.child_by_field_name("object")
        if base is not None:
            result |= self._origins(base, budget, active, depth)
        name = node.child_by_field_name("property")
        if name is not None and node.type == "member_expression":
            for binding in self.index.members.get(self.index.text(name), [])[:4]:
                result |= self._origins_of_binding(binding, budget, active, depth)
        index = node.child_by_field_name("index")
        if index is not None:
            result |= self._origins(index, budget, active, depth) & ~Origin.FOLDED
        return result

    def _origins_of_binary(self, node: Node, budget: list[int], active: set[int], depth: int) -> int:
        operator = node.child_by_field_name("operator")
        kind = operator.type if operator is not None else ""
        if kind in ("==", "===", "!=", "!==", "<", ">", "<=", ">=", "in", "instanceof"):
            return Origin.NONE
        result = Origin.ARITHMETIC if kind == "^" else Origin.FOLDED if kind == "+" else Origin.NONE
        for child in node.named_children:
            result |= self._origins(child, budget, active, depth)
        return result

    def _origins_of_lambda(self, node: Node, budget: list[int], active: set[int], depth: int) -> int:
        return self._origins_of_function(node, budget, active, depth)


_ORIGIN_HANDLERS = {
    "identifier": JavaScriptValues._origins_of_identifier, "shorthand_property_identifier": JavaScriptValues._origins_of_identifier,  # noqa: E501
    "call_expression": JavaScriptValues._origins_of_call, "new_expression": JavaScriptValues._origins_of_call,
    "member_expression": JavaScriptValues._origins_of_member, "subscript_expression": JavaScriptValues._origins_of_member,  # noqa: E501
    "binary_expression": JavaScriptValues._origins_of_binary,
    **dict.fromkeys(FUNCTION_KINDS, JavaScriptValues._origins_of_lambda),
}  # fmt: skip


def _origin_of_path(path: str) -> int:
    direct = CALL_ORIGINS.get(path)
    if direct is not None:
        return direct
    head = path.split(".")[0]
    if head.startswith("module:"):
        if head[7:8] == ".":
            return Origin.SIBLING
        return CALL_ORIGINS.get(head, Origin.NONE)
    if path.startswith("process.env"):
        return Origin.ENVIRONMENT
    return Origin.NONE
