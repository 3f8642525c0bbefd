"""Rules for the calls of a JavaScript file: known and unknown callees, new, passed functions."""

import re

from tree_sitter import Node

from activities.scanning.findings import HIDING, Origin
from activities.scanning.javascript_names import (
    CODE_SINKS,
    FUNCTION_BUILDERS,
    INTERNALS,
    KNOWN_GLOBALS,
    PROCESS_CALLS,
    TELLING_MEMBERS,
    TIMERS,
)
from activities.scanning.javascript_paths import COMPUTED_MODULE, Reference, arguments_of, is_loader
from activities.scanning.javascript_rule_base import place
from activities.scanning.javascript_sinks import JavaScriptSinks
from activities.scanning.sinks import report_command, report_executed_origin
from activities.scanning.text_checks import SENSITIVE_NAMES
from models.manifest import Capability
from models.scanning import Severity

_DECODING_CALLEES = frozenset(
    {"atob", "unescape", "Buffer.from", "String.fromCharCode", "String.fromCodePoint", "decodeURIComponent"}
)


_PROCESS_METHODS = frozenset(
    {"exec", "execSync", "execFile", "execFileSync", "spawn", "spawnSync", "fork", "runInThisContext"}
)


_ENUMERATORS = frozenset(
    {"Object.values", "Object.keys", "Object.entries", "Object.getOwnPropertyNames", "Reflect.ownKeys"}
)


_SEARCHED = frozenset({"module:child_process", "module:vm", "module:module", "process"})


class JavaScriptCalls(JavaScriptSinks):
    """Looks at every call and every ``new``."""

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
                report_command(self.out, " ".join(texts), Origin.NONE, *place(node))

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
        report_executed_origin(self.out, origins, near, *place(node), path, data_file)
        value = self.folder.fold(candidate)
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                self.out.payload(text, "executed", node.start_point[0] + 1, "javascript-body")
