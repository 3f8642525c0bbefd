"""The broker reads requests strictly: one head, one body, nothing behind it."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.sandbox.egress_http import (
    MalformedRequestError,
    RequestHead,
    body_length,
    read_body,
    read_head,
)


def fed(data: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=64 * 1024)
    reader.feed_data(data)
    reader.feed_eof()
    return reader


async def test_a_request_is_written_anew_with_only_what_was_judged() -> None:
    head = await read_head(
        fed(
            b"POST http://api.example.com/a?b=1 HTTP/1.1\r\nHost: evil\r\nAuthorization: mine\r\n"
            b"Proxy-Authorization: x\r\nConnection: keep-alive\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nhi"
        )
    )
    assert head is not None
    assert head.absolute() == ("api.example.com", 80, "/a?b=1")
    written = head.write("api.example.com", "/a?b=1", {"authorization": "Bearer secret"}, chunked=False)
    assert written == (
        b"POST /a?b=1 HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\nX-A: 1\r\n"
        b"Content-Length: 2\r\nauthorization: Bearer secret\r\n\r\n"
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/2\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX : 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: 1\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\nY: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
        b"GET / HT",
    ],
)
async def test_malformed_heads_are_refused(raw: bytes) -> None:
    with pytest.raises(MalformedRequestError):
        await read_head(fed(raw))


@pytest.mark.parametrize(
    "headers",
    [
        [("Content-Length", "1"), ("Content-Length", "2")],
        [("Content-Length", "+1")],
        [("Content-Length", "1"), ("Transfer-Encoding", "chunked")],
        [("Transfer-Encoding", "gzip, chunked")],
        [("Transfer-Encoding", "chunked"), ("transfer-encoding", "chunked")],
    ],
)
def test_ambiguous_framing_is_refused(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(MalformedRequestError):
        body_length(RequestHead("POST", "/", tuple(headers)))


async def test_nothing_rides_behind_a_body() -> None:
    reader = fed(b"2\r\nhi\r\n0\r\n\r\nDELETE / HTTP/1.1\r\n\r\n")
    assert [piece async for piece in read_body(reader, None)] == [b"hi"]
    reader = fed(b"hiDELETE / HTTP/1.1\r\n\r\n")
    assert [piece async for piece in read_body(reader, 2)] == [b"hi"]


@given(st.binary(max_size=400))
def test_any_bytes_are_a_request_or_refused(raw: bytes) -> None:
    async def read() -> None:
        reader = fed(raw)
        try:
            head = await read_head(reader)
            if head is not None:
                head.absolute()
                async for _ in read_body(reader, body_length(head)):
                    continue
        except MalformedRequestError:
            return

    asyncio.run(read())
