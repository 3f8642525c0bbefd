"""``switchyard approvals list | show | ask | approve | reject | claim | reassign | delegate | bulk``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.exit import ExitStatus
from cli.output import JsonOption, print_facts, print_json, print_table

_COLUMNS = {
    "id": "ID",
    "title": "TITLE",
    "type": "TYPE",
    "status": "STATUS",
    "priority": "PRIORITY",
    "assignedTo": "ASSIGNED TO",
    "approvalGroup": "GROUP",
    "dueAt": "DUE",
    "createdAt": "ASKED",
}
_DECISIONS = {
    "decidedAt": "WHEN",
    "approver": "WHO",
    "onBehalfOf": "FOR",
    "via": "VIA",
    "action": "ACTION",
    "reason": "WHY",
}
_REMARKS = {"createdAt": "WHEN", "author": "WHO", "kind": "KIND", "text": "TEXT"}
_BULK = {"approvalId": "ID", "status": "STATUS", "result": "RESULT", "why": "WHY"}

ApprovalArgument = Annotated[str, typer.Argument(help="The approval's id (apr_…).")]
ReasonOption = Annotated[str, typer.Option(help="Why; it is recorded.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    approvals = typer.Typer(help="Decide what people are asked to decide.", no_args_is_help=True)
    for name, command in (
        ("list", list_),
        ("show", show),
        ("ask", ask),
        ("approve", approve),
        ("reject", reject),
        ("claim", claim),
        ("release", release),
        ("reassign", reassign),
        ("delegate", delegate),
        ("comment", comment),
        ("bulk", bulk),
        ("group", group),
    ):
        approvals.command(name)(command)
    app.add_typer(approvals, name="approvals", rich_help_panel="People")


def list_(
    mine: Annotated[bool, typer.Option("--mine", help="Those that await your decision.")] = False,
    status: Annotated[str | None, typer.Option(help="`pending` is everything undecided.")] = "pending",
    every: Annotated[bool, typer.Option("--all", help="Decided ones, too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    json: JsonOption = False,
) -> None:
    """List requests, newest first."""
    from cli.client import connect

    rows: list[Any] = []
    cursor: str | None = None
    with connect() as client:
        while len(rows) < limit:
            page = client.get(
                "/api/approvals",
                status=None if every else status,
                assignedTo="me" if mine else None,
                limit=min(100, limit - len(rows)),
                cursor=cursor,
            )
            rows += page["approvals"]
            cursor = page["nextCursor"]
            if cursor is None:
                break
    if json:
        print_json(rows)
    else:
        print_table(_COLUMNS, rows, empty="Nothing waits.")


def show(approval: ApprovalArgument, json: JsonOption = False) -> None:
    """Show a request: what is asked, who decided, what was said."""
    from cli.client import connect

    with connect() as client:
        shown: dict[str, Any] = client.get(f"/api/approvals/{approval}")
    if json:
        print_json(shown)
        return
    names = ("id", "title", "type", "status", "result", "priority", "requestedBy", "assignees", "claimedBy")
    names += ("dueAt", "proceedsAt", "description", "context", "payload", "payloadHash", "completedBy")
    print_facts({name: shown[name] for name in names if shown[name] not in (None, "", [], {})})
    print_table(_DECISIONS, shown["decisions"], empty="Nobody has decided yet.")
    if shown["remarks"]:
        print_table(_REMARKS, shown["remarks"], empty="")


def ask(
    file: Annotated[Path, typer.Argument(help="JSON file with the request (docs/approvals.md).")],
    json: JsonOption = False,
) -> None:
    """Ask for an approval that no flow waits for."""
    from cli.agents import json_file
    from cli.client import connect

    with connect() as client:
        _print(client.post("/api/approvals", json_file(file)), json)


def approve(
    approval: ApprovalArgument,
    comment: Annotated[str | None, typer.Option(help="A remark.")] = None,
    seen: Annotated[
        str | None, typer.Option("--hash", help="payloadHash of what you saw; the present one by default.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Approve; of a manual task: done; of a veto: let it go on now."""
    _decide(approval, {"action": "approve", "comment": comment, "payloadHash": seen}, json)


def reject(approval: ApprovalArgument, reason: ReasonOption, json: JsonOption = False) -> None:
    """Reject; of a veto: use it."""
    _decide(approval, {"action": "reject", "comment": reason}, json)


def claim(approval: ApprovalArgument, json: JsonOption = False) -> None:
    """Claim a request, so that nobody else decides meanwhile."""
    _tell(approval, "claim", None, json)


def release(approval: ApprovalArgument, json: JsonOption = False) -> None:
    """Give a claim back."""
    _tell(approval, "release", None, json)


def reassign(
    approval: ApprovalArgument,
    to: Annotated[str, typer.Option(help="A group, or a person.")],
    reason: ReasonOption = "",
    json: JsonOption = False,
) -> None:
    """Let others decide instead."""
    _tell(approval, "reassign", {"assignTo": to, "reason": reason}, json)


def delegate(
    approval: ApprovalArgument,
    to: Annotated[str, typer.Option(help="Who decides in your place.")],
    reason: ReasonOption = "",
    json: JsonOption = False,
) -> None:
    """Let one more person decide in your place."""
    _tell(approval, "delegate", {"delegate": to, "reason": reason}, json)


def comment(
    approval: ApprovalArgument,
    text: Annotated[str, typer.Argument(help="What you say.")],
    question: Annotated[bool, typer.Option("--question", help="Stop the clocks until answered.")] = False,
    answer: Annotated[bool, typer.Option("--answer", help="It answers the open question.")] = False,
    json: JsonOption = False,
) -> None:
    """Say something about a request."""
    _tell(approval, "comments", {"text": text, "question": question, "answers": answer}, json)


def bulk(
    action: Annotated[str, typer.Argument(help="approve or reject.")],
    approvals: Annotated[list[str], typer.Argument(help="Ids of up to 100 requests.")],
    comment: Annotated[str | None, typer.Option(help="A remark; required for rejections.")] = None,
    json: JsonOption = False,
) -> None:
    """Give one verdict on many requests; each has its own result."""
    from cli.client import connect

    body = {"approvalIds": approvals, "action": action, "comment": comment}
    with connect() as client:
        results: list[dict[str, Any]] = client.post("/api/approvals/bulk-decide", body)["results"]
    if json:
        print_json(results)
    else:
        rows = [{**each, "why": (each["error"] or {}).get("message")} for each in results]
        print_table(_BULK, rows, empty="")
    if any(each["status"] == "refused" for each in results):
        raise typer.Exit(ExitStatus.REFUSED)


def group(
    name: Annotated[str, typer.Argument(help="The group's name.")],
    members: Annotated[list[str], typer.Argument(help="Everybody who belongs to it.")],
    json: JsonOption = False,
) -> None:
    """Set who belongs to a group (administrators and operators)."""
    from cli.client import connect

    with connect() as client:
        _print(client.put(f"/api/approvals/groups/{name}", {"members": members}), json)


def _decide(approval: str, body: dict[str, Any], json: bool) -> None:
    _tell(approval, "decide", body, json)


def _tell(approval: str, operation: str, body: dict[str, Any] | None, json: bool) -> None:
    from cli.client import connect

    with connect() as client:
        _print(client.post(f"/api/approvals/{approval}/{operation}", body), json)


def _print(answer: dict[str, Any], json: bool) -> None:
    if json:
        print_json(answer)
    else:
        print_facts(answer)
