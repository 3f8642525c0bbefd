"""Constants that one file of a submission can read from another, so that splitting hides nothing."""

import ast
import json
import re
from collections.abc import Mapping

from activities.scanning.file_kinds import as_text
from activities.scanning.file_scan import Context
from models.manifest import Capability

_MAX_CONSTANT = 200_000
_MAX_TOTAL = 8_000_000
_MAX_PER_FILE = 1_000
_MAX_SOURCE = 1 << 20
_MAX_SCRIPT = 128 << 10
_PYTHON_CONSTANT = re.compile(
    r"^([A-Za-z_]\w*)[ \t]*(?::[^=\n]{1,40})?=[ \t]*([\"'bBrRuU(\[\d][^\n]*(?:\n[ \t)\]\"'][^\n]*){0,40})",
    re.MULTILINE,
)
# Names and gaps are bounded, and a name starts where a name can: no input makes these quadratic.
_JAVASCRIPT_CONSTANT = re.compile(
    r"(?<![\w$])([A-Za-z_$][\w$]{0,60})\s{0,4}[=:]\s{0,4}"
    r"(\"(?:[^\"\\\n]|\\.){0,200000}\"|'(?:[^'\\\n]|\\.){0,200000}'|`[^`$\\]{0,200000}`)"
)
_DEFAULT = re.compile(
    r"(?:module\.exports\s*=|export\s+default)\s*(\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*')"
)


def build_context(files: Mapping[str, bytes], declared: frozenset[Capability]) -> Context:
    """Collect module-level string constants by module name and by file name."""
    constants: dict[str, dict[str, object]] = {}
    data: dict[str, dict[str, object]] = {}
    total = 0
    for path, content in files.items():
        if len(content) > _MAX_SOURCE or total > _MAX_TOTAL:
            continue
        found: dict[str, object] = {}
        if path.endswith(".py"):
            found = _python_constants(as_text(content))
            module = path[:-3].replace("/", ".").removesuffix(".__init__")
            constants[module] = found
            constants.setdefault(module.rsplit(".", 1)[-1], found)
        elif path.endswith((".js", ".mjs", ".cjs", ".ts")) and len(content) <= _MAX_SCRIPT:
            found = _javascript_constants(as_text(content))
            data[path.rsplit("/", 1)[-1].rsplit(".", 1)[0]] = found
        elif path.endswith(".json") and len(content) <= _MAX_SCRIPT:
            found = _json_constants(content)
            data[path.rsplit("/", 1)[-1]] = found
        total += sum(len(value) for value in found.values() if isinstance(value, str | bytes))
    return Context(constants, data, declared)


def _python_constants(text: str) -> dict[str, object]:
    found: dict[str, object] = {}
    for match in _PYTHON_CONSTANT.finditer(text):
        if len(found) >= _MAX_PER_FILE:
            break
        literal = match.group(2)
        for candidate in (literal, literal.split("\n", 1)[0]):
            if len(candidate) > _MAX_CONSTANT:
                continue
            try:
                value = ast.literal_eval(candidate.strip())
            except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
                continue
            if isinstance(value, str | bytes | list | tuple):
                found[match.group(1)] = value
            break
    return found


def _javascript_constants(text: str) -> dict[str, object]:
    found: dict[str, object] = {}
    for match in _JAVASCRIPT_CONSTANT.finditer(text):
        if len(found) >= _MAX_PER_FILE:
            break
        name = match.group(1)
        literal = match.group(2)
        if len(literal) <= _MAX_CONSTANT:
            found[name] = literal[1:-1]
    default = _DEFAULT.search(text)
    if default:
        found["default"] = default.group(1)[1:-1]
    return found


def _json_constants(content: bytes) -> dict[str, object]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(value, dict):
        return {}
    return {
        key: item for key, item in list(value.items())[:_MAX_PER_FILE] if isinstance(item, str | list | dict)
    }
