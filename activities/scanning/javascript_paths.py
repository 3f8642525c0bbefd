"""Dotted names of JavaScript, and the parts of calls and functions."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tree_sitter import Node

from activities.scanning.javascript_names import GLOBAL_OBJECTS
from activities.scanning.javascript_scopes import FUNCTION_KINDS

if TYPE_CHECKING:
    pass


COMPUTED_MODULE = "module:<computed>"


@dataclass(frozen=True, slots=True)
class Reference:
    """A dotted name that an expression stands for.

    Attributes:
        path: Canonical dotted name; modules are ``module:name``.
        hidden: A part was folded or decoded instead of written.
        reflective: A part was fetched by a plainly written name in brackets or by reflection.
    """

    path: str
    hidden: bool = False
    reflective: bool = False


LEAVES = frozenset(
    [
        "string",
        "number",
        "true",
        "false",
        "null",
        "undefined",
        "regex",
        "this",
        "property_identifier",
        "string_fragment",
        "escape_sequence",
        "comment",
        "super",
    ]
)


_LOADERS = frozenset(
    [
        "require",
        "import",
        "process.mainModule.require",
        "require.main.require",
        "module:module._load",
        "module.constructor._load",
        "process.getBuiltinModule",
        "module.parent.require",
        "__non_webpack_require__",
        "module:module.prototype.require",
        "importScripts",
        "module.children.require",
        "process.mainModule.constructor._load",
        "require.main.constructor._load",
    ]
)


def arguments_of(node: Node) -> list[Node]:
    """Return the argument expressions of a call or ``new``; comments are left out."""
    arguments = node.child_by_field_name("arguments")
    if arguments is None:
        return []
    if arguments.type == "template_string":
        return [arguments]
    return [child for child in arguments.named_children if child.type != "comment"]


def returned_values(function: Node) -> list[Node]:
    """Return the returned expressions of a function, inner functions left out."""
    body = function.child_by_field_name("body")
    if body is None:
        return []
    if body.type != "statement_block":
        return [body]
    found: list[Node] = []
    stack = [body]
    steps = 0
    while stack and steps < 600:
        node = stack.pop()
        steps += 1
        if node.type in ("return_statement", "yield_expression"):
            found.extend(node.named_children[:1])
        elif node.type not in FUNCTION_KINDS and node.type not in LEAVES:
            stack.extend(node.named_children)
    return found[:8]


def member_of(base: Reference, name: str) -> Reference:
    """Return the member ``name`` of ``base`` in canonical form."""
    if base.path == "globalThis":
        if name in GLOBAL_OBJECTS:
            return base
        return Reference(name, base.hidden, base.reflective)
    if base.path.startswith("module:") and name in ("default", "module.exports", "value"):
        return base
    if base.path in ("require", "import") and name in ("call", "apply", "bind"):
        return Reference(f"{base.path}.{name}", base.hidden, base.reflective)
    if base.path == "module:process" or base.path == "process.default":
        return Reference(f"process.{name}", base.hidden, base.reflective)
    if base.path == "module:fs" and name == "promises":
        return Reference("module:fs/promises", base.hidden, base.reflective)
    if base.path == "module:buffer" and name in ("Buffer", "atob"):
        return Reference(name, base.hidden, base.reflective)
    if base.path in ("globalThis", "module:module") and name == "Module":
        return base
    if base.path == "module" and name == "require":
        return Reference("require", base.hidden, True)
    return Reference(f"{base.path}.{name}", base.hidden, base.reflective)


def is_loader(path: str) -> bool:
    """Whether calling ``path`` loads the module named by the first argument."""
    return path in _LOADERS


def module_path(name: str) -> str:
    """Return the dotted name of a module."""
    return "module:" + name.removeprefix("node:")


def sensitive(path: str) -> bool:
    """Whether a name is worth more than another possible value of the same variable."""
    return path.startswith(
        (
            "module:",
            "process",
            "globalThis",
            "require",
            "eval",
            "Function",
            "Reflect",
            "import",
            "module",
            "Buffer",
            "atob",
            "Worker",
            "set",
            "fetch",
        )
    ) or executing(path)


def executing(path: str) -> bool:
    """Whether a name executes code or starts processes."""
    return path in ("eval", "Function", "require", "AsyncFunction") or path.startswith(
        ("module:child_process", "module:vm", "process.binding", "process.mainModule")
    )
