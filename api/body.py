"""Reads each request once, within limits, and refuses what no operation could take.

Every byte that reaches a route's models has passed here: the body fits the limit; JSON is strict (RFC 8259,
no NaN, no duplicate keys, integers of 64 bits, bounded nesting, no NUL and no lone surrogate in strings,
because PostgreSQL stores neither); path and query hold no NUL.
"""

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any, NoReturn, cast
from urllib.parse import unquote_to_bytes

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import PayloadTooLargeError, UnreadableRequestError, error_response

MAX_BODY_BYTES = 16 * 1024 * 1024
"""10 MB of agent code are 13.4 MB of base64."""

MAX_NESTING = 64
MAX_VALUES = 100_000
"""So that no body occupies the event loop for longer than some tens of milliseconds."""

MAX_INTEGER = 2**63 - 1

BODY_DIGEST = "switchyard.body_digest"
"""Key of the ASGI scope under which the body's SHA-256 stands."""

_JSON_REMEDY = "Send well-formed JSON (RFC 8259)."


def check_json(body: bytes) -> None:
    """Refuse a body that is not strict JSON.

    Raises:
        UnreadableRequestError: Says which rule it breaks.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise UnreadableRequestError("body", "the body is not UTF-8", _JSON_REMEDY) from None
    _check_structure(body)
    try:
        document = json.loads(
            text, parse_constant=_refuse_constant, parse_int=_integer, object_pairs_hook=_object
        )
    except json.JSONDecodeError as error:
        raise UnreadableRequestError(
            "body", f"malformed JSON at line {error.lineno}, column {error.colno}", _JSON_REMEDY
        ) from None
    _check_text(document)


def _check_structure(body: bytes) -> None:
    """Bound depth and number of values before any parser sees the body; strings count as one value each."""
    if len(body) <= MAX_NESTING:
        return
    if body.count(b'"') > 4 * MAX_VALUES:
        raise _too_many_values()
    structure = _STRING.sub(b"", body).translate(None, _NOT_STRUCTURE)
    if structure.count(b",") + structure.count(b"[") + structure.count(b"{") > MAX_VALUES:
        raise _too_many_values()
    brackets = structure.translate(None, b",")
    for _ in range(MAX_NESTING):
        # Each round takes away the innermost level of every branch.
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if not brackets:
            return
    raise UnreadableRequestError(
        "body", f"brackets do not match, or are nested more than {MAX_NESTING} deep", "Flatten the document."
    )


def _too_many_values() -> UnreadableRequestError:
    return UnreadableRequestError("body", f"more than {MAX_VALUES} values", "Send less at a time.")


# Possessive, and a string without an end matches to the end of the body: linear whatever comes.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.?)*+(?:"|\Z)', re.DOTALL)
_NOT_STRUCTURE = bytes(set(range(256)) - set(b"[]{},"))


def _refuse_constant(name: str) -> NoReturn:
    raise UnreadableRequestError("body", f"{name} is not JSON", "Use a number, or null.")


def _integer(digits: str) -> int:
    if len(digits) > 20 or abs(int(digits)) > MAX_INTEGER:
        raise UnreadableRequestError(
            "body", "an integer is outside of 64 bits", "Use a smaller number, or a string."
        )
    return int(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise UnreadableRequestError("body", "an object has a key twice", "Use every key once.")
    return document


def _check_text(document: object) -> None:
    pending: list[object] = [document]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            _check_string(value)
        elif isinstance(value, dict):
            for key, entry in cast("dict[str, object]", value).items():
                _check_string(key)
                pending.append(entry)
        elif isinstance(value, list):
            pending.extend(cast("list[object]", value))
        elif isinstance(value, float) and value in (float("inf"), float("-inf")):
            raise UnreadableRequestError("body", "a number is too large", "Use a smaller number.")


def _check_string(value: str) -> None:
    if "\x00" in value:
        raise UnreadableRequestError("body", "a string holds a NUL character", "Remove it.")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise UnreadableRequestError(
                "body", "a string holds a lone surrogate", "Send whole Unicode characters."
            ) from None


def check_target(scope: Scope) -> None:
    """Refuse a path or query that holds NUL or is not UTF-8 once decoded.

    Raises:
        UnreadableRequestError: Names which of the two.
    """
    for field, raw in (("path", scope.get("raw_path") or b""), ("query", scope["query_string"])):
        decoded = unquote_to_bytes(raw)
        if b"\x00" in decoded:
            raise UnreadableRequestError(field, f"the {field} holds a NUL character", "Remove it.")
        try:
            decoded.decode("utf-8")
        except UnicodeDecodeError:
            raise UnreadableRequestError(
                field, f"the {field} is not UTF-8", "Percent-encode UTF-8."
            ) from None


class BodyMiddleware:
    """Reads the body within the limit, checks JSON, leaves its SHA-256 in the scope and replays it."""

    def __init__(self, app: ASGIApp, limit: int = MAX_BODY_BYTES) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            check_target(scope)
            body = await self._read(scope, receive)
            if body is None:
                return
            if body and _is_json(scope):
                check_json(body)
        except (UnreadableRequestError, PayloadTooLargeError) as refusal:
            await error_response(refusal)(scope, receive, send)
            return
        scope[BODY_DIGEST] = hashlib.sha256(body).digest()
        await self._app(scope, _replay(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """Return the whole body, or None when the client left before its end."""
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > self._limit:
            raise PayloadTooLargeError(self._limit)
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > self._limit:
                raise PayloadTooLargeError(self._limit)
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)


def _is_json(scope: Scope) -> bool:
    media_type = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


def _replay(body: bytes, receive: Receive) -> Callable[[], Any]:
    delivered = False

    async def replay() -> Message:
        nonlocal delivered
        if not delivered:
            delivered = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay
