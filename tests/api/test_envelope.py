"""Every answer has the envelope, whatever goes wrong."""

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Query
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send
from temporalio.client import WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.exceptions import ActivityError, ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from activities.temporal.failures import application_error
from api.app import create_app
from api.body import MAX_BODY_BYTES, MAX_NESTING, MAX_VALUES, check_json
from api.correlation import CorrelationMiddleware
from api.errors import UnreadableRequestError
from models.errors import ConflictError, PlatformError, RateLimitedError
from models.settings import Settings
from tests.api.calling import client_of, running

SECRET = "postgresql://switchyard:hunter2@db/prod"


class ColourRefusedError(ConflictError):
    """A refusal that a workflow makes."""

    code = "TEST_COLOUR_REFUSED"


class Sample(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern="^[a-z]+$")
    size: int = Field(ge=1)
    facts: dict[str, Any] = Field(default_factory=dict)


def update_failed(cause: BaseException) -> WorkflowUpdateFailedError:
    return WorkflowUpdateFailedError(cause)


FAILURES: dict[str, tuple[BaseException, int, str]] = {
    "refused-by-workflow": (
        update_failed(application_error(ColourRefusedError("No green here.", details={"colour": "green"}))),
        409,
        "TEST_COLOUR_REFUSED",
    ),
    "unknown-application-error": (
        update_failed(ApplicationError(SECRET, type="SomethingElse")),
        500,
        "INTERNAL_ERROR",
    ),
    "deadline": (WorkflowUpdateRPCTimeoutOrCancelledError(), 503, "TEMPORAL_UNAVAILABLE"),
    "temporal-away": (RPCError(SECRET, RPCStatusCode.UNAVAILABLE, b""), 503, "TEMPORAL_UNAVAILABLE"),
    "workflow-gone": (RPCError(SECRET, RPCStatusCode.NOT_FOUND, b""), 404, "WORKFLOW_NOT_FOUND"),
    "temporal-bug": (RPCError(SECRET, RPCStatusCode.INTERNAL, b""), 500, "INTERNAL_ERROR"),
    "already-started": (WorkflowAlreadyStartedError("w", "W"), 409, "WORKFLOW_ALREADY_STARTED"),
    "unforeseen": (RuntimeError(SECRET), 500, "INTERNAL_ERROR"),
    "bare": (PlatformError(SECRET), 500, "INTERNAL_ERROR"),
    "rate": (RateLimitedError("Later.", details={"retry_after_seconds": 7}), 429, "RATE_LIMITED"),
}

probe = APIRouter(prefix="/probe")


@probe.get("/fail/{name}")
async def fail(name: str) -> None:
    raise FAILURES[name][0]


@probe.post("/sample")
async def sample(body: Sample, colour: Annotated[str, Query(max_length=5)] = "red") -> dict[str, str]:
    return {"name": body.name, "colour": colour}


@pytest.fixture(scope="module")
async def probed(api_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(api_settings)
    app.include_router(probe)
    async with running(app), client_of(app) as client:
        yield client


def assert_is_error(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"success", "error"}
    assert body["success"] is False
    assert set(body["error"]) == {"code", "message", "details", "correlation_id"}
    assert body["error"]["code"] == code
    assert body["error"]["correlation_id"] == answer.headers["X-Correlation-Id"]
    error: dict[str, Any] = body["error"]
    return error


@pytest.mark.parametrize("name", FAILURES)
async def test_every_failure_becomes_its_code_and_status_and_leaks_nothing(
    probed: httpx.AsyncClient, name: str
) -> None:
    _, status, code = FAILURES[name]
    answer = await probed.get(f"/probe/fail/{name}")
    assert_is_error(answer, status, code)
    assert "hunter2" not in answer.text
    if status in (429, 503):
        assert int(answer.headers["Retry-After"]) >= 1


async def test_a_workflows_refusal_keeps_its_message_and_details(probed: httpx.AsyncClient) -> None:
    error = assert_is_error(await probed.get("/probe/fail/refused-by-workflow"), 409, "TEST_COLOUR_REFUSED")
    assert error["message"] == "No green here."
    assert error["details"] == {"colour": "green"}


def test_a_refusal_deep_inside_activity_failures_is_found() -> None:
    from api.errors import platform_error

    inner = application_error(ColourRefusedError("No."))
    outer = ActivityError(
        "failed",
        scheduled_event_id=1,
        started_event_id=2,
        identity="worker",
        activity_type="paint",
        activity_id="1",
        retry_state=None,
    )
    outer.__cause__ = inner
    found = platform_error(update_failed(outer))
    assert (found.code, found.http_status) == ("TEST_COLOUR_REFUSED", 409)


async def test_every_failing_field_is_named_with_rule_and_remedy(probed: httpx.AsyncClient) -> None:
    answer = await probed.post(
        "/probe/sample?colour=magenta", json={"name": "UP", "size": 0, "secret": SECRET}
    )
    error = assert_is_error(answer, 400, "INVALID_REQUEST")
    fields = {entry["field"]: entry for entry in error["details"]["fields"]}
    assert {name: entry["rule"] for name, entry in fields.items()} == {
        "query.colour": "string_too_long",
        "body.name": "string_pattern_mismatch",
        "body.size": "greater_than_equal",
        "body.secret": "extra_forbidden",
    }
    assert all(entry["message"] and entry["remedy"] for entry in fields.values())
    assert "hunter2" not in answer.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"7",
        b"null",
        b'"text"',
        b"{",
        b"{'a': 1}",
        b'{"name": "a", "size": NaN}',
        b'{"name": "a", "size": Infinity}',
        b'{"name": "a", "size": 1e999}',
        b'{"name": "a", "size": ' + b"9" * 5000 + b"}",
        b'{"name": "a", "size": 9223372036854775808}',
        b'{"name": "a", "name": "b", "size": 1}',
        b'{"name": "\\u0000", "size": 1}',
        b'{"name": "a", "size": 1, "facts": {"x": "\\ud800"}}',
        b'{"name": "a", "size": 1, "facts": {"\\udfff": 1}}',
        b'{"name": "a", "size": 1, "facts": ' + b'{"x":' * 500 + b"1" + b"}" * 500 + b"}",
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"facts": [' + b"0," * MAX_VALUES + b"0]}",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
    ],
    ids=lambda body: repr(body[:40]),
)
async def test_a_body_that_no_operation_could_take_is_400(probed: httpx.AsyncClient, body: bytes) -> None:
    answer = await probed.post("/probe/sample", content=body, headers={"Content-Type": "application/json"})
    error = assert_is_error(answer, 400, "INVALID_REQUEST")
    assert error["details"]["fields"]


async def test_a_body_without_json_content_type_is_400(probed: httpx.AsyncClient) -> None:
    for media_type in ("text/plain", "application/xml", "multipart/form-data; boundary=x", ""):
        answer = await probed.post(
            "/probe/sample", content=b'{"name": "a", "size": 1}', headers={"Content-Type": media_type}
        )
        assert_is_error(answer, 400, "INVALID_REQUEST")


async def test_nesting_up_to_the_limit_is_read(probed: httpx.AsyncClient) -> None:
    deep: dict[str, Any] = {}
    for _ in range(MAX_NESTING - 2):
        deep = {"x": deep}
    answer = await probed.post("/probe/sample", json={"name": "a", "size": 1, "facts": deep})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "target",
    ["/probe/sample?colour=%00", "/probe/fail/%00", "/probe/%FF", "/probe/sample?colour=%ED%A0%80", "/%00"],
)
async def test_nul_and_broken_utf8_in_path_or_query_is_400(probed: httpx.AsyncClient, target: str) -> None:
    answer = await probed.post(target, json={"name": "a", "size": 1})
    assert_is_error(answer, 400, "INVALID_REQUEST")


async def test_a_body_over_the_limit_is_413_declared_or_not(probed: httpx.AsyncClient) -> None:
    large = b'{"name": "' + b"a" * MAX_BODY_BYTES + b'"}'
    declared = await probed.post("/probe/sample", content=large, headers={"Content-Type": "application/json"})
    error = assert_is_error(declared, 413, "PAYLOAD_TOO_LARGE")
    assert error["details"] == {"limit_bytes": MAX_BODY_BYTES}

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(large), 1 << 20):
            yield large[start : start + (1 << 20)]

    streamed = await probed.post(
        "/probe/sample", content=chunks(), headers={"Content-Type": "application/json"}
    )
    assert_is_error(streamed, 413, "PAYLOAD_TOO_LARGE")


async def test_fourteen_megabytes_of_base64_are_read(probed: httpx.AsyncClient) -> None:
    answer = await probed.post("/probe/sample", json={"name": "a" * 14_000_000, "size": 1})
    assert answer.status_code == 200


async def test_unknown_paths_and_methods_have_the_envelope(probed: httpx.AsyncClient) -> None:
    assert_is_error(await probed.get("/nowhere"), 404, "ROUTE_NOT_FOUND")
    assert_is_error(await probed.get("/me/"), 404, "ROUTE_NOT_FOUND")
    for method in ("PUT", "TRACE", "OPTIONS"):
        answer = await probed.request(method, "/health/live")
        assert_is_error(answer, 405, "METHOD_NOT_ALLOWED")
        assert answer.headers["Allow"] == "GET"


async def test_the_callers_correlation_id_comes_back(probed: httpx.AsyncClient) -> None:
    answer = await probed.get("/nowhere", headers={"X-Correlation-Id": "order-17:a"})
    assert answer.headers["X-Correlation-Id"] == "order-17:a"
    assert answer.json()["error"]["correlation_id"] == "order-17:a"


@pytest.mark.parametrize("bad", ["", " ", "a b", "x" * 129, "<script>", "-leading"])
async def test_a_correlation_id_that_is_unfit_for_logs_is_replaced(
    probed: httpx.AsyncClient, bad: str
) -> None:
    answer = await probed.get("/health/live", headers={"X-Correlation-Id": bad})
    assert answer.headers["X-Correlation-Id"] not in ("", bad)


async def test_websockets_and_lifespan_pass_through_the_middleware() -> None:
    seen: list[str] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        return None

    middleware = CorrelationMiddleware(inner)
    await middleware({"type": "websocket", "headers": [], "path": "/"}, receive, send)
    await middleware({"type": "lifespan"}, receive, send)
    assert seen == ["websocket", "lifespan"]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")), inner)
    ),
    max_leaves=30,
)


@given(json_values, st.booleans())
def test_every_ordinary_json_document_is_let_through(value: Any, ascii_only: bool) -> None:
    check_json(json.dumps(value, ensure_ascii=ascii_only).encode())


@given(
    st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
def test_any_bytes_are_either_read_or_refused(body: bytes) -> None:
    try:
        check_json(body)
    except UnreadableRequestError:
        return
    json.loads(body)


def test_openapi_is_served_by_the_application(app: FastAPI) -> None:
    document = app.openapi()
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids))
    for operation in operations:
        assert {"400", "429", "500", "503"} <= set(operation["responses"]), operation["operationId"]
        assert "422" not in operation["responses"]
    schemes = document["components"]["securitySchemes"]
    assert schemes["bearer"]["scheme"] == "bearer"
    assert schemes["apiKey"] == {
        "type": "apiKey",
        "in": "header",
        "name": "X-Api-Key",
        "description": "API key (`sk_…`) of a machine.",
    }
