"""``switchyard payouts list | show | status | run | retry | beneficiary | payee``."""

from typing import Annotated, Any

import typer

from cli.output import JsonOption, note, print_facts, print_json, print_table

_COLUMNS = {
    "payout_id": "PAYOUT",
    "period": "PERIOD",
    "amount": "AMOUNT",
    "status": "STATUS",
    "developer_id": "DEVELOPER",
    "failure_code": "FAILURE",
    "paid_at": "PAID",
}
_PLAN = {"developer_id": "DEVELOPER", "amount": "AMOUNT", "pays": "PAYS", "reason": "STAYS BECAUSE"}
_BENEFICIARIES = {
    "beneficiary_id": "BENEFICIARY",
    "user_id": "DEVELOPER",
    "currency": "CURRENCY",
    "rail": "RAIL",
    "destination": "DESTINATION",
    "name": "NAME",
    "status": "STATUS",
}

Period = Annotated[
    str | None, typer.Option("--period", help="ISO week, such as 2026-W47; default: this one.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    payouts = typer.Typer(help="What developers are sent every week.", no_args_is_help=True)
    payouts.command("list")(list_)
    payouts.command("show")(show)
    payouts.command("run")(run)
    payouts.command("status")(status)
    payouts.command("retry")(retry)
    payouts.command("payee")(payee)
    beneficiary = typer.Typer(help="Where your money goes.", no_args_is_help=True)
    beneficiary.command("list")(list_beneficiaries)
    beneficiary.command("register")(register_beneficiary)
    beneficiary.command("verify")(verify_beneficiary)
    payouts.add_typer(beneficiary, name="beneficiary")
    app.add_typer(payouts, name="payouts", rich_help_panel="Money")


def list_(
    period: Period = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
    json: JsonOption = False,
) -> None:
    """List payouts, newest first: yours, or everybody's for the platform's finance people."""
    from cli.client import connect

    with connect() as client:
        found = list(client.items("/payouts", maximum=limit, period=period))
    if json:
        print_json(found)
    else:
        print_table(_COLUMNS, [_row(each) for each in found], empty="Nothing was paid out yet.")


def show(
    payout_id: Annotated[str, typer.Argument(help="Id of the payout.")], json: JsonOption = False
) -> None:
    """Show one payout with its statement."""
    from cli.client import connect
    from models.money import format_amount

    with connect() as client:
        found = client.get(f"/payouts/{payout_id}")
    if json:
        print_json(found)
        return
    statement = {
        name: format_amount(amount, found["currency"]) for name, amount in found["statement"].items()
    }
    row = _row(found)
    print_facts({name: row[name] for name in _COLUMNS} | statement | {"reference": found["reference"]})


def run(
    period: Period = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be done, and change nothing.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Pay a period's earnings out (the platform's finance); repeating it pays nobody twice."""
    from cli.client import connect

    with connect() as client:
        if dry_run:
            planned = client.get("/payout-runs/plan", period=period)
        else:
            planned = client.post("/payout-runs", {"period": period} if period else {})
    if json:
        print_json(planned)
    elif dry_run:
        print_table(_PLAN, [_row(each) for each in planned], empty="Nobody has a balance.")
    else:
        note(f"{planned['period']} is being paid out; see `switchyard payouts status`.")


def status(period: Period = None, json: JsonOption = False) -> None:
    """Count a period's payouts by status and currency."""
    from collections import Counter

    from cli.client import connect
    from models.money import format_amount
    from models.payout import period_of
    from models.table import utc_now

    chosen = period or period_of(utc_now())
    with connect() as client:
        found = list(client.items("/payouts", period=chosen))
    counts = Counter((each["status"], each["currency"]) for each in found)
    lines: list[dict[str, Any]] = []
    for (state, currency), count in sorted(counts.items()):
        total = sum(
            each["amount"] for each in found if (each["status"], each["currency"]) == (state, currency)
        )
        lines.append({"status": state, "count": count, "amount": format_amount(total, currency)})
    if json:
        print_json({"period": chosen, "payouts": lines})
    else:
        print_table(
            {"status": "STATUS", "count": "PAYOUTS", "amount": "AMOUNT"},
            lines,
            empty=f"No payouts in {chosen}.",
        )


def retry(
    payout_id: Annotated[str, typer.Argument(help="Id of a payout that failed or was reversed.")],
    json: JsonOption = False,
) -> None:
    """Send what a failed payout gave back, as the next attempt of its period (the platform's finance)."""
    from cli.client import connect

    with connect() as client:
        found = client.post(f"/payouts/{payout_id}/retry", {})
    if json:
        print_json(found)
    else:
        note(f"{found['payout_id']} is attempt {found['number']} of {found['period']}.")


def payee(
    tenant_id: Annotated[str, typer.Argument(help="The developer's tenant.")],
    user_id: Annotated[str, typer.Argument(help="The developer.")],
    kyc: Annotated[str | None, typer.Option("--kyc", help="verified, unverified or rejected.")] = None,
    hold: Annotated[str | None, typer.Option("--hold", help="Keep the money back, for this reason.")] = None,
    release: Annotated[bool, typer.Option("--release", help="End the hold.")] = False,
    json: JsonOption = False,
) -> None:
    """Say whether a developer is known and may be paid (the platform's finance)."""
    from urllib.parse import quote

    from cli.client import connect

    flags: dict[str, Any] = {}
    if kyc is not None:
        flags["kyc_status"] = kyc
    if hold is not None:
        flags |= {"held": True, "hold_reason": hold}
    elif release:
        flags["held"] = False
    with connect() as client:
        found = client.put(f"/payees/{quote(tenant_id, safe='')}/{quote(user_id, safe='')}", flags)
    if json:
        print_json(found)
    else:
        print_facts(found)


def list_beneficiaries(json: JsonOption = False) -> None:
    """List where the money goes."""
    from cli.client import connect

    with connect() as client:
        found = client.get("/beneficiaries")
    if json:
        print_json(found)
    else:
        print_table(_BENEFICIARIES, found, empty="None; `switchyard payouts beneficiary register` adds one.")


def register_beneficiary(
    destination: Annotated[str, typer.Argument(help="The rail's own name for your account.")],
    name: Annotated[str, typer.Option("--name", help="Who holds the account.")],
    currency: Annotated[str, typer.Option("--currency", help="ISO 4217 code.")] = "INR",
    rail: Annotated[str, typer.Option("--rail", help="wallet, stripe or cashfree.")] = "wallet",
    json: JsonOption = False,
) -> None:
    """Register where your money in a currency goes; finance verifies it before anything is paid."""
    from cli.client import connect

    body = {"destination": destination, "name": name, "currency": currency, "rail": rail}
    with connect() as client:
        found = client.post("/beneficiaries", body)
    if json:
        print_json(found)
    else:
        note(f"{found['beneficiary_id']} is {found['status']}.")


def verify_beneficiary(
    beneficiary_id: Annotated[str, typer.Argument(help="Id of the beneficiary.")], json: JsonOption = False
) -> None:
    """Allow payouts to a beneficiary (the platform's finance)."""
    from cli.client import connect

    with connect() as client:
        found = client.post(f"/beneficiaries/{beneficiary_id}/verify", {})
    if json:
        print_json(found)
    else:
        note(f"{found['beneficiary_id']} is {found['status']}.")


def _row(found: dict[str, Any]) -> dict[str, Any]:
    from models.money import format_amount

    return found | {"amount": format_amount(found["amount"], found["currency"])}
