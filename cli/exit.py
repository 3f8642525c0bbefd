"""Exit statuses of the `switchyard` command, and how errors become one of them and one line of text."""

from enum import IntEnum

from models.errors import (
    AuthenticationError,
    ConflictError,
    InsufficientFundsError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    PlatformError,
    RateLimitedError,
    UnavailableError,
)


class ExitStatus(IntEnum):
    """What a status means to a script."""

    OK = 0
    """Done."""
    FAILURE = 1
    """What was asked for did not succeed: a run failed, a scan found a violation, a part does not start."""
    USAGE = 2
    """The command line is wrong: unknown option, missing argument."""
    REFUSED = 3
    """The input breaks a rule, or the present state forbids it; the same call will fail again."""
    NOT_FOUND = 4
    """There is no such thing, or it is not yours."""
    NOT_ALLOWED = 5
    """Not logged in, or not permitted."""
    UNAVAILABLE = 6
    """The stack does not run, or a server does not answer; try again later."""
    INTERRUPTED = 130
    """Stopped by Ctrl-C."""


_BY_KIND: tuple[tuple[type[PlatformError], ExitStatus], ...] = (
    (InvalidRequestError, ExitStatus.REFUSED),
    (ConflictError, ExitStatus.REFUSED),
    (InsufficientFundsError, ExitStatus.REFUSED),
    (NotFoundError, ExitStatus.NOT_FOUND),
    (AuthenticationError, ExitStatus.NOT_ALLOWED),
    (PermissionDeniedError, ExitStatus.NOT_ALLOWED),
    (RateLimitedError, ExitStatus.UNAVAILABLE),
    (UnavailableError, ExitStatus.UNAVAILABLE),
)


def status_of(error: PlatformError) -> ExitStatus:
    """The exit status for an error of the platform."""
    return next((status for kind, status in _BY_KIND if isinstance(error, kind)), ExitStatus.FAILURE)
