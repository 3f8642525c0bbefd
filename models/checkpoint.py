"""Checkpoints: signed roots of the tree over a tenant's receipts (RFC 6962 §3.5's role)."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Described

from models.canonical import canonical_json
from models.errors import InvalidRequestError
from models.mandate import Digest
from models.receipt import KeyId, Signature, StrictIndex

CHECKPOINT_DOMAIN = b"switchyard/receipt-checkpoint/v1\n"


class Checkpoint(BaseModel):
    """A tree's size and root at a time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["switchyard-checkpoint/1"] = "switchyard-checkpoint/1"
    tenant_id: str
    size: StrictIndex
    root: Digest
    stated_at: Annotated[int, Described(strict=True, ge=0)]

    def canonical(self) -> bytes:
        """Return the canonical bytes that are signed."""
        return canonical_json(self.model_dump(mode="json"))


class SignedCheckpoint(BaseModel):
    """A checkpoint with its Ed25519 signature under ``CHECKPOINT_DOMAIN``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    checkpoint: Checkpoint
    signature: Signature
    kid: KeyId


class InclusionProof(BaseModel):
    """That a receipt is in the tree of a checkpoint (RFC 6962 §2.1.1)."""

    receipt_id: str
    leaf: Digest
    """The receipt's ``hash``."""
    index: int
    """From 0: the receipt's ``chain_index`` less one."""
    path: list[Digest]
    checkpoint: SignedCheckpoint


class ConsistencyProof(BaseModel):
    """That a tree only added to an earlier one (RFC 6962 §2.1.2)."""

    from_size: int
    from_root: Digest
    path: list[Digest]
    checkpoint: SignedCheckpoint


class TreeSizeError(InvalidRequestError):
    """The tree never had that size."""

    code = "RECEIPT_TREE_SIZE"

    def __init__(self, size: int) -> None:
        rule = f"must be from 1 to {size}, the receipts there are"
        super().__init__(f"from_size {rule}.", details={"fields": {"from_size": rule}})
