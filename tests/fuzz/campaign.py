"""``make fuzz``: throw random input at the engines for ten minutes; every find is kept as a file.

    python -m tests.fuzz.campaign --minutes 10 --seed 1

The targets run in a child process whose data may not exceed 256 MB, so an input that eats memory, hangs
or kills the interpreter is a find like any other; a new child then goes on behind it.
"""

import argparse
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.fuzz.targets import TARGETS

MEMORY = 256 * 1024 * 1024
SLOWEST = 60.0
"""Seconds that one input may take before it counts as hanging."""


def _child(folder: Path, seed: int, seconds: float) -> int:
    """Try inputs until the time is over or one is a find; the input in work is always on disk."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    current, progress = folder / "input", folder / "progress"
    end = time.monotonic() + seconds
    names = list(TARGETS)
    done = dict.fromkeys(names, 0)
    number = 0
    while time.monotonic() < end:
        name = names[number % len(names)]
        label = f"{seed}:{number}"
        try:
            TARGETS[name](random.Random(label), current.write_bytes)
        except Exception:
            (folder / "find").write_text(f"{name}, input {label}\n{traceback.format_exc()}")
            progress.write_text(f"{number}\n{done}")
            return 1
        done[name] += 1
        number += 1
        progress.write_text(f"{number}\n{done}")
    return 0


def _watch(child: "subprocess.Popen[bytes]", folder: Path) -> str | None:
    """Wait for a child; return why it was stopped, None where it ended by itself."""
    while True:
        try:
            child.wait(timeout=1)
            return None
        except subprocess.TimeoutExpired:
            pass
        current = folder / "input"
        if current.exists() and time.time() - current.stat().st_mtime > SLOWEST:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            return f"an input took more than {SLOWEST:.0f} s"


def say(text: str) -> None:
    """Write a line of the report."""
    sys.stdout.write(f"{text}\n")


def campaign(minutes: float, seed: int, keep: Path) -> int:
    """Fuzz for so many minutes; return the number of finds, each kept in ``keep``."""
    keep.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + minutes * 60
    finds, total = 0, 0
    while (left := end - time.monotonic()) > 0:
        folder = Path(tempfile.mkdtemp(dir=keep))
        arguments = ["--child", str(folder), "--seed", str(seed), "--minutes", str(left / 60)]
        child = subprocess.Popen([sys.executable, "-m", "tests.fuzz.campaign", *arguments])
        reason = _watch(child, folder)
        progress = (folder / "progress").read_text() if (folder / "progress").exists() else "0\n"
        total += int(progress.partition("\n")[0])
        if child.returncode == 0:
            say(f"seed {seed}: {progress.partition(chr(10))[2]}")
            break
        finds += 1
        seed += 1000
        if not (folder / "find").exists():
            (folder / "find").write_text(reason or f"the interpreter ended with status {child.returncode}")
        say(f"FIND in {folder}:\n{(folder / 'find').read_text()}")
    say(f"fuzz: {total} inputs, {finds} finds")
    return finds


def main() -> None:
    """Run a campaign, or the child of one."""
    parser = argparse.ArgumentParser(description="Fuzz the BPMN, FEEL and DMN engines.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "switchyard-fuzz")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        sys.exit(_child(options.child, options.seed, options.minutes * 60))
    sys.exit(1 if campaign(options.minutes, options.seed, options.keep) else 0)


if __name__ == "__main__":
    main()
