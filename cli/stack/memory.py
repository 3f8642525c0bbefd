"""Memory of a part: its process and everything below it."""

import contextlib

import psutil

from cli.stack.process import ProcessRecord


def resident_bytes(record: ProcessRecord, *, with_children: bool = True) -> int:
    """Proportional set size in bytes, so that pages shared between processes count once.

    Falls back to the resident set size where the kernel does not tell.
    """
    process = record.process()
    if process is None:
        return 0
    family = [process]
    with contextlib.suppress(psutil.NoSuchProcess):
        family += process.children(recursive=True) if with_children else []
    total = 0
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            try:
                full = member.memory_full_info()
                total += getattr(full, "pss", full.rss)
            except psutil.AccessDenied:
                total += member.memory_info().rss
    return total
