"""Channels: messages on their way to people, and what comes back (flowgrid-level3 §6)."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Index, LargeBinary, Text, UniqueConstraint, text
from sqlmodel import Field

from models.approval import NoticeKind
from models.approval_policy import Channel
from models.approval_records import names_field
from models.errors import (
    AuthenticationError,
    InvalidRequestError,
    NotFoundError,
    PlatformError,
    UnavailableError,
)
from models.table import Record, json_field, time_field


class DeliveryStatus(StrEnum):
    """Where a message stands."""

    QUEUED = "queued"
    SENT = "sent"
    ACTED = "acted"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    """It was not needed any more when its turn came."""


class InboxStatus(StrEnum):
    """Where something that came back stands."""

    RECEIVED = "received"
    HANDLED = "handled"
    REFUSED = "refused"


class ChannelSignatureError(AuthenticationError):
    """A callback is not signed by the channel, or too old."""

    code = "CHANNEL_SIGNATURE"

    def __init__(self, channel: str) -> None:
        super().__init__(f"The callback's signature is not one of {channel}'s, or it is too old.")


class ChannelNotConfiguredError(NotFoundError):
    """The tenant has not set this channel up."""

    code = "CHANNEL_NOT_CONFIGURED"

    def __init__(self, channel: str) -> None:
        super().__init__(
            f"The channel {channel} is not set up: PUT /api/channels/{channel}.", details={"channel": channel}
        )


class ChannelUnavailableError(UnavailableError):
    """The channel does not answer, or asks to come back later."""

    code = "CHANNEL_UNAVAILABLE"

    def __init__(self, channel: str, reason: str, retry_after_seconds: float | None = None) -> None:
        later = {} if retry_after_seconds is None else {"retry_after_seconds": retry_after_seconds}
        super().__init__(
            f"{channel} did not take the message: {reason}.", details={"channel": channel, **later}
        )
        self.retry_after_seconds = retry_after_seconds


class ChannelRefusedError(PlatformError):
    """The channel refuses the message for good; another channel takes its place."""

    code = "CHANNEL_REFUSED"
    http_status = 502

    def __init__(self, channel: str, reason: str) -> None:
        super().__init__(f"{channel} refuses the message: {reason}.", details={"channel": channel})


class InvalidLinkError(InvalidRequestError):
    """An e-mail's link was changed on its way, or is not ours."""

    code = "INVALID_LINK"

    def __init__(self) -> None:
        super().__init__("This link is not one of ours, or was changed on its way. Open the newest e-mail.")


class DeliveryRow(Record, table=True):
    """One message to one person by one channel. The intent is stored before anything is sent."""

    __tablename__ = "approval_deliveries"
    __table_args__ = (
        UniqueConstraint("approval_id", "notice", "recipient", "channel"),
        Index("ix_approval_deliveries_due", "due_at", postgresql_where=text("status = 'queued'")),
        Index("ix_approval_deliveries_refresh", "due_at", postgresql_where=text("refresh")),
    )

    id: str = Field(primary_key=True)
    tenant_id: str
    approval_id: str = Field(foreign_key="approval_requests.id")
    notice: int
    """Number of the notice within the request."""
    kind: NoticeKind = Field(sa_type=Text)
    recipient: str
    channel: Channel = Field(sa_type=Text)
    place: int
    """In the fallback chain; 0 is tried first."""
    status: DeliveryStatus = Field(default=DeliveryStatus.QUEUED, sa_type=Text)
    refresh: bool = False
    """Whether the message that was sent must be brought to its final form."""
    due_at: datetime = time_field()
    attempts: int = 0
    address: str | None = None
    external_id: str | None = None
    """What the channel calls the message: Slack's ``channel:ts``, an e-mail's Message-ID."""
    error: str | None = None
    sent_at: datetime | None = time_field(nullable=True)
    created_at: datetime = time_field()
    updated_at: datetime = time_field()


class ChannelPreference(Record, table=True):
    """How a person wants to be reached."""

    __tablename__ = "channel_preferences"

    tenant_id: str = Field(primary_key=True)
    user_id: str = Field(primary_key=True)
    channels: list[str] = names_field()
    quiet_from: str | None = None
    quiet_to: str | None = None
    time_zone: str = "UTC"
    updated_at: datetime = time_field()


class ChannelAccount(Record, table=True):
    """A tenant's access to a channel. Its secrets are encrypted."""

    __tablename__ = "channel_accounts"

    tenant_id: str = Field(primary_key=True)
    channel: str = Field(primary_key=True)
    id: str = Field(unique=True)
    """In the address of its callbacks."""
    settings: dict[str, Any] = json_field()
    secret_ciphertext: bytes = Field(sa_type=LargeBinary)
    secret_key_id: str
    updated_by: str
    updated_at: datetime = time_field()


class ChannelIdentity(Record, table=True):
    """Who a channel's user is here, as found by e-mail address."""

    __tablename__ = "channel_identities"

    tenant_id: str = Field(primary_key=True)
    channel: str = Field(primary_key=True)
    external_id: str = Field(primary_key=True)
    user_id: str = Field(index=True)
    looked_up_at: datetime = time_field()


class ChannelInbox(Record, table=True):
    """What came back from a channel: kept once, then carried out."""

    __tablename__ = "channel_inbox"
    __table_args__ = (
        UniqueConstraint("tenant_id", "channel", "key"),
        Index("ix_channel_inbox_due", "due_at", postgresql_where=text("status = 'received'")),
    )

    id: str = Field(primary_key=True)
    tenant_id: str
    channel: str
    key: str
    """The click as the channel identifies it."""
    body: dict[str, Any] = json_field()
    status: InboxStatus = Field(default=InboxStatus.RECEIVED, sa_type=Text)
    result: str | None = None
    attempts: int = 0
    due_at: datetime = time_field()
    received_at: datetime = time_field()
    handled_at: datetime | None = time_field(nullable=True)
