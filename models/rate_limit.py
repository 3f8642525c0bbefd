"""Rate limits of the API: token buckets per credential and per tenant."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Double
from sqlmodel import Field

from models.errors import RateLimitedError
from models.table import Record, time_field


@dataclass(frozen=True)
class RateLimitPolicy:
    """So many requests in a window, as a token bucket: full, it holds the quota; it fills in one window.

    Attributes:
        name: ``key`` or ``tenant``; the policy's identifier in the headers.
        quota: Requests that a full bucket allows at once.
        window_seconds: Time in which an empty bucket is full again.
    """

    name: str
    quota: int
    window_seconds: int

    @property
    def per_second(self) -> float:
        """Tokens that are added each second."""
        return self.quota / self.window_seconds


class RateLimitExceededError(RateLimitedError):
    """The credential or its tenant has sent more requests than its policy allows."""

    code = "RATE_LIMIT_EXCEEDED"

    def __init__(self, policy: RateLimitPolicy, retry_after_seconds: int) -> None:
        whose = "these credentials" if policy.name == "key" else "the tenant"
        super().__init__(
            f"More than {policy.quota} requests of {whose} in {policy.window_seconds} s. "
            f"Wait {retry_after_seconds} s (Retry-After), then go on.",
            details={
                "policy": policy.name,
                "quota": policy.quota,
                "window_seconds": policy.window_seconds,
                "retry_after_seconds": retry_after_seconds,
            },
        )


class RateLimitBucket(Record, table=True):
    """What is left of a policy's tokens, shared by all API processes."""

    __tablename__ = "rate_limit_buckets"

    tenant_id: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    """``tenant``, or what stands for a credential."""
    tokens: float = Field(sa_type=Double)
    refilled_at: datetime = time_field()
