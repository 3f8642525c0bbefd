"""The corpus runner, on cases of our own and on the shared corpus where it is at hand."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.feel import run_feel

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(os.environ.get("CONFORMANCE_CORPUS", ROOT.parent / "shared" / "conformance"))


def test_the_runner_compares_typed_values_and_reports_by_group(tmp_path: Path) -> None:
    number = {"t": "decimal", "v": "2"}
    cases: list[dict[str, Any]] = [
        {
            "dir": "sums",
            "id": "1",
            "expr": "1 + x",
            "inputs": {"x": {"t": "decimal", "v": "1"}},
            "expected": number,
        },
        {"dir": "sums", "id": "2", "expr": "1 + 2", "inputs": {}, "expected": number},
        {"dir": "errors", "id": "3", "expr": "1 +", "inputs": {}, "expected": {"t": "null"}, "error": True},
        {
            "dir": "dates",
            "id": "4",
            "expr": '{d: @"2020-01-01T00:00:00Z"}',
            "inputs": {},
            "expected": {"t": "context", "v": {"d": {"t": "dateTime", "v": "2020-01-01T01:00:00+01:00"}}},
        },
    ]
    for case in cases:
        case.setdefault("error", False)
        case.setdefault("name", case["id"])
    (tmp_path / "feel").mkdir()
    (tmp_path / "feel" / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    report = run_feel(tmp_path)
    assert report.score == "3/4"
    assert report.passed == {"sums": 1, "errors": 1, "dates": 1}
    assert len(report.failures) == 1


@pytest.mark.skipif(not (CORPUS / "feel" / "cases.json").exists(), reason="no corpus of FEEL cases at hand")
def test_the_shared_corpus_passes_to_99_per_cent() -> None:
    report = run_feel(CORPUS)
    assert report.passed.total() >= 0.99 * report.total.total(), "\n".join(report.failures)
