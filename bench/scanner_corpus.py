"""The scanner on much-used packages and on ten megabytes of code.

Fetches 30 Python and 30 npm packages with ``pip download`` and ``npm pack`` into a temporary folder
(nothing is kept), scans each under a manifest that declares every capability, and prints verdicts.
Goals: none blocked, at most 25 % sent to review, 10 MB of code in under 5 s and 512 MB.

Run: ``python -m bench.scanner_corpus [--keep FOLDER] [--only python|npm|speed]``
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from activities.scanning import ArchiveLimits, Submission, submission_of
from activities.scanning.process import open_archive, scan_submission_in_process, without_wrapper
from models.manifest import AgentManifest, Capability
from models.scanning import ScanReport, Severity, Verdict

PYTHON = [
    "requests",
    "urllib3",
    "certifi",
    "charset-normalizer",
    "idna",
    "typing-extensions",
    "python-dateutil",
    "packaging",
    "s3transfer",
    "six",
    "pyyaml",
    "numpy",
    "cryptography",
    "setuptools",
    "cffi",
    "click",
    "attrs",
    "jinja2",
    "pandas",
    "pydantic",
    "rich",
    "aiohttp",
    "pip",
    "sqlalchemy",
    "flask",
    "psutil",
    "tqdm",
    "httpx",
    "werkzeug",
    "beautifulsoup4",
]
NPM = [
    "lodash",
    "react",
    "react-dom",
    "express",
    "axios",
    "chalk",
    "commander",
    "debug",
    "moment",
    "async",
    "uuid",
    "semver",
    "glob",
    "rxjs",
    "tslib",
    "yargs",
    "minimist",
    "dotenv",
    "ws",
    "zod",
    "body-parser",
    "bluebird",
    "underscore",
    "core-js",
    "esbuild",
    "vue",
    "fs-extra",
    "dayjs",
    "ejs",
    "handlebars",
]
# Published packages may be larger than an agent.
_LIMITS = ArchiveLimits(
    compressed=200 << 20, stream=400 << 20, total=400 << 20, file=100 << 20, count=20_000, path=400, depth=40
)
_LARGEST_REVIEW_SHARE = 0.25
_SPEED_BYTES = 10_000_000
_SPEED_SECONDS = 5.0


def fetch(folder: Path, packages: list[str], ecosystem: str) -> list[Path]:
    """Fetch ``packages`` with the ordinary client; return the archives."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in packages:
        if ecosystem == "python":
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), name]
            if subprocess.run(
                [sys.executable, "-m", "pip", "--version"], capture_output=True, check=False
            ).returncode:
                command[:3] = ["pip"]
        else:
            command = ["npm", "pack", "-s", "--pack-destination", str(folder), name]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return sorted(path for path in folder.iterdir() if path.suffix in (".whl", ".tgz", ".gz"))


def scan_package(path: Path) -> tuple[ScanReport, float, int]:
    """Scan one package under a manifest that declares every capability; return report, seconds and bytes."""
    submission = without_wrapper(open_archive(path.name, path.read_bytes(), _LIMITS), _LIMITS)
    runtime, suffix = ("node", ".js") if path.suffix == ".tgz" else ("python", ".py")
    files = dict(submission.files)
    entry = next((name for name in files if name.endswith(suffix)), f"main{suffix}")
    files.setdefault(entry, b"")
    started = time.monotonic()
    report = scan_submission_in_process(
        submission_of(files, _LIMITS), manifest(runtime, entry), wall_seconds=180
    ).report
    return report, time.monotonic() - started, sum(map(len, files.values()))


def manifest(runtime: str, entry_point: str) -> AgentManifest:
    """A manifest that declares every capability."""
    return AgentManifest.model_validate(
        {
            "name": "Package", "slug": "package", "version": "1.0.0", "description": "A package.", "category": "bench",  # noqa: E501
            "runtime": runtime, "entry_point": entry_point, "capabilities": [item.value for item in Capability],  # noqa: E501
        }
    )  # fmt: skip


def measure_verdicts(paths: list[Path]) -> bool:
    """Scan and print every package; return whether the goals hold."""
    counts: Counter[Verdict] = Counter()
    for path in paths:
        report, seconds, size = scan_package(path)
        counts[report.verdict] += 1
        print(f"{path.name[:50]:50} {report.verdict:7} {size / 1e6:6.1f} MB {seconds:6.2f} s", flush=True)
        for finding in [*report.violations, *report.warnings][:6]:
            if finding.severity is not Severity.LOW:
                print(
                    f"    {finding.severity:8} {finding.rule} {finding.file}:{finding.line} {finding.message[:90]}"  # noqa: E501
                )
    print(dict(counts))
    return counts[Verdict.BLOCK] == 0 and counts[Verdict.REVIEW] <= _LARGEST_REVIEW_SHARE * len(paths)


def measure_speed(paths: list[Path]) -> bool:
    """Scan ten megabytes of first-party code taken from the fetched packages; return whether the goal holds."""  # noqa: E501
    holds = True
    for suffix, runtime in ((".py", "python"), (".js", "node")):
        submission = _ten_megabytes(paths, suffix)
        started = time.monotonic()
        report = scan_submission_in_process(
            submission, manifest(runtime, next(iter(submission.files)))
        ).report
        seconds = time.monotonic() - started
        limited = any(finding.rule == "scanner.limit" for finding in report.violations)
        print(
            f"10 MB of {suffix}: {len(submission.files)} files in {seconds:.2f} s{' (limit exceeded)' if limited else ''}"  # noqa: E501
        )
        holds = holds and seconds < _SPEED_SECONDS and not limited
    return holds


def _ten_megabytes(paths: list[Path], suffix: str) -> Submission:
    files: dict[str, bytes] = {}
    total = 0
    for path in paths:
        for name, data in open_archive(path.name, path.read_bytes(), _LIMITS).files.items():
            if (
                name.endswith(suffix)
                and 3_000 < len(data) < 400_000
                and total + len(data) < _SPEED_BYTES
                and len(files) < 1_900
            ):
                files[f"{len(files)}{suffix}"] = data
                total += len(data)
    return submission_of(files)


def main() -> int:
    """Run the measurements; return 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="folder with (or for) the fetched packages")
    parser.add_argument("--only", choices=["python", "npm", "speed"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root: Path = options.keep or Path(temporary)
        fetched = {}
        for ecosystem, packages in (("python", PYTHON), ("npm", NPM)):
            folder = root / ecosystem
            fetched[ecosystem] = (
                sorted(folder.iterdir()) if folder.exists() else fetch(folder, packages, ecosystem)
            )
        good = True
        for ecosystem, paths in fetched.items():
            if options.only in (None, ecosystem):
                good = measure_verdicts(paths) and good
        if options.only in (None, "speed"):
            good = measure_speed([path for paths in fetched.values() for path in paths]) and good
    print("goals hold" if good else "a goal is missed")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
