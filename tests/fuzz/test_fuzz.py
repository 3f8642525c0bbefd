"""The short form of ``make fuzz``: some hundred inputs per target, none of which breaks anything."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("target", TARGETS)
def test_random_input_is_answered_or_refused_with_a_type(target: str) -> None:
    for number in range(60):
        TARGETS[target](random.Random(f"short {target} {number}"), lambda data: None)


def test_a_campaign_ends_by_itself_within_its_memory(tmp_path: Path) -> None:
    arguments = ["--minutes", "0.03", "--keep", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.campaign", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 finds" in done.stdout
