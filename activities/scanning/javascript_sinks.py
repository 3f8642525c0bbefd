"""Rules for what a JavaScript call does: load a module, run code, start a process, decode."""

import re

from tree_sitter import Node

from activities.scanning.findings import HIDING, Origin
from activities.scanning.javascript_constructors import JavaScriptConstructors
from activities.scanning.javascript_names import (
    CODE_SINKS,
    FUNCTION_BUILDERS,
    MODULE_CAPABILITIES,
    SENSITIVE_MODULES,
)
from activities.scanning.javascript_paths import Reference, is_loader
from activities.scanning.javascript_rule_base import CODE_SUFFIXES, FILE_NAME, place
from activities.scanning.javascript_scopes import FUNCTION_KINDS
from activities.scanning.sinks import DIRECT, report_command, report_decoded, report_executed_origin
from models.manifest import Capability
from models.scanning import Severity

_GLOBAL_RETURN = re.compile(
    r"^\s*return\s+(?:this|globalThis|global|self|window|\(?this\)?)(?:\.\w+)?\s*;?\s*$|^\s*$"
)


_SHORT_CODE = 120


class JavaScriptSinks(JavaScriptConstructors):
    """Rules for calls of which the callee is known."""

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
            match = FILE_NAME.match(name)
            if (
                match
                and name.startswith((".", "/"))
                and not name.endswith((*CODE_SUFFIXES, ".json"))
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
            report_executed_origin(self.out, origins, near, *place(node), path, data_file)

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
        report_command(self.out, " ".join(texts), origins, *place(node))

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
                report_decoded(self.out, value, label, *place(node))
        elif (isinstance(value, bytes) and len(value) > 2 and label != "Buffer.from") or (
            isinstance(value, bytes) and self.values.origins(node) & Origin.DECODED and len(value) > 2
        ):
            report_decoded(self.out, value, label, *place(node))

    def _native(self, node: Node, arguments: list[Node]) -> None:
        self._use(Capability.NATIVE, node, "WebAssembly")
        if (
            self.values.origins(arguments[0]) & (Origin.DECODED | Origin.CHARACTERS | Origin.NETWORK)
            and self.index.text(arguments[0])[:200].count("(") > 0
        ):
            self._add("native.loaded", node, "WebAssembly", severity=Severity.MEDIUM)

    def _pollution(self, node: Node, arguments: list[Node]) -> None:
        text = self.index.text(arguments[0])
        if re.search(r"^(?:Object|Function|Array|String)\.prototype$|__proto__$", text):
            names = [self.folder.fold(argument) for argument in arguments[1:2]]
            if any(name in ("NODE_OPTIONS", "shell", "env", "argv0") for name in names):
                self._add("evasive.prototype", node, text)
