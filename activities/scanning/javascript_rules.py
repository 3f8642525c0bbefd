"""Rules for JavaScript and TypeScript source: from the indexed nodes to findings and capabilities."""

import re
from collections.abc import Mapping

from tree_sitter import Node

from activities.scanning.decoding import guess_layers, looks_encoded
from activities.scanning.findings import HIDING, Collector, Origin
from activities.scanning.javascript_folding import JavaScriptFolder, unescape
from activities.scanning.javascript_names import (
    CODE_SINKS,
    FUNCTION_BUILDERS,
    GLOBAL_CAPABILITIES,
    GLOBAL_OBJECTS,
    INTERNALS,
    KNOWN_GLOBALS,
    MODULE_CAPABILITIES,
    MODULE_INTERNALS,
    PROCESS_CALLS,
    SENSITIVE_MODULES,
    TELLING_MEMBERS,
    TELLING_PROPERTIES,
    TIMERS,
)
from activities.scanning.javascript_scopes import FUNCTION_KINDS, JavaScriptIndex, parse_javascript
from activities.scanning.javascript_values import COMPUTED_MODULE, Reference, arguments_of, is_loader
from activities.scanning.limits import MAX_FOLDED_LENGTH
from activities.scanning.parts import Parsed
from activities.scanning.sinks import DIRECT, report_command, report_decoded, report_executed_origin
from activities.scanning.text_checks import SENSITIVE_NAMES, TELLING_NAMES
from models.manifest import Capability
from models.scanning import Severity

_CODE_SUFFIXES = (
    ".js",
    ".mjs",
    ".cjs",
    ".jsx",
    ".ts",
    ".tsx",
    ".mts",
    ".cts",
    ".ejs",
    ".hbs",
    ".html",
    ".node",
)
_FILE_NAME = re.compile(r"^[\w./ @-]{1,120}\.([A-Za-z0-9]{1,8})$")
_GLOBAL_RETURN = re.compile(
    r"^\s*return\s+(?:this|globalThis|global|self|window|\(?this\)?)(?:\.\w+)?\s*;?\s*$|^\s*$"
)
_DECODING_CALLEES = frozenset(
    {"atob", "unescape", "Buffer.from", "String.fromCharCode", "String.fromCodePoint", "decodeURIComponent"}
)
_TEMPLATE = 8
_PROCESS_METHODS = frozenset(
    {"exec", "execSync", "execFile", "execFileSync", "spawn", "spawnSync", "fork", "runInThisContext"}
)
_ENUMERATORS = frozenset(
    {"Object.values", "Object.keys", "Object.entries", "Object.getOwnPropertyNames", "Reflect.ownKeys"}
)
_SEARCHED = frozenset({"module:child_process", "module:vm", "module:module", "process"})
_ROTATION = re.compile(
    rb"([\w$]{1,60})(?:\.push|\[['\"]push['\"]\])\(\s*\1(?:\.shift|\[['\"]shift['\"]\])\(\)\s*\)"
)
_SHORT_CODE = 120


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


class JavaScriptRules:
    """The rules, over one indexed file."""

    def __init__(
        self, index: JavaScriptIndex, collector: Collector, data: Mapping[str, Mapping[str, object]]
    ) -> None:
        self.index = index
        self.out = collector
        self.folder = JavaScriptFolder(index, data)
        self.values = self.folder.values
        self._dumps: list[Node] = []

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
        rotation = _ROTATION.search(self.index.source)
        if rotation and captures.get("call"):
            line = self.index.source.count(b"\n", 0, rotation.start()) + 1
            self.out.add(
                "obfuscation.names", line, 1, "a table that is turned round", severity=Severity.MEDIUM
            )

    def _conclude(self) -> None:
        if Capability.NETWORK in self.out.capabilities:
            for node in self._dumps[:3]:
                self._add("exfiltration.environment", node)
        for rule in sorted(self.values.exceeded | self.index.exceeded):
            self.out.add(rule, severity=Severity.LOW if rule == "limit.origins" else None)

    # -- loading ------------------------------------------------------------------------------

    def _import(self, node: Node) -> None:
        source = node.child_by_field_name("source")
        if source is None:
            return
        raw = self.index.text(source)
        name = unescape(raw[1:-1])
        if "\\" in raw and name.removeprefix("node:") in SENSITIVE_MODULES:
            self._add("hidden.import", node, name, decoded=name)
        self._module_used(name, node)

    def _module_used(self, name: str, node: Node) -> None:
        bare = name.removeprefix("node:")
        capability = MODULE_CAPABILITIES.get(bare)
        if capability is None and not bare.startswith("."):
            root = "/".join(bare.split("/")[: 2 if bare.startswith("@") else 1])
            capability = MODULE_CAPABILITIES.get(root)
        if capability is not None:
            self._use(capability, node, name)
        if bare in ("module", "inspector", "inspector/promises", "v8"):
            self._use(Capability.DYNAMIC_CODE, node, name)
        if bare.endswith(".node"):
            self._use(Capability.NATIVE, node, name)
        if bare.startswith(("data:", "http:", "https:", "blob:")):
            self._add(
                "remote.execution" if bare.startswith("http") else "hidden.execution",
                node,
                bare[:80],
                severity=Severity.MEDIUM
                if bare.startswith("http") and node.type != "call_expression"
                else None,
            )
            if bare.startswith("data:"):
                self._data_url(bare, node)

    def _data_url(self, url: str, node: Node) -> None:
        header, _, body = url.partition(",")
        if "base64" in header:
            for label, decoded in guess_layers(body):
                self.out.payload(decoded, label, node.start_point[0] + 1, "javascript")
        else:
            self.out.payload(body, "data URL", node.start_point[0] + 1, "javascript")

    def _loader(self, path: str, node: Node, arguments: list[Node], reference: Reference) -> None:
        if not arguments:
            return
        argument = arguments[0]
        name = self.folder.fold(argument)
        origins = self.values.origins(argument)
        if isinstance(name, str):
            bare = name.removeprefix("node:")
            self._module_used(name, node)
            if (
                not self.folder.is_plain(argument)
                and (bare in SENSITIVE_MODULES or bare in MODULE_CAPABILITIES or origins & HIDING)
            ) or (reference.hidden and path != "import"):
                self._add("hidden.import", node, name, decoded=name)
            elif (
                path != "require"
                and path != "import"
                and bare in SENSITIVE_MODULES
                and path not in ("module.require",)
            ):
                self._add("evasive.module_internals", node, f"{path}({name})")
            match = _FILE_NAME.match(name)
            if (
                match
                and name.startswith((".", "/"))
                and not name.endswith((*_CODE_SUFFIXES, ".json"))
                and len(match.group(1)) <= 4
            ) and match.group(1).lower() in (
                "txt",
                "png",
                "jpg",
                "jpeg",
                "gif",
                "svg",
                "md",
                "dat",
                "bin",
                "log",
                "css",
                "ico",
                "pdf",
                "csv",
                "xml",
                "woff",
                "ttf",
            ):
                self._add("file.execution", node, name)
            return
        near = self.values.near_origins(argument)
        if near & HIDING:
            self._add("hidden.import", node, path)
        elif near & Origin.NETWORK:
            self._add("remote.execution", node, path)
        elif (
            argument.type == "template_string"
            and path == "import"
            and self.index.text(argument).startswith("`data:")
        ) or (argument.type == "binary_expression" and "data:" in self.index.text(argument)[:40]):
            self._add("hidden.execution", node, "import of a data URL")
        self._use(Capability.DYNAMIC_CODE, node, f"{path}(…)")

    # -- calls --------------------------------------------------------------------------------

    def _call(self, node: Node) -> None:
        function = node.child_by_field_name("function")
        if function is None:
            return
        kind = function.type
        if kind == "identifier":
            name = self.index.text(function)
            if name not in KNOWN_GLOBALS and "\\" not in name:
                bindings = self.index.lookup(name, self.index.scope_at(function.start_byte))
                if not any(binding.kind != "function" for binding in bindings):
                    return
        elif kind == "member_expression":
            property_node = function.child_by_field_name("property")
            if property_node is None:
                return
            name = self.index.text(property_node)
            if name not in TELLING_MEMBERS and "\\" not in name and name not in self.index.members:
                base = function.child_by_field_name("object")
                if base is None or base.type != "identifier":
                    return
        arguments = arguments_of(node)
        reference = self.values.resolve(function) if kind != "import" else Reference("import")
        if reference is not None:
            self._known_call(reference, node, arguments, function)
        else:
            self._unknown_call(node, function, arguments)
        self._passed_functions(node, arguments)

    def _known_call(self, reference: Reference, node: Node, arguments: list[Node], function: Node) -> None:  # noqa: C901
        path = reference.path
        head, _, method = path.rpartition(".")
        target = path
        if method in ("call", "apply", "bind") and head and head != "Reflect":
            target = head
            arguments = arguments[1:]
            if method == "apply" and arguments and arguments[0].type == "array":
                arguments = arguments[0].named_children
        if path in ("Reflect.apply", "Reflect.construct") and arguments:
            inner = self.values.resolve(arguments[0])
            if inner is not None:
                target = inner.path
                last = arguments[-1] if path == "Reflect.apply" else arguments[min(1, len(arguments) - 1)]
                arguments = last.named_children if last.type == "array" else [last]
                if target in CODE_SINKS:
                    self._add("evasive.computed_call", node, f"{path} of {target}")
            elif self._is_constructor_chain(arguments[0]):
                self._add("evasive.constructor", node, path)
        self._capability_of(target, node)
        if reference.hidden and (
            target in CODE_SINKS
            or is_loader(target)
            or target in PROCESS_CALLS
            or target in INTERNALS
            or target in TIMERS
            or target.startswith("process.")
        ):
            self._add("hidden.attribute", node, target, decoded=target)
        elif (
            reference.reflective
            and target in ("eval", "Function")
            and function.type in ("subscript_expression", "call_expression")
        ):
            self._add("evasive.literal_reflection", node, target, severity=Severity.HIGH)
        if is_loader(target):
            self._loader(target, node, arguments, reference)
        if target in CODE_SINKS or (
            target.rpartition(".")[2] in FUNCTION_BUILDERS and target.count(".") == 0
        ):
            self._code_sink(target, node, arguments)
        elif target in TIMERS:
            self._timer(target, node, arguments)
        elif target in PROCESS_CALLS:
            self._process(node, arguments)
        if target in INTERNALS:
            self._add("evasive.internals", node, target)
        if head == COMPUTED_MODULE and method in _PROCESS_METHODS:
            self._add("hidden.import", node, f"a computed module's {method}")
        if target in _ENUMERATORS and arguments:
            inner = self.values.resolve(arguments[0])
            if inner is not None and inner.path in _SEARCHED:
                self._add("evasive.enumeration", node, inner.path)
        if target in (
            "module:v8.deserialize",
            "module:node-serialize.unserialize",
            "module:serialize-to-js.deserialize",
        ):
            self._serialised(node, arguments)
        if target in _DECODING_CALLEES or target.startswith("module:zlib."):
            self._decoder(node, target)
        if target.startswith("WebAssembly.") and arguments:
            self._native(node, arguments)
        if target == "JSON.stringify" and arguments:
            inner = self.values.resolve(arguments[0])
            if inner is not None and inner.path == "process.env":
                self._environment_dump(node)
        if (
            target in ("Object.entries", "Object.keys", "Object.assign")
            and Capability.NETWORK in self.out.capabilities
        ):
            for argument in arguments:
                inner = self.values.resolve(argument)
                if inner is not None and inner.path == "process.env" and target == "Object.entries":
                    self._add("environment.dump", node)
        if (
            target
            in (
                "Object.defineProperty",
                "Object.assign",
                "Object.setPrototypeOf",
                "Reflect.set",
                "Reflect.defineProperty",
            )
            and arguments
        ):
            self._pollution(node, arguments)
        if target in ("module:module.register", "module:module.registerHooks"):
            self._add("evasive.module_internals", node, target)
        if target in ("Proxy",):
            self._proxy(node, arguments)

    def _unknown_call(self, node: Node, function: Node, arguments: list[Node]) -> None:
        if function.type == "parenthesized_expression" and function.named_children:
            function = function.named_children[-1]
        if self._is_constructor_chain(function):
            self._constructor_call(node, arguments, function)
            return
        if function.type == "call_expression" and self._is_constructor_chain(
            function.child_by_field_name("function")
        ):
            return
        name_node = function.child_by_field_name("property")
        name = self.index.text(name_node) if name_node is not None else ""
        if name == "constructor" and arguments:
            self._constructor_call(node, arguments, function)
        elif name == "_compile" and arguments:
            self._add("evasive.module_internals", node, "_compile")
            self._code_sink("_compile", node, arguments)
        elif (
            name in ("runInThisContext", "runInNewContext", "runInContext")
            and arguments
            and "vm" in self.index.text(function)[:40].lower()
        ):
            self._code_sink(name, node, arguments)
        elif (name == "toString" and arguments) or (name == "decode" and arguments):
            self._decoder(node, name)
        elif name in ("join", "replace", "reduce", "concat") or function.type == "subscript_expression":
            self._computed_method(node, function)
        elif name in ("exec", "execSync", "spawn", "execFile", "spawnSync") and arguments:
            texts = [
                text for argument in arguments[:2] if isinstance(text := self.folder.fold(argument), str)
            ]
            if texts:
                report_command(self.out, " ".join(texts), Origin.NONE, *_place(node))

    def _computed_method(self, node: Node, function: Node) -> None:
        if function.type != "subscript_expression":
            return
        index_node = function.child_by_field_name("index")
        if index_node is None or index_node.type in ("number",):
            return
        name = self.folder.fold(index_node)
        if isinstance(name, str):
            if not self.folder.is_plain(index_node) and name in SENSITIVE_NAMES | {
                "exec",
                "spawn",
                "apply",
                "then",
            } - {"exec"}:
                self._add("hidden.attribute", node, name, decoded=name)
        elif self.values.near_origins(index_node) & (HIDING & ~Origin.REVERSED):
            base = function.child_by_field_name("object")
            known = self.values.resolve(base)
            rule_base = known is not None and known.path.split(".")[0] in (
                "globalThis",
                "process",
                "module",
                "require",
                "module:child_process",
                "Reflect",
            )
            self._add(
                "hidden.attribute", node, "a computed name", severity=None if rule_base else Severity.LOW
            )

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

    def _last_name(self, node: Node) -> str | None:
        property_node = node.child_by_field_name("property")
        if property_node is not None and node.type == "member_expression":
            return self.folder.unescape_identifier(self.index.text(property_node))
        index_node = node.child_by_field_name("index")
        if index_node is not None:
            name = self.folder.fold(index_node)
            return name if isinstance(name, str) else None
        return None

    def _new(self, node: Node) -> None:
        constructor = node.child_by_field_name("constructor")
        if constructor is None:
            return
        reference = self.values.resolve(constructor)
        arguments = arguments_of(node)
        if reference is None:
            if self._is_constructor_chain(constructor):
                self._constructor_call(node, arguments, constructor)
            return
        path = reference.path
        self._capability_of(path, node)
        if reference.hidden and path in CODE_SINKS:
            self._add("hidden.attribute", node, path, decoded=path)
        if path in CODE_SINKS:
            self._code_sink(path, node, arguments)
        elif path in ("Worker", "module:worker_threads.Worker", "SharedWorker") and arguments:
            self._use(Capability.THREAD, node, path)
            if len(arguments) > 1 and re.search(r"\beval\s*:\s*(?:true|!0|1)", self.index.text(arguments[1])):
                self._add("hidden.execution", node, "Worker with eval")
                self._code_sink(path, node, arguments)
            else:
                value = self.folder.fold(arguments[0])
                if (isinstance(value, str) and value.startswith("data:")) or re.search(
                    r"[\"'`]data:", self.index.text(arguments[0])[:400]
                ):
                    self._add("hidden.execution", node, "Worker from a data URL")
        elif path == "Proxy":
            self._proxy(node, arguments)
        elif path in ("module:module", "module:module.Module") or path.startswith("module.constructor"):
            self._add("evasive.module_internals", node, path)
        elif path.startswith("WebAssembly.") and arguments:
            self._native(node, arguments)
        self._passed_functions(node, arguments)

    def _proxy(self, node: Node, arguments: list[Node]) -> None:
        if arguments:
            inner = self.values.resolve(arguments[0])
            if inner is not None and (
                inner.path in CODE_SINKS
                or is_loader(inner.path)
                or inner.path.startswith("module:child_process")
            ):
                self._add("evasive.computed_call", node, f"Proxy of {inner.path}")

    def _code_sink(self, path: str, node: Node, arguments: list[Node]) -> None:
        builder = path in FUNCTION_BUILDERS
        relevant = arguments if builder else arguments[:1]
        self._use(Capability.DYNAMIC_CODE, node, path)
        if any(
            argument.parent is not None and argument.parent.type == "call_expression" for argument in relevant
        ):
            self._add("evasive.computed_call", node, f"{path} as a template tag")
        for argument in relevant:
            value = self.folder.fold(argument)
            origins = self.values.origins(argument)
            if isinstance(value, str):
                if origins & HIDING:
                    self._add("hidden.execution", node, path, decoded=value)
                if not _GLOBAL_RETURN.match(value):
                    plain = self.folder.is_plain(argument)
                    if not plain and not origins & HIDING and len(value) <= _SHORT_CODE:
                        self._add("hidden.execution", node, path, decoded=value, severity=Severity.MEDIUM)
                    self.out.payload(
                        value, "executed" if plain else "folded", node.start_point[0] + 1, "javascript-body"
                    )
                continue
            if self.values.cut_short and path in DIRECT:
                self._add("limit.origins", node, path)
            near = self._near(argument)
            if path == "eval":
                self._add("dynamic.unreadable", node, path)
            data_file = self._data_file(argument) if origins & Origin.FILE else None
            report_executed_origin(self.out, origins, near, *_place(node), path, data_file)

    def _near(self, argument: Node) -> int:
        """Origins of the expression itself; a template with code of its own is no split payload."""
        near = self.values.near_origins(argument)
        if near & Origin.SIBLING and any(
            len(text) >= _TEMPLATE and not _FILE_NAME.match(text) for text in self._strings_in(argument)
        ):
            near &= ~Origin.SIBLING
        return near

    def _timer(self, path: str, node: Node, arguments: list[Node]) -> None:
        if not arguments or arguments[0].type in FUNCTION_KINDS:
            return
        value = self.folder.fold(arguments[0])
        origins = self.values.origins(arguments[0]) if arguments[0].type != "identifier" else Origin.NONE
        if isinstance(value, str):
            self._add("dynamic.visible", node, f"{path} of a string")
            self._code_sink(path, node, arguments[:1])
        elif arguments[0].type in ("binary_expression", "template_string") or (
            origins & HIDING and arguments[0].type == "call_expression"
        ):
            self._code_sink(path, node, arguments[:1])
            self._add("dynamic.visible", node, f"{path} of a string")

    def _process(self, node: Node, arguments: list[Node]) -> None:
        self._use(Capability.PROCESS, node, "child_process")
        if not arguments:
            return
        texts: list[str] = []
        origins = self.values.near_origins(arguments[0])
        for argument in arguments[:2]:
            value = self.folder.fold(argument)
            if isinstance(value, str):
                texts.append(value)
            elif isinstance(value, list):
                texts.extend(str(item) for item in value)
            else:
                texts.extend(self._strings_in(argument))
        if len(arguments) > 1 and arguments[1].type not in FUNCTION_KINDS:
            origins |= self.values.near_origins(arguments[1]) & HIDING
        report_command(self.out, " ".join(texts), origins, *_place(node))

    def _serialised(self, node: Node, arguments: list[Node]) -> None:
        self._use(Capability.DESERIALISATION, node, "deserialize")
        for argument in arguments[:1]:
            value = self.folder.fold(argument)
            if isinstance(value, str) and "_$$ND_FUNC$$_" in value:
                self._add("deserialise.payload", node, decoded=value)

    def _decoder(self, node: Node, label: str) -> None:
        value = self.folder.fold(node)
        if isinstance(value, str) and len(value) > 2:
            if label != "decodeURIComponent" or "%" in self.index.text(node):
                report_decoded(self.out, value, label, *_place(node))
        elif (isinstance(value, bytes) and len(value) > 2 and label != "Buffer.from") or (
            isinstance(value, bytes) and self.values.origins(node) & Origin.DECODED and len(value) > 2
        ):
            report_decoded(self.out, value, label, *_place(node))

    def _native(self, node: Node, arguments: list[Node]) -> None:
        self._use(Capability.NATIVE, node, "WebAssembly")
        if (
            self.values.origins(arguments[0]) & (Origin.DECODED | Origin.CHARACTERS | Origin.NETWORK)
            and self.index.text(arguments[0])[:200].count("(") > 0
        ):
            self._add("native.loaded", node, "WebAssembly", severity=Severity.MEDIUM)

    def _environment_dump(self, node: Node) -> None:
        self._dumps.append(node)
        self._add("environment.dump", node)

    def _pollution(self, node: Node, arguments: list[Node]) -> None:
        text = self.index.text(arguments[0])
        if re.search(r"^(?:Object|Function|Array|String)\.prototype$|__proto__$", text):
            names = [self.folder.fold(argument) for argument in arguments[1:2]]
            if any(name in ("NODE_OPTIONS", "shell", "env", "argv0") for name in names):
                self._add("evasive.prototype", node, text)

    def _passed_functions(self, node: Node, arguments: list[Node]) -> None:
        """``[code].map(eval)``, ``promise.then(eval)``: an executing function passed on as a value."""
        for position, argument in enumerate(arguments):
            if argument.type not in (
                "identifier",
                "member_expression",
                "subscript_expression",
                "parenthesized_expression",
            ):
                continue
            reference = self.values.resolve(argument)
            if reference is None or (
                reference.path not in CODE_SINKS and reference.path not in PROCESS_CALLS
            ):
                continue
            if (
                reference.path in FUNCTION_BUILDERS
                and argument.type == "identifier"
                and not reference.reflective
            ):
                continue
            if reference.hidden:
                self._add("hidden.attribute", node, reference.path, decoded=reference.path)
            if reference.path in ("eval", "execScript") or reference.path.startswith("module:vm."):
                self._add("evasive.indirect_call", node, reference.path)
                self._use(Capability.DYNAMIC_CODE, node, reference.path)
                function = node.child_by_field_name("function")
                base = function.child_by_field_name("object") if function is not None else None
                candidates = [
                    item
                    for item in (base, *arguments[:position], *arguments[position + 1 :])
                    if item is not None
                ]
                for candidate in candidates:
                    self._indirect_code(candidate, reference.path, node)

    def _indirect_code(self, candidate: Node, path: str, node: Node) -> None:
        origins = self.values.origins(candidate)
        near = self._near(candidate)
        data_file = self._data_file(candidate) if origins & Origin.FILE else None
        report_executed_origin(self.out, origins, near, *_place(node), path, data_file)
        value = self.folder.fold(candidate)
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                self.out.payload(text, "executed", node.start_point[0] + 1, "javascript-body")

    # -- members, assignments, literals ---------------------------------------------------------

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
                        report_decoded(self.out, value, "escapes", *_place(node))

    # -- reporting ----------------------------------------------------------------------------

    def _capability_of(self, path: str, node: Node) -> None:
        if path.startswith("module:"):
            self._module_used(path[7:].split(".")[0], node)
            return
        for name in (path, path.split(".")[0]):
            capability = GLOBAL_CAPABILITIES.get(name)
            if capability is not None:
                self._use(capability, node, name)
                return

    def _data_file(self, argument: Node) -> str | None:
        for name in self._strings_in(argument):
            match = _FILE_NAME.match(name)
            if (
                match
                and not name.endswith(_CODE_SUFFIXES)
                and not match.group(1).isdigit()
                and len(match.group(1)) <= 5
            ):
                return name
        return None

    def _strings_in(self, node: Node, depth: int = 0) -> list[str]:
        found: list[str] = []
        stack = [node]
        steps = 0
        while stack and steps < 300:
            current = stack.pop()
            steps += 1
            if current.type == "string":
                found.append(unescape(self.index.text(current)[1:-1]))
            elif current.type == "identifier" and depth < 3:
                for binding in self.index.lookup(
                    self.index.text(current), self.index.scope_at(current.start_byte)
                )[:3]:
                    if (
                        binding.node is not None
                        and binding.kind in ("value", "augmented")
                        and binding.node.type not in FUNCTION_KINDS
                    ):
                        found.extend(self._strings_in(binding.node, depth + 1))
            elif current.type == "binary_expression":
                value = self.folder.fold(current)
                if isinstance(value, str):
                    found.append(value)
                    continue
                stack.extend(current.named_children)
            elif current.type not in FUNCTION_KINDS:
                stack.extend(current.named_children)
        return found[:64]

    def _use(self, capability: Capability, node: Node, what: str) -> None:
        line, column = _place(node)
        self.out.use(capability, line, column, what)

    def _add(
        self,
        rule: str,
        node: Node,
        detail: str = "",
        *,
        decoded: object = None,
        severity: Severity | None = None,
    ) -> None:
        line, column = _place(node)
        self.out.add(rule, line, column, detail, decoded=decoded, severity=severity)


def _place(node: Node) -> tuple[int, int]:
    return node.start_point[0] + 1, node.start_point[1] + 1
