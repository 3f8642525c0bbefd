"""The part of HTTP/1.1 (RFC 9112) that the egress broker speaks, strictly.

Requests are parsed, judged and written anew, with exactly one framed body each, so that nothing unjudged can
ride behind a request that was allowed.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

MAX_HEAD_BYTES = 64 * 1024
MAX_CHUNK_LINE = 256
PIECE = 64 * 1024
REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([\x21-\x7e]{1,16000}) HTTP/1\.[01]")
HEADER_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "trailer",
        "upgrade",
        "host",
    )
)


class MalformedRequestError(Exception):
    """The bytes are not one well-formed request."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """Request line and headers; header names keep their spelling.

    Attributes:
        method: Upper case.
        target: As sent: ``host:port``, ``http://host/path`` or ``/path``.
        headers: In order.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]

    def values(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for key, value in self.headers if key.lower() == name]

    def absolute(self) -> tuple[str, int, str] | None:
        """``(host, port, path)`` of an absolute ``http://`` target, else None.

        Raises:
            MalformedRequestError: The target is absolute, but not a plain http address.
        """
        if self.target.startswith("/"):
            return None
        try:
            parts = urlsplit(self.target)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise MalformedRequestError("the request target is not a URL") from None
        if parts.scheme != "http" or not host or parts.username is not None:
            raise MalformedRequestError("the request target must be http://host/path")
        path = parts.path or "/"
        return host, port or 80, f"{path}?{parts.query}" if parts.query else path

    def authority(self) -> tuple[str, int]:
        """``(host, port)`` of a CONNECT target.

        Raises:
            MalformedRequestError: It is not ``host:port``.
        """
        host, _, port = self.target.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise MalformedRequestError("CONNECT needs host:port")
        return host.strip("[]"), int(port)

    def write(self, host: str, path: str, added: dict[str, str], chunked: bool) -> bytes:
        """The request as it is sent on: origin form, our Host, one connection per request, headers added.

        An added header replaces any of the same name that the agent sent.
        """
        dropped = HOP_BY_HOP | {name.lower() for name in added} | {"transfer-encoding"}
        lines = [f"{self.method} {path} HTTP/1.1", f"Host: {host}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in self.headers if name.lower() not in dropped]
        lines += [f"{name}: {value}" for name, value in added.items()]
        if chunked:
            lines.append("Transfer-Encoding: chunked")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def read_head(reader: asyncio.StreamReader) -> RequestHead | None:
    """Read one request head; None when the client has ended the connection.

    Raises:
        MalformedRequestError: It is malformed or too long.
    """
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise MalformedRequestError("the request ended early") from None
        return None
    except asyncio.LimitOverrunError:
        raise MalformedRequestError("the request head is too long") from None
    first, *rest = raw[:-4].split(b"\r\n")
    line = REQUEST_LINE.fullmatch(first)
    if line is None:
        raise MalformedRequestError("the request line is malformed")
    headers: list[tuple[str, str]] = []
    for each in rest:
        header = HEADER_LINE.fullmatch(each)
        if header is None:
            raise MalformedRequestError("a header line is malformed")
        headers.append((header[1].decode("latin-1"), header[2].decode("latin-1")))
    return RequestHead(line[1].decode().upper(), line[2].decode(), tuple(headers))


def body_length(head: RequestHead) -> int | None:
    """Length of the request's body in bytes; None when it is chunked.

    Raises:
        MalformedRequestError: The framing is ambiguous.
    """
    codings, lengths = head.values("transfer-encoding"), head.values("content-length")
    if codings:
        if lengths or [coding.lower() for coding in codings] != ["chunked"]:
            raise MalformedRequestError("the body's framing is ambiguous")
        return None
    if not lengths:
        return 0
    if len(lengths) > 1 or not re.fullmatch(r"[0-9]{1,15}", lengths[0]):
        raise MalformedRequestError("Content-Length must be one number")
    return int(lengths[0])


async def read_body(reader: asyncio.StreamReader, length: int | None) -> AsyncIterator[bytes]:
    """The body's bytes, piece by piece, chunk framing removed.

    Raises:
        MalformedRequestError: It ends early or its chunks are malformed.
    """
    try:
        if length is not None:
            while length:
                piece = await reader.readexactly(min(length, PIECE))
                length -= len(piece)
                yield piece
            return
        while size := await _chunk_size(reader):
            while size:
                piece = await reader.readexactly(min(size, PIECE))
                size -= len(piece)
                yield piece
            if await reader.readexactly(2) != b"\r\n":
                raise MalformedRequestError("a chunk does not end with CRLF")
        while await reader.readuntil(b"\r\n") != b"\r\n":
            continue
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise MalformedRequestError("the request's body ended early") from None


async def _chunk_size(reader: asyncio.StreamReader) -> int:
    line = (await reader.readuntil(b"\r\n"))[:-2].partition(b";")[0].strip()
    if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", line):
        raise MalformedRequestError("a chunk's size is malformed")
    return int(line, 16)
