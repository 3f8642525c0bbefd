"""What compiled nodes are, and how large and deep the nodes they come from."""

from collections.abc import Callable
from typing import TypeAlias

from workflows.feel import syntax
from workflows.feel.runtime import Scope
from workflows.feel.values import Value

Program: TypeAlias = Callable[[Scope], Value]
"""Evaluates one node in a scope."""


def measure(root: syntax.Node, *, depth: bool = False) -> int:
    """Number of nodes of an expression, or its nesting."""
    if depth:
        return syntax.depth(root)
    size, pending = 0, [root]
    while pending:
        size += 1
        pending.extend(syntax.children(pending.pop()))
    return size


def lookup(scope: Scope, name: str) -> Value:
    """The innermost variable of a name; null where there is none."""
    here: Scope | None = scope
    while here is not None:
        if name in here.names:
            return here.names[name]
        here = here.parent
    return None
