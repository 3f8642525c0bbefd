"""Disguised attacks, every one under a manifest that declares every capability: only hiding can stop them."""

import json
from pathlib import Path
from typing import Any

import pytest

from activities.scanning import scan
from models.scanning import Verdict
from tests.scanning.submission_builders import EVERY_CAPABILITY, manifest, submission

_FOLDER = Path(__file__).parent / "attacks"
_ATTACKS: list[dict[str, Any]] = json.loads((_FOLDER / "index.json").read_text("utf-8"))
_LEAST_BLOCKED = 0.85


def _verdict(attack: dict[str, Any]) -> Verdict:
    entry = "main.py" if attack["runtime"] == "python" else "index.js"
    files: dict[str, str | bytes] = {entry: ""}
    files.update({path: (_FOLDER / name).read_bytes() for path, name in attack["files"].items()})
    return scan(submission(files), manifest(attack["runtime"], entry, EVERY_CAPABILITY)).verdict


@pytest.mark.parametrize("attack", _ATTACKS, ids=lambda attack: str(attack["name"]))
def test_a_disguised_attack_never_passes(attack: dict[str, Any]) -> None:
    assert _verdict(attack) is not Verdict.PASS


def test_most_disguised_attacks_are_blocked() -> None:
    verdicts = [_verdict(attack) for attack in _ATTACKS]
    assert len(verdicts) >= 80
    assert verdicts.count(Verdict.BLOCK) / len(verdicts) >= _LEAST_BLOCKED
