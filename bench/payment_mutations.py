"""Take each guard of the payment core away, one after the other: the suite must fail every time.

``python -m bench.payment_mutations [NAME …]``. Mutations are made in a temporary copy of the tree, against a
temporary database; the checkout is never touched. What the schedules and rules (`bench.payment_suite`) let
live is tried with the tests of payment and payout as well. The schema's guards are taken away by themselves,
as in ``tests/rails/test_guards.py``. Prints a table; exit status 1 where a mutant survived or a guard moved.
"""

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from activities.records.migrate import upgrade
from activities.signing import Signer, generate_key
from bench.payment_mutants import MUTANTS, Mutant
from cli.stack.embedded import EmbeddedStack
from models.settings import Settings, environment_variable
from tests.rails.guards import GUARDS, probe, survivors
from tests.rails.mortal import MortalDatabase
from tests.rails.rows import one_row_of_each

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("models", "activities", "workflows", "api", "cli", "migrations", "tests", "examples", "bench")
FALLBACK = ("tests/payment", "tests/payout", "tests/rails", "tests/properties/test_money.py")
SUITE_SECONDS = 600


@dataclass
class Verdict:
    """What became of one mutant."""

    name: str
    killed: bool
    by: str
    seconds: float

    def line(self) -> str:
        """Return the row of the table."""
        word = "killed" if self.killed else "SURVIVED"
        return f"  {word:<9} {self.name:<58} {self.seconds:6.1f} s  {self.by[:90]}"


def copy_tree(target: Path) -> None:
    """Copy what the suite needs."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for room in ROOMS:
        shutil.copytree(ROOT / room, target / room, ignore=ignored)
    for name in ("pyproject.toml", "worker.py", "docker-compose.temporal.yml", "README.md"):
        shutil.copy(ROOT / name, target / name)


def environment(settings: Settings) -> dict[str, str]:
    """Name the temporary database to a process of the copy."""
    urls = ("database_url", "database_platform_url", "database_owner_url")
    return dict(os.environ) | {
        environment_variable(name): getattr(settings, name).get_secret_value() for name in urls
    }


def run(tree: Path, command: list[str], environ: dict[str, str]) -> tuple[bool, str]:
    """Run a suite in the copy; returns whether it passed, and what it said first."""
    try:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tree,
            env=environ,
            capture_output=True,
            text=True,
            timeout=SUITE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, "it does not end"
    if done.returncode == 0:
        return True, ""
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("FAILED", "ERROR", "E  "))]
    return False, " ".join((telling or lines[:2] or ["nothing said"])[:2]).strip()


def judge(mutant: Mutant, tree: Path, environ: dict[str, str]) -> Verdict:
    """Make one mutation, run the suites until one fails, and undo it."""
    begun = time.monotonic()
    path = tree / mutant.file
    original = path.read_text()
    found = original.count(mutant.old)
    if found != 1:
        return Verdict(mutant.name, False, f"the guard is {found} times in {mutant.file}", 0.0)
    path.write_text(original.replace(mutant.old, mutant.new))
    try:
        passed, said = run(tree, ["-m", "bench.payment_suite"], environ)
        by = f"schedules: {said}"
        if passed:
            command = ["-m", "pytest", "-x", "-q", "--no-header", "--show-capture=no", *FALLBACK]
            passed, said = run(tree, command, dict(os.environ))
            by = f"tests: {said}"
    finally:
        path.write_text(original)
    return Verdict(mutant.name, not passed, "" if passed else by, time.monotonic() - begun)


async def fill(settings: Settings, keys: Path) -> None:
    """Write one row of each kind, for the probes of the schema's guards."""
    async with MortalDatabase(
        settings.database_url.get_secret_value(), settings.database_platform_url.get_secret_value()
    ) as store:
        await one_row_of_each(store, Signer.from_directory(keys))


def schema(settings: Settings, directory: Path) -> list[Verdict]:
    """Take the schema's guards away, each in a transaction of its own."""
    keys = directory / "keys"
    generate_key(keys, "mutations")
    asyncio.run(fill(settings, keys))
    owner_url = settings.database_owner_url.get_secret_value()
    missing = probe(owner_url)
    unnoticed = survivors(owner_url)
    return [
        Verdict(guard.name, guard.name not in unnoticed and guard.name not in missing, "probe", 0.0)
        for guard in GUARDS
    ]


def main() -> int:
    """Judge every mutant, or the named ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of names; default: all")
    names: list[str] = parser.parse_args().names
    chosen = [each for each in MUTANTS if not names or any(name in each.name for name in names)]
    verdicts: list[Verdict] = []
    with (
        tempfile.TemporaryDirectory(prefix="payment-mutations-") as name,
        EmbeddedStack(Path(name) / "stack", parts=["postgres"], durable=False) as settings,
    ):
        directory = Path(name)
        upgrade(settings.database_owner_url.get_secret_value())
        if not names:
            verdicts += schema(settings, directory)
            for verdict in verdicts:
                print(verdict.line(), flush=True)
        tree = directory / "tree"
        copy_tree(tree)
        environ = environment(settings)
        passed, said = run(tree, ["-m", "bench.payment_suite"], environ)
        if not passed:
            print(f"the suite fails without any mutation: {said}")
            return 1
        for mutant in chosen:
            verdicts.append(judge(mutant, tree, environ))
            print(verdicts[-1].line(), flush=True)
    alive = [each for each in verdicts if not each.killed]
    print(f"{len(verdicts) - len(alive)} of {len(verdicts)} mutants killed")
    for each in alive:
        print(each.line())
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
