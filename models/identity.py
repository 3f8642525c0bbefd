"""Who may do what: tenants, users, roles, permissions and API keys."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel
from sqlalchemy import LargeBinary, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from models.errors import PermissionDeniedError
from models.table import Record, time_field


class Role(StrEnum):
    """What a person or machine is to the platform."""

    DEVELOPER = "developer"
    USER = "user"
    REVIEWER = "reviewer"
    APPROVER = "approver"
    OPERATOR = "operator"
    FINANCE = "finance"
    ADMIN = "admin"


class Permission(StrEnum):
    """One thing one may do; also the scopes of API keys."""

    AGENTS_PUBLISH = "agents:publish"
    AGENTS_REVIEW = "agents:review"
    AGENTS_DEPLOY = "agents:deploy"
    EXECUTIONS_START = "executions:start"
    EXECUTIONS_READ = "executions:read"
    WALLETS_READ = "wallets:read"
    WALLETS_TOP_UP = "wallets:top_up"
    LEDGER_READ = "ledger:read"
    RECEIPTS_READ = "receipts:read"
    POLICIES_WRITE = "policies:write"
    PAYMENTS_WRITE = "payments:write"
    PAYOUTS_WRITE = "payouts:write"
    API_KEYS_WRITE = "api_keys:write"
    APPROVALS_DECIDE = "approvals:decide"
    RUNS_READ = "runs:read"
    RUNS_OPERATE = "runs:operate"
    PAYLOADS_DECODE = "payloads:decode"
    FLOWS_DEPLOY = "flows:deploy"
    FLOWS_RUN = "flows:run"
    JOBS_WORK = "jobs:work"


_OWN = frozenset(
    {
        Permission.EXECUTIONS_READ,
        Permission.WALLETS_READ,
        Permission.RECEIPTS_READ,
        Permission.LEDGER_READ,
        Permission.RUNS_READ,
        Permission.API_KEYS_WRITE,
    }
)

ROLE_PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.DEVELOPER: _OWN | {Permission.AGENTS_PUBLISH, Permission.PAYOUTS_WRITE, Permission.FLOWS_DEPLOY},
    Role.USER: _OWN
    | {
        Permission.AGENTS_DEPLOY,
        Permission.EXECUTIONS_START,
        Permission.PAYMENTS_WRITE,
        Permission.WALLETS_TOP_UP,
        Permission.FLOWS_DEPLOY,
        Permission.FLOWS_RUN,
        Permission.JOBS_WORK,
    },
    Role.REVIEWER: frozenset({Permission.AGENTS_REVIEW, Permission.RUNS_READ, Permission.API_KEYS_WRITE}),
    Role.APPROVER: frozenset(
        {Permission.APPROVALS_DECIDE, Permission.FLOWS_RUN, Permission.RUNS_READ, Permission.API_KEYS_WRITE}
    ),
    Role.OPERATOR: frozenset(
        {
            Permission.RUNS_READ,
            Permission.RUNS_OPERATE,
            Permission.FLOWS_DEPLOY,
            Permission.FLOWS_RUN,
            Permission.EXECUTIONS_READ,
            Permission.PAYLOADS_DECODE,
            Permission.API_KEYS_WRITE,
        }
    ),
    Role.FINANCE: _OWN | {Permission.WALLETS_TOP_UP, Permission.POLICIES_WRITE, Permission.PAYOUTS_WRITE},
    Role.ADMIN: frozenset(Permission),
}
"""What each role may do. Whose things it may do it to is the tenant's row-level security."""


class MissingPermissionError(PermissionDeniedError):
    """The caller lacks one permission."""

    def __init__(self, permission: Permission) -> None:
        roles = sorted(role for role, granted in ROLE_PERMISSIONS.items() if permission in granted)
        super().__init__(
            f"This needs the permission {permission}; roles that have it: {', '.join(roles)}.",
            details={"permission": permission, "roles": roles},
        )


class Principal(BaseModel):
    """Who is calling, as authenticated from a token or an API key."""

    user_id: str
    tenant_id: str
    roles: frozenset[Role]
    scopes: frozenset[Permission] | None = None
    """Limits an API key to these permissions; no limit for a token."""
    email: str | None = None
    name: str | None = None

    def may(self, permission: Permission) -> bool:
        """Tell whether one of the roles grants ``permission`` and no scope withholds it."""
        if self.scopes is not None and permission not in self.scopes:
            return False
        return any(permission in ROLE_PERMISSIONS[role] for role in self.roles)

    def require(self, permission: Permission) -> None:
        """Refuse unless the principal may.

        Raises:
            MissingPermissionError: It may not.
        """
        if not self.may(permission):
            raise MissingPermissionError(permission)


class Tenant(Record, table=True):
    """An organisation; every tenant row belongs to one."""

    __tablename__ = "tenants"

    tenant_id: str = Field(primary_key=True)
    name: str
    created_at: datetime = time_field()


class User(Record, table=True):
    """A person or machine known from its tokens: the address for e-mails and the name for people."""

    __tablename__ = "users"

    id: str = Field(primary_key=True)
    tenant_id: str = Field(index=True)
    email: str | None = None
    name: str | None = None
    created_at: datetime = time_field()
    last_seen_at: datetime = time_field()


class ApiKey(Record, table=True):
    """A machine's credential. Only its SHA-256 is stored; the key is shown once."""

    __tablename__ = "api_keys"

    id: str = Field(primary_key=True)
    tenant_id: str = Field(index=True)
    user_id: str
    name: str
    key_hash: bytes = Field(sa_type=LargeBinary, unique=True)
    hint: str
    """First characters of the key, so that people can tell keys apart."""
    roles: list[str] = Field(sa_type=ARRAY(Text))  # pyright: ignore[reportArgumentType]
    scopes: list[str] = Field(sa_type=ARRAY(Text))  # pyright: ignore[reportArgumentType]
    created_at: datetime = time_field()
    expires_at: datetime | None = time_field(nullable=True)
    revoked_at: datetime | None = time_field(nullable=True)
    last_used_at: datetime | None = time_field(nullable=True)


class IdempotencyRecord(Record, table=True):
    """The first answer to a request that carried an ``Idempotency-Key`` (DESIGN §4)."""

    __tablename__ = "idempotency_records"

    tenant_id: str = Field(primary_key=True)
    user_id: str = Field(primary_key=True)
    key: str = Field(primary_key=True, max_length=255)
    operation: str
    """Method and path template, so that a key is never shared between two operations."""
    request_hash: bytes = Field(sa_type=LargeBinary)
    subject_id: str
    """Identifier reserved for what the request creates: a retry after a crash creates the same thing."""
    response_status: int | None = None
    response_body: bytes | None = Field(default=None, sa_type=LargeBinary)
    created_at: datetime = time_field()
