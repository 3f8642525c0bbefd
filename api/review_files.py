"""A version's files as a reviewer reads them: content with findings, and differences."""

import asyncio
import base64
import difflib
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field, JsonValue

from activities.scanning.archive import unpack
from activities.scanning.packing import sha256_hex
from activities.storage import ObjectStore
from models.execution import CodeTamperedError
from models.publishing import AgentVersion, CodeNotKeptError, VersionFileNotFoundError
from models.scanning import Finding, ScanReport

MAX_DIFF_LINES = 4_000
"""Of one side of one file; comparing longer files takes too long, so only their hashes are compared."""

MAX_DIFF_CHARACTERS = 1_000_000
"""Of all files together."""


class FileContent(BaseModel):
    """One file of a version."""

    path: str
    size: int
    sha256: str
    encoding: Literal["utf-8", "base64"] = Field(description="How `content` is to be read.")
    content: str
    findings: list[Finding] = Field(description="The scanner's findings in this file, by line.")


class FileChange(BaseModel):
    """How one file differs."""

    path: str
    change: Literal["added", "removed", "modified"]
    size_before: int | None
    size_after: int | None
    diff: str | None = Field(description="Unified diff; null where a side is no text or too long.")


class ManifestChange(BaseModel):
    """How one field of the manifest differs."""

    field: str
    before: JsonValue
    after: JsonValue


class VersionDiff(BaseModel):
    """A version against the last approved one."""

    version_id: str
    against_version_id: str | None = Field(description="Null when nothing was approved before.")
    against_version: str | None
    files: list[FileChange]
    unchanged: int
    manifest: list[ManifestChange]


async def unpacked(store: ObjectStore, version: AgentVersion) -> Mapping[str, bytes]:
    """Fetch a version's files.

    Raises:
        CodeNotKeptError: None are stored.
        CodeTamperedError: They are not what was scanned.
        ObjectStoreUnavailableError: S3 is away.
    """
    if version.code_s3_key is None:
        raise CodeNotKeptError(version.id, version.status)
    archive = await store.get(version.code_s3_key)

    def read() -> Mapping[str, bytes]:
        if sha256_hex(archive) != version.code_hash:
            raise CodeTamperedError(version.id)
        return unpack(archive).files

    return await asyncio.to_thread(read)


def show_file(version: AgentVersion, files: Mapping[str, bytes], path: str) -> FileContent:
    """Show one file with the findings that concern it, decoded layers included.

    Raises:
        VersionFileNotFoundError: There is no such file.
    """
    data = files.get(path)
    if data is None:
        raise VersionFileNotFoundError(version.id, path)
    report = ScanReport.model_validate(version.scan_report)
    text = _text(data)
    return FileContent(
        path=path,
        size=len(data),
        sha256=sha256_hex(data),
        encoding="base64" if text is None else "utf-8",
        content=base64.b64encode(data).decode() if text is None else text,
        findings=sorted(
            (
                finding
                for finding in (*report.violations, *report.warnings)
                if finding.file == path or finding.file.startswith(f"{path}!")
            ),
            key=lambda finding: (finding.line, finding.column),
        ),
    )


def compare(
    former: AgentVersion | None,
    before: Mapping[str, bytes],
    version: AgentVersion,
    after: Mapping[str, bytes],
) -> VersionDiff:
    """Compare two versions' files and manifests; takes up to some seconds of computing."""
    changes: list[FileChange] = []
    budget = MAX_DIFF_CHARACTERS
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if old == new:
            continue
        text = _difference(path, old, new, budget)
        budget -= len(text or "")
        changes.append(
            FileChange(
                path=path,
                change="added" if old is None else "removed" if new is None else "modified",
                size_before=None if old is None else len(old),
                size_after=None if new is None else len(new),
                diff=text,
            )
        )
    declared: dict[str, Any] = former.manifest if former is not None else {}
    return VersionDiff(
        version_id=version.id,
        against_version_id=former.id if former else None,
        against_version=former.version if former else None,
        files=changes,
        unchanged=len({*before, *after}) - len(changes),
        manifest=[
            ManifestChange(field=name, before=declared.get(name), after=version.manifest.get(name))
            for name in sorted({*declared, *version.manifest})
            if declared.get(name) != version.manifest.get(name)
        ],
    )


def _difference(path: str, old: bytes | None, new: bytes | None, budget: int) -> str | None:
    before, after = _text(old or b""), _text(new or b"")
    if before is None or after is None:
        return None
    old_lines, new_lines = before.splitlines(keepends=True), after.splitlines(keepends=True)
    if max(len(old_lines), len(new_lines)) > MAX_DIFF_LINES:
        return None
    lines = difflib.unified_diff(old_lines, new_lines, f"a/{path}", f"b/{path}")
    text = "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )
    return text if len(text) <= budget else None


def _text(data: bytes) -> str | None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text
