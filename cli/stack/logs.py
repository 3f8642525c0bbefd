"""Reading the parts' log files: their ends, and what is added."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

_BLOCK = 64 * 1024
_POLL_SECONDS = 0.2


def last_lines(file: Path, count: int) -> list[str]:
    """The last ``count`` lines, reading no more of the file than needed."""
    if count == 0:
        return []
    with file.open("rb") as log:
        position = log.seek(0, 2)
        content = b""
        while position > 0 and content.count(b"\n") <= count:
            step = min(_BLOCK, position)
            position = log.seek(position - step)
            content = log.read(step) + content
    return content.decode(errors="replace").splitlines()[-count:]


def _label(files: Mapping[str, Path], name: str) -> str:
    if len(files) == 1:
        return ""
    return f"{name:<{max(map(len, files))}} | "


def tail(files: Mapping[str, Path], count: int, out: TextIO) -> None:
    """Write the last ``count`` lines of each log, labelled where there are several."""
    for name, file in files.items():
        for line in last_lines(file, count):
            out.write(f"{_label(files, name)}{line}\n")
    out.flush()


def follow(files: Mapping[str, Path], out: TextIO) -> None:
    """Write what is appended to the logs, until interrupted; a rotated log is read from its new start."""
    positions = {name: file.stat().st_size for name, file in files.items()}
    while True:
        for name, file in files.items():
            size = file.stat().st_size
            if size < positions[name]:
                positions[name] = 0
            if size > positions[name]:
                with file.open("rb") as log:
                    log.seek(positions[name])
                    content = log.read(size - positions[name])
                complete = content.rfind(b"\n") + 1
                positions[name] += complete
                for line in content[:complete].decode(errors="replace").splitlines():
                    out.write(f"{_label(files, name)}{line}\n")
        out.flush()
        time.sleep(_POLL_SECONDS)
