"""What the rules for Python share: the indexed module, how they report, and the texts of an expression."""

import ast
import re
from collections.abc import Mapping

from activities.scanning.findings import Collector, Origin
from activities.scanning.python_folding import PythonFolder
from activities.scanning.python_names import (
    CALL_CAPABILITIES,
    MODULE_CAPABILITIES,
)
from activities.scanning.python_scopes import PythonIndex, Scope
from models.manifest import Capability
from models.scanning import Severity

_TEMPLATE = 8


_CODE_SUFFIXES = (".py", ".pyw", ".pyi", ".cfg", ".in", ".tmpl", ".pyx")


_FILE_NAME = re.compile(r"^[\w./ -]{1,120}\.([A-Za-z0-9]{1,8})$")


class PythonRuleBase:
    """One indexed module and the collector of its findings."""

    def __init__(
        self,
        index: PythonIndex,
        source: str,
        collector: Collector,
        local_modules: Mapping[str, Mapping[str, object]],
    ) -> None:
        self.index = index
        self.source = source
        self.out = collector
        self.folder = PythonFolder(index, source, local_modules)
        self.values = self.folder.values
        self._dumps: list[ast.AST] = []
        self._called = {id(call.func) for call, _ in index.calls}

    def _capability_of(self, path: str, node: ast.AST) -> None:
        capability = CALL_CAPABILITIES.get(path)
        if capability is None:
            parts = path.split(".")
            for end in range(len(parts) - 1, 0, -1):
                capability = MODULE_CAPABILITIES.get(".".join(parts[:end])) or CALL_CAPABILITIES.get(
                    ".".join(parts[:end])
                )
                if capability is not None:
                    break
        if capability is not None:
            self._use(capability, node, path)

    def _environment_dump(self, node: ast.AST) -> None:
        self._dumps.append(node)
        self._add("environment.dump", node)

    def _near(self, argument: ast.AST, scope: Scope) -> int:
        """Origins of the expression itself; a template with code of its own is no split payload."""
        near = self.values.near_origins(argument, scope)
        if near & Origin.SIBLING and any(
            len(text) >= _TEMPLATE and not _FILE_NAME.match(text)
            for text in self._strings_in(argument, scope)
        ):
            near &= ~Origin.SIBLING
        return near

    def _data_file(self, argument: ast.AST, scope: Scope) -> str | None:
        """Name the file that flows into ``argument`` when it is not a code file, or None."""
        for name in self._strings_in(argument, scope):
            match = _FILE_NAME.match(name)
            if match and not name.endswith(_CODE_SUFFIXES) and not match.group(1).isdigit():
                return name
        return None

    def _strings_in(self, node: ast.AST, scope: Scope, depth: int = 0) -> list[str]:
        found: list[str] = []
        for part in ast.walk(node):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                found.append(part.value)
            elif isinstance(part, ast.Name) and depth < 4:
                for binding in scope.lookup(part.id)[:4]:
                    if binding.node is not None and isinstance(binding.node, ast.expr):
                        found.extend(self._strings_in(binding.node, binding.scope, depth + 1))
            elif isinstance(part, ast.BinOp | ast.JoinedStr):
                value = self.folder.fold(part, scope)
                if isinstance(value, str):
                    found.append(value)
            if len(found) > 64:
                break
        return found

    def _use(self, capability: Capability, node: ast.AST, what: str) -> None:
        self.out.use(capability, getattr(node, "lineno", 0), getattr(node, "col_offset", -1) + 1, what)

    def _add(
        self,
        rule: str,
        node: ast.AST | None,
        detail: str = "",
        *,
        decoded: object = None,
        severity: Severity | None = None,
        line: int = 0,
    ) -> None:
        self.out.add(
            rule,
            line or getattr(node, "lineno", 0),
            getattr(node, "col_offset", -1) + 1,
            detail,
            decoded=decoded,
            severity=severity,
        )
