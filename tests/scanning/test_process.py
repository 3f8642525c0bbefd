import json
import time
import zipfile
from pathlib import Path

import pytest

from activities.scanning import scan_in_process, scan_path
from models.scanning import Verdict
from tests.scanning.submission_builders import manifest, rules_of, submission


def _write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_the_child_gives_the_same_answer_for_the_canonical_archive() -> None:
    files = submission({"main.py": "import base64\nexec(base64.b64decode('cHJpbnQoMSk='))"})
    outcome = scan_in_process(files.canonical_bytes, manifest())
    assert outcome.report.verdict is Verdict.BLOCK
    assert outcome.report.archive_sha256 == files.sha256
    assert not outcome.limit_exceeded


def test_a_child_that_runs_over_its_time_is_killed_and_blocks() -> None:
    files = submission({"main.py": "x = 1\n" * 10_000})
    started = time.monotonic()
    outcome = scan_in_process(files.canonical_bytes, manifest(), wall_seconds=0.05)
    assert outcome.limit_exceeded
    assert rules_of(outcome.report) == {"scanner.limit"}
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "code",
    [
        "(" * 50_000,
        "[" * 100_000 + "]" * 100_000,
        "x=" + "-" * 200_000 + "1",
        "a" + ".b" * 100_000,
        "+".join(["'a'"] * 60_000),
        "lambda:" * 20_000,
    ],
)
def test_hostile_nesting_neither_hangs_nor_crashes(code: str) -> None:
    files = submission({"main.py": code, "b.js": code})
    report = scan_in_process(files.canonical_bytes, manifest()).report
    assert report.files_scanned == 2


def test_a_folder_without_a_manifest_gets_a_verdict(tmp_path: Path) -> None:
    report = scan_path(_write(tmp_path, {"main.py": "print(1)"}))
    assert report.verdict is Verdict.REVIEW
    assert "manifest.missing" in rules_of(report)


def test_a_minimal_manifest_still_declares_its_capabilities(tmp_path: Path) -> None:
    content = json.dumps({"name": "x", "capabilities": ["network"]})
    report = scan_path(_write(tmp_path, {"main.py": "import socket", "manifest.json": content}))
    assert report.verdict is Verdict.PASS
    assert "manifest.invalid" in rules_of(report)


@pytest.mark.parametrize("content", ["", "[]", "{", "null", '"x"', '{"capabilities": 3}'])
def test_a_broken_manifest_never_stops_the_scan(tmp_path: Path, content: str) -> None:
    report = scan_path(_write(tmp_path, {"main.py": "eval('1' + '1')", "manifest.json": content}))
    assert report.files_scanned == 2


def test_a_refused_archive_blocks(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(b"\x1f\x8bgarbage")
    report = scan_path(path)
    assert report.verdict is Verdict.BLOCK
    assert rules_of(report) == {"archive.refused"}


def test_a_folder_with_a_link_blocks(tmp_path: Path) -> None:
    _write(tmp_path, {"main.py": "print(1)"})
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert scan_path(tmp_path).verdict is Verdict.BLOCK


def test_a_zip_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("agent/main.py", "__import__('o' + 's').system('id')")
    report = scan_path(path)
    assert report.verdict is Verdict.BLOCK
    assert report.files[0].path == "main.py"


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        scan_path(tmp_path / "nowhere")
