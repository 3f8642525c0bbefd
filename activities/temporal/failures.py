"""Our errors as Temporal failures, and back: the one place where the two trees meet.

A ``PlatformError`` that leaves an activity, an update or a workflow becomes an application error whose
type is the error's code, retryable exactly when the error is. The reader (a workflow, the API) asks
``refusal_of`` what was refused.
"""

from typing import Any, cast

from temporalio.api.failure.v1 import Failure
from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.converter import DefaultFailureConverter, PayloadConverter
from temporalio.exceptions import ActivityError, ApplicationError, ChildWorkflowError

from models.errors import PlatformError

MAX_MESSAGE_CHARACTERS = 8_000
"""Failures travel as payloads; a longer text is cut (DESIGN §4)."""


def cut(text: str) -> str:
    """Return ``text``, shortened in the middle to what a failure may carry."""
    if len(text) <= MAX_MESSAGE_CHARACTERS:
        return text
    half = MAX_MESSAGE_CHARACTERS // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


def application_error(error: PlatformError) -> ApplicationError:
    """Return the application error that stands for ``error``: same code, message, details."""
    converted = ApplicationError(
        cut(error.message), error.details, type=error.code, non_retryable=not error.retryable
    )
    converted.__traceback__ = error.__traceback__
    # What caused it stays on our side: a driver's message may hold an address or a value.
    converted.__suppress_context__ = True
    return converted


class PlatformFailureConverter(DefaultFailureConverter):
    """Writes our errors by their code and encrypts every failure's message and stack trace."""

    def __init__(self) -> None:
        """Move messages and traces into the encoded attributes, so that the codec covers them."""
        super().__init__(encode_common_attributes=True)

    def to_failure(
        self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure
    ) -> None:
        """Write ``exception`` into ``failure``; a ``PlatformError`` becomes its application error."""
        if isinstance(exception, PlatformError):
            exception = application_error(exception)
        super().to_failure(exception, payload_converter, failure)


class RemoteRefusalError(PlatformError):
    """A platform error that was raised on the other side of Temporal, known by its code."""

    def __init__(self, code: str, message: str, details: dict[str, Any]) -> None:
        super().__init__(message, details=details)
        self.code = code


def refusal_of(error: BaseException) -> RemoteRefusalError | None:
    """Find the platform error inside what Temporal's client or workflow API raised.

    Returns:
        The refusal with its original code, message and details, or None when there is none: then the
        failure is one of the infrastructure.
    """
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, ApplicationError) and current.type:
            details = current.details[0] if current.details else {}
            facts = cast("dict[str, Any]", details) if isinstance(details, dict) else {}
            return RemoteRefusalError(current.type, current.message, facts)
        if isinstance(
            current, WorkflowFailureError | WorkflowUpdateFailedError | ActivityError | ChildWorkflowError
        ):
            current = current.cause
        else:
            current = current.__cause__
    return None
