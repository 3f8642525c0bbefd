"""Refreshing the list of malicious packages from an OSV export.

OSV publishes one zip per ecosystem with a JSON record per file; records whose id starts with
``MAL-`` name malicious packages. The zip is fetched by an operator, never at scan time.
"""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

_MAX_RECORD = 1 << 20
_ECOSYSTEMS = {"npm": "npm", "pypi": "PyPI"}


def import_osv(archive: Path, target: Path | None = None) -> int:
    """Merge the ``MAL-`` records of an OSV zip into the data file.

    Args:
        archive: Path of ``all.zip`` of an ecosystem.
        target: Data file; the scanner's own ``malicious.json`` when absent.

    Returns:
        Number of package names that are new in the list.

    Raises:
        zipfile.BadZipFile: ``archive`` is not a zip.
    """
    path = target or Path(__file__).parent / "data" / "malicious.json"
    known: dict[str, dict[str, list[str]]] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    added = 0
    with zipfile.ZipFile(archive) as records:
        for entry in records.infolist():
            name = entry.filename.rsplit("/", 1)[-1]
            if not name.startswith("MAL-") or entry.file_size > _MAX_RECORD:
                continue
            try:
                record = json.loads(records.read(entry))
            except ValueError:
                continue
            for ecosystem, package, versions in _affected(record):
                packages = known.setdefault(ecosystem, {})
                added += package not in packages
                packages[package] = sorted({*packages.get(package, []), *versions})
    path.write_text(json.dumps(known, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
    return added


def _affected(record: Any) -> list[tuple[str, str, list[str]]]:
    """Return ecosystem, name and versions (``*`` for all) of one record."""
    if not isinstance(record, dict) or record.get("withdrawn"):
        return []
    found: list[tuple[str, str, list[str]]] = []
    for affected in record.get("affected", []):
        package = affected.get("package", {}) if isinstance(affected, dict) else {}
        ecosystem = _ECOSYSTEMS.get(str(package.get("ecosystem", "")).lower())
        name = package.get("name")
        if ecosystem is None or not isinstance(name, str):
            continue
        listed = affected.get("versions")
        versions = (
            [version for version in listed if isinstance(version, str)] if isinstance(listed, list) else []
        )
        everything = not versions or any(
            event.get("introduced") == "0"
            for ranges in affected.get("ranges", [])
            for event in ranges.get("events", [])
            if not any("fixed" in other for other in ranges.get("events", []))
        )
        key = re.sub(r"[-_.]+", "-", name.lower()) if ecosystem == "PyPI" else name
        found.append((ecosystem, key, ["*"] if everything else versions))
    return found
