"""What every table shares: the metadata, column types and the time of creation."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import DateTime, MetaData
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
"""So that a migration can name any constraint without looking it up."""

metadata: MetaData = SQLModel.metadata
metadata.naming_convention = NAMING_CONVENTION


class Record(SQLModel):
    """Base of every table class."""

    if TYPE_CHECKING:
        __tablename__: ClassVar[str]  # pyright: ignore[reportIncompatibleVariableOverride]


def utc_now() -> datetime:
    """Return the present time with its zone; naive datetimes never enter a table."""
    return datetime.now(UTC)


def time_field(*, nullable: bool = False, index: bool = False) -> Any:
    """Declare a ``timestamptz`` column, set to now on creation unless it may be empty."""
    if nullable:
        return Field(default=None, sa_type=DateTime(timezone=True), nullable=True, index=index)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return Field(
        default_factory=utc_now,
        sa_type=DateTime(timezone=True),  # pyright: ignore[reportCallIssue, reportArgumentType]
        nullable=False,
        index=index,
    )


def json_field(*, nullable: bool = False) -> Any:
    """Declare a ``jsonb`` column."""
    if nullable:
        return Field(default=None, sa_type=JSONB, nullable=True)  # pyright: ignore[reportArgumentType]
    return Field(default_factory=dict, sa_type=JSONB, nullable=False)  # pyright: ignore[reportArgumentType]
