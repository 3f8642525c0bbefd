"""``switchyard receipts verify``: offline, with the public key alone."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import cli.receipts
from tests.payment.shop import Shop
from tests.payment.test_receipt_chain import export


@pytest.fixture
async def exported(shop: Shop, export_path: Path) -> Path:
    """An export of two receipts with its keys beside it, as ``receipts export`` writes them."""
    await shop.fund(500)
    for amount in (50, 7):
        await shop.settle(await shop.executed(amount))
    return written(export_path, await export(shop), shop.signer.jwks())


def written(path: Path, lines: list[bytes], keys: object) -> Path:
    path.write_bytes(b"".join(lines))
    path.with_name(path.name + ".keys.json").write_text(json.dumps(keys))
    return path


def run(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    cli.receipts.register(app)
    result = CliRunner().invoke(app, ["receipts", *arguments])
    return result.exit_code, result.output


def test_a_sound_export_is_valid(exported: Path) -> None:
    status, output = run("verify", str(exported))
    assert (status, output.startswith("valid: 2 receipts")) == (0, True)
    assert "charged 0.57 INR" in output


def test_a_changed_export_is_not_valid(exported: Path) -> None:
    exported.write_bytes(exported.read_bytes().replace(b'"amount":50', b'"amount":51', 1))
    status, output = run("verify", str(exported), "--json")
    found = json.loads(output)
    assert (status, found["valid"], found["line"]) == (1, False, 2)


def test_without_keys_nothing_is_trusted(exported: Path) -> None:
    exported.with_name(exported.name + ".keys.json").rename(exported.with_name("mine.json"))
    assert run("verify", str(exported))[0] == 2
    assert run("verify", str(exported), "--keys", str(exported.with_name("mine.json")))[0] == 0
