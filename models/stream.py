"""What outlives a stream: tickets that open one, consumer groups, webhooks out (DESIGN §3)."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, Index, LargeBinary, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from models.errors import AuthenticationError, ConflictError, InvalidRequestError, NotFoundError
from models.table import Record, time_field

ALL_TENANTS = "*"
"""Tenant of a consumer group of the platform itself; no tenant's identifier can be this."""

MOST_GROUPS = 100
"""Consumer groups of one tenant."""

GROUP_ATTEMPTS = 5
"""Failures of one event after which a group gives it up to the dead letters."""

TICKET_SECONDS = 60
"""How long a stream ticket may wait to be used, once."""


class DeliveryStatus(StrEnum):
    """Where a webhook's delivery stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


class InvalidTicketError(AuthenticationError):
    """The stream ticket is unknown, used already, or older than a minute."""

    code = "INVALID_TICKET"

    def __init__(self) -> None:
        super().__init__(
            "The stream ticket is unknown, was used before, or is older than a minute. "
            "Get a new one: POST /api/ws/tickets."
        )


class GroupNotFoundError(NotFoundError):
    """There is no such consumer group in the caller's tenant."""

    code = "CONSUMER_GROUP_NOT_FOUND"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no consumer group {name}.", details={"group": name})


class GroupLeaseLostError(ConflictError):
    """Another member works for the group by now, or it was set to another position."""

    code = "GROUP_LEASE_LOST"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"You no longer work for {name}: the lease ran out, another member took it, or the group was set "
            f"to another position. Take again; what was not recorded as done comes again.",
            details={"group": name},
        )


class TooManyGroupsError(ConflictError):
    """The tenant has as many consumer groups as it may."""

    code = "TOO_MANY_CONSUMER_GROUPS"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"A tenant has at most {limit} consumer groups. Delete one that is no longer used.",
            details={"limit": limit},
        )


class DeadLetterNotFoundError(NotFoundError):
    """There is no such dead letter in the caller's tenant."""

    code = "DEAD_LETTER_NOT_FOUND"

    def __init__(self, letter_id: str) -> None:
        super().__init__(f"There is no dead letter {letter_id}.", details={"dead_letter_id": letter_id})


class WebhookNotFoundError(NotFoundError):
    """There is no such webhook endpoint in the caller's tenant."""

    code = "WEBHOOK_NOT_FOUND"

    def __init__(self, endpoint_id: str) -> None:
        super().__init__(f"There is no webhook endpoint {endpoint_id}.", details={"webhook_id": endpoint_id})


class WebhookDeliveryNotFoundError(NotFoundError):
    """There is no such delivery of the webhook endpoint, or it is not dead."""

    code = "WEBHOOK_DELIVERY_NOT_FOUND"

    def __init__(self, delivery_id: str) -> None:
        super().__init__(
            f"There is no dead delivery {delivery_id} of this webhook.", details={"delivery_id": delivery_id}
        )


class WebhookUrlRefusedError(InvalidRequestError):
    """The address of a webhook endpoint may not be called."""

    code = "WEBHOOK_URL_REFUSED"

    def __init__(self, reason: str) -> None:
        remedy = "Name an https address of a public host."
        super().__init__(
            f"The webhook's url cannot be used: {reason}. {remedy}",
            details={
                "fields": [{"field": "body.url", "rule": "public_https", "message": reason, "remedy": remedy}]
            },
        )


class StreamTicket(Record, table=True):
    """Opens one stream for who asked for it: browsers can set no header there. Stored as SHA-256."""

    __tablename__ = "stream_tickets"

    ticket_hash: bytes = Field(sa_type=LargeBinary, primary_key=True)
    tenant_id: str
    user_id: str
    roles: list[str] = Field(sa_type=ARRAY(Text))  # pyright: ignore[reportArgumentType]
    scopes: list[str] | None = Field(default=None, sa_type=ARRAY(Text))  # pyright: ignore[reportArgumentType]
    credential_expires_at: datetime | None = time_field(nullable=True)
    """When the credentials it was made from expire: the stream ends with them."""
    expires_at: datetime = time_field()
    created_at: datetime = time_field()


class EventGroup(Record, table=True):
    """A named consumer: gets every published event after ``position``, in order, at least once."""

    __tablename__ = "event_groups"

    tenant_id: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    event_types: list[str] = Field(sa_type=ARRAY(Text))  # pyright: ignore[reportArgumentType]
    """Types it wants; empty: all."""
    position: int = Field(default=0, sa_type=BigInteger)
    """Everything up to here was handled, or lies in the dead letters."""
    failures: int = 0
    """How often the event after ``position`` failed so far."""
    retry_at: datetime | None = time_field(nullable=True)
    last_error: str | None = None
    lease_owner: str | None = None
    lease_until: datetime | None = time_field(nullable=True)
    created_at: datetime = time_field()
    updated_at: datetime = time_field()


class DeadLetter(Record, table=True):
    """An event that a consumer group gave up on; it can be asked to try again."""

    __tablename__ = "event_dead_letters"
    __table_args__ = (UniqueConstraint("tenant_id", "group_name", "position"),)

    id: str = Field(primary_key=True)
    tenant_id: str
    group_name: str
    position: int = Field(sa_type=BigInteger)
    event_id: str
    event_type: str
    error: str
    failures: int
    created_at: datetime = time_field()
    redrive_at: datetime | None = time_field(nullable=True)
    """When it is to be tried again; None: not asked for."""
    resolved_at: datetime | None = time_field(nullable=True)


class WebhookEndpoint(Record, table=True):
    """Where a tenant wants its events sent. The secret is stored encrypted and shown once."""

    __tablename__ = "webhook_endpoints"

    id: str = Field(primary_key=True)
    tenant_id: str = Field(index=True)
    url: str
    description: str
    event_types: list[str] = Field(sa_type=ARRAY(Text))  # pyright: ignore[reportArgumentType]
    """Types it wants; empty: all."""
    secret_ciphertext: bytes = Field(sa_type=LargeBinary)
    secret_key_id: str
    enabled: bool = True
    created_at: datetime = time_field()
    deleted_at: datetime | None = time_field(nullable=True)


class WebhookDelivery(Record, table=True):
    """One event on its way to one endpoint."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        UniqueConstraint("endpoint_id", "event_id"),
        Index("ix_webhook_deliveries_due", "next_attempt_at", postgresql_where=text("status = 'pending'")),
        Index("ix_webhook_deliveries_endpoint_id_position", "endpoint_id", "position"),
    )

    id: str = Field(primary_key=True)
    tenant_id: str
    endpoint_id: str = Field(foreign_key="webhook_endpoints.id")
    event_id: str
    event_type: str
    run_id: str
    seq: int = Field(sa_type=BigInteger)
    position: int = Field(sa_type=BigInteger)
    status: DeliveryStatus = Field(default=DeliveryStatus.PENDING, sa_type=Text)
    attempts: int = 0
    next_attempt_at: datetime = time_field()
    response_status: int | None = None
    error: str | None = None
    created_at: datetime = time_field()
    delivered_at: datetime | None = time_field(nullable=True)
