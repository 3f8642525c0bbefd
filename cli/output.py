"""What commands print: tables for people, JSON for programs; results only go to standard output."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
"""Declare a parameter of this type for commands that print results."""


def print_json(data: object) -> None:
    """Print ``data`` as indented JSON."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False, default=str))


def print_table(columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]], *, empty: str) -> None:
    """Print rows as a table.

    Args:
        columns: Key of a row → heading, in order.
        rows: The rows; control characters in values are not passed to the terminal.
        empty: Said on standard error instead of an empty table.
    """
    listed = list(rows)
    if not listed:
        note(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in columns.values():
        table.add_column(heading, overflow="fold")
    for row in listed:
        table.add_row(*(escape(shown(row.get(key))) for key in columns))
    console = Console(highlight=False)
    # A pipe has no width; lines of a script's input must not be folded.
    if not console.is_terminal:
        console = Console(highlight=False, width=10_000)
    console.print(table)


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print one thing: a line per fact."""
    width = max((len(name) for name in facts), default=0)
    for name, value in facts.items():
        typer.echo(f"{name:<{width}}  {shown(value)}")


def note(text: str) -> None:
    """Say something to the person, on standard error."""
    typer.echo(clean(text), err=True)


def shown(value: Any) -> str:
    """Return a value as people read it: times to the second, lists with commas, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds")
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return clean(json.dumps(value, ensure_ascii=False, default=str))
    if isinstance(value, Sequence):
        return ", ".join(shown(entry) for entry in value)
    return str(value)


def clean(text: str) -> str:
    """Replace control characters but line ends and tabs: other people's text must not steer a terminal."""
    return "".join(
        character if character in "\n\t" or (character.isprintable()) else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )
