"""One file: find out what it is, apply the rules for it, and scan again what it decodes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from activities.scanning import content, javascript_rules, python_rules
from activities.scanning.decoding import guess_layers, mostly_text
from activities.scanning.file_kinds import Kind, as_text, sniff
from activities.scanning.findings import Collector
from activities.scanning.limits import MAX_DECODE_DEPTH, MAX_PAYLOAD_BYTES, MAX_PAYLOADS
from activities.scanning.obfuscation import scan_obfuscation
from activities.scanning.parts import javascript_parts, part_length, python_parts
from activities.scanning.secrets_and_wallets import scan_secrets
from activities.scanning.serialised import scan_serialised
from activities.scanning.text_checks import looks_like_javascript, looks_like_python
from activities.scanning.words import words_of
from activities.scanning.yara_rules import scan_with_yara
from models.manifest import Capability
from models.scanning import Finding, ScannedFile, Severity

_BLOCKING = (Severity.CRITICAL, Severity.HIGH)
_MIN_PAYLOAD = 3


@dataclass(frozen=True, slots=True)
class Context:
    """What rules may know about the rest of the submission.

    Attributes:
        constants: Module-level string constants of the other Python modules, by dotted name.
        data: Constants of JavaScript modules and JSON files, by path without extension and with it.
        declared: Capabilities of the manifest.
    """

    constants: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    data: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    declared: frozenset[Capability] = frozenset()


@dataclass(slots=True)
class FileResult:
    """What one file gave.

    Attributes:
        file: Path, size, digest, kind.
        findings: Findings, decoded layers included.
        capabilities: First use of each capability: line, column, what.
        dropped: Findings beyond the cap.
    """

    file: ScannedFile
    findings: list[Finding]
    capabilities: dict[Capability, tuple[int, int, str]]
    dropped: int = 0


def scan_file(path: str, data: bytes, context: Context) -> FileResult:
    """Scan one file by content, whatever its name."""
    return scan_span(path, data, context, sniff(path, data))


def scan_span(path: str, data: bytes, context: Context, kind: Kind, first_line: int = 0) -> FileResult:
    """Scan a file, or the part of it that starts after ``first_line`` lines, of which the kind is known."""
    text = as_text(data) if kind.is_text else ""
    out = Collector(path, text, first_line=first_line)
    content.check_file(path, data, kind, out)
    if kind.is_text:
        _scan_source(text, kind.language, out, context)
        words = words_of(text)
        scan_secrets(text, kind.language, words, out)
        if kind.language in ("python", "javascript", "typescript", "tsx"):
            scan_obfuscation(text, kind.language, words, out)
    scan_with_yara(data, kind.name, out)
    _scan_payloads(out, context, depth=1, budget=_Budget())
    content.check_disguise(path, kind, out)
    scanned = ScannedFile(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest(), kind=kind.name)
    return FileResult(scanned, out.findings, out.capabilities, out.dropped)


def _scan_source(text: str, language: str, out: Collector, context: Context) -> None:
    """Apply the rules; a defect of ours must send the file to review, never let it pass or stop the scan."""
    try:
        scan_text(text, language, out, context)
    except (RecursionError, AttributeError, TypeError, ValueError, LookupError, ArithmeticError) as error:
        out.add("scanner.error", detail=type(error).__name__)


def scan_text(text: str, language: str, out: Collector, context: Context) -> bool:
    """Apply the rules of ``language``; return whether the text could be parsed."""
    if language == "python":
        return _scan_python(text, out, context)
    if language in ("javascript", "javascript-body", "typescript", "tsx"):
        return _scan_javascript(text, language.removesuffix("-body"), out, context)
    return True


def _scan_python(text: str, out: Collector, context: Context) -> bool:
    length = part_length(text)
    if length is None:
        trees = iter([python_rules.parse_python(text)])
    else:
        out.add("limit.parts")
        trees = python_parts(text, length, python_rules.parse_python)
    for tree in trees:
        if tree is None:
            out.add("parse.failed", detail="Python")
            return False
        python_rules.scan_python(tree, text, out, context.constants)
    return True


def _scan_javascript(text: str, language: str, out: Collector, context: Context) -> bool:
    source = text.encode("utf-8", "replace")
    length = part_length(text)
    if length is None:
        parsed = javascript_rules.parse_any(source, language)
        return javascript_rules.scan_javascript(source, parsed, out, context.data)
    out.add("limit.parts")
    line = 0
    complete = True
    for part, parsed in javascript_parts(
        source, length, lambda piece: javascript_rules.parse_any(piece, language)
    ):
        inner = out.of_part(line)
        complete = javascript_rules.scan_javascript(part, parsed, inner, context.data) and complete
        out.take(inner)
        line += part.count(b"\n")
    return complete


class _Budget:
    """Bounds the decoded values of one file."""

    def __init__(self) -> None:
        self.left = MAX_PAYLOADS
        self.bytes = MAX_PAYLOAD_BYTES
        self.seen: set[int] = set()
        self.spent = False

    def take(self, value: str | bytes) -> bool:
        """Whether ``value`` is new and within the bounds."""
        key = hash(value)
        if key in self.seen:
            return False
        if self.left <= 0 or self.bytes < len(value):
            self.spent = True
            return False
        self.seen.add(key)
        self.left -= 1
        self.bytes -= len(value)
        return True


def _scan_payloads(out: Collector, context: Context, depth: int, budget: _Budget) -> None:
    """Scan decoded values as code of their own; what they hide is a finding of the outer file."""
    if depth > MAX_DECODE_DEPTH:
        if out.payloads:
            out.add("hidden.payload", out.payloads[0][2], 0, f"more than {MAX_DECODE_DEPTH} layers")
        return
    for value, label, line, forced in out.payloads:
        if len(value) < _MIN_PAYLOAD:
            continue
        if not budget.take(value):
            if budget.spent:
                out.add("limit.payloads")
            continue
        if forced == "serialised":
            scan_serialised(value, line, out)
            continue
        _scan_payload(value, label, line, forced, out, context, depth, budget)


def _scan_payload(
    value: str | bytes,
    label: str,
    line: int,
    forced: str | None,
    out: Collector,
    context: Context,
    depth: int,
    budget: _Budget,
) -> None:
    if isinstance(value, bytes):
        if value[:4] in (b"\x7fELF", b"\0asm", b"\xcf\xfa\xed\xfe") or value[:2] == b"MZ":
            out.add(
                "hidden.payload",
                line,
                0,
                f"{label}: an executable",
                severity=Severity.MEDIUM if value[:4] == b"\0asm" else None,
            )
            return
        if not mostly_text(value):
            scan_serialised(value, line, out)
            return
        text = value.decode("utf-8", "replace")
    else:
        text = value
    executed = forced is not None
    inner = Collector(f"{out.path}!{label}", text)
    languages = [forced] if forced else [
        name for name, looks in (("python", looks_like_python), ("javascript", looks_like_javascript)) if looks(text)  # noqa: E501
    ]  # fmt: skip
    parsed_as = None
    for language in languages:
        attempt = Collector(inner.path, text)
        if _scan_source(text, language or "python", attempt, context) or (
            attempt.findings or attempt.capabilities
        ):
            inner, parsed_as = attempt, language
            break
    if not executed and parsed_as is None:
        for layer, decoded in guess_layers(text):
            inner.payload(decoded, layer, 1)
    _scan_payloads(inner, context, depth + 1, budget)
    _merge(inner, out, line, label, executed=executed, is_code=parsed_as is not None)


def _merge(inner: Collector, out: Collector, line: int, label: str, *, executed: bool, is_code: bool) -> None:
    blocking = [item for item in inner.findings if item.severity in _BLOCKING]
    decoded = label not in ("executed", "folded", "text", "template", "data")
    for item in blocking[:10] if not executed else inner.findings[:20]:
        if item.rule == "parse.failed":
            continue
        out.findings.append(item)
    for capability, (_, _, what) in inner.capabilities.items():
        out.use(capability, line, 1, f"{what} in a {label} value")
    if is_code and decoded and inner.capabilities:
        what = ", ".join(sorted(capability.value for capability in inner.capabilities))
        out.add("hidden.payload", line, 0, f"{label}: code that uses {what}")
    elif executed and label == "folded" and inner.capabilities:
        what = ", ".join(sorted(capability.value for capability in inner.capabilities))
        out.add("hidden.execution", line, 0, f"code put together from pieces uses {what}")
