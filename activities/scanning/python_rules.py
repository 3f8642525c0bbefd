"""Rules for Python source: from the indexed nodes to findings and capabilities."""

import ast
import re
import unicodedata
import warnings
from collections.abc import Mapping

from activities.scanning.decoding import guess_layers, looks_encoded
from activities.scanning.findings import HIDING, Collector, Origin
from activities.scanning.limits import MAX_FOLDED_LENGTH
from activities.scanning.python_calls import PythonCalls
from activities.scanning.python_names import (
    CALL_CAPABILITIES,
    HOOK_LISTS,
    MODULE_CAPABILITIES,
    STDLIB,
    STRONG_TARGETS,
)
from activities.scanning.python_scopes import Scope, index_python
from activities.scanning.sinks import report_decoded
from activities.scanning.text_checks import SENSITIVE_NAMES, TELLING_NAMES, looks_like_python
from models.manifest import Capability
from models.scanning import Severity

_ATTRIBUTE_WALK = re.compile(
    r"\{[\w.\[\]!]{0,60}\.?__(?:globals|init|builtins|subclasses|mro|base|bases|code|import|loader)__"
)


__all__ = ["looks_like_python", "parse_python", "scan_python"]


class PythonRules(PythonCalls):
    """The rules, over one indexed module."""

    def run(self) -> None:
        """Run all rules."""
        self._imports()
        self._names()
        self._attributes()
        for call, scope in self.index.calls:
            self._call(call, scope)
        self._subscripts()
        self._assignments()
        self._decorators()
        self._classes()
        self._joins()
        self._strings()
        self._identifiers()
        if Capability.NETWORK in self.out.capabilities:
            for node in self._dumps[:3]:
                self._add("exfiltration.environment", node)
        for rule in sorted(self.values.exceeded | self.index.exceeded):
            self._add(rule, None, severity=Severity.LOW if rule == "limit.origins" else None)

    def _imports(self) -> None:
        for name, node in self.index.imports:
            parts = name.split(".")
            for end in range(len(parts), 0, -1):
                capability = MODULE_CAPABILITIES.get(".".join(parts[:end]))
                if capability is not None:
                    self._use(capability, node, f"import {name}")
                    break
            else:
                self._note_member(name, node)
            if name in ("sitecustomize", "usercustomize"):
                self._add("install.hook", node, name)
            if parts[0] in (
                "_posixsubprocess",
                "_xxsubinterpreters",
                "_interpreters",
                "_testcapi",
                "_winapi",
            ):
                self._add("evasive.reflection", node, f"import {name}")

    def _note_member(self, name: str, node: ast.AST) -> None:
        capability = CALL_CAPABILITIES.get(name)
        if capability is not None:
            self._use(capability, node, name)

    def _names(self) -> None:
        for node, scope in self.index.names:
            reference = self.values.resolve(node, scope)
            if reference is not None and reference.path in (
                "builtins.exec",
                "builtins.eval",
                "builtins.__import__",
            ):
                self._use(Capability.DYNAMIC_CODE, node, node.id)

    def _attributes(self) -> None:
        for node, scope in self.index.attributes:
            name = node.attr
            reference = self.values.resolve(node, scope)
            path = reference.path if reference else ""
            if name in ("environ", "environb") and path.startswith("os."):
                self._use(Capability.ENVIRONMENT, node, path)
            elif name == "__subclasses__":
                if _is_hierarchy_walk(node.value) or path.startswith("builtins.object"):
                    self._add("evasive.subclasses", node)
            elif name in ("__globals__", "func_globals") and isinstance(node.value, ast.Attribute) and node.value.attr in (  # noqa: E501
                "__init__", "__func__", "__new__", "__enter__", "__exit__", "__call__", "__repr__"
            ):  # fmt: skip
                self._add("evasive.frames", node, f"{node.value.attr}.{name}")
            elif name in ("f_builtins", "__builtins__") and path != "builtins":
                self._add("evasive.frames", node, name)
            elif name == "co_code":
                self._use(Capability.DYNAMIC_CODE, node, name)
            elif path in HOOK_LISTS:
                self._use(Capability.DYNAMIC_CODE, node, path)

    def _subscripts(self) -> None:
        for node, scope in self.index.subscripts:
            base = self.values.resolve(node.value, scope)
            if base is None:
                if (
                    isinstance(node.ctx, ast.Load)
                    and isinstance(node.value, ast.Attribute)
                    and node.value.attr
                    in (
                        "__globals__",
                        "f_globals",
                        "f_builtins",
                        "__dict__",
                        "func_globals",
                    )
                ):
                    name = self.folder.fold(node.slice, scope)
                    if isinstance(name, str) and (
                        name
                        in ("__builtins__", "os", "sys", "eval", "exec", "__import__", "system", "subprocess")
                    ):
                        self._add("evasive.frames", node, name, decoded=name)
                continue
            reference = self.values.resolve(node, scope)
            if reference is None:
                if base.path in (
                    "builtins",
                    "os",
                    "subprocess",
                    "sys.modules",
                    "<namespace>",
                ) and self.values.near_origins(node.slice, scope) & (HIDING & ~Origin.REVERSED):
                    self._add("hidden.attribute", node, base.path)
                continue
            if reference.hidden and (
                reference.path in STRONG_TARGETS
                or reference.path in ("os", "subprocess", "builtins", "ctypes", "importlib", "socket", "pty")
            ):
                self._add("hidden.attribute", node, reference.path, decoded=reference.path)
            elif base.path == "builtins" and reference.path in STRONG_TARGETS:
                self._add("evasive.literal_reflection", node, reference.path, severity=Severity.HIGH)
            elif base.path in ("sys.modules", "<namespace>") and reference.path in (
                "os",
                "subprocess",
                "builtins",
                "pty",
                "ctypes",
            ):
                self._add("evasive.literal_reflection", node, f"{base.path}[{reference.path!r}]")

    def _assignments(self) -> None:
        for target, value, scope in self.index.assignments:
            if isinstance(target, ast.Attribute) and target.attr in ("__code__", "func_code"):
                self._add("evasive.code_object", target, target.attr)
                continue
            replaced = (
                self.values.resolve(target, scope)
                if isinstance(target, ast.Attribute)
                else self.values.resolve(target.value, scope)
                if isinstance(target, ast.Subscript)
                else None
            )
            source = self.values.resolve(value, scope)
            if (
                source is not None
                and source.path in STRONG_TARGETS
                and source.path != (replaced.path if replaced else "")
            ):
                known = replaced is not None and replaced.path.split(".")[0] in STDLIB
                self._add(
                    "evasive.override" if known else "evasive.indirect_call",
                    target,
                    source.path,
                    severity=Severity.LOW if not known and source.path == "builtins.__import__" else None,
                )
            elif replaced is not None and replaced.path in (
                "builtins.__import__",
                "builtins.open",
                "builtins.exec",
                "builtins.eval",
                "builtins.print",
            ):
                self._add(
                    "evasive.override",
                    target,
                    replaced.path,
                    severity=Severity.MEDIUM if "__import__" in replaced.path else Severity.LOW,
                )
            elif replaced is not None and replaced.path in HOOK_LISTS:
                self._add("evasive.import_hook", target, replaced.path, severity=Severity.MEDIUM)

    def _decorators(self) -> None:
        for decorator, decorated, scope in self.index.decorators:
            reference = self.values.resolve(decorator, scope)
            if (reference is not None and reference.path in STRONG_TARGETS) or (
                reference is not None
                and reference.path == "builtins.input"
                and len(getattr(decorated, "decorator_list", [])) > 1
            ):
                self._add("evasive.decorator", decorator, reference.path)

    def _classes(self) -> None:
        for node, inner in self.index.classes:
            for statement in node.body:
                if isinstance(statement, ast.Assign):
                    reference = self.values.resolve(statement.value, inner)
                    if reference is not None and reference.path in STRONG_TARGETS:
                        names = [target.id for target in statement.targets if isinstance(target, ast.Name)]
                        special = any(name.startswith("__") for name in names)
                        self._add(
                            "evasive.decorator" if special else "evasive.indirect_call",
                            statement,
                            f"{' '.join(names)} = {reference.path}",
                        )
                elif isinstance(statement, ast.FunctionDef) and statement.name in (
                    "__reduce__",
                    "__reduce_ex__",
                ):
                    self._reduce(statement, inner)
            for keyword in node.keywords:
                if keyword.arg == "metaclass":
                    reference = self.values.resolve(keyword.value, inner)
                    if reference is not None and reference.path in STRONG_TARGETS:
                        self._add("evasive.decorator", keyword.value, f"metaclass={reference.path}")

    def _reduce(self, function: ast.FunctionDef, scope: Scope) -> None:
        inner = self.index.scopes.get(id(function), scope)
        for part in ast.walk(function):
            if isinstance(part, ast.Return) and isinstance(part.value, ast.Tuple) and part.value.elts:
                reference = self.values.resolve(part.value.elts[0], inner)
                if reference is not None and reference.path in STRONG_TARGETS:
                    self._add("deserialise.payload", part, f"{function.name} returns {reference.path}")

    def _joins(self) -> None:
        for node, scope in self.index.joins:
            value = self.folder.fold(node, scope)
            if not isinstance(value, str | bytes) or not 2 < len(value) <= 100_000:
                continue
            text = value if isinstance(value, str) else value.decode("latin-1")
            if text in TELLING_NAMES:
                self._add("hidden.string", node, text, decoded=text)
            elif self.values.origins(node, scope) & (HIDING & ~Origin.REVERSED):
                report_decoded(self.out, text, "folded", node.lineno, node.col_offset + 1)

    def _strings(self) -> None:
        for node in self.index.strings:
            value = node.value
            if not isinstance(value, str | bytes):
                continue
            text = value if isinstance(value, str) else value.decode("latin-1")
            if len(text) >= 16:
                if "__" in text and _ATTRIBUTE_WALK.search(text):
                    self._add("evasive.format_walk", node, text)
                if len(text) > MAX_FOLDED_LENGTH and looks_encoded(text):
                    self._add("limit.payloads", node, f"{len(text)} characters in one literal")
                for label, decoded in guess_layers(text):
                    self.out.payload(decoded, label, node.lineno)
                if (
                    isinstance(value, bytes)
                    and len(value) > 24
                    and value[:1] in (b"\x80", b"c")
                    and b"." in value[-2:]
                ):
                    self.out.payload(value, "bytes", node.lineno, "serialised")
                if isinstance(value, str) and value.lstrip()[:8].startswith(("!!python", '{"py/')):
                    self.out.payload(value, "text", node.lineno, "serialised")

    def _identifiers(self) -> None:
        if self.source.isascii():
            return
        for number, text in enumerate(self.source.split("\n"), 1):
            if not text.isascii():
                self._identifiers_of(text, number)

    def _identifiers_of(self, text: str, number: int) -> None:
        for match in re.finditer(r"[^\W\d][\w]*", text):
            word = match.group(0)
            if word.isascii():
                continue
            folded = unicodedata.normalize("NFKC", word)
            if (
                folded.isascii()
                and folded != word
                and (
                    folded in SENSITIVE_NAMES
                    or folded in ("getattr", "globals", "open", "print", "chr", "decode")
                )
            ):
                self._add(
                    "evasive.identifier",
                    None,
                    folded,
                    decoded=folded,
                    line=number,
                )


def parse_python(source: str | bytes) -> ast.Module | None:
    """Parse, or return None when the parser refuses for any reason."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError, UnicodeError):
        return None


def scan_python(
    tree: ast.Module, source: str, collector: Collector, local_modules: Mapping[str, Mapping[str, object]]
) -> None:
    """Apply every Python rule to one parsed file."""
    index = index_python(tree)
    try:
        PythonRules(index, source, collector, local_modules).run()
    finally:
        index.release()


def _is_hierarchy_walk(node: ast.AST) -> bool:
    """Whether ``node`` climbs to ``object``: ``().__class__.__base__``, ``x.__mro__[-1]``, ``type.mro()``."""
    while isinstance(node, ast.Subscript | ast.Call):
        node = node.value if isinstance(node, ast.Subscript) else node.func
    return (isinstance(node, ast.Attribute) and node.attr in ("__base__", "__bases__", "__mro__", "mro")) or (
        isinstance(node, ast.Name) and node.id == "object"
    )
