"""JSON that PostgreSQL's ``jsonb`` takes: it holds neither U+0000 nor half a surrogate pair."""

import json
import re
from typing import Any

from psycopg.types.json import Jsonb

_FOREIGN = re.compile("[\x00\ud800-\udfff]")
REPLACEMENT = "\ufffd"


def stored(value: Any) -> Jsonb:
    """Wrap a JSON value for a ``jsonb`` column; characters that it cannot hold become U+FFFD."""
    return Jsonb(value, dumps=encoded)


def encoded(value: Any) -> str:
    """Write a JSON value as text that ``jsonb`` takes."""
    text = json.dumps(value, separators=(",", ":"))
    if "\\u0000" in text or "\\ud" in text:
        text = json.dumps(cleaned(value), separators=(",", ":"))
    return text


def cleaned(value: Any) -> Any:
    """Return the value with foreign characters replaced, in names and in text."""
    if isinstance(value, str):
        # A pair that is written as two halves is one character.
        joined = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return _FOREIGN.sub(REPLACEMENT, joined)
    if isinstance(value, dict):
        return {cleaned(name): cleaned(item) for name, item in value.items()}
    if isinstance(value, list):
        return [cleaned(item) for item in value]
    return value
