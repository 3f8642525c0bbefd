"""How rules report: the origin of a value, and a bounded collector per file."""

import hashlib
from collections import Counter
from typing import Final

from activities.scanning.limits import MAX_FINDINGS_PER_RULE_AND_FILE
from activities.scanning.rulebook import RULES
from models.manifest import Capability
from models.scanning import MAX_DECODED_CHARACTERS, Finding, Severity


class Origin:
    """Where a value comes from, gathered over every expression that flows into it; a bit set.

    Plain integers: origins are combined millions of times, and `enum.IntFlag` is ten times slower.
    """

    NONE: Final = 0
    FOLDED: Final = 1  # put together from pieces: harmless unless the result is not
    DECODED: Final = 2  # base64, hex, rot13, compression, decryption, marshal
    CHARACTERS: Final = 4  # built from character codes
    ARITHMETIC: Final = 8  # xor or a translation table over characters
    REVERSED: Final = 16
    NETWORK: Final = 32
    FILE: Final = 64
    ENVIRONMENT: Final = 128
    INPUT: Final = 512  # what the caller of the program typed
    SIBLING: Final = 256  # a value of another module or data file of the submission


HIDING = Origin.DECODED | Origin.CHARACTERS | Origin.ARITHMETIC | Origin.REVERSED


class Collector:
    """Findings of one file. Repetitions of a rule beyond the cap are only counted.

    Attributes:
        path: Path of the file, with the layers of decoding.
        findings: What was kept.
        capabilities: First place each capability was seen: line, column, what.
        payloads: Decoded texts that want a scan of their own: text, label, line, forced language.
        dropped: Findings beyond the cap.
    """

    def __init__(self, path: str, source: str, *, first_line: int = 0) -> None:
        self.path = path
        self._first_line = first_line
        self.findings: list[Finding] = []
        self.capabilities: dict[Capability, tuple[int, int, str]] = {}
        self.payloads: list[tuple[str | bytes, str, int, str | None]] = []
        self.dropped = 0
        self._counts: Counter[str] = Counter()
        self._seen: set[tuple[str, int, int]] = set()
        self._source = source
        self._lines: list[str] | None = None

    def add(
        self,
        rule: str,
        line: int = 0,
        column: int = 0,
        detail: str = "",
        *,
        decoded: object = None,
        severity: Severity | None = None,
    ) -> None:
        """Report ``rule`` at a place (1-based); ``detail`` completes the rule's message."""
        line += self._first_line if line else 0
        key = (rule, line, column)
        if key in self._seen:
            return
        self._seen.add(key)
        self._counts[rule] += 1
        definition = RULES[rule]
        if self._counts[rule] > MAX_FINDINGS_PER_RULE_AND_FILE:
            self.dropped += 1
            return
        self.findings.append(
            Finding(
                rule=rule,
                file=self.path,
                line=line,
                column=column,
                severity=severity or definition.severity,
                message=f"{definition.message}{': ' + printable(detail, 160) if detail else ''}",
                remedy=definition.remedy,
                decoded_value=None if decoded is None else printable(decoded, MAX_DECODED_CHARACTERS),
                snippet_hash=self._snippet_hash(line),
            )
        )

    def use(self, capability: Capability, line: int, column: int, what: str) -> None:
        """Note that the code uses ``capability``; the manifest decides what that means."""
        if capability not in self.capabilities:
            self.capabilities[capability] = (line + self._first_line, column, what)

    def payload(self, text: str | bytes, label: str, line: int, language: str | None = None) -> None:
        """Ask for a scan of a decoded value."""
        self.payloads.append((text, label, line + self._first_line, language))

    def of_part(self, line: int) -> "Collector":
        """Return a collector for the part of this file that starts after ``line`` lines."""
        return Collector(self.path, self._source, first_line=self._first_line + line)

    def take(self, part: "Collector") -> None:
        """Add what was found in a part of this file."""
        for finding in part.findings:
            self._counts[finding.rule] += 1
            if self._counts[finding.rule] > MAX_FINDINGS_PER_RULE_AND_FILE:
                self.dropped += 1
            else:
                self.findings.append(finding)
        self.dropped += part.dropped
        self.payloads.extend(part.payloads)
        for capability, use in part.capabilities.items():
            self.capabilities.setdefault(capability, use)

    def blocks(self) -> bool:
        """Whether a finding so far blocks."""
        return any(finding.severity in (Severity.CRITICAL, Severity.HIGH) for finding in self.findings)

    def _snippet_hash(self, line: int) -> str:
        if line < 1:
            return ""
        if self._lines is None:
            self._lines = self._source.split("\n")
        line -= self._first_line
        text = self._lines[line - 1] if 0 < line <= len(self._lines) else ""
        return hashlib.sha256(text.strip().encode("utf-8", "replace")).hexdigest()[:16]


def printable(value: object, limit: int) -> str:
    """Cut ``value`` to ``limit`` characters and make invisible characters visible."""
    text = value.decode("latin-1") if isinstance(value, bytes | bytearray) else str(value)
    cut = text[: limit + 1]
    if not (cut.isascii() and cut.isprintable()):
        cut = "".join(
            c if c.isprintable() and not 0xD800 <= ord(c) < 0xE000 else f"\\u{ord(c):04x}" for c in cut
        )
    return cut if len(cut) <= limit else cut[: limit - 1] + "…"
