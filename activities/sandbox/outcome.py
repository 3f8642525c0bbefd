"""Why an execution ended: one decision over what the supervisor, the engine and we ourselves know.

No single sign is enough: exit code 137 is also what an agent can say of itself, and ``OOMKilled`` is also set
when only a child was killed and the agent went on to succeed. So our own kills are remembered
(``killed_by``), the supervisor's report carries counters of this container's cgroup, and the
engine's state is asked only when there is no report.
"""

import json
import signal
from dataclasses import dataclass
from typing import Any

import orjson

from activities.sandbox.output import OutputCollector
from models.sandbox import ExitReason, SandboxLimits, SandboxResult

OUT_OF_SPACE = "No space left on device"


@dataclass(frozen=True, slots=True)
class ContainerState:
    """The engine's view of an ended container; None where the engine knows nothing of it.

    Attributes:
        exit_code: Of process 1.
        oom_killed: Whether the kernel killed any of its processes for memory.
    """

    exit_code: int
    oom_killed: bool


@dataclass(frozen=True, slots=True)
class _Verdict:
    reason: ExitReason
    detail: str
    exit_code: int | None = None
    started: bool = True


def build_result(
    output: OutputCollector,
    limits: SandboxLimits,
    *,
    killed_by: ExitReason | None,
    state: ContainerState | None,
    fed: bool,
    elapsed_ms: int,
    lost: str = "",
) -> SandboxResult:
    """Decide the exit reason and assemble the result.

    Args:
        output: What was read.
        limits: What was allowed.
        killed_by: Why we killed the container, if we did.
        state: The engine's view, asked when the supervisor did not report.
        fed: Whether the whole execution was handed over, so that the agent may have begun.
        elapsed_ms: Our own measure of the agent's time, for when there is no report.
        lost: What went wrong with the engine, if anything did.
    """
    report = output.report()
    verdict = _decide(output, limits, report, killed_by, state, fed, lost)
    usage = _usage(report)
    return SandboxResult(
        exit_reason=verdict.reason,
        started=verdict.started,
        exit_code=verdict.exit_code,
        stdout=bytes(output.stdout),
        stderr_tail=output.stderr_tail,
        detail=verdict.detail,
        duration_ms=round(report["duration_us"] / 1000) if report else elapsed_ms,
        cpu_ms=usage.get("cpu_ms"),
        memory_peak_bytes=usage.get("memory_peak"),
        stdout_total=output.stdout_total,
        stderr_total=output.stderr_total,
    )


def _decide(
    output: OutputCollector,
    limits: SandboxLimits,
    report: dict[str, Any] | None,
    killed_by: ExitReason | None,
    state: ContainerState | None,
    fed: bool,
    lost: str,
) -> _Verdict:
    code = None if report is None or report["status"] is None else _shell_code(report["status"])
    if output.over_cap is not None:
        cap = limits.stdout_bytes if output.over_cap == "standard output" else limits.stderr_bytes
        return _Verdict(
            ExitReason.OUTPUT_CAP, f"the agent wrote more than {cap} bytes to {output.over_cap}", code
        )
    if report is not None:
        return _from_report(output, limits, report, code)
    if killed_by is ExitReason.TIMEOUT:
        return _Verdict(ExitReason.TIMEOUT, f"the agent ran longer than {limits.timeout_ms} ms")
    if killed_by is not None:
        return _Verdict(killed_by, "the execution was cancelled", started=fed)
    if state is not None and state.oom_killed:
        return _Verdict(ExitReason.OOM, _oom(limits), state.exit_code, started=fed)
    return _Verdict(ExitReason.INFRA_LOST, lost or "the container ended without a report", started=fed)


def _from_report(
    output: OutputCollector, limits: SandboxLimits, report: dict[str, Any], code: int | None
) -> _Verdict:
    if not report["started"]:
        if "lost" in report:
            return _Verdict(ExitReason.INFRA_LOST, str(report["lost"]), started=False)
        why = str(report.get("refused", ""))
        reason = ExitReason.LIMIT if OUT_OF_SPACE in why else ExitReason.AGENT_ERROR
        return _Verdict(reason, why, started=False)
    if report["timed_out"]:
        return _Verdict(ExitReason.TIMEOUT, f"the agent ran longer than {limits.timeout_ms} ms", code)
    if code == 0:
        problem = output_problem(bytes(output.stdout))
        if problem is None:
            return _Verdict(ExitReason.SUCCESS, "", 0)
        return _Verdict(ExitReason.OUTPUT_INVALID, problem, 0)
    # Before memory: processes without end use up both, and this names the cause.
    if _grew(report, "pids_refused"):
        return _Verdict(
            ExitReason.LIMIT, f"the agent needs more than {limits.pids} processes and threads", code
        )
    if _grew(report, "oom_kills"):
        return _Verdict(ExitReason.OOM, _oom(limits), code)
    if report["status"] == -signal.SIGXFSZ:
        return _Verdict(
            ExitReason.LIMIT, f"the agent wrote a file larger than {limits.file_bytes} bytes", code
        )
    return _Verdict(ExitReason.AGENT_ERROR, f"the agent ended with exit code {code}", code)


def output_problem(stdout: bytes) -> str | None:
    """Why standard output is not one JSON document (RFC 8259), or None when it is."""
    if not stdout.strip():
        return "the agent wrote nothing to standard output; it must write one JSON document"
    try:
        # Strict: UTF-8 without lone surrogates, no NaN, nothing after the document.
        orjson.loads(stdout)
    except orjson.JSONDecodeError as error:
        return f"standard output is not one JSON document: {error}"
    return None


def _shell_code(status: int) -> int:
    return status if status >= 0 else 128 - status


def _oom(limits: SandboxLimits) -> str:
    return f"the agent needed more memory than its limit ({limits.memory_mb} MiB declared)"


def _grew(report: dict[str, Any], counter: str) -> bool:
    return (report["after"][counter] or 0) > (report["before"][counter] or 0)


def _usage(report: dict[str, Any] | None) -> dict[str, int | None]:
    if report is None:
        return {}
    after, before = report["after"], report["before"]
    cpu = None if after["cpu_us"] is None else round((after["cpu_us"] - (before["cpu_us"] or 0)) / 1000)
    return {"cpu_ms": cpu, "memory_peak": after["memory_peak"]}


def encode_json(value: object) -> bytes:
    """Compact JSON as the agent gets it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
