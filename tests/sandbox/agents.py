"""Builders of executions."""

import itertools
import uuid
from typing import Any

from activities.sandbox.runner import SandboxRunner
from models.manifest import Runtime
from models.sandbox import SandboxLimits, SandboxRequest, SandboxResult
from tests.builders import archive

_numbers = itertools.count()
LIMITS = SandboxLimits(memory_mb=256, timeout_ms=20_000)


def request_of(
    source: str,
    runtime: Runtime = Runtime.PYTHON,
    files: dict[str, str | bytes] | None = None,
    **changes: Any,
) -> SandboxRequest:
    """An execution of one main file, and others beside it."""
    entry = "main.py" if runtime is Runtime.PYTHON else "index.js"
    fields: dict[str, Any] = {
        "execution_id": f"exec_{uuid.uuid4().hex[:12]}_{next(_numbers)}",
        "runtime": runtime,
        "entry_point": entry,
        "code": archive({entry: source, **(files or {})}),
        "inputs": {"city": "Pune"},
        "limits": LIMITS,
    }
    return SandboxRequest(**(fields | changes))


async def run_python(runner: SandboxRunner, source: str, **changes: Any) -> SandboxResult:
    return await runner.run(request_of(source, Runtime.PYTHON, **changes))


async def run_node(runner: SandboxRunner, source: str, **changes: Any) -> SandboxResult:
    return await runner.run(request_of(source, Runtime.NODE, **changes))
