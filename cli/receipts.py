"""``switchyard receipts list | show | export | verify``: signed proofs of what was charged."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.exit import ExitStatus
from cli.output import JsonOption, note, print_facts, print_json, print_table

if TYPE_CHECKING:
    from activities.receipts import VerifiedExport
    from activities.signing import Verifier

_COLUMNS = {
    "chain_index": "NO",
    "receipt_id": "RECEIPT",
    "outcome": "OUTCOME",
    "amount": "AMOUNT",
    "agent_id": "AGENT",
    "execution_id": "EXECUTION",
    "issued_at": "ISSUED",
}

KEYS_SUFFIX = ".keys.json"
"""``export`` keeps the public keys beside the export, where ``verify`` looks for them."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    receipts = typer.Typer(help="Signed proofs of what was charged.", no_args_is_help=True)
    receipts.command("list")(list_)
    receipts.command("show")(show)
    receipts.command("export")(export)
    receipts.command("checkpoint")(checkpoint)
    receipts.command("verify")(verify)
    app.add_typer(receipts, name="receipts", rich_help_panel="Money")


def list_(
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
    json: JsonOption = False,
) -> None:
    """List your receipts, newest first."""
    from cli.client import connect

    with connect() as client:
        receipts = list(client.items("/receipts", maximum=limit))
    if json:
        print_json(receipts)
    else:
        print_table(_COLUMNS, [_row(each) for each in receipts], empty="You have no receipts.")


def show(
    receipt_id: Annotated[str, typer.Argument(help="Id of the receipt.")], json: JsonOption = False
) -> None:
    """Show one receipt with its place in the chain."""
    from urllib.parse import quote

    from cli.client import connect

    with connect() as client:
        receipt = client.get(f"/receipts/{quote(receipt_id, safe='')}")
    if json:
        print_json(receipt)
        return
    row = _row(receipt)
    chain = {name: receipt[name] for name in ("hash", "prev_hash", "kid")}
    print_facts({name: row[name] for name in _COLUMNS} | {"split": _split(receipt["body"])} | chain)


def export(
    target: Annotated[Path, typer.Argument(help="File to write, JSON Lines.")] = Path("receipts.jsonl"),
) -> None:
    """Download your tenant's whole chain, and the public keys beside it."""
    from cli.client import connect

    with connect() as client:
        target.write_bytes(client.download("/receipts/export"))
        keys = target.with_name(target.name + KEYS_SUFFIX)
        keys.write_bytes(client.download("/receipts/keys"))
    note(f"{target} (keys: {keys}). Check it with `switchyard receipts verify {target}`.")


def checkpoint(
    target: Annotated[Path, typer.Argument(help="File to write.")] = Path("checkpoint.json"),
) -> None:
    """Keep the signed root of your tenant's receipts as they are now, for `verify --checkpoint`."""
    from cli.client import connect
    from models.checkpoint import SignedCheckpoint

    with connect() as client:
        signed = SignedCheckpoint.model_validate(client.get("/receipts/checkpoint"))
    target.write_text(signed.model_dump_json() + "\n")
    note(f"{target}: {signed.checkpoint.size} receipts, root {signed.checkpoint.root}.")


def verify(
    exported: Annotated[
        Path | None,
        typer.Argument(
            metavar="EXPORT",
            help="A file of `receipts export`; left out: fetched now.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(
            "--keys", help="Public keys (JWKS); default: EXPORT.keys.json.", exists=True, dir_okay=False
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            help="A file of `receipts checkpoint`: nothing it states may be missing or changed.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Verify a whole export: every signature, hash and link, and the chain's stated length.

    With EXPORT it works offline and needs nothing but the public key. Exit status 1: it does not verify.
    """
    from activities.receipts import verify_export
    from models.money import format_amount
    from models.receipt import ReceiptChainBrokenError

    lines, verifier = _fetched(keys) if exported is None else _stored(exported, keys)
    try:
        result = verify_export(lines, verifier)
        if checkpoint is not None:
            _check_checkpoint(checkpoint, lines, result, verifier)
    except ReceiptChainBrokenError as error:
        if json:
            print_json({"valid": False, **error.details})
        else:
            note(f"NOT VALID. {error.message}")
        raise typer.Exit(ExitStatus.FAILURE) from None
    if json:
        print_json({"valid": True, **result.model_dump()})
        return
    charged = ", ".join(
        format_amount(amount, currency) for currency, amount in sorted(result.charged.items())
    )
    typer.echo(
        f"valid: {result.receipts} receipts of {result.tenant_id}; {result.readable} readable "
        f"({result.settled} settled, {result.declined} declined, {result.refunded} refunded, "
        f"{result.refused} refused), charged {charged or 'nothing'}"
    )


def _check_checkpoint(kept: Path, lines: list[bytes], export: "VerifiedExport", verifier: "Verifier") -> None:
    from pydantic import ValidationError

    from activities.checkpoint import verify_checkpoint
    from models.checkpoint import SignedCheckpoint
    from models.receipt import ReceiptEntry

    try:
        signed = SignedCheckpoint.model_validate_json(kept.read_bytes())
    except ValidationError:
        raise typer.BadParameter(f"{kept} is not a file of `switchyard receipts checkpoint`") from None
    leaves = [bytes.fromhex(ReceiptEntry.model_validate_json(line).hash) for line in lines[1:]]
    verify_checkpoint(signed, leaves, export, verifier)


def _stored(exported: Path, keys: Path | None) -> "tuple[list[bytes], Verifier]":
    from activities.signing import Verifier

    key_file = keys or exported.with_name(exported.name + KEYS_SUFFIX)
    if not key_file.exists():
        raise typer.BadParameter(
            f"the public keys are not at {key_file}; give them with --keys (JWKS of GET /receipts/keys)"
        )
    return exported.read_bytes().splitlines(keepends=True), Verifier.from_jwks(key_file.read_bytes())


def _fetched(keys: Path | None) -> "tuple[list[bytes], Verifier]":
    from activities.signing import Verifier
    from cli.client import connect

    with connect() as client:
        lines = client.download("/receipts/export").splitlines(keepends=True)
        trusted = client.download("/receipts/keys") if keys is None else keys.read_bytes()
    return lines, Verifier.from_jwks(trusted)


def _row(receipt: dict[str, Any]) -> dict[str, Any]:
    from models.money import format_amount

    body = receipt["body"]
    return {
        **receipt,
        "outcome": body["outcome"],
        "amount": format_amount(body["amount"], body["currency"]),
        "agent_id": body["agent_id"],
        "execution_id": body["execution_id"],
    }


def _split(body: dict[str, Any]) -> list[str]:
    from models.money import format_amount

    return [f"{share['party']} {format_amount(share['amount'], body['currency'])}" for share in body["split"]]
