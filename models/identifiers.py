"""Prefixed, time-ordered identifiers: ``exec_0198…`` is a UUIDv7 (RFC 9562 §5.7) behind its kind."""

import hashlib
import os
import re
import threading
import time
from typing import Annotated

from pydantic import StringConstraints

PREFIXES = {
    "agent": "agt",
    "agent_version": "ver",
    "deployment": "dep",
    "execution": "exec",
    "process_definition": "flow",
    "process_instance": "inst",
    "task": "task",
    "approval": "apr",
    "approval_decision": "dec",
    "evidence": "evd",
    "absence": "abs",
    "channel_account": "chan",
    "channel_message": "inb",
    "purchase_intent": "pi",
    "mandate": "mdt",
    "payment": "pay",
    "settlement": "stl",
    "receipt": "rcpt",
    "payout": "po",
    "beneficiary": "ben",
    "refund": "rfd",
    "reconciliation_case": "case",
    "event": "evt",
    "tenant": "ten",
    "user": "usr",
    "api_key": "key",
    "review": "rev",
    "ledger_account": "acct",
    "ledger_transaction": "txn",
    "hold": "hold",
    "top_up": "topup",
    "policy": "pol",
    "payment_method": "pmt",
    "purchase": "pur",
    "routing": "rte",
    "delivery": "dlv",
    "dead_letter": "dead",
    "event_archive": "arch",
    "webhook_endpoint": "whk",
    "job": "job",
    "incident": "inc",
    "message": "msg",
    "flow_state": "state",
    "trigger": "trg",
}
"""Kind of thing → prefix of its identifiers. The only place a prefix is written."""

PATTERN = re.compile(r"^[a-z]+_[0-9a-f]{32}$")

Identifier = Annotated[str, StringConstraints(pattern=PATTERN.pattern, max_length=48)]
"""A prefixed identifier as it appears in contracts and paths."""

_lock = threading.Lock()
_last_milliseconds = 0
_counter = 0


def new_identifier(kind: str) -> str:
    """Make a new identifier of ``kind`` (a key of ``PREFIXES``), later ones sorting after earlier ones.

    Within one process the order is strict: the 12 bits after the milliseconds are a counter
    (RFC 9562 §6.2, method 1).

    Raises:
        KeyError: ``kind`` has no prefix.
    """
    global _last_milliseconds, _counter
    prefix = PREFIXES[kind]
    with _lock:
        now = time.time_ns() // 1_000_000
        if now > _last_milliseconds:
            _last_milliseconds, _counter = now, 0
        else:
            _counter += 1
            if _counter > 0xFFF:
                _last_milliseconds, _counter = _last_milliseconds + 1, 0
        milliseconds, counter = _last_milliseconds, _counter
    random_bits = int.from_bytes(os.urandom(8), "big") & ((1 << 62) - 1)
    value = (milliseconds << 80) | (0x7 << 76) | (counter << 64) | (0b10 << 62) | random_bits
    return f"{prefix}_{value:032x}"


def derived_identifier(kind: str, base: str, *parts: str | int) -> str:
    """Make the identifier of ``kind`` that belongs to a part of ``base``; the same parts give the same one.

    It sorts with ``base``, whose time it takes over; the rest is a hash (RFC 9562 §5.8 in UUIDv7 dress).

    Raises:
        KeyError: ``kind`` has no prefix.
    """
    seed = "/".join((base, *map(str, parts))).encode()
    digits = hashlib.sha256(seed).hexdigest()
    return f"{PREFIXES[kind]}_{base.rpartition('_')[2][:12]}7{digits[:3]}8{digits[3:18]}"
