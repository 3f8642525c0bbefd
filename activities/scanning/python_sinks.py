"""Rules for what a Python call does: run code, import, start a process, load an object, decode."""

import ast

from activities.scanning.findings import HIDING, Origin
from activities.scanning.python_names import (
    CALL_CAPABILITIES,
    DESERIALISERS,
    GETATTR,
    MODULE_CAPABILITIES,
    PATH_LOADERS,
    STDLIB,
    STRONG_TARGETS,
    TEXT_RUNNERS,
)
from activities.scanning.python_references import Reference
from activities.scanning.python_rule_base import PythonRuleBase
from activities.scanning.python_scopes import Scope
from activities.scanning.sinks import DIRECT, report_command, report_decoded, report_executed_origin
from activities.scanning.text_checks import SENSITIVE_NAMES, looks_like_python
from models.manifest import Capability
from models.scanning import Severity

SEARCHED = frozenset({"os", "subprocess", "builtins", "importlib", "ctypes", "sys.modules", "pty", "posix"})


class PythonSinks(PythonRuleBase):
    """Rules for calls of which the callee is known."""

    def _enumeration(self, base: Reference | None, node: ast.AST) -> None:
        if base is not None and base.path in SEARCHED:
            self._add("evasive.enumeration", node, base.path)

    def _setattr(self, node: ast.Call, scope: Scope) -> None:
        target = self.values.resolve(node.args[0], scope)
        source = self.values.resolve(node.args[2], scope)
        if source is not None and source.path in STRONG_TARGETS - DESERIALISERS:
            known = target is not None and target.path.split(".")[0] in STDLIB
            self._add("evasive.override" if known else "evasive.indirect_call", node, source.path)

    def _copyreg(self, node: ast.Call, scope: Scope) -> None:
        self._add("deserialise.payload", node, "copyreg.pickle", severity=Severity.MEDIUM)
        reducer = node.args[1]
        inner = self.index.scopes.get(id(reducer), scope)
        for part in ast.walk(reducer):
            if isinstance(part, ast.Attribute | ast.Name):
                reference = self.values.resolve(part, inner)
                if reference is not None and reference.path in STRONG_TARGETS:
                    self._add("deserialise.payload", part, reference.path)

    def _code_sink(self, path: str, node: ast.Call, scope: Scope) -> None:
        argument = first_argument(node)
        if argument is None:
            return
        value = self.folder.fold(argument, scope)
        if isinstance(value, list | tuple) and value and isinstance(value[0], str | bytes):
            value = value[0]
        if isinstance(value, str | bytes):
            plain = self.folder.is_plain(argument) or isinstance(argument, ast.Constant)
            origins = self.values.origins(argument, scope)
            if origins & HIDING:
                self._add("hidden.execution", node, path, decoded=value)
            elif not plain and path in DIRECT:
                self._add("hidden.execution", node, path, decoded=value, severity=Severity.MEDIUM)
            self.out.payload(value, "executed" if plain else "folded", node.lineno, "python")
            return
        if path in TEXT_RUNNERS and not isinstance(
            argument, ast.Call | ast.Name | ast.BinOp | ast.JoinedStr | ast.Subscript
        ):
            return
        origins = self.values.origins(argument, scope)
        if self.values.cut_short and path in DIRECT:
            self._add("limit.origins", node, path)
        report_executed_origin(
            self.out,
            origins,
            self._near(argument, scope),
            node.lineno,
            node.col_offset + 1,
            path,
            self._data_file(argument, scope) if origins & Origin.FILE else None,
        )
        if path in DIRECT and origins & Origin.FILE and _names_itself(argument):
            self._add("file.execution", node, f"{path} of its own source")
        if path not in TEXT_RUNNERS:
            self._use(Capability.DYNAMIC_CODE, node, path)

    def _import_sink(self, path: str, node: ast.Call, scope: Scope) -> None:
        argument = first_argument(
            node,
            position=1
            if path in PATH_LOADERS and path not in ("runpy.run_path", "zipimport.zipimporter")
            else 0,
        )
        if argument is None:
            return
        value = self.folder.fold(argument, scope)
        origins = self.values.origins(argument, scope)
        if isinstance(value, bytes):
            value = value.decode("latin-1")
        if isinstance(value, str):
            self._imported_name(value, argument, origins, node, path)
            return
        near = self.values.near_origins(argument, scope)
        if near & HIDING & ~Origin.REVERSED:
            self._add("hidden.import", node, path)
        elif near & Origin.NETWORK or (
            path == "runpy.run_path" and Capability.NETWORK in self.out.capabilities
        ):
            self._add("remote.execution", node, path)
        self._use(Capability.DYNAMIC_CODE, node, path)

    def _imported_name(self, value: str, argument: ast.AST, origins: int, node: ast.Call, path: str) -> None:
        if path in PATH_LOADERS:
            if (
                "." in value
                and not value.endswith((".py", ".pyc", ".so", ".pyd", ".zip", ".whl", ".egg", "/"))
                and value.rpartition(".")[2].isalpha()
            ):
                self._add("file.execution", node, value)
            self._use(Capability.DYNAMIC_CODE, node, path)
            return
        parts = value.split(".")
        capability = next(
            (
                MODULE_CAPABILITIES[name]
                for end in range(len(parts), 0, -1)
                if (name := ".".join(parts[:end])) in MODULE_CAPABILITIES
            ),
            None,
        )
        plain = self.folder.is_plain(argument)
        if not plain and (
            origins & HIDING
            or capability is not None
            or parts[0] in SENSITIVE_NAMES
            or (parts[0] in STDLIB and isinstance(argument, ast.BinOp | ast.JoinedStr))
        ):
            self._add("hidden.import", node, value, decoded=value)
        elif parts[0] in SENSITIVE_NAMES and path == "builtins.__import__":
            self._add("evasive.literal_reflection", node, f"__import__({value!r})")
        if capability is not None:
            self._use(capability, node, f"{path}({value!r})")
        self._use(Capability.DYNAMIC_CODE, node, path)

    def _getattr(self, path: str, node: ast.Call, scope: Scope) -> None:
        position = 0 if path.startswith("operator.") and path != "operator.getitem" else 1
        if len(node.args) <= position:
            return
        argument = node.args[position]
        value = self.folder.fold(argument, scope)
        if isinstance(value, str):
            if position and not value.isidentifier() and looks_like_python(value):
                self._add("evasive.reflection", node, value, decoded=value)
            if self.folder.is_plain(argument):
                if value in ("__globals__", "__builtins__", "__subclasses__", "__code__") and path in GETATTR:
                    self._add(
                        "evasive.literal_reflection",
                        node,
                        value,
                        severity=Severity.HIGH
                        if value in ("__builtins__", "__subclasses__")
                        else Severity.LOW,
                    )
                elif (
                    position == 0
                    and ".__" in value
                    and any(part in SENSITIVE_NAMES for part in value.split("."))
                ):
                    self._add("evasive.format_walk", node, value)
                return
            names = set(value.split("."))
            base = self.values.resolve(node.args[0], scope) if position else None
            if (
                names & SENSITIVE_NAMES
                or (base is not None and f"{base.path}.{value}" in CALL_CAPABILITIES)
                or self.values.near_origins(argument, scope) & (HIDING & ~Origin.REVERSED)
            ):
                self._add("hidden.attribute", node, value, decoded=value)
            return
        origins = self.values.near_origins(argument, scope)
        if origins & (HIDING & ~Origin.REVERSED):
            base = self.values.resolve(node.args[0], scope) if position else None
            known = base is not None and base.path.split(".")[0] in STDLIB
            self._add(
                "hidden.attribute",
                node,
                "a computed name",
                severity=None if known or not position else Severity.LOW,
            )
        elif position:
            base = self.values.resolve(node.args[0], scope)
            if base is not None and base.path in SEARCHED:
                self._use(Capability.DYNAMIC_CODE, node, f"getattr({base.path}, …)")
                called = id(node) in self._called
                severity = None if called else Severity.LOW
                if base.path != "builtins":
                    severity = Severity.HIGH if called else None
                self._add("evasive.computed_member", node, base.path, severity=severity)

    def _process(self, path: str, node: ast.Call, scope: Scope) -> None:
        argument = first_argument(node)
        if argument is None:
            return
        origins = self.values.near_origins(argument, scope)
        if path == "pty.spawn" and Capability.NETWORK in self.out.capabilities:
            self._add("command.dangerous", node, "a terminal next to a socket")
        texts: list[str] = []
        value = self.folder.fold(argument, scope)
        if isinstance(value, list | tuple):
            texts.append(" ".join(str(item) for item in value))
        elif isinstance(value, str | bytes):
            texts.append(value.decode("latin-1") if isinstance(value, bytes) else value)
        else:
            texts.append(" ".join(self._strings_in(argument, scope)))
        texts.extend(
            str(item) for extra in node.args[1:4] if (item := self.folder.fold(extra, scope)) is not None
        )
        report_command(self.out, " ".join(texts), origins, node.lineno, node.col_offset + 1)

    def _deserialise(self, path: str, node: ast.Call, scope: Scope) -> None:
        argument = first_argument(node)
        if argument is None:
            return
        if path in ("yaml.load", "yaml.load_all") and any(
            "Safe" in ast.dump(extra) for extra in (*node.args[1:], *(k.value for k in node.keywords))
        ):
            return
        value = self.folder.fold(argument, scope)
        if isinstance(value, str | bytes):
            self.out.payload(value, "deserialised", node.lineno, "serialised")
            self._add("evasive.literal_reflection", node, f"{path} of a constant", severity=Severity.LOW)
        origins = self.values.origins(argument, scope)
        if origins & Origin.NETWORK:
            self._add("remote.execution", node, path)
        elif (
            origins & HIDING
            and path.split(".")[0] in ("pickle", "marshal", "dill", "cloudpickle")
            and (isinstance(value, bytes) or path.startswith("marshal"))
        ):
            self._add("hidden.execution", node, path)
        self._use(Capability.DESERIALISATION, node, path)

    def _decoder(self, node: ast.Call, scope: Scope, label: str) -> None:
        value = self.folder.fold(node, scope)
        if isinstance(value, str | bytes):
            report_decoded(self.out, value, label, node.lineno, node.col_offset + 1)

    def _native(self, node: ast.Call, scope: Scope) -> None:
        origins = self.values.near_origins(first_argument(node), scope)
        if origins & (Origin.DECODED | Origin.NETWORK):
            self._add("native.loaded", node)

    def _factories(self, node: ast.Call, scope: Scope) -> None:
        for text in self._strings_in(node.args[0], scope):
            if text in STRONG_TARGETS or f"builtins.{text}" in STRONG_TARGETS:
                self._add("evasive.reflection", node, text)


def _names_itself(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Name) and part.id == "__file__" for part in ast.walk(node))


def first_argument(node: ast.Call, position: int = 0) -> ast.expr | None:
    """Return the argument at ``position``, else the last one, else the first keyword."""
    if len(node.args) > position:
        argument = node.args[position]
        return argument.value if isinstance(argument, ast.Starred) else argument
    if node.args:
        return node.args[-1]
    return node.keywords[0].value if node.keywords else None
