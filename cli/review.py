"""``switchyard review list | show | test | approve | reject``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.agents import print_findings, print_test_result, print_version
from cli.exit import ExitStatus
from cli.output import JsonOption, clean, note, print_facts, print_json, print_table

_COLUMNS = {
    "version_id": "ID",
    "slug": "AGENT",
    "version": "VERSION",
    "status": "STATUS",
    "warnings": "WARNINGS",
    "developer_id": "DEVELOPER",
    "submitted_at": "SUBMITTED",
}

VersionArgument = Annotated[str, typer.Argument(help="The version's id (ver_…).")]
HashOption = Annotated[
    str | None,
    typer.Option("--hash", help="code_hash of the code you reviewed; the version's present one by default."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    review = typer.Typer(help="Decide on submitted versions.", no_args_is_help=True)
    for name, command in (
        ("list", list_),
        ("show", show),
        ("test", try_out),
        ("approve", approve),
        ("reject", reject),
    ):
        review.command(name)(command)
    app.add_typer(review, name="review", rich_help_panel="Agents")


def list_(
    every: Annotated[bool, typer.Option("--all", help="Decided versions, too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    json: JsonOption = False,
) -> None:
    """List the versions that wait for a decision."""
    from cli.client import connect

    rows: list[Any] = []
    with connect() as client:
        for status in (None,) if every else ("pending_review", "pending"):
            rows += client.items("/agent-versions", maximum=limit - len(rows), status=status)
    if json:
        print_json(rows)
    else:
        print_table(_COLUMNS, rows, empty="Nothing waits for a decision.")


def show(
    version: VersionArgument,
    file: Annotated[str | None, typer.Option(help="Show this file with the findings at its lines.")] = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Show what differs from the last approved version.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show a version: its findings, one of its files, or its differences."""
    from cli.client import connect

    path = f"/agent-versions/{version}"
    if file is not None:
        path += f"/files/{file}"
    elif diff:
        path += "/diff"
    with connect() as client:
        shown: dict[str, Any] = client.get(path)
    if json:
        print_json(shown)
    elif file is not None:
        _print_file(shown)
    elif diff:
        _print_diff(shown)
    else:
        print_version(shown)
        report = shown["scan_report"] or {"files": []}
        print_table(
            {"path": "FILE", "kind": "KIND", "size": "BYTES", "sha256": "SHA-256"},
            report["files"],
            empty="No files are kept.",
        )


def _print_file(shown: dict[str, Any]) -> None:
    if shown["encoding"] != "utf-8":
        note(f"{shown['path']} is not text ({shown['size']} bytes).")
        print_findings(shown["findings"])
        return
    findings: dict[int, list[dict[str, Any]]] = {}
    for finding in shown["findings"]:
        findings.setdefault(finding["line"], []).append(finding)
    for finding in findings.pop(0, []):
        typer.echo(clean(f"       ^ {finding['severity']} {finding['rule']}: {finding['message']}"))
    for number, line in enumerate(shown["content"].splitlines(), start=1):
        typer.echo(clean(f"{number:>5}  {line}"))
        for finding in findings.get(number, []):
            typer.echo(clean(f"       ^ {finding['severity']} {finding['rule']}: {finding['message']}"))


def _print_diff(shown: dict[str, Any]) -> None:
    against = shown["against_version"]
    note(f"Against {against}:" if against else "Nothing was approved before; everything is new.")
    for change in shown["manifest"]:
        typer.echo(f"manifest.{change['field']}:")
        print_facts({"  before": change["before"], "  after": change["after"]})
    for change in shown["files"]:
        typer.echo(clean(f"{change['change']}: {change['path']}"))
        if change["diff"] is not None and change["change"] != "removed":
            typer.echo(clean(change["diff"]))
    note(f"{shown['unchanged']} file(s) unchanged.")


def try_out(
    version: VersionArgument,
    inputs: Annotated[Path, typer.Option(help="JSON file with the inputs.")],
    json: JsonOption = False,
) -> None:
    """Run a version that waits for a decision in the sandbox; nobody is charged."""
    from cli.agents import json_file
    from cli.client import connect

    with connect() as client:
        body = {"inputs": json_file(inputs)}
        result: dict[str, Any] = client.post(f"/agent-versions/{version}/test-runs", body)
    if json:
        print_json(result)
    else:
        print_test_result(result)
    if result["exit_reason"] != "success":
        raise typer.Exit(ExitStatus.FAILURE)


def approve(
    version: VersionArgument,
    reason: Annotated[str | None, typer.Option(help="A remark for the developer.")] = None,
    code_hash: HashOption = None,
    json: JsonOption = False,
) -> None:
    """Publish a version."""
    _decide(version, "approve", reason, code_hash, json)


def reject(
    version: VersionArgument,
    reason: Annotated[str, typer.Option(help="What must change; the developer gets it by e-mail.")],
    code_hash: HashOption = None,
    json: JsonOption = False,
) -> None:
    """Refuse a version."""
    _decide(version, "reject", reason, code_hash, json)


def _decide(version: str, verb: str, reason: str | None, code_hash: str | None, json: bool) -> None:
    from cli.client import connect

    with connect() as client:
        chosen = code_hash or client.get(f"/agent-versions/{version}")["code_hash"]
        result = client.post(f"/agent-versions/{version}/{verb}", {"code_hash": chosen, "reason": reason})
    if json:
        print_json(result)
    else:
        print_facts(result)
