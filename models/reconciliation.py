"""Reconciliation: our records, the ledger and the rails' books three ways; what disagrees is a case."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Described
from sqlalchemy import Index, Text, text
from sqlmodel import Field

from models.errors import NotFoundError
from models.table import Record, json_field, time_field

SWEEP_SCHEDULE_ID = "settlements-sweep"
RECONCILIATION_SCHEDULE_ID = "reconciliation-daily"

SWEEP_AFTER_SECONDS = 900
"""An answer that is owed for so long has no workflow that still asks for it, or one that waits long."""


class CaseKind(StrEnum):
    """What does not agree."""

    LEDGER_UNBALANCED = "ledger_unbalanced"
    ACCOUNT_UNSOUND = "account_unsound"
    SETTLEMENT_WITHOUT_POSTING = "settlement_without_posting"
    CAPTURE_WITHOUT_SETTLEMENT = "capture_without_settlement"
    SETTLEMENT_WITHOUT_CAPTURE = "settlement_without_capture"
    PAYOUT_WITHOUT_TRANSFER = "payout_without_transfer"
    TRANSFER_WITHOUT_PAYOUT = "transfer_without_payout"
    PAYOUT_WITHOUT_POSTING = "payout_without_posting"
    UNKNOWN_TOO_LONG = "unknown_too_long"


class Finding(BaseModel):
    """One disagreement, with both sides' figures."""

    kind: CaseKind
    subject_id: str
    evidence: dict[str, Any]


class ReconciliationCase(Record, table=True):
    """A finding that finance looks at; at most one is open per kind and subject."""

    __tablename__ = "reconciliation_cases"
    __table_args__ = (
        Index(
            "uq_reconciliation_cases_open",
            "kind",
            "subject_id",
            unique=True,
            postgresql_where=text("resolved_at IS NULL"),
        ),
    )

    id: str = Field(primary_key=True)
    tenant_id: str = Field(index=True)
    kind: CaseKind = Field(sa_type=Text)
    subject_id: str
    evidence: dict[str, Any] = json_field()
    created_at: datetime = time_field()
    last_seen_at: datetime = time_field()
    resolved_at: datetime | None = time_field(nullable=True)
    resolved_by: str | None = None
    resolution: str | None = None


class CaseNotFoundError(NotFoundError):
    """There is no such open case."""

    code = "RECONCILIATION_CASE_NOT_FOUND"

    def __init__(self, case_id: str) -> None:
        super().__init__(f"There is no open case {case_id}.", details={"case_id": case_id})


class CaseView(BaseModel):
    """A case as finance sees it."""

    case_id: str
    kind: CaseKind
    subject_id: str
    evidence: dict[str, Any]
    created_at: datetime
    last_seen_at: datetime
    resolved_at: datetime | None
    resolved_by: str | None
    resolution: str | None


class ResolveCase(BaseModel):
    """Body of ``POST /reconciliation/cases/{id}/resolve``."""

    model_config = ConfigDict(extra="forbid")

    resolution: Annotated[str, Described(min_length=1, max_length=2000)]


class SweepSummary(BaseModel):
    """What a sweep of owed settlements came to."""

    finished: int
    unknown: int


class ReconciliationSummary(BaseModel):
    """What a reconciliation found."""

    found: int
    opened: int
    by_kind: dict[str, int]
