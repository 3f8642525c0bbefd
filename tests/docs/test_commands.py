"""Every command in the documentation is run, in order, on the real stack.

A fenced block of the language ``console`` holds commands behind ``$ ``; the lines between show what they
print and are not compared. A command that must fail says so in a comment: ``$ false  # exits 1``. Blocks of
other languages (``sh`` for what needs another machine) are not run.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cli.stack.embedded import EmbeddedStack

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXPECTED = re.compile(r"#\s*exits (\d+)\s*$")
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def commands(page: Path) -> list[str]:
    """The commands of a page, continuation lines joined."""
    found: list[str] = []
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        lines = block.replace("\\\n", " ").splitlines()
        found += [line[2:].strip() for line in lines if line.startswith("$ ")]
    return found


@pytest.mark.parametrize(
    "page", [page for page in PAGES if commands(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_the_commands_of_a_page_work(page: Path, embedded_stack: EmbeddedStack, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "SWITCHYARD_DATA_DIR": str(embedded_stack.directory.root),
    }
    kept: dict[str, str] = {}
    for command in commands(page):
        expected = EXPECTED.search(command)
        # `name=$(…)` keeps a value for the commands after it, as in one shell session.
        finished = subprocess.run(
            [
                "bash",
                "-c",
                f"set -o pipefail; {command}\nstatus=$?; declare -p > {tmp_path}/kept; exit $status",
            ],
            cwd=ROOT,
            env={**environment, **kept},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        wanted = int(expected.group(1)) if expected else 0
        assert finished.returncode == wanted, f"{command}\n{finished.stdout}\n{finished.stderr}"
        kept |= {
            name: value
            for name, value in re.findall(
                r'^declare -- ([a-z_]+)="([^"]*)"$', (tmp_path / "kept").read_text(), re.MULTILINE
            )
        }
