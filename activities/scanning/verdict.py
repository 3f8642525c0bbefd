"""From findings to a verdict.

Capabilities are not violations: they must be declared in the manifest, where the sandbox enforces
them. HIGH and CRITICAL block, MEDIUM asks for review, LOW only informs. Nothing in a submission can
lower a severity or exclude a file.
"""

from collections.abc import Iterable, Mapping

from activities.scanning.limits import MAX_FINDINGS
from activities.scanning.rulebook import RULES
from models.manifest import Capability
from models.scanning import Finding, Severity, Verdict

_BLOCKING = (Severity.CRITICAL, Severity.HIGH)
_ORDER = [Severity.CRITICAL, Severity.HIGH, Severity.MEDIUM, Severity.LOW]

CapabilityUse = tuple[str, int, int, str]


def undeclared(used: Mapping[Capability, CapabilityUse], declared: frozenset[Capability]) -> list[Finding]:
    """Return one finding for each capability that the code uses and the manifest does not declare.

    Args:
        used: First use of each capability: file, line, column, what.
        declared: Capabilities of the manifest.
    """
    rule = RULES["capability.undeclared"]
    return [
        Finding(
            rule="capability.undeclared",
            file=file,
            line=line,
            column=column,
            severity=rule.severity,
            message=f"{rule.message}: {capability.value}, by {what[:120]}",
            remedy=f"Add '{capability.value}' to the manifest's capabilities, or remove the use.",
            capability=capability,
        )
        for capability, (file, line, column, what) in sorted(used.items())
        if capability not in declared
    ]


def by_weight(item: Finding) -> tuple[int, str, int, int, str]:
    """Sort key: the most serious finding first, then by place."""
    return _ORDER.index(item.severity), item.file, item.line, item.column, item.rule


def divide(findings: Iterable[Finding]) -> tuple[Verdict, list[Finding], list[Finding], int]:
    """Sort findings by weight and divide them.

    Returns:
        Verdict, violations, warnings, and how many findings the cap dropped.
    """
    ordered = sorted(findings, key=by_weight)
    violations = [item for item in ordered if item.severity in _BLOCKING]
    warnings = [item for item in ordered if item.severity not in _BLOCKING]
    if violations:
        verdict = Verdict.BLOCK
    elif any(item.severity is Severity.MEDIUM for item in warnings):
        verdict = Verdict.REVIEW
    else:
        verdict = Verdict.PASS
    kept_warnings = warnings[:MAX_FINDINGS]
    kept_violations = violations[:MAX_FINDINGS]
    dropped = len(ordered) - len(kept_warnings) - len(kept_violations)
    return verdict, kept_violations, kept_warnings, dropped
