"""Stating, proving and keeping the tree over a tenant's receipts."""

from collections.abc import Sequence
from datetime import timedelta

from activities.receipts import VerifiedExport
from activities.records.database import Connection, Database
from activities.records.receipts import chained_tenants, leaf_hashes
from activities.signing import Signer, Verifier
from activities.storage import ObjectStore
from activities.storage.locked import LockedObjects
from models.checkpoint import (
    CHECKPOINT_DOMAIN,
    Checkpoint,
    ConsistencyProof,
    InclusionProof,
    SignedCheckpoint,
    TreeSizeError,
)
from models.merkle import consistency_proof, inclusion_proof, tree_root
from models.receipt import Receipt, ReceiptChainBrokenError
from models.table import utc_now

CHECKPOINT_RETENTION = timedelta(days=3_650)
"""For so long a locked checkpoint cannot be deleted: as long as books must be kept in most places."""


async def state_checkpoint(
    connection: Connection, signer: Signer, tenant_id: str
) -> tuple[SignedCheckpoint, list[bytes]]:
    """Sign the tree over the tenant's receipts as it is now, in the tenant's transaction.

    Returns:
        The checkpoint and the leaf hashes it is of.
    """
    leaves, now = await leaf_hashes(connection, tenant_id)
    checkpoint = Checkpoint(
        tenant_id=tenant_id, size=len(leaves), root=tree_root(leaves).hex(), stated_at=now
    )
    signature = signer.sign(CHECKPOINT_DOMAIN, checkpoint.canonical())
    return SignedCheckpoint(checkpoint=checkpoint, signature=signature.hex(), kid=signer.key_id), leaves


async def prove_inclusion(connection: Connection, signer: Signer, receipt: Receipt) -> InclusionProof:
    """Prove that a receipt is in its tenant's tree as it is now."""
    signed, leaves = await state_checkpoint(connection, signer, receipt.tenant_id)
    index = receipt.chain_index - 1
    return InclusionProof(
        receipt_id=receipt.id,
        leaf=receipt.hash.hex(),
        index=index,
        path=[each.hex() for each in inclusion_proof(leaves, index)],
        checkpoint=signed,
    )


async def prove_consistency(
    connection: Connection, signer: Signer, tenant_id: str, from_size: int
) -> ConsistencyProof:
    """Prove that the tree as it is now only added to what it was with ``from_size`` receipts.

    Raises:
        TreeSizeError: It never had that size.
    """
    signed, leaves = await state_checkpoint(connection, signer, tenant_id)
    if not 0 < from_size <= len(leaves):
        raise TreeSizeError(len(leaves))
    return ConsistencyProof(
        from_size=from_size,
        from_root=tree_root(leaves[:from_size]).hex(),
        path=[each.hex() for each in consistency_proof(leaves, from_size)],
        checkpoint=signed,
    )


def verify_checkpoint(
    signed: SignedCheckpoint, leaves: Sequence[bytes], export: VerifiedExport, verifier: Verifier
) -> None:
    """Check a checkpoint against an export that verified: the export must hold all that it states.

    Args:
        signed: The checkpoint, kept since some earlier time.
        leaves: The export's receipt hashes, in order.
        export: What the export came to.
        verifier: The platform's public keys.

    Raises:
        ReceiptChainBrokenError: The signature is wrong, or receipts were changed or cut since.
    """
    checkpoint = signed.checkpoint
    if not verifier.verify(
        CHECKPOINT_DOMAIN, checkpoint.canonical(), bytes.fromhex(signed.signature), signed.kid
    ):
        raise ReceiptChainBrokenError(1, "the signature of the checkpoint does not verify")
    if checkpoint.tenant_id != export.tenant_id:
        raise ReceiptChainBrokenError(1, "the checkpoint is of another tenant")
    if checkpoint.size > len(leaves):
        raise ReceiptChainBrokenError(
            1, f"the checkpoint states {checkpoint.size} receipts, the export holds {len(leaves)}"
        )
    if tree_root(leaves[: checkpoint.size]).hex() != checkpoint.root:
        raise ReceiptChainBrokenError(1, "receipts were changed since the checkpoint")


async def keep_checkpoints(database: Database, objects: ObjectStore, signer: Signer) -> int:
    """Keep a checkpoint of every tenant's receipts in S3, under its size; returns how many are new.

    One that is there is never written again, so what was stated stays stated; where the server has S3 Object
    Lock, nobody can take it away for ``CHECKPOINT_RETENTION``. Elsewhere a checkpoint is what its signature
    makes it, and customers keep copies (``switchyard receipts checkpoint``).
    """
    async with database.platform() as connection:
        tenants = await chained_tenants(connection)
    locked = await LockedObjects.open(objects)
    kept = 0
    for tenant_id, size in tenants:
        if await (locked or objects).exists(checkpoint_key(tenant_id, size)):
            continue
        async with database.tenant(tenant_id) as connection:
            signed, _ = await state_checkpoint(connection, signer, tenant_id)
        key, body = checkpoint_key(tenant_id, signed.checkpoint.size), signed.model_dump_json().encode()
        if locked is None:
            await objects.put(key, body, content_type="application/json")
        else:
            until = utc_now() + CHECKPOINT_RETENTION
            await locked.put_locked(key, body, until=until, content_type="application/json")
        kept += 1
    return kept


def checkpoint_key(tenant_id: str, size: int) -> str:
    """Return where the checkpoint of a tree of ``size`` is kept."""
    return f"checkpoints/{tenant_id}/{size:016}.json"
