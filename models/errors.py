"""Every way Switchyard says no.

The tree::

    PlatformError
    ├── InvalidRequestError            400  the caller's input breaks a rule
    ├── AuthenticationError            401  nobody we know
    ├── InsufficientFundsError         402  the wallet cannot cover the amount
    ├── PermissionDeniedError          403  known, but may not
    ├── NotFoundError                  404  not there, or not visible to the caller
    ├── ConflictError                  409  true, but not now: state or uniqueness forbids it
    ├── RateLimitedError               429  later
    └── UnavailableError               503  a part of ours or of somebody else's is down (retryable)

An error's ``code`` is the contract: the API's envelope and Temporal's application errors are both
made from it (`api/errors.py`, `activities/temporal/failures.py`), so the same string reaches the
client whatever room raised it. A domain adds a subclass per distinct failure, next to its models;
the subclass words the message once, with the field, the rule and the remedy.
"""

from typing import Any


class PlatformError(Exception):
    """A refusal or failure that the platform understands.

    Attributes:
        code: Stable machine-readable name, upper snake case.
        http_status: Status of the HTTP answer that carries it.
        retryable: Whether the same call may succeed later without being changed. Temporal retries
            only these.
        details: JSON-serialisable facts for the caller. Never secrets.
    """

    code: str = "INTERNAL_ERROR"
    http_status: int = 500
    retryable: bool = False

    def __init__(self, message: str, *, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = details or {}


class InvalidRequestError(PlatformError):
    """The caller's input breaks a rule; ``details["fields"]`` names each failing field."""

    code = "INVALID_REQUEST"
    http_status = 400


class AuthenticationError(PlatformError):
    """The credentials are missing, malformed, expired or unknown."""

    code = "UNAUTHENTICATED"
    http_status = 401


class InsufficientFundsError(PlatformError):
    """The payer's balance cannot cover the amount."""

    code = "INSUFFICIENT_FUNDS"
    http_status = 402


class PermissionDeniedError(PlatformError):
    """The caller is known but may not do this."""

    code = "PERMISSION_DENIED"
    http_status = 403


class NotFoundError(PlatformError):
    """There is no such thing, or the caller may not know of it."""

    code = "NOT_FOUND"
    http_status = 404


class ConflictError(PlatformError):
    """The request is well formed, but the present state or a uniqueness rule forbids it."""

    code = "CONFLICT"
    http_status = 409


class RateLimitedError(PlatformError):
    """The caller is over a limit; ``details["retry_after_seconds"]`` says when to come back."""

    code = "RATE_LIMITED"
    http_status = 429
    retryable = True


class UnavailableError(PlatformError):
    """A server that the request needs does not answer; the same request may succeed later."""

    code = "UNAVAILABLE"
    http_status = 503
    retryable = True
