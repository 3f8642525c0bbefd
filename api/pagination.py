"""Lists in pages: newest first, an opaque cursor over (created_at, id), at most 100 entries."""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Generic, Protocol, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel, Field

from models.errors import InvalidRequestError
from models.identifiers import PATTERN

DEFAULT_LIMIT = 20
MAX_LIMIT = 100

ItemT = TypeVar("ItemT")
RowT = TypeVar("RowT", bound="Dated")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Dated(Protocol):
    """What a cursor can point at."""

    @property
    def id(self) -> str:
        """Identifier."""
        ...

    @property
    def created_at(self) -> datetime:
        """Time of creation."""
        ...


class InvalidCursorError(InvalidRequestError):
    """The cursor is not one that a list answered."""

    code = "INVALID_CURSOR"

    def __init__(self) -> None:
        remedy = "Pass `next_cursor` of the answer before unchanged, or leave it out to begin anew."
        super().__init__(
            f"The cursor is not one of this list's. {remedy}",
            details={
                "fields": [
                    {"field": "query.cursor", "rule": "cursor", "message": "unknown cursor", "remedy": remedy}
                ]
            },
        )


class Page(BaseModel, Generic[ItemT]):
    """One page of a list."""

    items: list[ItemT]
    next_cursor: str | None = Field(
        default=None, description="Pass as `cursor` to get the next page; null on the last one."
    )


def encode_cursor(created_at: datetime, identifier: str) -> str:
    """Return the cursor after the entry with this time and id."""
    microseconds = (created_at - _EPOCH) // _MICROSECOND
    return base64.urlsafe_b64encode(f"{microseconds}.{identifier}".encode()).rstrip(b"=").decode()


def decode_cursor(cursor: str) -> tuple[datetime, str]:
    """Read a cursor.

    Raises:
        InvalidCursorError: It is not one of ours.
    """
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode(
            "ascii"
        )
        microseconds, _, identifier = text.partition(".")
        if not microseconds.isdecimal() or len(microseconds) > 18 or not PATTERN.fullmatch(identifier):
            raise InvalidCursorError
        return _EPOCH + int(microseconds) * _MICROSECOND, identifier
    except (binascii.Error, ValueError, OverflowError):
        raise InvalidCursorError from None


@dataclass(frozen=True)
class PageRequest:
    """What the caller asked for.

    Attributes:
        limit: Entries wanted, 1 to 100.
        before: Only entries before this (created_at, id); None begins with the newest.
    """

    limit: int
    before: tuple[datetime, str] | None

    @property
    def fetch(self) -> int:
        """Rows to read: one more than wanted tells whether there is a next page."""
        return self.limit + 1

    def page(self, rows: Sequence[RowT], show: Callable[[RowT], ItemT]) -> Page[ItemT]:
        """Make the page of ``rows`` (up to ``fetch`` of them), each as ``show`` presents it."""
        wanted = rows[: self.limit]
        more = len(rows) > self.limit
        return Page[Any](
            items=[show(row) for row in wanted],
            next_cursor=encode_cursor(wanted[-1].created_at, wanted[-1].id) if more else None,
        )


def _page_request(
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Entries per page.")] = DEFAULT_LIMIT,
    cursor: Annotated[
        str | None, Query(max_length=200, description="`next_cursor` of the page before.")
    ] = None,
) -> PageRequest:
    return PageRequest(limit=limit, before=decode_cursor(cursor) if cursor else None)


PageDep = Annotated[PageRequest, Depends(_page_request)]
"""Declare a parameter of this type to page a list by ``limit`` and ``cursor``."""
