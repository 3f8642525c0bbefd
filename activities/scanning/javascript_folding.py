"""Constant folding of JavaScript: a bounded evaluator of pure expressions with JavaScript's coercions.

Values: str, float, bool, list, dict, bytes (a Buffer or typed array), None for ``null`` and
`UNDEFINED`. `fold` returns None when the expression is not a constant.
"""

import json
import math
import operator
import re
import weakref
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from tree_sitter import Node

from activities.scanning.decoding import decode_base64_leniently, decode_hex, inflate
from activities.scanning.javascript_scopes import FUNCTION_KINDS, Binding, JavaScriptIndex
from activities.scanning.javascript_values import JavaScriptValues, arguments_of, returned_values
from activities.scanning.limits import MAX_FOLD_DEPTH, MAX_FOLD_STEPS, MAX_FOLDED_LENGTH


class _Undefined:
    def __repr__(self) -> str:
        return "undefined"


UNDEFINED = _Undefined()
_MAX_TOTAL_STEPS = 1_000_000
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u\{([0-9a-fA-F]{1,6})\}|u([0-9a-fA-F]{4})|([0-7]{1,3})|(\r\n|[\s\S]))"
)
_IDENTIFIER_ESCAPE = re.compile(r"\\u(?:\{([0-9a-fA-F]{1,6})\}|([0-9a-fA-F]{4}))")
_SIMPLE_ESCAPES = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "b": "\b",
    "f": "\f",
    "v": "\v",
    "0": "\0",
    "\n": "",
    "\r\n": "",
    "\u2028": "",
}
_Environment = Mapping[str, Any] | None


class _Unknown(Exception):  # noqa: N818
    """The expression is not a constant, or a bound was reached."""


def unescape(text: str) -> str:
    """Decode the escapes of a string or template literal."""
    if "\\" not in text:
        return text

    def replace(match: re.Match[str]) -> str:
        two, braced, four, octal, simple = match.groups()
        digits = two or braced or four
        if digits:
            code = int(digits, 16)
            return chr(code) if code < 0x110000 else ""
        if octal:
            return chr(int(octal, 8))
        return _SIMPLE_ESCAPES.get(simple, simple)

    return _ESCAPE.sub(replace, text)


class JavaScriptFolder:
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
            _Unknown,
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

    # -- evaluation ---------------------------------------------------------------------------

    def _evaluate(self, node: Node, environment: _Environment) -> Any:
        self._steps += 1
        if self._steps > MAX_FOLD_STEPS or self._depth > MAX_FOLD_DEPTH:
            self.values.exceeded.add("limit.constants")
            raise _Unknown
        evaluator = _EVALUATORS.get(node.type)
        if evaluator is None or (environment is None and node.id in self._failed):
            raise _Unknown
        self._depth += 1
        try:
            value = evaluator(self, node, environment)
        except _Unknown:
            if environment is None:
                self._failed.add(node.id)
            raise
        finally:
            self._depth -= 1
        if isinstance(value, str | bytes | list) and len(value) > MAX_FOLDED_LENGTH:
            raise _Unknown
        return value

    def _string(self, node: Node, _: _Environment) -> Any:
        return unescape(self.index.text(node)[1:-1])

    def _template(self, node: Node, environment: _Environment) -> Any:
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

    def _number(self, node: Node, _: _Environment) -> Any:
        text = self.index.text(node).replace("_", "").rstrip("n").lower()
        if text[:2] in ("0x", "0b", "0o"):
            return float(int(text, 0))
        if len(text) > 1 and text[0] == "0" and text.isdigit():
            return float(int(text, 8 if all(digit < "8" for digit in text) else 10))
        return float(text)

    def _keyword(self, node: Node, _: _Environment) -> Any:
        return {"true": True, "false": False, "null": None, "undefined": UNDEFINED}[node.type]

    def _identifier(self, node: Node, environment: _Environment) -> Any:
        name = self.unescape_identifier(self.index.text(node))
        if environment is not None and name in environment:
            return environment[name]
        bindings = self.index.lookup(name, self.index.scope_at(node.start_byte))
        if not bindings:
            if name in ("NaN", "Infinity"):
                return math.nan if name == "NaN" else math.inf
            raise _Unknown
        if id(bindings) in self._active:
            raise _Unknown
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
        raise _Unknown

    def _bound(self, binding: Binding) -> Any:
        if binding.kind == "parameter":
            arguments = self.values.arguments_for(binding)
            if len(arguments) == 1 and "\0" not in binding.detail:
                return self._evaluate(arguments[0], None)
            raise _Unknown
        if binding.kind == "import":
            return self._imported(binding.detail)
        if binding.node is None or binding.kind not in ("value", "augmented", "default", "member"):
            raise _Unknown
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
            return dict(known) if known else _raise()
        if name in known:
            return known[name]
        raise _Unknown

    def _array(self, node: Node, environment: _Environment) -> Any:
        items: list[Any] = []
        for child in node.named_children:
            if child.type == "spread_element":
                spread = self._evaluate(child.named_children[0], environment)
                items.extend([float(byte) for byte in spread] if isinstance(spread, bytes) else list(spread))
            elif child.type != "comment":
                items.append(self._evaluate(child, environment))
        return items

    def _object(self, node: Node, environment: _Environment) -> Any:
        result: dict[str, Any] = {}
        for child in node.named_children:
            if child.type == "method_definition":
                raise _Unknown
            if child.type == "pair":
                key_node = child.child_by_field_name("key")
                value_node = child.child_by_field_name("value")
                if key_node is None or value_node is None:
                    raise _Unknown
                if key_node.type == "computed_property_name":
                    key = to_text(self._evaluate(key_node.named_children[0], environment))
                else:
                    key = unescape(self.index.text(key_node).strip("'\""))
                if key in ("toString", "valueOf"):
                    raise _Unknown
                try:
                    result[key] = self._evaluate(value_node, environment)
                except _Unknown:
                    continue
        return result

    def _inner(self, node: Node, environment: _Environment) -> Any:
        return self._evaluate(node.named_children[-1], environment)

    def _unary(self, node: Node, environment: _Environment) -> Any:
        operator = node.child_by_field_name("operator")
        argument = node.child_by_field_name("argument")
        if operator is None or argument is None:
            raise _Unknown
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
            return float(~_int32(number))
        return number

    def _binary(self, node: Node, environment: _Environment) -> Any:
        operator = node.child_by_field_name("operator")
        left_node = node.child_by_field_name("left")
        right_node = node.child_by_field_name("right")
        if operator is None or left_node is None or right_node is None:
            raise _Unknown
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
                    raise _Unknown
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

    def _ternary(self, node: Node, environment: _Environment) -> Any:
        condition = node.child_by_field_name("condition")
        if condition is None:
            raise _Unknown
        field = "consequence" if truthy(self._evaluate(condition, environment)) else "alternative"
        chosen = node.child_by_field_name(field)
        return self._evaluate(chosen, environment) if chosen is not None else _raise()

    def _subscript(self, node: Node, environment: _Environment) -> Any:
        base_node = node.child_by_field_name("object")
        index_node = node.child_by_field_name("index")
        if base_node is None or index_node is None:
            raise _Unknown
        return self._property(self._evaluate(base_node, environment), self._evaluate(index_node, environment))

    def _member(self, node: Node, environment: _Environment) -> Any:
        base_node = node.child_by_field_name("object")
        property_node = node.child_by_field_name("property")
        if base_node is None or property_node is None:
            raise _Unknown
        name = self.unescape_identifier(self.index.text(property_node))
        reference = self.values.resolve(base_node)
        if reference is not None and reference.path.startswith("module:."):
            return self._imported(f"{reference.path[7:]}\0{name}")
        try:
            return self._property(self._evaluate(base_node, environment), name)
        except (_Unknown, LookupError):
            members = [item for item in self.index.members.get(name, []) if item.kind == "value"]
            if len(members) == 1 and members[0].node is not None and members[0].node.id not in self._active:
                self._active.add(members[0].node.id)
                try:
                    return self._evaluate(members[0].node, None)
                finally:
                    self._active.discard(members[0].node.id)
            raise _Unknown from None

    def _property(self, base: Any, key: Any) -> Any:
        if key == "length" and isinstance(base, str | list | bytes):
            return float(len(base))
        if isinstance(base, dict):
            return base[to_text(key)]
        if isinstance(base, str | list | bytes):
            position = to_number(key)
            if position != int(position) or not 0 <= position < len(base):
                return UNDEFINED if position == position and isinstance(key, float) else _raise()
            item = base[int(position)]
            return float(item) if isinstance(base, bytes) else item
        raise _Unknown

    # -- calls --------------------------------------------------------------------------------

    def _call(self, node: Node, environment: _Environment) -> Any:
        function = node.child_by_field_name("function") or node.child_by_field_name("constructor")
        if function is None:
            raise _Unknown
        arguments = arguments_of(node)
        while function.type == "parenthesized_expression" and function.named_children:
            function = function.named_children[-1]
        if function.type in FUNCTION_KINDS:
            return self._apply(function, self._all(arguments, environment))
        reference = self.values.resolve(function)
        if reference is not None and reference.path in _LIBRARY:
            return _LIBRARY[reference.path](*self._all(arguments, environment))
        if reference is not None and reference.path in (
            "String.fromCharCode.apply",
            "String.fromCodePoint.apply",
        ):
            return _from_codes(*self._all(arguments, environment)[1])
        if reference is not None and reference.path in (
            "String.fromCharCode.call",
            "String.fromCodePoint.call",
        ):
            return _from_codes(*self._all(arguments, environment)[1:])
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
        raise _Unknown

    def _all(self, nodes: list[Node], environment: _Environment) -> list[Any]:
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

    def _method_call(self, function: Node, arguments: list[Node], environment: _Environment) -> Any:
        base_node = function.child_by_field_name("object")
        name_node = function.child_by_field_name("property") or function.child_by_field_name("index")
        if base_node is None or name_node is None:
            raise _Unknown
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
            return _buffer_method(base, name, values)
        if isinstance(base, str):
            return _text_method(base, name, values)
        if isinstance(base, list):
            return self._list_method(base, name, values)
        if isinstance(base, float) and name == "toString":
            return _to_base(base, int(values[0]) if values else 10)
        raise _Unknown

    def _regex(self, node: Node) -> str:
        pattern = node.child_by_field_name("pattern")
        text = self.index.text(pattern) if pattern is not None else ""
        # Only classes, literals and alternations: nothing that can backtrack for long.
        if len(text) > 60 or re.search(r"[*+{]|\(\?", text.replace("\\+", "").replace("\\*", "")):  # noqa: SIM102
            if not re.fullmatch(r"(?:\.\{\d,?\d?\}|\[[^\]]{1,30}\]\+?|\\[dswDSW]\+?|.)", text):
                raise _Unknown
        return text

    def _replace_regex(self, base: Any, arguments: list[Node], environment: _Environment) -> Any:
        if not isinstance(base, str):
            raise _Unknown
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
        raise _Unknown

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
            raise _Unknown
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
            raise _Unknown
        returned = returned_values(function)
        if len(returned) != 1:
            raise _Unknown
        return self._evaluate(returned[0], environment)


def _raise() -> Any:
    raise _Unknown


def truthy(value: Any) -> bool:
    """JavaScript's truth of a value."""
    if isinstance(value, list | dict | bytes):
        return True
    return not (
        value is UNDEFINED or value is None or value is False or value == "" or value == 0 or value != value
    )


def to_text(value: Any) -> str:
    """JavaScript's string of a value."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if value != value:
            return "NaN"
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        return str(int(value)) if value.is_integer() and abs(value) < 1e21 else repr(value)
    if isinstance(value, list):
        return ",".join("" if item in (None, UNDEFINED) else to_text(item) for item in value)
    if value is None:
        return "null"
    if value is UNDEFINED:
        return "undefined"
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, dict):
        return "[object Object]"
    raise _Unknown


def to_number(value: Any) -> float:
    """JavaScript's number of a value."""
    if isinstance(value, bool):
        return 1.0 if value else 0.0
    if isinstance(value, float):
        return value
    if value is None:
        return 0.0
    if value is UNDEFINED:
        return math.nan
    text = to_text(value).strip()
    if not text:
        return 0.0
    try:
        return float(int(text, 0)) if text[:2].lower() in ("0x", "0b", "0o") else float(text)
    except ValueError:
        return math.nan


def add(left: Any, right: Any) -> Any:
    """JavaScript's ``+``."""
    if isinstance(left, str | list | dict | bytes) or isinstance(right, str | list | dict | bytes):
        return to_text(left) + to_text(right)
    return to_number(left) + to_number(right)


def _int32(value: float) -> int:
    if value != value or value in (math.inf, -math.inf):
        return 0
    number = int(value) & 0xFFFFFFFF
    return number - (1 << 32) if number & 0x80000000 else number


_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


def arithmetic(kind: str, left: Any, right: Any) -> Any:
    """JavaScript's binary operators but ``+`` and the logical ones."""
    if kind in ("===", "==", "!==", "!="):
        return (left == right) == (kind in ("===", "=="))
    if kind in ("<", ">", "<=", ">="):
        first: Any
        second: Any
        first, second = (
            (left, right)
            if isinstance(left, str) and isinstance(right, str)
            else (to_number(left), to_number(right))
        )
        return _ORDER[kind](first, second)
    first_number, second_number = to_number(left), to_number(right)
    if kind == "-":
        return first_number - second_number
    if kind == "*":
        return first_number * second_number
    if kind == "/":
        return first_number / second_number
    if kind == "%":
        return math.fmod(first_number, second_number)
    if kind == "**":
        return first_number**second_number if abs(second_number) < 100 else _raise()
    one, two = _int32(first_number), _int32(second_number)
    if kind == "^":
        return float(one ^ two)
    if kind == "&":
        return float(one & two)
    if kind == "|":
        return float(one | two)
    if kind == "<<":
        return float(_int32(float(one << (two & 31))))
    if kind == ">>":
        return float(one >> (two & 31))
    if kind == ">>>":
        return float((one & 0xFFFFFFFF) >> (two & 31))
    raise _Unknown


def _from_codes(*codes: Any) -> str:
    return "".join(
        chr(int(to_number(code)) & 0x1FFFFF if to_number(code) > 0xFFFF else int(to_number(code)) & 0xFFFF)
        for code in codes
    )


def _atob(value: Any) -> str:
    decoded = decode_base64_leniently(to_text(value))
    return decoded.decode("latin-1") if decoded is not None else _raise()


def _buffer(value: Any, encoding: Any = "utf8") -> bytes:
    if isinstance(value, list):
        return bytes(int(to_number(item)) & 255 for item in value)
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise _Unknown
    if encoding in ("base64", "base64url"):
        decoded = decode_base64_leniently(value)
    elif encoding == "hex":
        decoded = decode_hex(value)
    else:
        decoded = value.encode("latin-1" if encoding in ("latin1", "binary") else "utf-8", "replace")
    return decoded if decoded is not None else _raise()


def _buffer_method(base: bytes, name: str, values: list[Any]) -> Any:
    if name in ("toString", "decode"):
        encoding = values[0] if values and isinstance(values[0], str) else "utf8"
        if encoding == "hex":
            return base.hex()
        if encoding in ("base64", "base64url"):
            raise _Unknown
        return base.decode("latin-1" if encoding in ("latin1", "binary", "ascii") else "utf-8", "replace")
    if name in ("reverse", "toReversed"):
        return base[::-1]
    if name in ("slice", "subarray"):
        return (
            base[slice(*[int(value) for value in values[:2]])]
            if len(values) > 1
            else base[int(values[0]) if values else 0 :]
        )
    raise _Unknown


def _inflate(value: Any, *_: Any) -> bytes:
    result = inflate(value if isinstance(value, bytes) else to_text(value).encode("latin-1"))
    return result if result is not None else _raise()


def _parse_int(value: Any, base: Any = 10.0) -> float:
    text = to_text(value).strip()
    match = re.match(r"[+-]?(?:0[xX])?[0-9a-zA-Z]+", text)
    radix = int(to_number(base)) or 10
    if match is None:
        return math.nan
    digits = match.group(0)
    if digits[:2].lower() == "0x":
        return float(int(digits, 16))
    kept = ""
    for character in digits:
        if (character.isdigit() and int(character) < radix) or (
            character.isalpha() and ord(character.lower()) - 87 < radix
        ):
            kept += character
        else:
            break
    return float(int(kept, radix)) if kept else math.nan


def _to_base(value: float, base: int) -> str:
    if base == 10:
        return to_text(value)
    number = int(value)
    digits = ""
    while number:
        number, rest = divmod(number, base)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[rest] + digits
    return digits or "0"


def _text_method(base: str, name: str, values: list[Any]) -> Any:
    handler = _TEXT_METHODS.get(name)
    if handler is None:
        raise _Unknown
    return handler(base, *values)


def _slice_text(text: str, start: Any = 0.0, end: Any = None) -> str:
    return (
        text[int(to_number(start)) :]
        if end is None or end is UNDEFINED
        else text[int(to_number(start)) : int(to_number(end))]
    )


def _substring(text: str, start: Any = 0.0, end: Any = None) -> str:
    first = max(0, int(to_number(start)))
    last = len(text) if end is None else max(0, int(to_number(end)))
    return text[min(first, last) : max(first, last)]


def _substr(text: str, start: Any = 0.0, length: Any = None) -> str:
    first = int(to_number(start))
    first = max(0, len(text) + first) if first < 0 else first
    return text[first:] if length is None else text[first : first + int(to_number(length))]


def _split(text: str, separator: Any = UNDEFINED, *_: Any) -> list[str]:
    if separator is UNDEFINED:
        return [text]
    glue = to_text(separator)
    return text.split(glue) if glue else list(text)


def _repeat(text: str, count: Any) -> str:
    times = int(to_number(count))
    if not 0 <= times * len(text) <= MAX_FOLDED_LENGTH:
        raise _Unknown
    return text * times


def _code_at(text: str, position: Any = 0.0) -> float:
    index = int(to_number(position))
    return float(ord(text[index])) if 0 <= index < len(text) else math.nan


_TEXT_METHODS: dict[str, Callable[..., Any]] = {
    "slice": _slice_text, "substring": _substring, "substr": _substr, "split": _split, "repeat": _repeat, "charCodeAt": _code_at,  # noqa: E501
    "codePointAt": _code_at, "charAt": lambda text, position=0.0: text[int(position)] if 0 <= int(position) < len(text) else "",  # noqa: E501
    "at": lambda text, position=0.0: text[int(position)], "toLowerCase": lambda text: text.lower(), "toUpperCase": lambda text: text.upper(),  # noqa: E501
    "trim": lambda text: text.strip(), "concat": lambda text, *values: text + "".join(to_text(value) for value in values),  # noqa: E501
    "toString": lambda text, *_: text, "valueOf": lambda text: text, "indexOf": lambda text, part, *_: float(text.find(to_text(part))),  # noqa: E501
    "replace": lambda text, old, new: text.replace(to_text(old), to_text(new), 1) if not isinstance(new, Node) else _raise(),  # noqa: E501
    "replaceAll": lambda text, old, new: text.replace(to_text(old), to_text(new)) if not isinstance(new, Node) else _raise(),  # noqa: E501
    "normalize": lambda text, *_: text, "italics": lambda text: f"<i>{text}</i>", "padStart": lambda text, *_: text,  # noqa: E501
}  # fmt: skip
_LIBRARY: dict[str, Callable[..., Any]] = {
    "atob": _atob, "String.fromCharCode": _from_codes, "String.fromCodePoint": _from_codes, "Buffer.from": _buffer, "Buffer": _buffer,  # noqa: E501
    "unescape": lambda value: unquote(re.sub(r"%u([0-9a-fA-F]{4})", lambda m: chr(int(m.group(1), 16)), to_text(value)), "latin-1"),  # noqa: E501
    "decodeURIComponent": lambda value: unquote(to_text(value)), "decodeURI": lambda value: unquote(to_text(value)),  # noqa: E501
    "parseInt": _parse_int, "Number.parseInt": _parse_int, "Number": to_number, "String": lambda value="": to_text(value), "parseFloat": to_number,  # noqa: E501
    "Array.from": lambda value, *_: [float(item) for item in value] if isinstance(value, bytes) else list(value),  # noqa: E501
    "Array.of": lambda *values: list(values), "Object.keys": lambda value: list(value), "Object.values": lambda value: list(value.values()),  # noqa: E501
    "JSON.parse": lambda value, *_: json.loads(to_text(value), parse_int=float), "Uint8Array.from": _buffer, "Uint8Array": _buffer,  # noqa: E501
    "Buffer.concat": lambda values, *_: b"".join(values), "Math.floor": lambda value: float(math.floor(to_number(value))),  # noqa: E501
    **{f"module:zlib.{name}": _inflate for name in ("inflateSync", "gunzipSync", "unzipSync", "inflateRawSync")},  # noqa: E501
    "TextDecoder": lambda *_: _raise(), "escape": lambda value: to_text(value),
}  # fmt: skip
_EVALUATORS: dict[str, Callable[[JavaScriptFolder, Node, _Environment], Any]] = {
    "string": JavaScriptFolder._string, "template_string": JavaScriptFolder._template, "number": JavaScriptFolder._number,  # noqa: E501
    "true": JavaScriptFolder._keyword, "false": JavaScriptFolder._keyword, "null": JavaScriptFolder._keyword,
    "undefined": JavaScriptFolder._keyword, "identifier": JavaScriptFolder._identifier,
    "shorthand_property_identifier": JavaScriptFolder._identifier, "array": JavaScriptFolder._array,
    "object": JavaScriptFolder._object, "parenthesized_expression": JavaScriptFolder._inner,
    "sequence_expression": JavaScriptFolder._inner, "unary_expression": JavaScriptFolder._unary,
    "binary_expression": JavaScriptFolder._binary, "ternary_expression": JavaScriptFolder._ternary,
    "subscript_expression": JavaScriptFolder._subscript, "member_expression": JavaScriptFolder._member,
    "call_expression": JavaScriptFolder._call, "new_expression": JavaScriptFolder._call, "await_expression": JavaScriptFolder._inner,  # noqa: E501
    "as_expression": lambda folder, node, environment: folder._evaluate(node.named_children[0], environment),
    "non_null_expression": JavaScriptFolder._inner, "assignment_expression": lambda folder, node, environment: folder._evaluate(node.named_children[-1], environment),  # noqa: E501
}  # fmt: skip
