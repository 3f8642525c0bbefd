"""Writes `docs/settings.md` from settings and parts: ``python -m cli.stack.settings_page``."""

from pathlib import Path

from cli.stack.parts import ALL_PARTS
from models.settings import environment_variable, markdown_table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"

_INTRODUCTION = """\
# Settings

Every process reads its settings from environment variables. The tables below are made from
`models/settings.py` and `cli/stack/` by `make docs`; a test fails when they are out of date.

An address that is set replaces the matching part of the embedded stack: with `DATABASE_URL` in the
environment, `switchyard up` starts no PostgreSQL. Set the other variables of the same row too.

"""

_PARTS_INTRODUCTION = """
## Parts of the embedded stack

Where a port is taken, `switchyard up` says by whom; `--ports auto` takes free ones instead.

| Part | What | Ports | Runs elsewhere if set |
|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    rows: list[str] = []
    for part in ALL_PARTS:
        ports = ", ".join(f"{port} (`{name}`)" for name, port in part.ports.items())
        given = ", ".join(f"`{environment_variable(name)}`" for name in part.settings_given)
        rows.append(f"| `{part.name}` | {part.title} | {ports} | {given} |\n")
    return _INTRODUCTION + markdown_table() + _PARTS_INTRODUCTION + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page())
