"""``switchyard flows watch``: the diagram as a tree, with what happens in it as it happens."""

import json as json_module
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.tree import Tree

from cli.exit import ExitStatus
from cli.flows_deployed import BASE
from cli.flows_instances import InstanceId, trace_line
from cli.output import JsonOption, clean, note

if TYPE_CHECKING:
    from cli.client import ApiClient
    from workflows.bpmn.definition import FlowNode, ProcessDefinition

_MARKS = {"started": "▶", "completed": "✔", "cancelled": "✘", "failed": "✘", "caught": "⚡", "thrown": "⚡"}
_STYLES = {
    "started": "bold yellow", "completed": "green", "cancelled": "dim", "failed": "bold red",
    "incident": "bold red", "caught": "cyan", "thrown": "cyan",
}  # fmt: skip


def watch(instance_id: InstanceId, json: JsonOption = False) -> None:
    """Follow an instance: a tree of its elements with their progress. The status is 0 if it completed."""
    from cli.client import connect

    with connect() as client:
        follow(client, instance_id, json=json)


def follow(client: "ApiClient", instance_id: str, *, json: bool) -> None:
    """Show an instance until it ends: as a tree on a terminal, else a line per event.

    Raises:
        typer.Exit: It did not complete.
    """
    from cli.stream import follow_run

    console = Console()
    live: Live | None = None
    progress = None
    if console.is_terminal and not json:
        shown = client.get(f"{BASE}/instances/{instance_id}")
        definition = client.get(f"{BASE}/definitions/{shown['definitionId']}")
        progress = Progress(definition["bpmnXml"], definition["processKey"], instance_id)
        live = Live(progress.tree(), console=console, refresh_per_second=8)
        live.start()
    began = ""
    try:
        for event in follow_run(client, instance_id):
            began = began or event["timestamp"]
            if progress is not None and live is not None:
                progress.note(event)
                live.update(progress.tree())
            elif json:
                typer.echo(json_module.dumps(event, ensure_ascii=False))
            else:
                typer.echo(trace_line(event, began))
    finally:
        if live is not None:
            live.stop()
    status = client.get(f"{BASE}/instances/{instance_id}")["status"]
    if status != "completed":
        note(f"{instance_id} is {status}.")
        raise typer.Exit(ExitStatus.FAILURE)


class Progress:
    """What has happened at each element of a process.

    Args:
        bpmn_xml: The deployed file.
        process_key: Its process.
        title: Shown at the top.
    """

    def __init__(self, bpmn_xml: str, process_key: str, title: str) -> None:
        from api.process_deployment import as_utf8
        from workflows.bpmn.parser import parse

        parsed = parse(as_utf8(bpmn_xml))
        self._definition: ProcessDefinition = next(
            process for process in parsed.processes if process.id == process_key
        )
        self._title = title
        self._state: dict[str, str] = {}
        self._count: dict[str, int] = {}
        self._incidents: dict[str, str] = {}
        self._last = "waiting for the first event"

    def note(self, event: dict[str, Any]) -> None:
        """Take one event of the run in."""
        kind, _, what = str(event["type"]).partition(".")
        element = event["data"].get("element")
        self._last = f"{event['seq']} {event['type']}"
        if element is None:
            return
        if kind == "incident":
            if what == "raised":
                self._incidents[element] = str(event["data"].get("message", ""))
            else:
                self._incidents.pop(element, None)
        elif what in _MARKS:
            self._state[element] = what
            self._count[element] = self._count.get(element, 0) + (what in ("completed", "caught"))

    def tree(self) -> Tree:
        """Return the process as it stands, sub-processes as branches, in document order."""
        done = sum(
            1 for node in self._definition.nodes if self._state.get(node.id) in ("completed", "caught")
        )
        total = len(self._definition.nodes)
        name = self._definition.name or self._definition.id
        root = Tree(
            f"[bold]{escape(clean(name))}[/bold]  {self._title}  {done}/{total}  [dim]{self._last}[/dim]"
        )
        branches: dict[str | None, Tree] = {None: root}
        for node in self._definition.nodes:
            branch = branches.get(node.parent, root)
            branches[node.id] = branch.add(self._label(node))
        return root

    def _label(self, node: "FlowNode") -> str:
        state = self._state.get(node.id, "")
        label = escape(clean(node.name or node.id))
        count = self._count.get(node.id, 0)
        times = f" ({count} times)" if count > 1 else ""
        if node.id in self._incidents:
            reason = escape(clean(self._incidents[node.id])[:100])
            return f"[{_STYLES['incident']}]✘ {label}[/]  {reason}"
        if not state:
            return f"[dim]· {label}[/dim]"
        return f"[{_STYLES[state]}]{_MARKS[state]} {label}{times}[/]"
