"""Reconciliation: our records, the ledger and the rails' books three ways; what disagrees is a case."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, model_validator
from pydantic import Field as Described
from sqlalchemy import BigInteger, CheckConstraint, Index, Text, text
from sqlmodel import Field

from models.errors import NotFoundError
from models.money import MAX_AMOUNT, Currency, PositiveMinorUnits
from models.rail import RailName
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
    STATEMENT_WITHOUT_RECORD = "statement_without_record"
    """The rail's statement has a movement that we know nothing of."""
    RECORD_WITHOUT_STATEMENT = "record_without_statement"
    """We say that it happened at the rail, whose statement of the time does not."""
    STATEMENT_AMOUNT = "statement_amount"
    """Our record, the ledger or the rail's statement has another amount."""


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


class StatementKind(StrEnum):
    """What moved at the rail."""

    CAPTURE = "capture"
    REFUND = "refund"
    PAYOUT = "payout"


class StatementEntry(BaseModel):
    """One movement on a rail's statement."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: StatementKind
    reference: Annotated[str, Described(min_length=1, max_length=200)]
    """Our name for it at the rail: the hold's for a capture, the refund's, the payout's reference."""
    amount: PositiveMinorUnits
    currency: Currency
    moved_at: AwareDatetime


class RailStatement(BaseModel):
    """A rail's statement of a time, as finance downloads it or an adapter reads it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rail: RailName
    start: AwareDatetime
    end: AwareDatetime
    """First moment that it does not cover."""
    entries: Annotated[list[StatementEntry], Described(max_length=100_000)]

    @model_validator(mode="after")
    def _covers(self) -> "RailStatement":
        if self.start >= self.end:
            raise ValueError("end must be after start")
        if any(not self.start <= each.moved_at < self.end for each in self.entries):
            raise ValueError("every entry's moved_at must be within start and end")
        return self


class StatementLineRow(Record, table=True):
    """A movement that a rail stated. Kept as evidence; a statement that is given again adds nothing."""

    __tablename__ = "rail_statement_entries"
    __table_args__ = (
        CheckConstraint(f"amount BETWEEN 1 AND {MAX_AMOUNT}", name="amount"),
        Index("ix_rail_statement_entries_rail_moved_at", "rail", "moved_at"),
    )

    rail: RailName = Field(primary_key=True, sa_type=Text)
    kind: StatementKind = Field(primary_key=True, sa_type=Text)
    reference: str = Field(primary_key=True)
    amount: int = Field(primary_key=True, sa_type=BigInteger)
    """Part of the key: a second movement under the same reference is a disagreement, not a copy."""
    tenant_id: str
    """The platform's."""
    currency: str
    moved_at: datetime = time_field()
    imported_at: datetime = time_field()


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
