"""Receipts: read, export, and the public keys that verify them."""

from collections.abc import AsyncGenerator
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.responses import StreamingResponse

from activities.records.receipts import find_receipt, list_receipts, read_entries, signed_head
from activities.signing import Signer
from api.authentication import requires
from api.envelope import Success, errors, success
from api.pagination import InvalidCursorError, Page, PageDep
from api.scope import may_see, owner_filter
from api.state import Services, ServicesDep
from models.identifiers import Identifier
from models.identity import Permission, Principal
from models.receipt import ExportHeader, Receipt, ReceiptBody, ReceiptNotFoundError, ReceiptView

router = APIRouter(prefix="/receipts", tags=["receipts"])

Reader = Annotated[Principal, Depends(requires(Permission.RECEIPTS_READ))]

EXPORT_BATCH = 500


def signer_of(services: Services) -> Signer:
    """Return the keys that sign receipts and mandates.

    Raises:
        InvalidSettingsError: ``SIGNING_KEY_DIR`` is missing or not usable.
    """
    return _read_keys(services.settings.signing_key_dir) or Signer.from_settings(services.settings)


@cache
def _read_keys(directory: Path | None) -> Signer | None:
    return None if directory is None else Signer.from_directory(directory)


def _view(receipt: Receipt) -> ReceiptView:
    return ReceiptView(
        receipt_id=receipt.id,
        chain_index=receipt.chain_index,
        prev_hash=receipt.prev_hash.hex(),
        hash=receipt.hash.hex(),
        signature=receipt.signature.hex(),
        kid=receipt.kid,
        issued_at=receipt.issued_at,
        body=ReceiptBody.model_validate_json(receipt.body),
    )


@router.get("", responses=errors(InvalidCursorError))
async def list_all(caller: Reader, services: ServicesDep, page: PageDep) -> Success[Page[ReceiptView]]:
    """List your receipts, newest first; finance and administrators see the whole tenant's."""
    async with services.database.tenant(caller.tenant_id) as connection:
        rows = await list_receipts(
            connection, user_id=owner_filter(caller), before=page.before, limit=page.fetch
        )
    return success(page.page(rows, _view))


@router.get(
    "/export",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}},
)
async def export(caller: Reader, services: ServicesDep) -> StreamingResponse:
    """Download the tenant's whole chain as JSON Lines, for `switchyard receipts verify`.

    The first line states, signed, how long the chain is. Receipts of other users come without their
    bodies: their digests keep the chain verifiable. Finance and administrators get every body.
    """
    async with services.database.tenant(caller.tenant_id) as connection:
        header = await signed_head(connection, signer_of(services), caller.tenant_id)
    return StreamingResponse(
        _lines(services, caller, header),
        media_type="application/x-ndjson",
        headers={"Content-Disposition": 'attachment; filename="receipts.jsonl"'},
    )


async def _lines(services: Services, caller: Principal, header: ExportHeader) -> AsyncGenerator[bytes]:
    yield header.line()
    # The chain only grows, so batches read one after another add up to the chain that the header states.
    for start in range(1, header.head.size + 1, EXPORT_BATCH):
        async with services.database.tenant(caller.tenant_id) as connection:
            entries = await read_entries(
                connection,
                from_index=start,
                to_index=min(start + EXPORT_BATCH - 1, header.head.size),
                readable_by=owner_filter(caller),
            )
        yield b"".join(entry.line() for entry in entries)


@router.get("/keys")
async def keys(services: ServicesDep) -> dict[str, Any]:
    """Read the public keys of receipts and mandates as a JSON Web Key Set (RFC 7517), for everybody."""
    return dict(signer_of(services).jwks())


@router.get("/{receipt_id}", responses=errors(ReceiptNotFoundError))
async def read(receipt_id: Identifier, caller: Reader, services: ServicesDep) -> Success[ReceiptView]:
    """Read one receipt with its place in the chain."""
    async with services.database.tenant(caller.tenant_id) as connection:
        receipt = await find_receipt(connection, receipt_id)
    if not may_see(caller, receipt.user_id):
        raise ReceiptNotFoundError(receipt_id)
    return success(_view(receipt))
