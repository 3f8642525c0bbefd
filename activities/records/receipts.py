"""The only writer of the receipt chains.

Lock order: a tenant's chain head is the last lock a transaction takes.
"""

from datetime import UTC, datetime

from activities.records.database import Connection
from activities.signing import Signer
from models.identifiers import new_identifier
from models.receipt import (
    GENESIS_HASH,
    HEAD_DOMAIN,
    RECEIPT_DOMAIN,
    ChainHead,
    ExportHeader,
    Receipt,
    ReceiptBody,
    ReceiptEntry,
    ReceiptNotFoundError,
    ReceiptOutcome,
    body_hash,
    entry_hash,
)

_BEGIN = """
INSERT INTO receipt_chains (tenant_id, size, hash) VALUES (%s, 0, %s) ON CONFLICT DO NOTHING
"""

_HEAD = """
SELECT size, hash, extract(epoch FROM clock_timestamp())::bigint AS now
FROM receipt_chains WHERE tenant_id = %s FOR UPDATE
"""

_APPEND = """
WITH head AS (
    UPDATE receipt_chains SET size = %(chain_index)s, hash = %(hash)s WHERE tenant_id = %(tenant_id)s
)
INSERT INTO receipts (id, tenant_id, user_id, chain_index, prev_hash, hash, body, signature, kid,
                      settlement_id, payment_id, refund_id, refused_intent_id, execution_id, outcome,
                      issued_at)
VALUES (%(id)s, %(tenant_id)s, %(user_id)s, %(chain_index)s, %(prev_hash)s, %(hash)s, %(body)s,
        %(signature)s, %(kid)s, %(settlement_id)s, %(payment_id)s, %(refund_id)s, %(refused_intent_id)s,
        %(execution_id)s, %(outcome)s, %(issued_at)s)
"""


async def append_receipt(
    connection: Connection, signer: Signer, draft: ReceiptBody, *, refund_id: str | None = None
) -> Receipt:
    """Issue a receipt as the next entry of its tenant's chain.

    Args:
        connection: The platform transaction that records what the receipt attests.
        signer: Signs the entry's hash.
        draft: The body; its identifier and time are set here, the time by the database's clock.
        refund_id: The refund it attests; a settlement has one receipt of its own, and so has a refusal,
            which goes by its intent.
    """
    head = await (await connection.execute(_HEAD, [draft.tenant_id])).fetchone()
    if head is None:
        await connection.execute(_BEGIN, [draft.tenant_id, GENESIS_HASH])
        head = await (await connection.execute(_HEAD, [draft.tenant_id])).fetchone()
        assert head is not None, "this transaction or the one it waited for began the chain"
    complete = draft.model_copy(
        update={"receipt_id": new_identifier("receipt"), "issued_at": int(head["now"])}
    )
    body = complete.canonical()
    chain_index, prev_hash = int(head["size"]) + 1, bytes(head["hash"])
    digest = entry_hash(prev_hash, chain_index, body_hash(body))
    receipt = Receipt(
        id=complete.receipt_id,
        tenant_id=complete.tenant_id,
        user_id=complete.user_id,
        chain_index=chain_index,
        prev_hash=prev_hash,
        hash=digest,
        body=body,
        signature=signer.sign(RECEIPT_DOMAIN, digest),
        kid=signer.key_id,
        settlement_id=complete.settlement_id if refund_id is None else None,
        payment_id=complete.payment_id if refund_id is None else None,
        refund_id=refund_id,
        refused_intent_id=complete.intent_id if complete.outcome is ReceiptOutcome.REFUSED else None,
        execution_id=complete.execution_id,
        outcome=complete.outcome,
        issued_at=datetime.fromtimestamp(complete.issued_at, UTC),
    )
    await connection.execute(_APPEND, receipt.model_dump())
    return receipt


async def find_receipt(connection: Connection, receipt_id: str) -> Receipt:
    """Read one receipt.

    Raises:
        ReceiptNotFoundError: It does not exist where the transaction looks.
    """
    cursor = await connection.execute("SELECT * FROM receipts WHERE id = %s", [receipt_id])
    row = await cursor.fetchone()
    if row is None:
        raise ReceiptNotFoundError(receipt_id)
    return Receipt.model_validate(row)


async def list_receipts(
    connection: Connection, *, user_id: str | None, before: tuple[datetime, str] | None, limit: int
) -> list[Receipt]:
    """Read receipts of the transaction's tenant, newest first; ``user_id`` limits them to one user's."""
    issued_at, identifier = before if before is not None else (None, None)
    cursor = await connection.execute(
        "SELECT * FROM receipts WHERE (%(user)s::text IS NULL OR user_id = %(user)s) "
        "AND (%(at)s::timestamptz IS NULL OR (issued_at, id) < (%(at)s, %(before)s)) "
        "ORDER BY issued_at DESC, id DESC LIMIT %(limit)s",
        {"user": user_id, "at": issued_at, "before": identifier, "limit": limit},
    )
    return [Receipt.model_validate(row) for row in await cursor.fetchall()]


async def signed_head(connection: Connection, signer: Signer, tenant_id: str) -> ExportHeader:
    """State, signed, how long the tenant's chain is now: the header of an export."""
    cursor = await connection.execute(
        "SELECT size, hash, extract(epoch FROM clock_timestamp())::bigint AS now "
        "FROM (SELECT 1) AS always LEFT JOIN receipt_chains ON tenant_id = %s",
        [tenant_id],
    )
    row = await cursor.fetchone()
    assert row is not None
    head = ChainHead(
        tenant_id=tenant_id,
        size=row["size"] or 0,
        hash=bytes(row["hash"] or GENESIS_HASH).hex(),
        stated_at=row["now"],
    )
    signature = signer.sign(HEAD_DOMAIN, head.canonical())
    return ExportHeader(head=head, signature=signature.hex(), kid=signer.key_id)


async def read_entries(
    connection: Connection, *, from_index: int, to_index: int, readable_by: str | None
) -> list[ReceiptEntry]:
    """Read the chain's entries ``from_index`` to ``to_index``, in order, of the transaction's tenant.

    Args:
        connection: A tenant's transaction.
        from_index: First entry, from 1.
        to_index: Last entry.
        readable_by: The user whose receipts are shown in full; others' bodies are left out, their
            digests stand for them. None shows all.
    """
    cursor = await connection.execute(
        "SELECT * FROM receipts WHERE chain_index BETWEEN %s AND %s ORDER BY chain_index",
        [from_index, to_index],
    )
    entries: list[ReceiptEntry] = []
    for row in await cursor.fetchall():
        body = bytes(row["body"])
        shown = readable_by is None or row["user_id"] == readable_by
        entries.append(
            ReceiptEntry(
                chain_index=row["chain_index"],
                prev_hash=bytes(row["prev_hash"]).hex(),
                hash=bytes(row["hash"]).hex(),
                body_hash=body_hash(body).hex(),
                body=ReceiptBody.model_validate_json(body) if shown else None,
                signature=bytes(row["signature"]).hex(),
                kid=row["kid"],
            )
        )
    return entries


async def leaf_hashes(connection: Connection, tenant_id: str) -> tuple[list[bytes], int]:
    """Read all hashes of a tenant's chain, in order, and the database's time in Unix seconds."""
    cursor = await connection.execute(
        "SELECT hash FROM receipts WHERE tenant_id = %s ORDER BY chain_index", [tenant_id]
    )
    leaves = [bytes(row["hash"]) for row in await cursor.fetchall()]
    cursor = await connection.execute("SELECT extract(epoch FROM clock_timestamp())::bigint AS now")
    row = await cursor.fetchone()
    assert row is not None
    return leaves, int(row["now"])


async def chained_tenants(connection: Connection) -> list[tuple[str, int]]:
    """Read every tenant that has receipts, with how many, in a platform transaction."""
    cursor = await connection.execute("SELECT tenant_id, size FROM receipt_chains ORDER BY tenant_id")
    return [(row["tenant_id"], int(row["size"])) for row in await cursor.fetchall()]
