"""What the rules for JavaScript share: the indexed file, how they report, and the texts of an expression."""

import re
from collections.abc import Mapping

from tree_sitter import Node

from activities.scanning.decoding import guess_layers
from activities.scanning.findings import Collector, Origin
from activities.scanning.javascript_coercions import unescape
from activities.scanning.javascript_folding import JavaScriptFolder
from activities.scanning.javascript_names import (
    GLOBAL_CAPABILITIES,
    MODULE_CAPABILITIES,
)
from activities.scanning.javascript_scopes import FUNCTION_KINDS, JavaScriptIndex
from models.manifest import Capability
from models.scanning import Severity

CODE_SUFFIXES = (
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


FILE_NAME = re.compile(r"^[\w./ @-]{1,120}\.([A-Za-z0-9]{1,8})$")


_TEMPLATE = 8


class JavaScriptRuleBase:
    """One indexed file and the collector of its findings."""

    def __init__(
        self, index: JavaScriptIndex, collector: Collector, data: Mapping[str, Mapping[str, object]]
    ) -> None:
        self.index = index
        self.out = collector
        self.folder = JavaScriptFolder(index, data)
        self.values = self.folder.values
        self._dumps: list[Node] = []

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

    def _last_name(self, node: Node) -> str | None:
        property_node = node.child_by_field_name("property")
        if property_node is not None and node.type == "member_expression":
            return self.folder.unescape_identifier(self.index.text(property_node))
        index_node = node.child_by_field_name("index")
        if index_node is not None:
            name = self.folder.fold(index_node)
            return name if isinstance(name, str) else None
        return None

    def _near(self, argument: Node) -> int:
        """Origins of the expression itself; a template with code of its own is no split payload."""
        near = self.values.near_origins(argument)
        if near & Origin.SIBLING and any(
            len(text) >= _TEMPLATE and not FILE_NAME.match(text) for text in self._strings_in(argument)
        ):
            near &= ~Origin.SIBLING
        return near

    def _environment_dump(self, node: Node) -> None:
        self._dumps.append(node)
        self._add("environment.dump", node)

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
            match = FILE_NAME.match(name)
            if (
                match
                and not name.endswith(CODE_SUFFIXES)
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
        line, column = place(node)
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
        line, column = place(node)
        self.out.add(rule, line, column, detail, decoded=decoded, severity=severity)


def place(node: Node) -> tuple[int, int]:
    """Return line and column, from 1."""
    return node.start_point[0] + 1, node.start_point[1] + 1
