"""The OpenAPI document: complete, with every error that any operation may answer and stable ids."""

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from api.correlation import HEADER
from models.errors import AuthenticationError, PermissionDeniedError

_METHODS = ("get", "put", "post", "patch", "delete")

_EVERYWHERE = {
    "400": "The request breaks a rule; `details.fields` names each failing field.",
    "429": "Too many requests; come back after `Retry-After` seconds.",
    "500": "Switchyard failed; the correlation id finds the reason in its logs.",
    "503": "A server behind the API does not answer; the same request may succeed later.",
}
_WITH_BODY = {"413": "The body is larger than the API reads."}
_WITH_CREDENTIALS = {
    "401": f"`{AuthenticationError.code}`, `INVALID_TOKEN`, `INVALID_API_KEY`: no valid credentials.",
    "403": f"`{PermissionDeniedError.code}`: the caller may not do this; `details.roles` says who may.",
}
_WITH_KEY = {"409": "`IDEMPOTENCY_KEY_REUSED`, `IDEMPOTENCY_IN_PROGRESS`, or the operation's own conflicts."}
_WITH_PATH = {"404": "There is no such thing, or the caller may not know of it."}


def operation_id(route: APIRoute) -> str:
    """Name an operation by its function, as ``tag_function``; routes may give an ``operation_id`` instead."""
    tag = str(route.tags[0]) if route.tags else "switchyard"
    return f"{tag}_{route.name}".replace("-", "_")


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the document, made once per application."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            servers=app.servers,
        )
        for path, item in document.get("paths", {}).items():
            for method in _METHODS:
                if method in item:
                    _complete(path, item[method])
        schemas: dict[str, Any] = document.setdefault("components", {}).setdefault("schemas", {})
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        schemas.setdefault("ErrorEnvelope", _envelope_schema(schemas))
        app.openapi_schema = document
    return app.openapi_schema


def _envelope_schema(schemas: dict[str, Any]) -> dict[str, Any]:
    from api.envelope import ErrorEnvelope

    schema = ErrorEnvelope.model_json_schema(ref_template="#/components/schemas/{model}")
    for name, definition in schema.pop("$defs", {}).items():
        schemas.setdefault(name, definition)
    return schema


def _complete(path: str, operation: dict[str, Any]) -> None:
    responses: dict[str, Any] = operation.setdefault("responses", {})
    if _is_generated_422(responses.get("422")):
        del responses["422"]
    _add(responses, _EVERYWHERE.items())
    if "requestBody" in operation:
        _add(responses, _WITH_BODY.items())
    if operation.get("security"):
        _add(responses, _WITH_CREDENTIALS.items())
        # Two schemes are two ways in, not two keys to one door.
        names = {name: scopes for entry in operation["security"] for name, scopes in entry.items()}
        anonymous: list[dict[str, Any]] = [{}] if {} in operation["security"] else []
        operation["security"] = [{name: scopes} for name, scopes in names.items()] + anonymous
    if "{" in path:
        _add(responses, _WITH_PATH.items())
    if any(parameter.get("name") == "Idempotency-Key" for parameter in operation.get("parameters", [])):
        _add(responses, _WITH_KEY.items())
    for response in responses.values():
        response.setdefault("headers", {})[HEADER] = {
            "description": "Finds this request in the logs.",
            "schema": {"type": "string"},
        }


def _is_generated_422(response: dict[str, Any] | None) -> bool:
    schema = (response or {}).get("content", {}).get("application/json", {}).get("schema", {})
    return str(schema.get("$ref", "")).endswith("/HTTPValidationError")


def _add(responses: dict[str, Any], entries: Iterable[tuple[str, str]]) -> None:
    for status, description in entries:
        if status in responses:
            responses[status]["description"] += f"\n- {description}"
            continue
        responses[status] = {
            "description": description,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorEnvelope"}}},
        }
