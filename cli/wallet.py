"""``switchyard wallet show | top-up | history``: prepaid money of the person logged in."""

from typing import Annotated, Any

import typer

from cli.output import JsonOption, note, print_json, print_table

_WALLETS = {"wallet_id": "WALLET", "available": "AVAILABLE", "held": "ON HOLD", "created_at": "OPENED"}
_POSTINGS = {
    "created_at": "WHEN",
    "kind": "KIND",
    "amount": "AMOUNT",
    "balance_after": "BALANCE",
    "execution_id": "EXECUTION",
}

Currency = Annotated[str, typer.Option("--currency", help="ISO 4217 code.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    wallet = typer.Typer(help="Your prepaid money.", no_args_is_help=True)
    wallet.command("show")(show)
    wallet.command("top-up")(top_up)
    wallet.command("history")(history)
    app.add_typer(wallet, name="wallet", rich_help_panel="Money")


def show(json: JsonOption = False) -> None:
    """Show what your wallets hold."""
    from cli.client import connect

    with connect() as client:
        wallets = list(client.items("/wallets"))
    if json:
        print_json(wallets)
        return
    print_table(
        _WALLETS,
        [_worded(each) for each in wallets],
        empty="No wallet yet; `switchyard wallet top-up` opens one.",
    )


def top_up(
    amount: Annotated[int, typer.Argument(min=1, help="Minor units: 5000 is 50.00 INR.")],
    currency: Currency = "INR",
    json: JsonOption = False,
) -> None:
    """Put money into your wallet, opening it first where needed (embedded stack only)."""
    from cli.client import connect

    with connect() as client:
        wallet = client.post("/wallets", {"currency": currency})
        done = client.post(
            f"/wallets/{wallet['wallet_id']}/top-ups", {"amount": amount, "currency": currency}
        )
    if json:
        print_json(done)
        return
    after = _worded(done["wallet"])
    note(f"{after['wallet_id']}: {after['available']} available, {after['held']} on hold.")


def history(currency: Currency = "INR", json: JsonOption = False) -> None:
    """List what came into and left your wallet, newest first."""
    from cli.client import connect

    with connect() as client:
        found = [each for each in client.items("/wallets") if each["currency"] == currency]
        lines: list[Any] = []
        for wallet in found:
            lines += client.items(f"/ledger/accounts/{wallet['wallet_id']}/postings", maximum=100)
    if json:
        print_json(lines)
    else:
        print_table(_POSTINGS, [_line(each) for each in lines], empty=f"Nothing has moved in {currency}.")


def _worded(wallet: dict[str, Any]) -> dict[str, Any]:
    from models.money import format_amount

    amounts = {name: format_amount(wallet[name], wallet["currency"]) for name in ("available", "held")}
    return wallet | amounts


def _line(posting: dict[str, Any]) -> dict[str, Any]:
    from models.money import format_amount

    amounts = {
        name: format_amount(posting[name], posting["currency"]) for name in ("amount", "balance_after")
    }
    return posting | amounts
