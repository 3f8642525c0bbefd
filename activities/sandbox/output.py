"""Reads a container's two output streams without ever stopping, keeps what may be kept, finds their ends.

The engine blocks the container when nobody reads, and then even a kill hangs; so everything is read, and what
is beyond a cap is counted and dropped. The supervisor ends each stream with a token that the agent cannot
know; between two tokens at the end of standard error stands its report.
"""

import json
from collections.abc import Callable
from typing import Any

from activities.sandbox.engine import STDERR, STDOUT
from models.sandbox import SandboxLimits

READY = b"\x06"
MAX_REPORT_BYTES = 8192

OutputListener = Callable[[str, bytes], None]


class _Stream:
    """Splits one stream into the agent's bytes and what follows the end token."""

    def __init__(self, token: bytes) -> None:
        self.token = token
        self.total = 0
        self.ended = False
        self.trailer = bytearray()
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        """Take a piece; return the agent's bytes that are certain not to belong to the token."""
        if self.ended:
            self.trailer += piece[: MAX_REPORT_BYTES - len(self.trailer)]
            return b""
        piece = self._held + piece
        self._held = b""
        position = piece.find(self.token)
        if position >= 0:
            self.ended = True
            self.trailer += piece[position + len(self.token) :]
            piece = piece[:position]
        else:
            keep = next(
                (
                    size
                    for size in range(min(len(self.token), len(piece)), 0, -1)
                    if piece.endswith(self.token[:size])
                ),
                0,
            )
            if keep:
                piece, self._held = piece[:-keep], piece[-keep:]
        self.total += len(piece)
        return piece

    def finish(self) -> bytes:
        """What was held back when the stream ended without a token."""
        held, self._held = self._held, b""
        self.total += len(held)
        return held


class OutputCollector:
    """The output of one execution.

    Attributes:
        stdout: Kept standard output, at most the cap.
        stderr_tail: Kept end of standard error.
        over_cap: Name of the stream that went over its cap, or None.
    """

    def __init__(self, limits: SandboxLimits, end_token: str, listener: OutputListener | None) -> None:
        self._limits = limits
        self._listener = listener
        self._out = _Stream(end_token.encode())
        self._err = _Stream(end_token.encode())
        self._tail = bytearray()
        self.stdout = bytearray()
        self.over_cap: str | None = None

    @property
    def stderr_tail(self) -> bytes:
        """End of standard error."""
        return bytes(self._tail[-self._limits.stderr_tail_bytes :])

    @property
    def stdout_total(self) -> int:
        """Bytes the agent wrote to standard output."""
        return self._out.total

    @property
    def stderr_total(self) -> int:
        """Bytes the agent wrote to standard error."""
        return self._err.total

    @property
    def complete(self) -> bool:
        """Whether both streams were ended by the supervisor, so that nothing more can come."""
        return self._out.ended and self._err.ended and self._err.trailer.endswith(self._err.token)

    def feed(self, stream: int, piece: bytes) -> None:
        """Take the next piece of a stream."""
        if stream == STDOUT:
            self._take_out(self._out.feed(piece))
        elif stream == STDERR:
            self._take_err(self._err.feed(piece))

    def finish(self) -> None:
        """The connection ended."""
        self._take_out(self._out.finish())
        self._take_err(self._err.finish())

    def report(self) -> dict[str, Any] | None:
        """The supervisor's report, if it came to write one."""
        if not self.complete:
            return None
        report: dict[str, Any] = json.loads(self._err.trailer[: -len(self._err.token)])
        return report

    def _take_out(self, piece: bytes) -> None:
        room = self._limits.stdout_bytes - len(self.stdout)
        self.stdout += piece[:room]
        if self._out.total > self._limits.stdout_bytes:
            self.over_cap = self.over_cap or "standard output"
        self._tell("stdout", piece[:room])

    def _take_err(self, piece: bytes) -> None:
        keep = self._limits.stderr_tail_bytes
        self._tail += piece
        if len(self._tail) > 4 * keep:
            del self._tail[:-keep]
        if self._err.total > self._limits.stderr_bytes:
            self.over_cap = self.over_cap or "standard error"
        else:
            self._tell("stderr", piece)

    def _tell(self, stream: str, piece: bytes) -> None:
        if piece and self._listener is not None:
            self._listener(stream, piece)
