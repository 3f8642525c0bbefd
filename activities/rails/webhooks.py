"""Webhooks of rails: whose they are, when they were signed, and what they hint at.

A webhook is a hint and never a fact: it says which of our references to look up. So a replay, a copy or a
wrong order of events can do no more than make us look once more.
"""

import base64
import hashlib
import hmac
import re
from json import loads
from typing import Any, cast

from models.rail import RailName, WebhookHint, WebhookSignatureError

TOLERANCE_SECONDS = 300
"""How old or how far ahead a signature's time may be (the constant of Stripe's own libraries)."""

_MAX_SIGNATURES = 16


def verify_stripe(raw: bytes, signature: str, secret: str, now: float) -> None:
    """Verify ``Stripe-Signature``: ``t=<unix>,v1=<hex HMAC-SHA256 of "t.body">``, several ``v1`` in rotation.

    Args:
        raw: The body as it came, never parsed and written again.
        signature: The header.
        secret: The endpoint's signing secret.
        now: Unix time in seconds.

    Raises:
        WebhookSignatureError: It is not Stripe's, or not of now.
    """
    parts = [part.partition("=") for part in signature.split(",")[:_MAX_SIGNATURES]]
    times = [value for name, _, value in parts if name.strip() == "t"]
    given = [value for name, _, value in parts if name.strip() == "v1"]
    if len(times) != 1 or not re.fullmatch(r"[0-9]{1,12}", times[0]):
        raise WebhookSignatureError("the header has no time")
    expected = hmac.new(secret.encode(), times[0].encode() + b"." + raw, hashlib.sha256).hexdigest()
    # All are compared, so that the time taken says nothing.
    matches = [hmac.compare_digest(expected.encode(), value.encode()) for value in given]
    _require(any(matches), int(times[0]), now)


def verify_cashfree(raw: bytes, signature: str, timestamp: str, secret: str, now: float) -> None:
    """Verify ``x-webhook-signature``: base64 HMAC-SHA256 of ``x-webhook-timestamp`` (ms) and the body.

    Raises:
        WebhookSignatureError: It is not Cashfree's, or not of now.
    """
    if not re.fullmatch(r"[0-9]{1,15}", timestamp):
        raise WebhookSignatureError("the header has no time")
    digest = hmac.new(secret.encode(), timestamp.encode() + raw, hashlib.sha256).digest()
    matches = hmac.compare_digest(base64.b64encode(digest), signature.encode())
    _require(matches, int(timestamp) // 1000, now)


def read_hint(rail: RailName, raw: bytes) -> WebhookHint:
    """Read what a verified webhook is about; one that says nothing readable is kept without a reference."""
    digest = hashlib.sha256(raw).hexdigest()
    try:
        event = loads(raw)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        return WebhookHint(rail=rail, event_id=digest, kind="unreadable", digest=digest)
    fields = cast("dict[str, Any]", event)
    if rail is RailName.STRIPE:
        reference = _stripe_reference(fields)
        # An event's identifier is unique; Cashfree's events have none, and a copy has the same bytes.
        event_id = _text(fields.get("id")) or digest
    else:
        reference, event_id = _cashfree_reference(fields), digest
    kind = _text(fields.get("type")) or "untyped"
    return WebhookHint(rail=rail, event_id=event_id, kind=kind, reference=reference, digest=digest)


def _require(matches: bool, signed_at: int, now: float) -> None:
    if not matches:
        raise WebhookSignatureError("the signature does not fit the body")
    if abs(now - signed_at) > TOLERANCE_SECONDS:
        raise WebhookSignatureError(f"it was not signed within {TOLERANCE_SECONDS} s of now")


def _stripe_reference(event: dict[str, Any]) -> str | None:
    subject = _inside(event, "data", "object")
    return _text(_inside(subject, "metadata").get("reference")) or _text(subject.get("transfer_group"))


def _cashfree_reference(event: dict[str, Any]) -> str | None:
    data = _inside(event, "data")
    found = (
        data.get("transfer_id"),
        _inside(data, "transfer").get("transfer_id"),
        _inside(data, "refund").get("refund_id"),
        _inside(data, "order").get("order_id"),
    )
    return next((text for text in map(_text, found) if text), None)


def _inside(value: dict[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        inner = value.get(name)
        value = cast("dict[str, Any]", inner) if isinstance(inner, dict) else {}
    return value


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable() else None
