"""``switchyard demo``: the main job, done before your eyes through the public API only (``make run``)."""

import base64
import json
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from models.errors import ConflictError, InvalidRequestError, PlatformError

if TYPE_CHECKING:
    from cli.client import ApiClient
    from cli.stack.embedded import EmbeddedStack

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "agents"
EXECUTIONS = 20
ENDED = frozenset({"success", "failed", "cancelled"})


class DemoFailedError(PlatformError):
    """Something that the demonstration promises did not happen."""

    code = "DEMO_FAILED"


@dataclass
class Publication:
    """One example agent on its way into the marketplace."""

    name: str
    agent_id: str = ""
    deployment_id: str = ""
    inputs: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass
class Row:
    """One execution as the display shows it."""

    number: int
    agent: str
    execution_id: str = ""
    status: str = "starting"
    shown: dict[str, Any] = field(default_factory=dict[str, Any])
    temporal_url: str = ""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Stack")(demo)


def demo(
    leave: Annotated[bool, typer.Option("--exit", help="Stop everything at the end.")] = False,
    executions: Annotated[int, typer.Option("--executions", min=1, max=500, help="How many.")] = EXECUTIONS,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Data directory of the stack.")] = None,
) -> None:
    """Start everything, publish and run paid agents, prove the books; stay up until Ctrl-C."""
    from cli.stack.embedded import EmbeddedStack
    from models.settings import load_settings

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console = Console(highlight=False, soft_wrap=True, width=120)
    stack = EmbeddedStack(data_dir or load_settings().data_dir, ports="fixed")
    begun = time.monotonic()
    with _shown_while_starting(stack, console):
        settings = stack.start()
    try:
        console.print(f"Everything is up after {time.monotonic() - begun:.1f} s\n")
        perform(settings.public_url, executions, console)
        addresses = stack.state.addresses
        console.print(
            f"\nAPI            {addresses.get('api')}  (OpenAPI: {addresses.get('api')}/openapi.json)"
        )
        console.print(f"Temporal Web   {settings.temporal_ui_url}")
        if not leave:
            console.print(
                "\nEverything stays up until Ctrl-C. In another terminal: .venv/bin/switchyard status"
            )
            _until_interrupted()
    finally:
        console.print("Stopping everything")
        stack.stop()


def perform(url: str, executions: int, console: Console) -> None:
    """Do the main job against the API at ``url``, saying what happens.

    Raises:
        DemoFailedError: A promise was broken.
        PlatformError: The API refused something that the demonstration needs.
    """
    with (
        _person(url, "dev", "developer", tenant="studio") as developer,
        _person(url, "rhea", "reviewer", tenant="platform") as reviewer,
        _person(url, "uma", "user", tenant="acme") as user,
        _person(url, "fay", "finance", tenant="platform") as finance,
    ):
        agents = [_publish(name, developer, reviewer, console) for name in _INPUTS]
        _refuse(developer, console)
        for agent in agents:
            agent.deployment_id = user.post(f"/agents/{agent.agent_id}/deploy", {"config": {}})[
                "deployment_id"
            ]
        wallet = user.post("/wallets", {"currency": "INR"})
        user.post(f"/wallets/{wallet['wallet_id']}/top-ups", {"amount": 20_000, "currency": "INR"})
        before = user.get(f"/wallets/{wallet['wallet_id']}")["available"]
        earned_before = _earned(developer)
        console.print(
            f"\numa has {_rupees(before)} in her wallet and starts {executions} executions at once:\n"
        )
        rows = _execute(url, user, agents, executions, console)
        after = user.get(f"/wallets/{wallet['wallet_id']}")
        _prove(user, developer, finance, rows, before - after["available"], earned_before, console)
        if after["held"]:
            raise DemoFailedError(f"{after['held']} is still held after every execution ended.")


def _person(url: str, name: str, role: str, *, tenant: str) -> "ApiClient":
    from cli.client import ApiClient

    with ApiClient(url, None) as anonymous:
        token = anonymous.post("/login", {"name": name, "roles": [role], "tenant": tenant})
    return ApiClient(url, token["access_token"])


def _text(name: str, file: str) -> str:
    return (EXAMPLES / name / "inputs" / file).read_text(encoding="utf-8")


_INPUTS: dict[str, Callable[[], dict[str, Any]]] = {
    "invoice-reconciler": lambda: {
        "invoices_csv": _text("invoice-reconciler", "invoices.csv"),
        "statement_csv": _text("invoice-reconciler", "statement.csv"),
        "as_of": "2026-11-20",
    },
    "access-log-analyst": lambda: {"log": _text("access-log-analyst", "access.log")},
    "currency-forecaster": lambda: {"rates_csv": _text("currency-forecaster", "rates.csv")},
}
"""The example agents that get published, and what they are run on."""


def _submission(name: str) -> dict[str, Any]:
    from activities.scanning.packing import pack_canonically

    folder = EXAMPLES / name
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "inputs" not in path.relative_to(folder).parts
    }
    return {
        "name": manifest["name"],
        "slug": manifest["slug"],
        "version": manifest["version"],
        "manifest": manifest,
        "code_base64": base64.b64encode(pack_canonically(files)).decode(),
    }


def _publish(name: str, developer: "ApiClient", reviewer: "ApiClient", console: Console) -> Publication:
    try:
        made = developer.post("/agents/register", _submission(name))
    except ConflictError as error:
        if error.code != "VERSION_EXISTS":
            raise
        # An earlier demonstration on the same data has published it.
        known = developer.get(f"/agents/{name}")
        console.print(f"[green]✓[/green] {name} is in the marketplace already")
        return Publication(name, known["agent_id"], inputs=_INPUTS[name]())
    version = reviewer.get(f"/agent-versions/{made['version_id']}")
    reviewer.post(
        f"/agent-versions/{made['version_id']}/approve",
        {"code_hash": version["code_hash"], "reason": "Reads its inputs and touches nothing else."},
    )
    console.print(
        f"[green]✓[/green] {name} {version['version']}: scanned ({made['status']}, "
        f"{made['warnings']} warnings), approved, published"
    )
    return Publication(name, made["agent_id"], inputs=_INPUTS[name]())


def _refuse(developer: "ApiClient", console: Console) -> None:
    try:
        developer.post("/agents/register", _submission("coupon-finder"))
    except InvalidRequestError as error:
        if error.code != "SCAN_FAILED":
            raise
        found = error.details["violations"][0]
        console.print(
            f"[green]✓[/green] coupon-finder is refused by the scanner: {found['rule']} in {found['file']}, "
            f"line {found['line']}: {escape(found['message'])}"
        )
        return
    raise DemoFailedError("The scanner let coupon-finder through, which executes what it hides.")


def _execute(
    url: str, user: "ApiClient", agents: list[Publication], count: int, console: Console
) -> list[Row]:
    """Start all at once and show them until the last has ended."""
    # One in ten is the one that fails on too little data.
    paying = [agent for agent in agents if agent.name != "currency-forecaster"]
    failing = next(agent for agent in agents if agent.name == "currency-forecaster")
    chosen = [failing if number % 10 == 9 else paying[number % len(paying)] for number in range(count)]
    rows = [Row(number, agent.name) for number, agent in enumerate(chosen, start=1)]

    def run(row: Row, agent: Publication) -> None:
        body = {"deployment_id": agent.deployment_id, "inputs": agent.inputs}
        started = user.post(f"/agents/{agent.agent_id}/execute", body)
        row.execution_id = started["execution_id"]
        row.temporal_url = user.get(f"/runs/{row.execution_id}")["temporal_url"]
        while row.status not in ENDED:
            row.shown = user.get(started["poll_url"])
            row.status = row.shown["status"]
            if row.status not in ENDED:
                time.sleep(0.4)

    with ThreadPoolExecutor(max_workers=min(count, 40)) as threads:
        running = [threads.submit(run, row, agent) for row, agent in zip(rows, chosen, strict=True)]
        if console.is_terminal:
            with Live(_table(rows), console=console, refresh_per_second=5) as live:
                while not all(future.done() for future in running):
                    live.update(_table(rows))
                    time.sleep(0.2)
                live.update(_table(rows))
        else:
            _count_aloud(rows, lambda: all(future.done() for future in running), console)
        for future in running:
            future.result()
    if not console.is_terminal:
        console.print(_table(rows))
    return rows


def _count_aloud(rows: list[Row], done: Callable[[], bool], console: Console) -> None:
    said = ""
    while True:
        finished = done()
        counts: dict[str, int] = {}
        for row in rows:
            counts[row.status] = counts.get(row.status, 0) + 1
        line = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        if line != said:
            console.print(f"  {line}")
            said = line
        if finished:
            return
        time.sleep(0.5)


_STYLES = {"success": "green", "failed": "red", "running": "yellow", "queued": "cyan"}


def _table(rows: list[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("#", "AGENT", "STATUS", "MS", "PAID", "RESULT"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        paid = row.shown.get("payment", {}).get("amount")
        table.add_row(
            str(row.number),
            row.agent,
            f"[{_STYLES.get(row.status, 'dim')}]{row.status}[/]",
            str(row.shown.get("duration_ms", "")),
            _rupees(paid) if paid is not None else "",
            escape(_result(row)),
        )
    return table


def _result(row: Row) -> str:
    if row.status == "failed":
        return f"{row.shown['error']['code']}: {row.shown['error']['stderr'].strip().splitlines()[-1][:60]}"
    outputs = row.shown.get("outputs")
    if not outputs:
        return ""
    if "summary" in outputs:
        return f"{len(outputs['overdue'])} overdue, {outputs['summary']['outstanding']} outstanding"
    found = f"{len(outputs['incidents'])} incident, {len(outputs['suspects'])} prober"
    return f"{outputs['requests']} requests, {found}"


def _prove(
    user: "ApiClient",
    developer: "ApiClient",
    finance: "ApiClient",
    rows: list[Row],
    spent: int,
    earned_before: int,
    console: Console,
) -> None:
    from activities.receipts import verify_export
    from activities.signing import Verifier

    succeeded = [row for row in rows if row.status == "success"]
    failed = [row for row in rows if row.status == "failed"]
    expected = sum(row.shown["payment"]["amount"] for row in succeeded)
    if len(succeeded) + len(failed) != len(rows) or any(row.agent != "currency-forecaster" for row in failed):
        raise DemoFailedError("An execution ended otherwise than it should have.")
    if spent != expected:
        raise DemoFailedError(f"{spent} was spent, but the successes cost {expected}.")
    console.print(
        f"\n[green]✓[/green] {len(succeeded)} succeeded and were charged {_rupees(expected)}; "
        f"{len(failed)} failed and were not charged"
    )
    with tempfile.TemporaryFile() as export:
        export.write(user.download("/receipts/export"))
        export.seek(0)
        verified = verify_export(export, Verifier.from_jwks(json.dumps(user.get("/receipts/keys"))))
    console.print(
        f"[green]✓[/green] {verified.receipts} receipts verified offline: chain, hashes and signatures hold"
    )
    for books in finance.get("/ledger/trial-balance"):
        if books["balances"] or books["postings_sum"]:
            raise DemoFailedError(f"The ledger of {books['currency']} does not balance: {books}")
        console.print(
            f"[green]✓[/green] the ledger is in balance: {books['postings']} postings on {books['accounts']} "
            f"accounts in {books['currency']} sum to 0"
        )
    console.print(
        f"[green]✓[/green] dev has earned {_rupees(_earned(developer) - earned_before)} by it (70 %)"
    )
    console.print("\nEach run in the Temporal Web UI:")
    for row in rows:
        console.print(f"  {row.number:>3} {row.status:<8} {row.temporal_url}", soft_wrap=True)


def _earned(developer: "ApiClient") -> int:
    summary = developer.get("/earnings")
    return sum(entry["pending"] for entry in summary["totals"] if entry["currency"] == "INR")


def _rupees(minor_units: int) -> str:
    return f"₹{minor_units // 100}.{minor_units % 100:02d}"


@contextmanager
def _shown_while_starting(stack: "EmbeddedStack", console: Console) -> Generator[None]:
    """Say of each part when it is ready, while another thread waits for the whole stack."""
    from cli.stack.state import read_state

    console.print("Starting the embedded stack (the first time, software is installed and an image is built)")
    ready = threading.Event()

    def watch() -> None:
        said: set[str] = set()
        while True:
            last = ready.is_set()
            state = read_state(stack.directory)
            for name, part in state.parts.items() if state is not None and state.phase != "stopped" else ():
                if part.phase in {"healthy", "done"} and name not in said:
                    said.add(name)
                    console.print(f"  [green]✓[/green] {name}")
            if last:
                return
            ready.wait(0.2)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ready.set()
        watcher.join()


def _until_interrupted() -> None:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return
