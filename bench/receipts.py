"""How fast an export of receipts is verified: every byte, hash, link and signature.

``python -m bench.receipts [--receipts N]``. Beside it, the hashes alone: what a chain costs without a
signature per receipt, vouched for by its signed head only.
"""

import argparse
import hashlib
import tempfile
import time
from pathlib import Path

from activities.receipts import verify_export
from activities.signing import Signer, generate_key
from bench.figures import Figure, report
from models.receipt import (
    GENESIS_HASH,
    HEAD_DOMAIN,
    RECEIPT_DOMAIN,
    ChainHead,
    ExportHeader,
    ReceiptBody,
    ReceiptEntry,
    ReceiptOutcome,
    body_hash,
    entry_hash,
)


def entries_of(signer: Signer, count: int) -> list[ReceiptEntry]:
    """Make a chain of ``count`` receipts."""
    entries: list[ReceiptEntry] = []
    previous = GENESIS_HASH
    for index in range(1, count + 1):
        body = ReceiptBody(
            receipt_id=f"rcpt_{index}",
            tenant_id="bench",
            user_id="usr_bench",
            outcome=ReceiptOutcome.SETTLED,
            intent_id=f"pi_{index}",
            mandate_id=f"mdt_{index}",
            mandate_hash=hashlib.sha256(b"mandate").hexdigest(),
            settlement_id=f"stl_{index}",
            payment_id=f"pay_{index}",
            execution_id=f"exec_{index}",
            agent_id="agt_bench",
            vendor="frameos",
            payee="usr_developer",
            amount=50,
            currency="INR",
            exponent=2,
            rail="wallet",
            provider_ref=f"wallet:hold_{index}",
            decline_code=None,
            split=[],
            issued_at=1_700_000_000,
        )
        digest = body_hash(body.canonical())
        current = entry_hash(previous, index, digest)
        entries.append(
            ReceiptEntry(
                chain_index=index,
                prev_hash=previous.hex(),
                hash=current.hex(),
                body_hash=digest.hex(),
                body=body,
                signature=signer.sign(RECEIPT_DOMAIN, current).hex(),
                kid=signer.key_id,
            )
        )
        previous = current
    return entries


def main() -> None:
    """Make a chain, verify it both ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--receipts", type=int, default=20_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-receipts-") as directory:
        generate_key(Path(directory), "bench")
        signer = Signer.from_directory(Path(directory))
    entries = entries_of(signer, options.receipts)
    head = ChainHead(tenant_id="bench", size=len(entries), hash=entries[-1].hash, stated_at=1_700_000_000)
    signature = signer.sign(HEAD_DOMAIN, head.canonical()).hex()
    lines = [
        ExportHeader(head=head, signature=signature, kid=signer.key_id).line(),
        *(entry.line() for entry in entries),
    ]
    started = time.perf_counter()
    verify_export(lines, signer)
    whole = time.perf_counter() - started
    stored = [(entry.chain_index, bytes.fromhex(entry.body_hash)) for entry in entries]
    started = time.perf_counter()
    current = GENESIS_HASH
    for index, digest in stored:
        current = entry_hash(current, index, digest)
    hashes = time.perf_counter() - started
    assert current.hex() == head.hash, "the chain leads to its head"
    figures = [
        Figure("verified, every byte and signature", len(entries) / whole, "receipts/s"),
        Figure("verified, hashes and head only", len(entries) / hashes, "receipts/s", "100 000"),
    ]
    report(f"{len(entries)} receipts of one chain", figures, options.json)


if __name__ == "__main__":
    main()
