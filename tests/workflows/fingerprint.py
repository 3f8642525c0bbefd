"""The order of commands that a workflow's code can give, read from its syntax tree.

Temporal replays a run's history against the present code. A command that is added, removed or moved breaks
runs in flight unless it is guarded by ``workflow.patched``. The fingerprint sees such an edit before any
history does.
"""

import ast
import hashlib
import importlib
import inspect
import pkgutil
import textwrap

import workflows

COMMANDS = frozenset(
    {
        *("execute_activity", "execute_activity_method", "start_activity", "start_activity_method"),
        *("execute_local_activity", "execute_local_activity_method", "start_local_activity"),
        *("start_local_activity_method", "execute_child_workflow", "start_child_workflow"),
        *("sleep", "wait_condition", "wait", "gather", "shield", "create_task", "ensure_future"),
        *("continue_as_new", "upsert_search_attributes", "upsert_memo", "patched", "deprecate_patch"),
        *("random", "uuid4", "now", "signal", "cancel", "flush"),
    }
)
"""Calls that write into the history, or decide the order in which others do."""


def workflow_classes() -> list[type]:
    """Return every workflow class of the product, by name; the pure engines below have none."""
    found: dict[str, type] = {}
    for module_info in pkgutil.iter_modules(workflows.__path__, "workflows."):
        if module_info.ispkg:
            continue
        module = importlib.import_module(module_info.name)
        for _, member in inspect.getmembers(module, inspect.isclass):
            if member.__module__ == module.__name__ and hasattr(member, "__temporal_workflow_definition"):
                found[member.__name__] = member
    return [found[name] for name in sorted(found)]


def commands_of(workflow_class: type) -> list[str]:
    """List, method by method, the commands and the control flow around them, as they stand in the source.

    Arguments do not count, except the activity or child workflow that is meant; nor do comments, names of
    variables and the order of methods.
    """
    tree = ast.parse(textwrap.dedent(inspect.getsource(workflow_class)))
    definition = tree.body[0]
    assert isinstance(definition, ast.ClassDef)
    listed: list[str] = []
    for method in sorted(
        (node for node in definition.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)),
        key=lambda node: node.name,
    ):
        walker = _Commands()
        for statement in method.body:
            walker.visit(statement)
        if walker.found:
            listed.append(f"{method.name}: {' '.join(walker.found)}")
    return listed


def fingerprint(workflow_class: type) -> str:
    """Return a short hash of `commands_of`."""
    return hashlib.sha256("\n".join(commands_of(workflow_class)).encode()).hexdigest()[:16]


class _Commands(ast.NodeVisitor):
    """Collects commands in evaluation order, with brackets where control flow begins and ends."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in COMMANDS:
            meant = f"({ast.unparse(node.args[0])})" if node.args and "execute" in name else ""
            self.found.append(f"{name}{meant}")
        elif isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "self":
            # A method of the workflow: where it is called matters as much as what it does.
            self.found.append(f"self.{name}")

    def visit(self, node: ast.AST) -> None:
        before = len(self.found)
        super().visit(node)
        if isinstance(node, _CONTROL) and len(self.found) > before:
            self.found.insert(before, f"{type(node).__name__.lower()}[")
            self.found.append("]")


_CONTROL = (
    *(ast.If, ast.For, ast.While, ast.Try, ast.IfExp, ast.AsyncFor),
    *(ast.With, ast.AsyncWith, ast.Match, ast.ExceptHandler),
)
