"""Every failure becomes the error envelope here, and only here.

Ours (`PlatformError`) and Temporal's (an application error whose type is one of our codes) keep their code
and get their class's HTTP status; what nobody foresaw becomes ``INTERNAL_ERROR`` with nothing of its text.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_jsonable_python
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from temporalio.client import (
    WorkflowFailureError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from activities.temporal.failures import refusal_of
from api.correlation import correlation_id
from api.envelope import error_body
from models.errors import ConflictError, InvalidRequestError, NotFoundError, PlatformError, UnavailableError

log: structlog.stdlib.BoundLogger = structlog.get_logger("api.errors")

MAX_FIELDS_NAMED = 50
"""A hostile body can break a rule a million times; the first of them are enough to go on."""


class InternalError(PlatformError):
    """Something failed that nobody foresaw; the logs say what, under the correlation id."""

    def __init__(self) -> None:
        super().__init__(
            "Switchyard failed to answer this request. Nothing is wrong with the request itself; "
            "give the operator the correlation id."
        )


class RouteNotFoundError(NotFoundError):
    """No operation has this path."""

    code = "ROUTE_NOT_FOUND"

    def __init__(self, method: str, path: str) -> None:
        super().__init__(
            f"There is no operation {method} {path[:200]}. GET /openapi.json lists every operation.",
        )


class MethodNotAllowedError(PlatformError):
    """The path exists, but not with this method; the ``Allow`` header lists those that do."""

    code = "METHOD_NOT_ALLOWED"
    http_status = 405

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"{method} is not allowed here; use {allowed or 'another method'}.")


class PayloadTooLargeError(PlatformError):
    """The request's body is larger than the API reads."""

    code = "PAYLOAD_TOO_LARGE"
    http_status = 413

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body is larger than {limit} bytes. Send less.", details={"limit_bytes": limit})


class UnreadableRequestError(InvalidRequestError):
    """The request cannot be read at all: malformed JSON, control characters in the path."""

    def __init__(self, field: str, rule: str, remedy: str) -> None:
        super().__init__(
            f"{field}: {rule}. {remedy}",
            details={"fields": [{"field": field, "rule": "unreadable", "message": rule, "remedy": remedy}]},
        )


class InvalidFieldsError(InvalidRequestError):
    """Fields of the request break rules; each is named with its rule and a remedy."""

    def __init__(self, fields: Sequence[Mapping[str, str]]) -> None:
        """Word the refusal.

        Args:
            fields: ``field`` (where: ``body.inputs.url``), ``rule``, ``message``, ``remedy``.
        """
        named = "; ".join(f"{entry['field']}: {entry['message']}" for entry in fields[:3])
        more = f" and {len(fields) - 3} more" if len(fields) > 3 else ""
        super().__init__(
            f"The request breaks its rules: {named}{more}.",
            details={"fields": [dict(entry) for entry in fields[:MAX_FIELDS_NAMED]]},
        )


class TemporalUnavailableError(UnavailableError):
    """Temporal does not answer in time; what was asked may have happened, so repeat it with its key."""

    code = "TEMPORAL_UNAVAILABLE"

    def __init__(self) -> None:
        super().__init__(
            "The workflow server did not answer in time. Repeat the request with the same Idempotency-Key."
        )


class WorkflowConflictError(ConflictError):
    """The workflow behind this has been started already."""

    code = "WORKFLOW_ALREADY_STARTED"

    def __init__(self) -> None:
        super().__init__("This has been started already; read its present state instead.")


class WorkflowGoneError(NotFoundError):
    """The workflow behind this has ended, or is not known."""

    code = "WORKFLOW_NOT_FOUND"

    def __init__(self) -> None:
        super().__init__("What this asks about has ended or does not exist; read its present state instead.")


def error_classes() -> Iterator[type[PlatformError]]:
    """Yield ``PlatformError`` and all its subclasses that have been imported, base classes first."""
    pending: list[type[PlatformError]] = [PlatformError]
    while pending:
        found = pending.pop(0)
        yield found
        pending += found.__subclasses__()


def status_of_code(code: str) -> int | None:
    """Return the HTTP status of an error code, or None for a code that is not ours."""
    for failure in error_classes():
        if failure.code == code:
            return failure.http_status
    return None


_REMEDIES = {
    "missing": "Add the field.",
    "extra_forbidden": "Remove the field; the operation does not know it.",
    "string_pattern_mismatch": "Write the value in the form that the rule gives.",
    "json_invalid": "Send well-formed JSON.",
    "model_attributes_type": "Send a JSON object with Content-Type: application/json.",
    "dict_type": "Send a JSON object.",
    "list_type": "Send a JSON array.",
    "enum": "Use one of the listed values.",
    "literal_error": "Use one of the listed values.",
}


def field_problems(failure: RequestValidationError) -> list[dict[str, str]]:
    """Name every failing field of a request: where, which rule, what it says, what to do. No values."""
    problems: list[dict[str, str]] = []
    for entry in cast("Sequence[dict[str, Any]]", failure.errors()):
        rule = str(entry["type"])
        location = entry["loc"]
        if rule == "json_invalid":
            location = location[:1]
        where = ".".join(str(part) for part in location)
        problems.append(
            {
                "field": where[:200],
                "rule": rule,
                "message": str(entry["msg"])[:500],
                "remedy": _REMEDIES.get(rule, "Correct the value."),
            }
        )
    return problems


def from_temporal(failure: BaseException) -> PlatformError | None:
    """Find the platform error behind an exception of Temporal's client, if it is one of those.

    Returns:
        The original refusal with code, message, details and its class's HTTP status; an `UnavailableError`
        where Temporal did not answer; None where the failure is a fault of ours.
    """
    if isinstance(failure, WorkflowUpdateRPCTimeoutOrCancelledError):
        return TemporalUnavailableError()
    if isinstance(failure, WorkflowAlreadyStartedError):
        return WorkflowConflictError()
    if isinstance(failure, RPCError):
        if failure.status is RPCStatusCode.NOT_FOUND:
            return WorkflowGoneError()
        if failure.status in _PASSING:
            return TemporalUnavailableError()
        return None
    if isinstance(failure, WorkflowUpdateFailedError | WorkflowFailureError):
        refusal = refusal_of(failure)
        status = status_of_code(refusal.code) if refusal is not None else None
        if refusal is not None and status is not None:
            refusal.http_status = status  # pyright: ignore[reportAttributeAccessIssue]
            return refusal
    return None


_PASSING = frozenset(
    {
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.CANCELLED,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.ABORTED,
        # An update whose workflow task failed or timed out: its worker was lost or is slow.
        RPCStatusCode.FAILED_PRECONDITION,
    }
)


def platform_error(failure: BaseException) -> PlatformError:
    """Return the platform error that an answer to ``failure`` is made from; logs what is not foreseen."""
    if isinstance(failure, PlatformError):
        found: PlatformError = failure
    elif isinstance(failure, RequestValidationError):
        found = InvalidFieldsError(field_problems(failure))
    else:
        known = from_temporal(failure)
        if known is None:
            log.error("unforeseen failure", exc_info=failure)
            return InternalError()
        found = known
    if (
        type(found).code == PlatformError.code
        and not isinstance(found, InternalError)
        and found.code == type(found).code
    ):
        # A bare PlatformError says nothing that a caller could act on; its text may be internal.
        log.error("unclassified failure", exc_info=failure)
        return InternalError()
    if found.http_status >= 500:
        log.warning("unavailable", code=found.code, reason=repr(found.__cause__ or found))
    return found


def encode_json(content: Any) -> bytes:
    """Encode an answer; what JSON cannot hold (NaN, lone surrogates) is replaced, never raised."""
    plain = to_jsonable_python(content, inf_nan_mode="null", fallback=str)
    return json.dumps(plain, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")


def error_response(failure: BaseException) -> Response:
    """Answer ``failure`` with its envelope, status and headers."""
    found = platform_error(failure)
    headers: dict[str, str] = {}
    retry_after = found.details.get("retry_after_seconds")
    if retry_after is None and found.http_status == 503:
        retry_after = 1
    if isinstance(retry_after, int | float):
        headers["Retry-After"] = str(max(1, round(retry_after)))
    if found.http_status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="switchyard"'
    body = error_body(found.code, found.message, found.details, correlation_id())
    return Response(
        encode_json(body), status_code=found.http_status, headers=headers, media_type="application/json"
    )


async def _answer(_: Request, failure: Exception) -> Response:
    return error_response(failure)


async def _answer_http(request: Request, failure: Exception) -> Response:
    assert isinstance(failure, HTTPException)
    method, path = request.method, request.url.path
    if failure.status_code == 404:
        return error_response(RouteNotFoundError(method, path))
    if failure.status_code == 405:
        allowed = (failure.headers or {}).get("Allow", "")
        response = error_response(MethodNotAllowedError(method, allowed))
        response.headers["Allow"] = allowed
        return response
    if failure.status_code in (400, 415, 422):
        # FastAPI's own words for a body that its parser could not take.
        return error_response(
            UnreadableRequestError("body", "the body cannot be read", "Send what the operation documents.")
        )
    log.error("unexpected HTTP exception", status=failure.status_code)
    return error_response(InternalError())


def add_error_handlers(app: FastAPI) -> None:
    """Register the handlers; unforeseen exceptions are caught by `UnforeseenErrorMiddleware`."""
    for kind in (
        PlatformError,
        RequestValidationError,
        RPCError,
        WorkflowUpdateFailedError,
        WorkflowUpdateRPCTimeoutOrCancelledError,
        WorkflowFailureError,
        WorkflowAlreadyStartedError,
    ):
        app.add_exception_handler(kind, _answer)
    app.add_exception_handler(HTTPException, _answer_http)


class UnforeseenErrorMiddleware:
    """Answers 500 for an exception that no handler knows.

    A handler for ``Exception`` would run outside of all middleware, without the correlation id, and
    Starlette raises the exception again after it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, send_watched)
        except Exception as failure:
            if started:
                log.error("failure after the answer began", exc_info=failure)
                raise
            await error_response(failure)(scope, receive, send)
