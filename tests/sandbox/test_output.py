"""The end of a stream is found wherever the pieces are cut, and only the supervisor can write it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.sandbox.engine import STDERR, STDOUT
from activities.sandbox.outcome import ContainerState, build_result, output_problem
from activities.sandbox.output import OutputCollector
from models.sandbox import ExitReason, SandboxLimits

TOKEN = "ab" * 32
LIMITS = SandboxLimits(stdout_bytes=2000, stderr_bytes=2000, stderr_tail_bytes=300)
USAGE = {"cpu_us": 1000, "memory_peak": 5, "oom_kills": 0, "pids_refused": 0}


def report(**changes: Any) -> bytes:
    base = {
        "started": True,
        "timed_out": False,
        "status": 0,
        "duration_us": 1500,
        "before": USAGE,
        "after": USAGE,
    }
    return json.dumps(base | changes).encode()


def collected(
    out: bytes, err: bytes, *, limits: SandboxLimits = LIMITS, end: bytes | None = None
) -> OutputCollector:
    output = OutputCollector(limits, TOKEN, None)
    output.feed(STDOUT, out + (TOKEN.encode() if end is not None else b""))
    output.feed(STDERR, err + (TOKEN.encode() + end + TOKEN.encode() if end is not None else b""))
    output.finish()
    return output


@given(st.binary(max_size=300), st.binary(max_size=300), st.lists(st.integers(1, 400), max_size=30))
def test_pieces_may_be_cut_anywhere(out: bytes, err: bytes, cuts: list[int]) -> None:
    heard: dict[str, bytes] = {"stdout": b"", "stderr": b""}

    def listen(stream: str, piece: bytes) -> None:
        heard[stream] += piece

    output = OutputCollector(LIMITS, TOKEN, listen)
    token = TOKEN.encode()
    for stream, data in ((STDOUT, out + token), (STDERR, err + token + report() + token)):
        for size in [*cuts, len(data)]:
            output.feed(stream, data[:size])
            data = data[size:]
    assert output.complete
    assert heard == {"stdout": out, "stderr": err}
    assert (bytes(output.stdout), output.stderr_tail) == (out, err[-300:])
    assert output.report() == json.loads(report())


def test_half_a_token_is_the_agents_own_text() -> None:
    output = collected(TOKEN[:40].encode(), b"ab")
    assert not output.complete
    assert bytes(output.stdout) == TOKEN[:40].encode()
    assert output.stderr_tail == b"ab"


def test_output_beyond_the_cap_is_counted_but_not_kept() -> None:
    output = collected(b"x" * 5000, b"", end=report())
    result = build_result(output, LIMITS, killed_by=None, state=None, fed=True, elapsed_ms=9)
    assert result.exit_reason is ExitReason.OUTPUT_CAP
    assert (len(result.stdout), result.stdout_total) == (2000, 5000)


def test_output_of_exactly_the_cap_is_allowed() -> None:
    document = b'"' + b"x" * 1998 + b'"'
    result = build_result(
        collected(document, b"", end=report()), LIMITS, killed_by=None, state=None, fed=True, elapsed_ms=9
    )
    assert result.succeeded
    assert (result.duration_ms, result.cpu_ms) == (2, 0)


@pytest.mark.parametrize(
    ("changes", "reason", "code"),
    [
        ({}, ExitReason.SUCCESS, 0),
        ({"status": 3}, ExitReason.AGENT_ERROR, 3),
        ({"status": 137}, ExitReason.AGENT_ERROR, 137),
        ({"status": -9}, ExitReason.AGENT_ERROR, 137),
        ({"status": -9, "after": USAGE | {"oom_kills": 1}}, ExitReason.OOM, 137),
        ({"after": USAGE | {"oom_kills": 1}}, ExitReason.SUCCESS, 0),
        ({"status": 1, "after": USAGE | {"pids_refused": 9}}, ExitReason.LIMIT, 1),
        ({"status": -25}, ExitReason.LIMIT, 153),
        ({"status": None, "timed_out": True}, ExitReason.TIMEOUT, None),
        ({"started": False, "status": None, "lost": "gone"}, ExitReason.INFRA_LOST, None),
        ({"started": False, "status": None, "refused": "No space left on device"}, ExitReason.LIMIT, None),
        ({"started": False, "status": None, "refused": "unsafe path"}, ExitReason.AGENT_ERROR, None),
    ],
)
def test_the_report_decides(changes: dict[str, Any], reason: ExitReason, code: int | None) -> None:
    output = collected(b"{}", b"", end=report(**changes))
    result = build_result(output, LIMITS, killed_by=None, state=None, fed=True, elapsed_ms=9)
    assert (result.exit_reason, result.exit_code) == (reason, code)


@pytest.mark.parametrize(
    ("killed_by", "state", "fed", "reason", "started"),
    [
        (ExitReason.TIMEOUT, None, True, ExitReason.TIMEOUT, True),
        (None, ContainerState(137, oom_killed=True), True, ExitReason.OOM, True),
        (None, ContainerState(137, oom_killed=False), True, ExitReason.INFRA_LOST, True),
        (None, None, False, ExitReason.INFRA_LOST, False),
    ],
)
def test_without_a_report_our_own_kill_and_the_engine_decide(
    killed_by: ExitReason | None, state: ContainerState | None, fed: bool, reason: ExitReason, started: bool
) -> None:
    result = build_result(
        collected(b"", b""), LIMITS, killed_by=killed_by, state=state, fed=fed, elapsed_ms=9
    )
    assert (result.exit_reason, result.started) == (reason, started)


@pytest.mark.parametrize("good", [b"{}", b" [1]\n", b'"x"', b"null", b"1.5", '"é"'.encode()])
def test_one_json_document_is_output(good: bytes) -> None:
    assert output_problem(good) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_output_or_refused(data: bytes) -> None:
    problem = output_problem(data)
    if problem is None:
        json.loads(data)
