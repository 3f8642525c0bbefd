"""Our own YARA rules, compiled once per process."""

from functools import cache
from pathlib import Path
from typing import Any

import yara

from activities.scanning.findings import Collector

_RULES = Path(__file__).parent / "rules"
_TIMEOUT_SECONDS = 5


@cache
def compiled() -> Any:
    """Compile every ``rules/*.yar``."""
    return yara.compile(filepaths={path.stem: str(path) for path in sorted(_RULES.glob("*.yar"))})


def scan_with_yara(data: bytes, kind: str, out: Collector) -> None:
    """Report the rules that match; documentation is left out, it quotes what it warns of."""
    if kind == "text":
        return
    try:
        matches = compiled().match(data=data, timeout=_TIMEOUT_SECONDS)
    except yara.Error:
        out.add("scanner.error", detail="yara")
        return
    for match in matches:
        description = str(match.meta.get("description", match.rule))
        position = min((instance.offset for item in match.strings for instance in item.instances), default=0)
        line = (
            data.count(b"\n", 0, position) + 1 if kind not in ("elf", "pe", "macho", "wasm", "binary") else 0
        )
        out.add(
            "yara.match" if match.meta.get("category") == "block" else "yara.suspicious", line, 0, description
        )
