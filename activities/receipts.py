"""Verifying an export of receipts offline, with nothing but the platform's public keys."""

from collections.abc import Iterable
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from activities.signing import Verifier
from models.canonical import NotCanonicalError
from models.receipt import (
    GENESIS_HASH,
    HEAD_DOMAIN,
    RECEIPT_DOMAIN,
    ExportHeader,
    ReceiptChainBrokenError,
    ReceiptEntry,
    ReceiptOutcome,
    body_hash,
    entry_hash,
)

MAX_LINE_BYTES = 1024 * 1024

LineT = TypeVar("LineT", ExportHeader, ReceiptEntry)


class VerifiedExport(BaseModel):
    """What a sound export attests. Amounts in minor units per currency."""

    tenant_id: str
    receipts: int
    readable: int
    """Receipts whose body is in the export; the others are verified by their digest."""
    settled: int
    declined: int
    refunded: int
    refused: int
    charged: dict[str, int]
    head_hash: str
    stated_at: int


def verify_export(lines: Iterable[bytes], verifier: Verifier) -> VerifiedExport:
    """Verify a whole export: every byte, every signature, the order, and the stated length of the chain.

    Each line must be the exact canonical form of what it says, so a change of any single bit is found; the
    signed head tells a chain whose tail was cut from a whole one.

    Args:
        lines: The export's lines, header first, each ending in a line feed.
        verifier: The platform's public keys, obtained apart from the export.

    Raises:
        ReceiptChainBrokenError: Naming the first line that is wrong, and how.
    """
    numbered = enumerate(lines, start=1)
    try:
        number, first = next(numbered)
    except StopIteration:
        raise ReceiptChainBrokenError(1, "the export is empty") from None
    header = _read(ExportHeader, number, first)
    head = header.head
    if not verifier.verify(HEAD_DOMAIN, head.canonical(), bytes.fromhex(header.signature), header.kid):
        raise ReceiptChainBrokenError(1, _signature_fault(verifier, header.kid, "head"))
    result = VerifiedExport(
        tenant_id=head.tenant_id,
        receipts=0,
        readable=0,
        settled=0,
        declined=0,
        refunded=0,
        refused=0,
        charged={},
        head_hash=head.hash,
        stated_at=head.stated_at,
    )
    previous = GENESIS_HASH
    for number, line in numbered:
        entry = _read(ReceiptEntry, number, line)
        previous = _check(entry, number, previous, result, verifier)
    if result.receipts != head.size:
        raise ReceiptChainBrokenError(
            number, f"the chain has {head.size} receipts, the export holds {result.receipts}"
        )
    if previous.hex() != head.hash:
        raise ReceiptChainBrokenError(number, "the last receipt is not the chain's head")
    return result


def _check(
    entry: ReceiptEntry, number: int, previous: bytes, result: VerifiedExport, verifier: Verifier
) -> bytes:
    result.receipts += 1
    if entry.chain_index != result.receipts:
        raise ReceiptChainBrokenError(
            number, f"receipt {entry.chain_index} stands where {result.receipts} belongs"
        )
    if entry.prev_hash != previous.hex():
        raise ReceiptChainBrokenError(number, "it does not follow the receipt before it")
    digest = bytes.fromhex(entry.body_hash)
    if entry.body is not None:
        if body_hash(entry.body.canonical()) != digest:
            raise ReceiptChainBrokenError(number, "its contents were changed")
        if entry.body.tenant_id != result.tenant_id:
            raise ReceiptChainBrokenError(number, "it belongs to another tenant")
        _count(entry, result)
    computed = entry_hash(previous, entry.chain_index, digest)
    if computed.hex() != entry.hash:
        raise ReceiptChainBrokenError(number, "its hash is not that of its contents")
    if not verifier.verify(RECEIPT_DOMAIN, computed, bytes.fromhex(entry.signature), entry.kid):
        raise ReceiptChainBrokenError(number, _signature_fault(verifier, entry.kid, "receipt"))
    return computed


def _count(entry: ReceiptEntry, result: VerifiedExport) -> None:
    body = entry.body
    assert body is not None
    result.readable += 1
    if body.outcome is ReceiptOutcome.DECLINED:
        result.declined += 1
        return
    if body.outcome is ReceiptOutcome.REFUSED:
        result.refused += 1
        return
    if body.outcome is ReceiptOutcome.REFUNDED:
        result.refunded += 1
        result.charged[body.currency] = result.charged.get(body.currency, 0) - body.amount
        return
    result.settled += 1
    result.charged[body.currency] = result.charged.get(body.currency, 0) + body.amount


def _read(model: type[LineT], number: int, line: bytes) -> LineT:
    if len(line) > MAX_LINE_BYTES:
        raise ReceiptChainBrokenError(number, f"it is longer than {MAX_LINE_BYTES} bytes")
    try:
        parsed = model.model_validate_json(line)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in fault["loc"]) or "line"
        raise ReceiptChainBrokenError(number, f"{place}: {fault['msg']}") from None
    try:
        canonical = parsed.line()
    except NotCanonicalError as error:
        raise ReceiptChainBrokenError(number, error.message) from None
    if canonical != line:
        raise ReceiptChainBrokenError(number, "it is not in canonical form")
    return parsed


def _signature_fault(verifier: Verifier, key_id: str, what: str) -> str:
    if not verifier.knows(key_id):
        return f"the {what} is signed with the key {key_id}, which is not among the keys given"
    return f"the signature of the {what} does not verify"
