"""The documented exit statuses are those the command uses."""

from pathlib import Path

import pytest

from cli.exit import ExitStatus, status_of
from cli.stack.errors import NotRunningError, PortTakenError
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

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "operating.md").read_text()


@pytest.mark.parametrize("status", ExitStatus)
def test_every_status_is_documented(status: ExitStatus) -> None:
    assert f"| {status.value} | " in PAGE


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequestError("x"), ExitStatus.REFUSED),
        (ConflictError("x"), ExitStatus.REFUSED),
        (InsufficientFundsError("x"), ExitStatus.REFUSED),
        (NotFoundError("x"), ExitStatus.NOT_FOUND),
        (AuthenticationError("x"), ExitStatus.NOT_ALLOWED),
        (PermissionDeniedError("x"), ExitStatus.NOT_ALLOWED),
        (RateLimitedError("x"), ExitStatus.UNAVAILABLE),
        (UnavailableError("x"), ExitStatus.UNAVAILABLE),
        (NotRunningError(Path("x")), ExitStatus.UNAVAILABLE),
        (PortTakenError("a", 1, "b"), ExitStatus.FAILURE),
        (PlatformError("x"), ExitStatus.FAILURE),
    ],
)
def test_a_script_can_tell_kinds_of_refusal_apart(error: PlatformError, status: ExitStatus) -> None:
    assert status_of(error) is status
