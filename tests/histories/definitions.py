"""Definitions of processes whose histories are kept: a replay has no store to read them from."""

import asyncio
import os
from pathlib import Path

from activities.definition_sources import SOURCES, DefinitionSource
from tests.histories.record import HISTORIES

FOLDER = "definitions"


def load_definitions() -> None:
    """Make every kept definition known to this process."""
    for path in sorted(HISTORIES.glob(f"*/{FOLDER}/*.json")):
        decisions = tuple(file.read_bytes() for file in sorted(path.parent.glob(f"{path.stem}.*.dmn")))
        SOURCES.put(path.stem, DefinitionSource(path.read_bytes(), decisions))


async def keep_definition(folder: str, content_hash: str) -> None:
    """Keep a definition beside the histories of ``folder`` where ``RECORD_HISTORIES`` is set."""
    if os.environ.get("RECORD_HISTORIES"):
        path: Path = HISTORIES / folder / FOLDER / f"{content_hash}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        source = SOURCES.get(content_hash)
        await asyncio.to_thread(path.write_bytes, source.canonical)
        for number, decision in enumerate(source.decisions):
            await asyncio.to_thread(path.with_suffix(f".{number}.dmn").write_bytes, decision)
