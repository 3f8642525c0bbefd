"""``switchyard monitoring dashboard | agent | flow | costs | health | trace``."""

from typing import Annotated, Any

import typer

from cli.output import JsonOption, clean, print_facts, print_json, print_table

Period = Annotated[str, typer.Option(help="Hours or days to look back on: 24h, 7d.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    monitoring = typer.Typer(help="How runs, agents, processes and parts do.", no_args_is_help=True)
    monitoring.command("dashboard")(dashboard)
    monitoring.command("agent")(agent)
    monitoring.command("flow")(flow)
    monitoring.command("costs")(costs)
    monitoring.command("health")(health)
    monitoring.command("trace")(trace)
    app.add_typer(monitoring, name="monitoring", rich_help_panel="Operations")


def _get(path: str, **parameters: str) -> dict[str, Any]:
    from json import loads
    from urllib.parse import quote, urlencode

    from cli.client import connect

    query = f"?{urlencode(parameters)}" if parameters else ""
    with connect() as client:
        answer: dict[str, Any] = loads(client.download(quote(path) + query))
    return answer


def _show(found: dict[str, Any], lists: dict[str, dict[str, str]], json: bool) -> None:
    """Print single facts first, then each list as a table with its columns."""
    if json:
        print_json(found)
        return
    print_facts({name: value for name, value in found.items() if not isinstance(value, list | dict)})
    for name, columns in lists.items():
        if found[name]:
            print_table(columns, found[name], empty="")


def dashboard(json: JsonOption = False) -> None:
    """Show your tenant at a glance."""
    columns = {"kind": "KIND", "active": "ACTIVE", "completedToday": "COMPLETED", "failedToday": "FAILED"}
    _show(_get("/api/monitoring/dashboard"), {"byKind": columns | {"avgDuration": "AVERAGE MS"}}, json)


def agent(
    slug: Annotated[str, typer.Argument(help="The agent's slug.")],
    period: Period = "24h",
    json: JsonOption = False,
) -> None:
    """Show how an agent did."""
    lists = {
        "topErrors": {"code": "ERROR", "count": "COUNT"},
        "avgCost": {"currency": "CURRENCY", "amount": "COST PER CALL"},
    }
    _show(_get(f"/api/monitoring/agents/{slug}/metrics", period=period), lists, json)


def flow(
    definition_id: Annotated[str, typer.Argument(help="The process definition's id.")],
    period: Period = "7d",
    json: JsonOption = False,
) -> None:
    """Show how a process did and which of its elements take the time."""
    columns = {"elementId": "ELEMENT", "count": "COUNT", "failed": "FAILED", "p50": "P50 MS", "p95": "P95 MS"}
    lists = {"bottlenecks": columns | {"avgWaiting": "WAITING MS", "share": "SHARE"}}
    _show(_get(f"/api/monitoring/flows/{definition_id}/analytics", period=period), lists, json)


def costs(period: Period = "30d", json: JsonOption = False) -> None:
    """Show what agents cost your tenant."""
    columns = {"name": "AGENT", "calls": "CALLS", "currency": "CURRENCY", "amount": "AMOUNT"}
    _show(_get("/api/monitoring/costs", period=period), {"byAgent": columns}, json)


def health(json: JsonOption = False) -> None:
    """Show how every part does."""
    found = _get("/api/monitoring/health")
    if json:
        print_json(found)
        return
    services = [
        {"part": part, "state": state, "latency": found["latencies"].get(part, "")}
        for part, state in found["services"].items()
    ]
    print_table({"part": "PART", "state": "STATE", "latency": "MS"}, services, empty="")
    queues = [{"queue": name, **facts} for name, facts in found["queues"].items()]
    columns = {"queue": "QUEUE", "depth": "DEPTH", "oldestSeconds": "OLDEST S", "pollers": "POLLERS"}
    print_table(columns, queues, empty="")


def trace(
    run_id: Annotated[str, typer.Argument(help="Run id: an execution's, instance's, version's …")],
    json: JsonOption = False,
) -> None:
    """Show what happened in a run and how long each step took."""
    found = _get(f"/api/orchestrator/instances/{run_id}/trace")
    if json:
        print_json(found)
        return
    for step in found["timeline"]:
        length = "" if step["durationMs"] is None else f"{step['durationMs']} ms"
        what = step["data"].get("element") or step["data"].get("agent") or step["data"].get("code") or ""
        typer.echo(clean(f"{step['elapsedMs']:>9} ms  {step['type']:<26} {length:>12}  {what}".rstrip()))
    print_facts(
        {
            "duration_ms": found["duration"],
            "agent_calls": found["agentCalls"],
            "approvals": found["approvals"],
            "errors": len(found["errors"]),
            "steps": found["totals"]["steps"],
        }
    )
