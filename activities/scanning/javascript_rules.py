"""Rules for JavaScript and TypeScript source: from the indexed nodes to findings and capabilities."""

import re
from collections.abc import Mapping

from tree_sitter import Node

from activities.scanning.decoding import guess_layers, looks_encoded
from activities.scanning.findings import HIDING, Collector, Origin
from activities.scanning.javascript_calls import JavaScriptCalls
from activities.scanning.javascript_coercions import unescape
from activities.scanning.javascript_names import (
    CODE_SINKS,
    GLOBAL_OBJECTS,
    INTERNALS,
    KNOWN_GLOBALS,
    MODULE_INTERNALS,
    PROCESS_CALLS,
    SENSITIVE_MODULES,
    TELLING_PROPERTIES,
)
from activities.scanning.javascript_paths import is_loader
from activities.scanning.javascript_rule_base import place
from activities.scanning.javascript_scopes import FUNCTION_KINDS, JavaScriptIndex, parse_javascript
from activities.scanning.limits import MAX_FOLDED_LENGTH
from activities.scanning.parts import Parsed
from activities.scanning.sinks import report_decoded
from activities.scanning.text_checks import SENSITIVE_NAMES, TELLING_NAMES
from models.manifest import Capability
from models.scanning import Severity

_ROTATION = re.compile(
    rb"(?:\.push|\[['\"]push['\"]\])\(\s*([\w$]{1,60})(?:\.shift|\[['\"]shift['\"]\])\(\)\s*\)"
)


class JavaScriptRules(JavaScriptCalls):
    """The rules, over one indexed file."""

    def run(self) -> None:
        """Run all rules."""
        captures = self.index.captures
        for node in captures.get("import", []):
            self._import(node)
        for node in captures.get("call", []):
            self._call(node)
        for node in captures.get("new", []):
            self._new(node)
        for node in captures.get("member", []):
            self._member(node)
        for node in captures.get("subscript", []):
            self._subscript(node)
        for node in captures.get("computed", []):
            self._computed_key(node)
        for node in captures.get("assignment", []):
            self._assignment(node)
        for node in captures.get("plus", []):
            self._plus(node)
        for node in captures.get("string", []):
            self._string(node)
        for node in captures.get("template", []):
            self._template(node)
        self._escapes()
        self._values_and_tables()
        for node in [*captures.get("pair", []), *captures.get("field", []), *captures.get("declarator", [])]:
            self._value_alias(node)
        self._conclude()

    def _values_and_tables(self) -> None:
        """``eval`` returned or stored as a value, and tables of strings that are rotated before use."""
        captures = self.index.captures
        for node in captures.get("value", []):
            if self.index.text(node) == "eval" and not self.index.lookup("eval", self.index.program):
                self._add("evasive.indirect_call", node, "eval")
        source = self.index.source
        for rotation in _ROTATION.finditer(source) if b"shift" in source else ():
            if source.endswith(rotation.group(1), 0, rotation.start()):
                line = source.count(b"\n", 0, rotation.start()) + 1
                detail = "a table that is turned round"
                self.out.add("obfuscation.names", line, 1, detail, severity=Severity.MEDIUM)
                break

    def _conclude(self) -> None:
        if Capability.NETWORK in self.out.capabilities:
            for node in self._dumps[:3]:
                self._add("exfiltration.environment", node)
        for rule in sorted(self.values.exceeded | self.index.exceeded):
            self.out.add(rule, severity=Severity.LOW if rule == "limit.origins" else None)

    def _import(self, node: Node) -> None:
        source = node.child_by_field_name("source")
        if source is None:
            return
        raw = self.index.text(source)
        name = unescape(raw[1:-1])
        if "\\" in raw and name.removeprefix("node:") in SENSITIVE_MODULES:
            self._add("hidden.import", node, name, decoded=name)
        self._module_used(name, node)

    def _member(self, node: Node) -> None:
        property_node = node.child_by_field_name("property")
        if property_node is None:
            return
        size = property_node.end_byte - property_node.start_byte
        if size > 40:
            return
        raw = self.index.text(property_node)
        name = self.folder.unescape_identifier(raw)
        if name != raw and name in SENSITIVE_NAMES:
            self._add("evasive.identifier", node, name, decoded=name)
        if name not in TELLING_PROPERTIES:
            return
        reference = self.values.resolve(node)
        path = reference.path if reference is not None else ""
        if path.startswith("process.env"):
            self._use(Capability.ENVIRONMENT, node, "process.env")
        elif path in INTERNALS:
            self._add("evasive.internals", node, path)
        elif path in MODULE_INTERNALS:
            harmless = path in (
                "process.mainModule",
                "require.cache",
                "require.extensions",
                "module:module._extensions",
                "module:module._cache",
                "module:module.Module",
            )
            self._use(Capability.DYNAMIC_CODE, node, path)
            if not harmless or path == "process.mainModule":
                parent = node.parent
                deep = path != "process.mainModule" or (
                    parent is not None and parent.type in ("member_expression", "subscript_expression")
                )
                self._add(
                    "evasive.module_internals",
                    node,
                    path,
                    severity=None
                    if deep
                    and path
                    not in ("module:module.prototype", "module:module.wrap", "module:module._resolveFilename")
                    else Severity.MEDIUM,
                )
        elif name == "constructor":
            base = node.child_by_field_name("object")
            if base is not None and self._last_name(base) == "constructor" and not self._is_this_like(base):
                self._add("evasive.constructor", node, self.index.text(node)[:80], severity=Severity.MEDIUM)

    def _is_this_like(self, node: Node) -> bool:
        return False

    def _subscript(self, node: Node) -> None:
        index_node = node.child_by_field_name("index")
        base_node = node.child_by_field_name("object")
        if (
            index_node is None
            or base_node is None
            or index_node.type in ("number", "unary_expression", "update_expression")
        ):
            return
        plain = index_node.type == "string" and "\\" not in self.index.text(index_node)
        if plain:
            name = self.index.text(index_node)[1:-1]
            if name in TELLING_PROPERTIES or name in ("eval", "Function", "require", "process"):
                self._plain_subscript(node, name)
            return
        if (
            index_node.type == "identifier"
            and base_node.type == "identifier"
            and self.index.text(base_node) not in GLOBAL_OBJECTS | {"process", "module", "require", "Reflect"}
        ):
            bindings = self.index.lookup(
                self.index.text(index_node), self.index.scope_at(index_node.start_byte)
            )
            if len(bindings) != 1 or bindings[0].kind != "value":
                return
        name = self.folder.fold(index_node)
        if isinstance(name, str):
            if self.folder.is_plain(index_node):
                return
            reference = self.values.resolve(node)
            path = reference.path if reference is not None else ""
            if (
                name in SENSITIVE_NAMES
                and (
                    name in TELLING_NAMES
                    or path in CODE_SINKS
                    or path in PROCESS_CALLS
                    or is_loader(path)
                    or path.startswith(("process", "module:", "require", "module"))
                )
            ) or (name in SENSITIVE_NAMES and self.values.origins(index_node) & (HIDING | Origin.FOLDED)):
                self._add("hidden.attribute", node, name, decoded=name)
            elif path in KNOWN_GLOBALS and path in SENSITIVE_NAMES:
                self._add("hidden.attribute", node, path, decoded=path)
            return
        base = self.values.resolve(base_node)
        if base is not None and base.path in (
            "globalThis",
            "process",
            "module",
            "require",
            "module:child_process",
            "module:module",
        ):
            origins = self.values.near_origins(index_node)
            if origins & HIDING & ~Origin.REVERSED:
                self._add("hidden.attribute", node, f"{base.path}[…]")
            else:
                parent = node.parent
                if (
                    parent is not None
                    and parent.type == "call_expression"
                    and parent.child_by_field_name("function") == node
                ):
                    self._use(Capability.DYNAMIC_CODE, node, f"{base.path}[…]")
                    self._add("evasive.computed_call", node, f"{base.path}[…]", severity=Severity.MEDIUM)

    def _computed_key(self, node: Node) -> None:
        """``const { ["ex" + "ec"]: run } = module``: a member picked by a hidden name."""
        inner = node.named_children[0] if node.named_children else None
        if inner is None or inner.type in ("member_expression", "string", "identifier"):
            return
        name = self.folder.fold(inner)
        if isinstance(name, str) and name in SENSITIVE_NAMES and not self.folder.is_plain(inner):
            self._add("hidden.attribute", node, name, decoded=name)

    def _plain_subscript(self, node: Node, name: str) -> None:
        reference = self.values.resolve(node)
        path = reference.path if reference is not None else ""
        if path in INTERNALS:
            self._add("evasive.internals", node, path)
        elif path in MODULE_INTERNALS and path not in ("require.cache", "require.extensions"):
            self._add("evasive.module_internals", node, path)
        elif path.startswith("process.env"):
            self._use(Capability.ENVIRONMENT, node, "process.env")
        elif name == "constructor":
            base = node.child_by_field_name("object")
            if base is not None and self._last_name(base) == "constructor":
                self._add("evasive.constructor", node, self.index.text(node)[:80])

    def _assignment(self, node: Node) -> None:
        left = node.child_by_field_name("left")
        right = node.child_by_field_name("right")
        if left is None or right is None or left.type not in ("member_expression", "subscript_expression"):
            self._value_alias(node)
            return
        name = self._last_name(left)
        if name == "prepareStackTrace":
            base = left.child_by_field_name("object")
            if (
                base is not None
                and right.type in FUNCTION_KINDS
                and re.search(r"getThis|getFunction|constructor|require", self.index.text(right))
            ):
                self._add("evasive.internals", node, "Error.prepareStackTrace")
        target = self.values.resolve(left)
        if target is not None and target.path in (
            "require",
            "module:module._load",
            "module:module.prototype.require",
            "module:module._extensions",
            "module:module._resolveFilename",
            "module:module.prototype._compile",
            "JSON.parse",
            "console.log",
        ):
            source = self.values.resolve(right)
            if (
                source is not None and (source.path in CODE_SINKS or is_loader(source.path))
            ) or target.path.startswith("module:module"):
                self._add(
                    "evasive.override",
                    node,
                    target.path,
                    severity=None if source is not None and source.path in CODE_SINKS else Severity.MEDIUM,
                )
        text = self.index.source[left.start_byte : left.start_byte + 60].decode("utf-8", "replace")
        if (
            re.match(r"(?:Object|Function)\.prototype[.\[]|[\w.]+\.__proto__\.__proto__", text)
            or ("__proto__" in text and name in ("shell", "NODE_OPTIONS", "env", "argv0"))
        ) and name in (
            "shell",
            "NODE_OPTIONS",
            "env",
            "argv0",
            "source",
            "sourceURL",
            "escapeFunction",
            "client",
        ):
            self._add("evasive.prototype", node, text)
        self._value_alias(node)

    def _value_alias(self, node: Node) -> None:
        """An executing function kept under another name: only telling when the name was hidden."""
        value = node.child_by_field_name("right") or node.child_by_field_name("value")
        if value is None or value.type not in (
            "identifier",
            "member_expression",
            "subscript_expression",
            "sequence_expression",
            "parenthesized_expression",
            "call_expression",
        ):
            return
        if value.type == "call_expression":
            return
        reference = self.values.resolve(value)
        if reference is None:
            return
        if reference.hidden and (
            reference.path in CODE_SINKS or reference.path in PROCESS_CALLS or is_loader(reference.path)
        ):
            self._add("hidden.attribute", node, reference.path, decoded=reference.path)
        elif reference.path in ("eval", "require") and node.type in (
            "pair",
            "field_definition",
            "public_field_definition",
            "assignment_expression",
        ):
            left = node.child_by_field_name("left")
            if reference.path == "eval" and (left is None or left.type != "identifier"):
                self._add("evasive.indirect_call", node, reference.path)
        elif reference.path in CODE_SINKS and reference.reflective:
            self._add("evasive.literal_reflection", node, reference.path)

    def _plus(self, node: Node) -> None:
        parent = node.parent if node.end_byte - node.start_byte < 120 else None
        if parent is None or parent.type == "binary_expression" or node.end_byte - node.start_byte > 120:
            return
        if (
            self.index.source.find(b'"', node.start_byte, node.end_byte) < 0
            and self.index.source.find(b"'", node.start_byte, node.end_byte) < 0
        ):
            return
        value = self.folder.fold(node)
        if isinstance(value, str) and value in TELLING_NAMES:
            self._add("hidden.string", node, value, decoded=value)

    def _string(self, node: Node) -> None:
        size = node.end_byte - node.start_byte
        if size < 20:
            return
        text = self.index.text(node)[1:-1]
        if len(text) > MAX_FOLDED_LENGTH and looks_encoded(text):
            self._add("limit.payloads", node, f"{len(text)} characters in one literal")
        for label, decoded in guess_layers(text):
            self.out.payload(decoded, label, node.start_point[0] + 1)

    def _template(self, node: Node) -> None:
        if node.end_byte - node.start_byte < 20 or node.named_child_count != 1:
            return
        for label, decoded in guess_layers(self.index.text(node)[1:-1]):
            self.out.payload(decoded, label, node.start_point[0] + 1)

    def _escapes(self) -> None:
        """Strings whose ordinary letters are escaped hide their value from readers."""
        previous = None
        letters = 0
        for node in self.index.captures.get("escape", []):
            text = self.index.source[node.start_byte : node.end_byte]
            if len(text) < 4 or text[1:2] not in b"xu":
                continue
            decoded = unescape(text.decode("utf-8", "replace"))
            if not (len(decoded) == 1 and decoded.isascii() and decoded.isalnum()):
                continue
            letters = letters + 1 if previous is not None and node.start_byte == previous else 1
            previous = node.end_byte
            if letters == 4 and node.parent is not None:
                value = self.folder.fold(node.parent)
                if isinstance(value, str):
                    if value in SENSITIVE_NAMES:
                        self._add("hidden.string", node, value, decoded=value)
                    else:
                        self._add("obfuscation.escapes", node, decoded=value)
                        report_decoded(self.out, value, "escapes", *place(node))


def parse_any(source: bytes, language: str) -> Parsed | None:
    """Parse in the grammar of ``language``; JavaScript with errors also as ``tsx``: types and JSX."""
    tree = parse_javascript(source, language)
    if tree is None:
        return None
    if tree.root_node.has_error and language == "javascript":
        retry = parse_javascript(source, "tsx")
        if retry is not None and not retry.root_node.has_error:
            return retry, "tsx"
    return tree, language


def scan_javascript(
    source: bytes, parsed: Parsed | None, collector: Collector, data: Mapping[str, Mapping[str, object]]
) -> bool:
    """Apply every JavaScript rule; return whether the source could be parsed.

    Args:
        source: Source in UTF-8.
        parsed: `parse_any` of it.
        collector: Where findings go.
        data: Constants of the submission's other modules.
    """
    if parsed is None:
        collector.add("parse.failed", detail="the parser gave up")
        return False
    tree, language = parsed
    damaged = tree.root_node.has_error
    index = JavaScriptIndex(source, tree, language)
    JavaScriptRules(index, collector, data).run()
    if damaged:
        collector.add("parse.failed", detail=language, severity=Severity.LOW)
    return not damaged or bool(collector.findings)
