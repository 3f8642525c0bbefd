"""Proofs over the tree of a tenant's receipts (RFC 6962)."""

from typing import Annotated

from fastapi import APIRouter, Query

from activities.checkpoint import prove_consistency, prove_inclusion, state_checkpoint
from activities.records.receipts import find_receipt
from api.envelope import Success, errors, success
from api.receipts import Reader, signer_of
from api.scope import may_see
from api.state import ServicesDep
from models.checkpoint import ConsistencyProof, InclusionProof, SignedCheckpoint, TreeSizeError
from models.identifiers import Identifier
from models.receipt import ReceiptNotFoundError

router = APIRouter(prefix="/receipts", tags=["receipts"])


@router.get("/checkpoint")
async def checkpoint(caller: Reader, services: ServicesDep) -> Success[SignedCheckpoint]:
    """Read the signed root of the tenant's receipts as they are now: keep it, and nobody can deny them."""
    async with services.database.tenant(caller.tenant_id) as connection:
        signed, _ = await state_checkpoint(connection, signer_of(services), caller.tenant_id)
    return success(signed)


@router.get("/consistency", responses=errors(TreeSizeError))
async def consistency(
    caller: Reader,
    services: ServicesDep,
    from_size: Annotated[int, Query(ge=1, description="Size of a checkpoint that you kept.")],
) -> Success[ConsistencyProof]:
    """Prove that the receipts only grew since a checkpoint."""
    async with services.database.tenant(caller.tenant_id) as connection:
        return success(await prove_consistency(connection, signer_of(services), caller.tenant_id, from_size))


@router.get("/{receipt_id}/inclusion", responses=errors(ReceiptNotFoundError))
async def inclusion(receipt_id: Identifier, caller: Reader, services: ServicesDep) -> Success[InclusionProof]:
    """Prove one receipt without showing the others."""
    async with services.database.tenant(caller.tenant_id) as connection:
        receipt = await find_receipt(connection, receipt_id)
        if not may_see(caller, receipt.user_id):
            raise ReceiptNotFoundError(receipt_id)
        return success(await prove_inclusion(connection, signer_of(services), receipt))
