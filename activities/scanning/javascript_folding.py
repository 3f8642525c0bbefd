"""Constant folding of JavaScript: a bounded evaluator of pure expressions with JavaScript's coercions.

Values: str, float, bool, list, dict, bytes (a Buffer or typed array), None for ``null`` and
`UNDEFINED`. `fold` returns None when the expression is not a constant.
"""

import math
import re
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from tree_sitter import Node

from activities.scanning.javascript_coercions import (
    UNDEFINED,
    Unknown,
    add,
    to_number,
    to_text,
    truthy,
    unknown,
)
from activities.scanning.javascript_expressions import Environment, JavaScriptExpressions
from activities.scanning.javascript_library import (
    LIBRARY,
    buffer_method,
    from_codes,
    text_method,
    to_base,
)
from activities.scanning.javascript_paths import arguments_of, returned_values
from activities.scanning.javascript_scopes import FUNCTION_KINDS, Binding, JavaScriptIndex
from activities.scanning.javascript_values import JavaScriptValues
from activities.scanning.limits import MAX_FOLD_DEPTH, MAX_FOLD_STEPS, MAX_FOLDED_LENGTH

_MAX_TOTAL_STEPS = 1_000_000


_IDENTIFIER_ESCAPE = re.compile(r"\\u(?:\{([0-9a-fA-F]{1,6})\}|([0-9a-fA-F]{4}))")


class JavaScriptFolder(JavaScriptExpressions):
    """Folds expressions of one file."""

    def __init__(self, index: JavaScriptIndex, data: Mapping[str, Mapping[str, object]]) -> None:
        self.index = index
        # The two ask each other; a weak side lets the tree go as soon as the file is done.
        self.values = JavaScriptValues(index, weakref.proxy(self))
        self._data = data
        self._steps = 0
        self._total = 0
        self._depth = 0
        self._active: set[int] = set()
        self._memo: dict[int, Any] = {}
        self._failed: set[int] = set()

    def fold(self, node: Node | None) -> Any:
        """Return the constant value of ``node``, or None."""
        if node is None:
            return None
        if self._total > _MAX_TOTAL_STEPS:
            self.values.exceeded.add("limit.constants")
            return None
        key = node.id
        if key in self._memo:
            return self._memo[key]
        outermost = self._depth == 0
        if outermost:
            self._steps = 0
            self._failed.clear()
        try:
            result = self._evaluate(node, None)
        except (
            Unknown,
            ArithmeticError,
            LookupError,
            TypeError,
            ValueError,
            AttributeError,
            RecursionError,
            MemoryError,
        ):
            result = None
        if result is UNDEFINED:
            result = None
        if outermost:
            self._total += self._steps
            self._memo[key] = result
        return result

    def unescape_identifier(self, name: str) -> str:
        """Return an identifier with its unicode escapes decoded."""
        if "\\" not in name:
            return name
        return _IDENTIFIER_ESCAPE.sub(
            lambda match: chr(min(int(match.group(1) or match.group(2), 16), 0x10FFFF)), name
        )

    def is_plain(self, node: Node) -> bool:
        """Whether ``node`` is a literal without escapes or substitutions, or a constant name for one."""
        if node.type == "string":
            return "\\" not in self.index.text(node)
        if node.type == "template_string":
            return "\\" not in self.index.text(node) and all(
                child.type == "string_fragment" for child in node.named_children
            )
        if node.type == "identifier":
            bindings = self.index.lookup(self.index.text(node), self.index.scope_at(node.start_byte))
            if (
                len(bindings) == 1
                and bindings[0].kind in ("value", "default")
                and bindings[0].node is not None
            ):
                return bindings[0].node.type in ("string", "template_string") and self.is_plain(
                    bindings[0].node
                )
            if len(bindings) == 1 and bindings[0].kind == "parameter":
                return all(
                    argument.type == "string" and self.is_plain(argument)
                    for argument in self.values.arguments_for(bindings[0])
                )
        if node.type == "parenthesized_expression" and node.named_children:
            return self.is_plain(node.named_children[0])
        return node.type == "number"

    def _evaluate(self, node: Node, environment: Environment) -> Any:
        self._steps += 1
        if self._steps > MAX_FOLD_STEPS or self._depth > MAX_FOLD_DEPTH:
            self.values.exceeded.add("limit.constants")
            raise Unknown
        evaluator = _EVALUATORS.get(node.type)
        if evaluator is None or (environment is None and node.id in self._failed):
            raise Unknown
        self._depth += 1
        try:
            value = evaluator(self, node, environment)
        except Unknown:
            if environment is None:
                self._failed.add(node.id)
            raise
        finally:
            self._depth -= 1
        if isinstance(value, str | bytes | list) and len(value) > MAX_FOLDED_LENGTH:
            raise Unknown
        return value

    def _identifier(self, node: Node, environment: Environment) -> Any:
        name = self.unescape_identifier(self.index.text(node))
        if environment is not None and name in environment:
            return environment[name]
        bindings = self.index.lookup(name, self.index.scope_at(node.start_byte))
        if not bindings:
            if name in ("NaN", "Infinity"):
                return math.nan if name == "NaN" else math.inf
            raise Unknown
        if id(bindings) in self._active:
            raise Unknown
        self._active.add(id(bindings))
        try:
            first = bindings[0]
            if (
                all(item.kind == "augmented" and item.detail == "+=" for item in bindings[1:])
                or len(bindings) == 1
            ):
                result = self._bound(first)
                for item in bindings[1:]:
                    result = add(result, self._bound(item))
                return result
        finally:
            self._active.discard(id(bindings))
        raise Unknown

    def _bound(self, binding: Binding) -> Any:
        if binding.kind == "parameter":
            arguments = self.values.arguments_for(binding)
            if len(arguments) == 1 and "\0" not in binding.detail:
                return self._evaluate(arguments[0], None)
            raise Unknown
        if binding.kind == "import":
            return self._imported(binding.detail)
        if binding.node is None or binding.kind not in ("value", "augmented", "default", "member"):
            raise Unknown
        if binding.kind == "member":
            reference = self.values.resolve(binding.node)
            if reference is not None and reference.path.startswith("module:."):
                return self._imported(f"{reference.path[7:]}\0{binding.detail}")
        value = self._evaluate(binding.node, None)
        if binding.kind == "member":
            for part in binding.detail.split("."):
                value = value[int(part)] if isinstance(value, list | str) else value[part]
        return value

    def _imported(self, detail: str) -> Any:
        """Look a name up in another module or data file of the submission."""
        module, _, name = detail.partition("\0")
        stem = module.rsplit("/", 1)[-1]
        known = self._data.get(stem) or self._data.get(stem.rsplit(".", 1)[0]) or {}
        if not name:
            return dict(known) if known else unknown()
        if name in known:
            return known[name]
        raise Unknown

    def _subscript(self, node: Node, environment: Environment) -> Any:
        base_node = node.child_by_field_name("object")
        index_node = node.child_by_field_name("index")
        if base_node is None or index_node is None:
            raise Unknown
        return self._property(self._evaluate(base_node, environment), self._evaluate(index_node, environment))

    def _member(self, node: Node, environment: Environment) -> Any:
        base_node = node.child_by_field_name("object")
        property_node = node.child_by_field_name("property")
        if base_node is None or property_node is None:
            raise Unknown
        name = self.unescape_identifier(self.index.text(property_node))
        reference = self.values.resolve(base_node)
        if reference is not None and reference.path.startswith("module:."):
            return self._imported(f"{reference.path[7:]}\0{name}")
        try:
            return self._property(self._evaluate(base_node, environment), name)
        except (Unknown, LookupError):
            members = [item for item in self.index.members.get(name, []) if item.kind == "value"]
            if len(members) == 1 and members[0].node is not None and members[0].node.id not in self._active:
                self._active.add(members[0].node.id)
                try:
                    return self._evaluate(members[0].node, None)
                finally:
                    self._active.discard(members[0].node.id)
            raise Unknown from None

    def _property(self, base: Any, key: Any) -> Any:
        if key == "length" and isinstance(base, str | list | bytes):
            return float(len(base))
        if isinstance(base, dict):
            return base[to_text(key)]
        if isinstance(base, str | list | bytes):
            position = to_number(key)
            if position != int(position) or not 0 <= position < len(base):
                return UNDEFINED if position == position and isinstance(key, float) else unknown()
            item = base[int(position)]
            return float(item) if isinstance(base, bytes) else item
        raise Unknown

    def _call(self, node: Node, environment: Environment) -> Any:
        function = node.child_by_field_name("function") or node.child_by_field_name("constructor")
        if function is None:
            raise Unknown
        arguments = arguments_of(node)
        while function.type == "parenthesized_expression" and function.named_children:
            function = function.named_children[-1]
        if function.type in FUNCTION_KINDS:
            return self._apply(function, self._all(arguments, environment))
        reference = self.values.resolve(function)
        if reference is not None and reference.path in LIBRARY:
            return LIBRARY[reference.path](*self._all(arguments, environment))
        if reference is not None and reference.path in (
            "String.fromCharCode.apply",
            "String.fromCodePoint.apply",
        ):
            return from_codes(*self._all(arguments, environment)[1])
        if reference is not None and reference.path in (
            "String.fromCharCode.call",
            "String.fromCodePoint.call",
        ):
            return from_codes(*self._all(arguments, environment)[1:])
        if (
            reference is not None
            and reference.path == "String.raw"
            and arguments
            and arguments[0].type == "template_string"
        ):
            return self.index.text(arguments[0])[1:-1]
        if function.type in ("member_expression", "subscript_expression"):
            return self._method_call(function, arguments, environment)
        if function.type == "identifier":
            name = self.index.text(function)
            for binding in self.index.lookup(name, self.index.scope_at(function.start_byte))[:2]:
                if (
                    binding.node is not None
                    and binding.node.type in FUNCTION_KINDS
                    and binding.kind in ("value", "function")
                ):
                    return self._apply(binding.node, self._all(arguments, environment))
        raise Unknown

    def _all(self, nodes: list[Node], environment: Environment) -> list[Any]:
        values: list[Any] = []
        for node in nodes:
            if node.type == "spread_element":
                spread = self._evaluate(node.named_children[0], environment)
                values.extend([float(byte) for byte in spread] if isinstance(spread, bytes) else list(spread))
            elif node.type in FUNCTION_KINDS:
                values.append(node)
            else:
                values.append(self._evaluate(node, environment))
        return values

    def _method_call(self, function: Node, arguments: list[Node], environment: Environment) -> Any:
        base_node = function.child_by_field_name("object")
        name_node = function.child_by_field_name("property") or function.child_by_field_name("index")
        if base_node is None or name_node is None:
            raise Unknown
        name = (
            self.index.text(name_node)
            if function.type == "member_expression"
            else to_text(self._evaluate(name_node, environment))
        )
        base = self._evaluate(base_node, environment)
        if name in ("replace", "replaceAll") and arguments and arguments[0].type == "regex":
            return self._replace_regex(base, arguments, environment)
        if name == "split" and arguments and arguments[0].type == "regex":
            pattern = re.compile(self._regex(arguments[0]))
            return [part for part in pattern.split(base) if part is not None]
        values = self._all(arguments, environment)
        if isinstance(base, bytes):
            return buffer_method(base, name, values)
        if isinstance(base, str):
            return text_method(base, name, values)
        if isinstance(base, list):
            return self._list_method(base, name, values)
        if isinstance(base, float) and name == "toString":
            return to_base(base, int(values[0]) if values else 10)
        raise Unknown

    def _regex(self, node: Node) -> str:
        pattern = node.child_by_field_name("pattern")
        text = self.index.text(pattern) if pattern is not None else ""
        # Only classes, literals and alternations: nothing that can backtrack for long.
        if len(text) > 60 or re.search(r"[*+{]|\(\?", text.replace("\\+", "").replace("\\*", "")):  # noqa: SIM102
            if not re.fullmatch(r"(?:\.\{\d,?\d?\}|\[[^\]]{1,30}\]\+?|\\[dswDSW]\+?|.)", text):
                raise Unknown
        return text

    def _replace_regex(self, base: Any, arguments: list[Node], environment: Environment) -> Any:
        if not isinstance(base, str):
            raise Unknown
        flags_node = arguments[0].child_by_field_name("flags")
        flags = self.index.text(flags_node) if flags_node is not None else ""
        pattern = re.compile(self._regex(arguments[0]), re.IGNORECASE if "i" in flags else 0)
        replacement = self._all(arguments[1:2], environment)[0]
        if isinstance(replacement, Node):
            function = replacement
            return pattern.sub(
                lambda match: to_text(self._apply(function, [match.group(0), *match.groups()])), base
            )
        text = to_text(replacement)
        return pattern.sub(
            lambda match: text.replace("$&", match.group(0)).replace(
                "$1", match.group(1) if match.lastindex else ""
            ),
            base,
            0 if "g" in flags else 1,
        )

    def _list_method(self, base: list[Any], name: str, values: list[Any]) -> Any:
        if name in ("map", "filter", "reduce", "flatMap", "reduceRight", "forEach"):
            return self._iterate(base, name, values)
        if name == "join":
            glue = to_text(values[0]) if values else ","
            return glue.join("" if item in (None, UNDEFINED) else to_text(item) for item in base)
        if name in ("reverse", "toReversed"):
            return base[::-1]
        if name == "slice":
            return (
                base[slice(*[int(to_number(value)) for value in values[:2]])]
                if len(values) > 1
                else base[int(to_number(values[0])) if values else 0 :]
            )
        if name == "concat":
            return base + [
                item for value in values for item in (value if isinstance(value, list) else [value])
            ]
        if name == "at":
            return base[int(values[0])]
        if name == "indexOf":
            return float(base.index(values[0])) if values[0] in base else -1.0
        if name in ("pop", "shift"):
            return base[-1 if name == "pop" else 0]
        if name == "flat":
            return [item for value in base for item in (value if isinstance(value, list) else [value])]
        if name == "toString":
            return to_text(base)
        raise Unknown

    def _iterate(self, base: list[Any], name: str, values: list[Any]) -> Any:
        function = values[0]
        if name in ("reduce", "reduceRight"):
            items = base[::-1] if name == "reduceRight" else list(base)
            result = values[1] if len(values) > 1 else items.pop(0)
            for position, item in enumerate(items):
                result = self._apply(function, [result, item, float(position)])
            return result
        mapped = [self._apply(function, [item, float(position), base]) for position, item in enumerate(base)]
        if name == "filter":
            return [item for item, keep in zip(base, mapped, strict=True) if truthy(keep)]
        if name == "flatMap":
            return [item for value in mapped for item in (value if isinstance(value, list) else [value])]
        return mapped

    def _apply(self, function: Any, arguments: list[Any]) -> Any:
        if not isinstance(function, Node):
            if callable(function):
                return function(*arguments[:1])
            raise Unknown
        environment: dict[str, Any] = {}
        single = function.child_by_field_name("parameter")
        parameters = [single] if single is not None else []
        listed = function.child_by_field_name("parameters")
        if listed is not None:
            parameters = listed.named_children
        for parameter, value in zip(parameters, arguments, strict=False):
            if parameter.type == "identifier":
                environment[self.index.text(parameter)] = value
            elif parameter.type == "array_pattern" and isinstance(value, list):
                for part, item in zip(parameter.named_children, value, strict=False):
                    environment[self.index.text(part)] = item
        body = function.child_by_field_name("body")
        if (
            body is not None
            and body.type == "statement_block"
            and any(
                child.type not in ("return_statement", "comment", "expression_statement")
                for child in body.named_children
            )
        ):
            raise Unknown
        returned = returned_values(function)
        if len(returned) != 1:
            raise Unknown
        return self._evaluate(returned[0], environment)


_EVALUATORS: dict[str, Callable[[JavaScriptFolder, Node, Environment], Any]] = {
    "string": JavaScriptExpressions._string, "template_string": JavaScriptExpressions._template, "number": JavaScriptExpressions._number,  # noqa: E501
    "true": JavaScriptExpressions._keyword, "false": JavaScriptExpressions._keyword, "null": JavaScriptExpressions._keyword,  # noqa: E501
    "undefined": JavaScriptExpressions._keyword, "identifier": JavaScriptFolder._identifier,
    "shorthand_property_identifier": JavaScriptFolder._identifier, "array": JavaScriptExpressions._array,
    "object": JavaScriptExpressions._object, "parenthesized_expression": JavaScriptExpressions._inner,
    "sequence_expression": JavaScriptExpressions._inner, "unary_expression": JavaScriptExpressions._unary,
    "binary_expression": JavaScriptExpressions._binary, "ternary_expression": JavaScriptExpressions._ternary,
    "subscript_expression": JavaScriptFolder._subscript, "member_expression": JavaScriptFolder._member,
    "call_expression": JavaScriptFolder._call, "new_expression": JavaScriptFolder._call, "await_expression": JavaScriptExpressions._inner,  # noqa: E501
    "as_expression": lambda folder, node, environment: folder._evaluate(node.named_children[0], environment),
    "non_null_expression": JavaScriptExpressions._inner, "assignment_expression": lambda folder, node, environment: folder._evaluate(node.named_children[-1], environment),  # noqa: E501
}  # fmt: skip
