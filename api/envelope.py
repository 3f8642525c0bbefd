"""What answers look like: ``{"success": true, "data": …}`` or ``{"success": false, "error": {…}}``."""

from collections.abc import Mapping
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from models.errors import PlatformError

DataT = TypeVar("DataT")


class Success(BaseModel, Generic[DataT]):
    """An answer that worked."""

    success: Literal[True] = True
    data: DataT


class ErrorFacts(BaseModel):
    """What went wrong, for programs (``code``, ``details``) and people (``message``)."""

    code: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$", description="Stable name of the failure (docs/api.md).")
    message: str = Field(description="What is wrong and what to do about it.")
    details: dict[str, Any] = Field(description="Facts that belong to the code; never secrets.")
    correlation_id: str = Field(description="Finds this request in the logs; also X-Correlation-Id.")


class ErrorEnvelope(BaseModel):
    """An answer that did not work; the same everywhere (DESIGN §10)."""

    model_config = ConfigDict(extra="forbid")

    success: Literal[False] = False
    error: ErrorFacts


def success(data: DataT) -> Success[DataT]:
    """Wrap ``data`` in the envelope."""
    return Success[DataT](data=data)


Responses = dict[int | str, dict[str, Any]]


def errors(*failures: type[PlatformError]) -> Responses:
    """Declare, for a route's ``responses=``, the errors that it answers on purpose.

    What every route may answer (400, 401, 403, 413, 429, 500, 503) is added to the document by
    `api/openapi.py`; name only what is particular to the route.

    Args:
        failures: Error classes; those of the same status share one entry that lists their codes.
    """
    by_status: dict[int, list[type[PlatformError]]] = {}
    for failure in failures:
        by_status.setdefault(failure.http_status, []).append(failure)
    return {status: error_response(describe(classes)) for status, classes in sorted(by_status.items())}


def describe(classes: list[type[PlatformError]]) -> str:
    """List error classes as ``CODE: first line of the docstring`` in Markdown."""
    return "\n".join(
        f"- `{failure.code}`: {(failure.__doc__ or '').strip().splitlines()[0]}" for failure in classes
    )


def error_response(description: str) -> dict[str, Any]:
    """Return an entry of ``responses=`` whose body is the error envelope."""
    return {"model": ErrorEnvelope, "description": description}


def error_body(code: str, message: str, details: Mapping[str, Any], correlation_id: str) -> dict[str, Any]:
    """Return the error envelope as a plain dictionary."""
    return {
        "success": False,
        "error": {
            "code": code,
            "message": message,
            "details": dict(details),
            "correlation_id": correlation_id,
        },
    }
