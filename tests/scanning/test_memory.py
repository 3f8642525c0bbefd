"""The processes of a scan together stay under 512 MB, whatever the submission is made of."""

import os
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from activities.scanning.process import scan_submission_in_process
from models.scanning import Verdict
from tests.scanning.submission_builders import manifest, submission

_BOUND = 512_000_000
_MIB = 1 << 20
_WORST: dict[str, Mapping[str, str]] = {
    "tiny tokens in Python": {"main.py": "a=b+c*(d-1)\n" * (_MIB // 16), "b.py": "x=[1,2]\n" * (_MIB // 16)},
    "one Python list": {"main.py": "a=[" + "b," * _MIB + "]\n"},
    "tiny tokens in JavaScript": {
        "a.js": "a=b+c*(d-1);\n" * (_MIB // 16),
        "b.js": "[," + "a," * (_MIB // 2) + "]",
    },
    "nested JavaScript": {"a.js": "[" * (_MIB // 4), "b.js": "f(" * (_MIB // 4)},
    "huge literals": {"main.py": f"a='{'QUJD' * (_MIB // 2)}'\n", "b.js": f"const a='{'41' * _MIB}'\n"},
    "growing constants": {
        "main.py": "a='x'*400000\n" + "".join(f"b{n}=a+'{n}'\nexec(b{n})\n" for n in range(900))
    },
    "tangled names": {
        "main.py": "".join(f"a{n}=a{n + 1} or a{n + 2} or a{n - 1}\n" for n in range(30_000)) + "a0()\n"
    },
    "deep JSON": {
        "package.json": "[" * (_MIB // 2) + "]" * (_MIB // 2),
        "pyproject.toml": "a=[" + "[]," * (_MIB // 16) + "]",
    },
}


class _Sampler:
    """Adds up the proportional memory of all descendants of this process, again and again."""

    def __init__(self) -> None:
        self.peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> "_Sampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(0.02):
            self.peak = max(self.peak, sum(map(_memory, _scanning_processes())))


def _scanning_processes() -> list[Path]:
    """Return the children and grandchildren of this process that scan."""
    parents: dict[int, int] = {}
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and b"activities.scanning.child" in (process / "cmdline").read_bytes():
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                parents[int(process.name)] = int(fields[1])
        except OSError:
            continue
    own = os.getpid()
    return [
        Path(f"/proc/{pid}") for pid, parent in parents.items() if parent == own or parents.get(parent) == own
    ]


def _memory(process: Path) -> int:
    try:
        lines = (process / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


@pytest.mark.parametrize("name", _WORST)
def test_all_processes_of_a_scan_together_stay_under_their_bound(name: str) -> None:
    files = submission({"main.py": "", **_WORST[name]})
    with _Sampler() as sampler:
        report = scan_submission_in_process(files, manifest()).report
    assert report.files_scanned == len(files.files)
    assert report.verdict is not Verdict.PASS
    assert 0 < sampler.peak < _BOUND
