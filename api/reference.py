"""The table of errors in ``docs/api.md``: ``python -m api.reference`` writes it anew.

Made from the tree of `PlatformError`, so a code that is not in the tree does not exist.
"""

import importlib
import inspect
import re
import sys
from pathlib import Path

from api.errors import InternalError, error_classes
from models.errors import PlatformError

BEGIN, END = "<!-- errors: begin -->", "<!-- errors: end -->"
PACKAGES = ("models", "activities", "api")
"""Rooms whose errors an HTTP answer can carry; the command line's own errors are not among them."""


_DEFINES_ERROR = re.compile(r"^class \w+\([\w., ]*Error\b[\w., ]*\):", re.MULTILINE)


def import_all() -> None:
    """Import every module of the rooms that defines an error class.

    Others are left alone: some are programs that run inside a container when they are imported.
    """
    for package in PACKAGES:
        root = Path(importlib.import_module(package).__path__[0])
        for path in sorted(root.rglob("*.py")):
            if _DEFINES_ERROR.search(path.read_text(encoding="utf-8")):
                parts = path.relative_to(root.parent).with_suffix("").parts
                importlib.import_module(".".join(parts).removesuffix(".__init__"))


def errors_table() -> str:
    """Return the Markdown table: code, status, whether repeating may help, meaning; by status, then code."""
    import_all()
    rows: dict[str, tuple[int, str]] = {}
    for failure in sorted(error_classes(), key=lambda found: (found.__module__, found.__qualname__)):
        # A subclass that keeps its base's code says nothing new about it.
        if "code" not in vars(failure) or not failure.__module__.startswith(PACKAGES) or failure.code in rows:
            continue
        # The root says what the tree is; `InternalError` says what its code means.
        described = InternalError if failure is PlatformError else failure
        meaning = (inspect.getdoc(described) or "").split("\n\n")[0].replace("\n", " ")
        again = "yes" if failure.retryable else ""
        rows[failure.code] = (
            failure.http_status,
            f"| `{failure.code}` | {failure.http_status} | {again} "
            f"| {meaning.replace('``', '`').replace('|', chr(92) + '|')} |",
        )
    lines = ["| Code | Status | Repeat | Meaning |", "|---|---|---|---|"]
    lines += [row for _, (_, row) in sorted(rows.items(), key=lambda entry: (entry[1][0], entry[0]))]
    return "\n".join(lines) + "\n"


def with_table(page: str) -> str:
    """Return ``page`` with a current table between its marks.

    Raises:
        ValueError: The page lacks the marks.
    """
    before, _, rest = page.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"the page lacks {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{errors_table()}{END}{after}"


if __name__ == "__main__":
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/api.md")
    path.write_text(with_table(path.read_text(encoding="utf-8")), encoding="utf-8")
