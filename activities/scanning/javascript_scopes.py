"""Parsing of JavaScript and TypeScript, and one pass over the nodes worth a rule.

A tree-sitter query finds the nodes in C; Python touches only those. Scopes are functions; a name
may have several values.
"""

import re
import time
from bisect import bisect_right
from functools import cache
from typing import NamedTuple

import tree_sitter_javascript
import tree_sitter_typescript
from tree_sitter import Language, Node, Parser, Query, QueryCursor, Tree

from activities.scanning.limits import PARSE_SECONDS

MAX_BINDINGS = 24
FUNCTION_KINDS = frozenset(
    [
        "function_declaration",
        "function_expression",
        "arrow_function",
        "method_definition",
        "generator_function",
        "generator_function_declaration",
    ]
)
_QUERY = """
(call_expression) @call (new_expression) @new (subscript_expression) @subscript
(variable_declarator value: (_)) @declarator (assignment_expression) @assignment
(augmented_assignment_expression) @augmented
(function_declaration) @function (function_expression) @function (arrow_function) @function
(method_definition) @function (generator_function) @function (generator_function_declaration) @function
(import_statement) @import (for_in_statement) @for (tagged: (_)?) @never
(template_string) @template (escape_sequence) @escape (binary_expression operator: "+") @plus
(member_expression) @member (pair) @pair (field_definition) @field (export_statement source: (_)) @import
(computed_property_name) @computed (string) @string
(return_statement (identifier) @value) (arrow_function body: (identifier) @value) (array (identifier) @value)
"""


_REFERRING = frozenset(
    {"member_expression", "subscript_expression", "call_expression", "sequence_expression"}
)
_TELLING = re.compile(
    rb"\b(?:eval|Function|require|process|globalThis|global|constructor|child_process|atob|Reflect|fromCharCode)\b|\\[ux]"
)
MAX_DEPTH = 8_000
"""Levels of nesting, and so also bytes, below which a chain costs little; bundles stay far below."""


class Binding(NamedTuple):
    """A possible value of a name.

    Attributes:
        kind: ``value``, ``augmented``, ``import``, ``function``, ``parameter``, ``element``, ``member``.
        node: Expression, function node or None.
        detail: Module path, member name, operator or parameter position.
    """

    kind: str
    node: Node | None
    detail: str = ""


class Scope:
    """Names of a function or the program, with its byte range."""

    __slots__ = ("end", "function", "names", "parent", "start")

    def __init__(self, parent: "Scope | None", function: Node | None, start: int, end: int) -> None:
        self.parent = parent
        self.function = function
        self.start = start
        self.end = end
        self.names: dict[str, list[Binding]] = {}

    def bind(self, name: str, binding: Binding) -> None:
        """Add a possible value."""
        known = self.names.setdefault(name, [])
        known.append(binding)


@cache
def language(name: str) -> Language:
    """Return the grammar called ``javascript``, ``typescript`` or ``tsx``."""
    if name == "typescript":
        return Language(tree_sitter_typescript.language_typescript())
    if name == "tsx":
        return Language(tree_sitter_typescript.language_tsx())
    return Language(tree_sitter_javascript.language())


@cache
def _query(name: str) -> Query:
    text = _QUERY.replace("(tagged: (_)?) @never", "")
    if name != "javascript":
        text = text.replace("(field_definition) @field", "(public_field_definition) @field")
    return Query(language(name), text)


def parse_javascript(source: bytes, name: str) -> Tree | None:
    """Parse within the time limit; None when the parser gives up."""
    parser = Parser(language(name))
    deadline = time.monotonic() + PARSE_SECONDS

    def read(offset: int, _: object) -> bytes:
        return source[offset : offset + (1 << 16)]

    def go_on(_offset: int, _has_error: bool) -> bool:
        return time.monotonic() > deadline

    try:
        tree = parser.parse(read, progress_callback=go_on)
    except (ValueError, TypeError):
        return None
    return None if _nests_too_deeply(tree.root_node) else tree


def _nests_too_deeply(root: Node) -> bool:
    """Tell whether a large statement is one long chain: searching a tree is quadratic in its depth.

    Follows the widest child only. A chain that hides beside something wider is stopped by the time limit of
    the whole scan instead, which blocks.
    """
    for statement in root.children:
        node, depth = statement, 0
        while node.end_byte - node.start_byte > MAX_DEPTH:
            depth += 1
            if depth > MAX_DEPTH:
                return True
            node = max(node.children, key=lambda child: child.end_byte - child.start_byte, default=None)
            if node is None:
                break
    return False


class JavaScriptIndex:
    """Everything later rules look at.

    Attributes:
        source: The text as UTF-8 bytes.
        root: Root node.
        captures: Nodes by capture name in source order.
        members: Values assigned to ``x.name`` anywhere, by name.
        functions: Function nodes by name.
        callers: Calls by callee name, for parameters.
        exceeded: Rules of the limits that were reached.
    """

    def __init__(self, source: bytes, tree: Tree, name: str) -> None:
        self.source = source
        # Positions in bytes are positions in the text when every character is one byte.
        self._ascii = source.decode() if source.isascii() else None
        self.root = tree.root_node
        self.captures: dict[str, list[Node]] = QueryCursor(_query(name)).captures(self.root)
        self.program = Scope(None, None, 0, len(source))
        self.members: dict[str, list[Binding]] = {}
        self.functions: dict[str, list[Node]] = {}
        self.callers: dict[str, list[Node]] = {}
        self.lines: list[int] = []
        self._starts: list[int] = [0]
        self._scopes: list[Scope] = [self.program]
        self._scope_of_function: dict[int, Scope] = {}
        self._build_scopes()
        self._bind_all()
        self.exceeded: set[str] = set()
        for scope in self._scopes:
            for bindings in scope.names.values():
                if len(bindings) > MAX_BINDINGS:
                    rest = bindings[MAX_BINDINGS:]
                    if any(item.node is not None and self._is_telling(item.node) for item in rest):
                        self.exceeded.add("limit.names")
                    del bindings[MAX_BINDINGS:]

    def _is_telling(self, node: Node) -> bool:
        """Whether a value that is left out might matter: it names something sensitive."""
        return (
            node.type in _REFERRING
            and _TELLING.search(self.source, node.start_byte, node.end_byte) is not None
        )

    def text(self, node: Node) -> str:
        """Return the source text of ``node``."""
        if self._ascii is not None:
            return self._ascii[node.start_byte : node.end_byte]
        return self.source[node.start_byte : node.end_byte].decode("utf-8", "replace")

    def scope_at(self, position: int) -> Scope:
        """Return the innermost function scope around a byte position."""
        scope: Scope | None = self._scopes[bisect_right(self._starts, position) - 1]
        while scope is not None and scope.end <= position:
            scope = scope.parent
        return scope or self.program

    def function_scope(self, function: Node) -> Scope:
        """Return the scope of a function node."""
        return self._scope_of_function.get(function.id, self.program)

    def lookup(self, name: str, scope: Scope) -> list[Binding]:
        """Return the possible values of ``name`` visible in ``scope``."""
        current: Scope | None = scope
        while current is not None:
            bindings = current.names.get(name)
            if bindings is not None:
                return bindings
            current = current.parent
        return []

    def _build_scopes(self) -> None:
        functions = sorted(
            self.captures.get("function", []), key=lambda node: (node.start_byte, -node.end_byte)
        )
        stack = [self.program]
        for node in functions:
            start, end = node.start_byte, node.end_byte
            while len(stack) > 1 and stack[-1].end <= start:
                stack.pop()
            scope = Scope(stack[-1], node, start, end)
            name = node.child_by_field_name("name")
            if name is not None:
                text = self.text(name)
                stack[-1].bind(text, Binding("function", node))
                self.functions.setdefault(text, []).append(node)
            self._bind_parameters(node, scope)
            self._starts.append(start)
            self._scopes.append(scope)
            self._scope_of_function[node.id] = scope
            stack.append(scope)

    def _bind_parameters(self, node: Node, scope: Scope) -> None:
        single = node.child_by_field_name("parameter")
        if single is not None:
            scope.bind(self.text(single), Binding("parameter", node, "0"))
            return
        parameters = node.child_by_field_name("parameters")
        if parameters is None:
            return
        for position, parameter in enumerate(parameters.named_children):
            target = parameter
            if parameter.type in ("assignment_pattern", "required_parameter", "optional_parameter"):
                target = (
                    parameter.child_by_field_name("left")
                    or parameter.child_by_field_name("pattern")
                    or parameter
                )
                default = parameter.child_by_field_name("right") or parameter.child_by_field_name("value")
                if default is not None and target.type == "identifier":
                    scope.bind(self.text(target), Binding("default", default))
            self._bind_pattern(target, Binding("parameter", node, str(position)), scope)

    def _bind_all(self) -> None:  # noqa: C901
        for node in self.captures.get("declarator", []):
            name = node.child_by_field_name("name")
            value = node.child_by_field_name("value")
            if name is not None and value is not None:
                self._bind_pattern(name, Binding("value", value), self.scope_at(node.start_byte))
        # Captures come in no order of their own; which values are left out must not depend on that.
        for node in sorted(self.captures.get("assignment", []), key=lambda node: node.start_byte):
            left = node.child_by_field_name("left")
            right = node.child_by_field_name("right")
            if left is None or right is None:
                continue
            self._bind_assignment(left, right, node)
        for node in self.captures.get("augmented", []):
            left = node.child_by_field_name("left")
            right = node.child_by_field_name("right")
            if left is not None and right is not None and left.type == "identifier":
                operator = node.child_by_field_name("operator")
                detail = self.text(operator) if operator is not None else ""
                self._owner(self.text(left), node.start_byte).bind(
                    self.text(left), Binding("augmented", right, detail)
                )
        for node in self.captures.get("for", []):
            left = node.child_by_field_name("left")
            right = node.child_by_field_name("right")
            if left is not None and right is not None:
                self._bind_pattern(left, Binding("element", right), self.scope_at(node.start_byte))
        for node in self.captures.get("import", []):
            self._bind_import(node)
        for node in [*self.captures.get("pair", []), *self.captures.get("field", [])]:
            key = (
                node.child_by_field_name("key")
                or node.child_by_field_name("property")
                or node.child_by_field_name("name")
            )
            value = node.child_by_field_name("value")
            if (
                key is not None
                and value is not None
                and value.type not in ("string", "number", "true", "false", "null")
            ):
                known = self.members.setdefault(self.text(key).strip("'\""), [])
                if len(known) < MAX_BINDINGS:
                    known.append(Binding("value", value))
        for node in self.captures.get("call", []):
            function = node.child_by_field_name("function")
            if function is not None and function.type == "identifier":
                known_calls = self.callers.setdefault(self.text(function), [])
                if len(known_calls) < MAX_BINDINGS:
                    known_calls.append(node)

    def _owner(self, name: str, position: int) -> Scope:
        """The scope that declares ``name`` for an assignment at ``position``, or the program."""
        scope: Scope | None = self.scope_at(position)
        while scope is not None:
            if name in scope.names:
                return scope
            scope = scope.parent
        return self.program

    def _bind_assignment(self, left: Node, right: Node, node: Node) -> None:
        if left.type == "identifier":
            name = self.text(left)
            self._owner(name, node.start_byte).bind(name, Binding("value", right))
        elif left.type == "member_expression":
            name_node = left.child_by_field_name("property")
            if name_node is not None:
                known = self.members.setdefault(self.text(name_node), [])
                if len(known) < MAX_BINDINGS:
                    known.append(Binding("value", right))
        elif left.type in ("object_pattern", "array_pattern"):
            self._bind_pattern(left, Binding("value", right), self.scope_at(node.start_byte))
        elif left.type == "subscript_expression":
            target = left.child_by_field_name("object")
            if target is not None and target.type == "identifier":
                name = self.text(target)
                self._owner(name, node.start_byte).bind(name, Binding("item", right))

    def _bind_pattern(self, pattern: Node, binding: Binding, scope: Scope, depth: int = 0) -> None:
        kind = pattern.type
        if kind in ("identifier", "shorthand_property_identifier_pattern"):
            scope.bind(self.text(pattern), binding)
            return
        if depth > 6:
            return
        if kind == "object_pattern":
            for item in pattern.named_children:
                target, name = self._pattern_item(item)
                if target is not None:
                    detail = f"{binding.detail}\0{name}" if binding.kind == "parameter" else name
                    inner = Binding(
                        "parameter" if binding.kind == "parameter" else "member", binding.node, detail
                    )
                    if binding.kind == "member":
                        inner = Binding("member", binding.node, f"{binding.detail}.{name}")
                    self._bind_pattern(target, inner, scope, depth + 1)
        elif kind in (
            "array_pattern",
            "assignment_pattern",
            "rest_pattern",
            "lexical_declaration",
            "variable_declaration",
        ):
            if kind == "assignment_pattern":
                left = pattern.child_by_field_name("left")
                if left is not None:
                    self._bind_pattern(left, binding, scope, depth + 1)
                return
            for position, item in enumerate(pattern.named_children):
                part = binding
                if kind == "array_pattern" and binding.kind == "value":
                    part = Binding("member", binding.node, str(position))
                self._bind_pattern(item, part, scope, depth + 1)

    def _pattern_item(self, item: Node) -> tuple[Node | None, str]:
        if item.type == "shorthand_property_identifier_pattern":
            return item, self.text(item)
        if item.type == "object_assignment_pattern":
            left = item.child_by_field_name("left")
            return left, self.text(left) if left is not None else ""
        if item.type == "pair_pattern":
            key = item.child_by_field_name("key")
            value = item.child_by_field_name("value")
            if value is not None and value.type == "assignment_pattern":
                value = value.child_by_field_name("left")
            return value, self.text(key).strip("'\"") if key is not None else ""
        return None, ""

    def _bind_import(self, node: Node) -> None:
        source = node.child_by_field_name("source")
        if source is None:
            return
        module = self.text(source).strip("'\"`")
        clause = next((child for child in node.named_children if child.type == "import_clause"), None)
        for child in clause.named_children if clause is not None else []:
            if child.type == "identifier":
                self.program.bind(self.text(child), Binding("import", None, module))
            elif child.type == "namespace_import" and child.named_children:
                self.program.bind(self.text(child.named_children[0]), Binding("import", None, module))
            elif child.type == "named_imports":
                for specifier in child.named_children:
                    name = specifier.child_by_field_name("name")
                    alias = specifier.child_by_field_name("alias") or name
                    if name is not None and alias is not None:
                        detail = (
                            module
                            if self.text(name) == "default"
                            else f"{module}\0{self.text(name).strip(chr(34) + chr(39))}"
                        )
                        self.program.bind(self.text(alias), Binding("import", None, detail))
