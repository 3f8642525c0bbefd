"""The AsyncAPI document (3.0.0) of what Switchyard tells: streams, WebSockets, webhooks, every event type."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic.json_schema import models_json_schema

from api.event import EventView
from models.event import EphemeralType, EventType
from models.event_data import EPHEMERAL_DATA, data_model

router = APIRouter()


def _message(event_type: EventType, payload: str) -> dict[str, Any]:
    return {
        "name": event_type.value,
        "contentType": "application/json",
        "payload": {
            "allOf": [
                {"$ref": f"#/components/schemas/{payload}"},
                {
                    "properties": {
                        "type": {"const": event_type.value},
                        "data": {"$ref": f"#/components/schemas/{data_model(event_type).__name__}"},
                    }
                },
            ]
        },
    }


def _references(prefix: str, types: list[EventType]) -> dict[str, Any]:
    names = [_name(prefix, each) for each in types]
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


def _pieces(prefix: str) -> dict[str, Any]:
    names = [_name(prefix, each) for each in EphemeralType]
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


def _name(prefix: str, event_type: EventType | EphemeralType) -> str:
    return f"{prefix}.{event_type.value}".replace(".", "_")


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def document(version: str) -> dict[str, Any]:
    """Describe every channel and every event type."""
    event: dict[str, Any] = EventView.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions: dict[str, Any] = event.pop("$defs", {})
    event["properties"]["run_id"] = {"type": "string", "description": "The run it tells of."}
    event["required"].append("run_id")
    flowgrid = {
        "type": "object",
        "description": "The event in the words of flowgrid-level3 §4.2.",
        "properties": {
            **{_camel(name): each for name, each in event["properties"].items() if name != "run_id"},
            "instanceId": {"type": "string"},
            "tenantId": {"type": "string"},
            "position": {"type": "integer", "description": "Number over all runs, without a gap."},
        },
    }
    everything = list(EventType)
    _, facts = models_json_schema(
        [
            (model, "serialization")
            for model in sorted(
                {*map(data_model, everything), *EPHEMERAL_DATA.values()}, key=lambda model: model.__name__
            )
        ],
        ref_template="#/components/schemas/{model}",
    )
    waiting = [each for each in everything if each.value.startswith(("approval.", "sla."))]
    channels: dict[str, Any] = {
        "run": {
            "address": "/runs/{runId}/stream",
            "description": "Server-sent events; `id` is `seq`; `event: end` after the last.",
            "parameters": {"runId": {"description": "A run's id."}},
            "messages": _references("event", everything) | _pieces("event"),
        },
        "instance": {
            "address": "/api/ws/instances/{instanceId}",
            "description": "WebSocket; closes with 1000 after the last event.",
            "parameters": {"instanceId": {"description": "A run's id."}},
            "messages": _references("flowgrid", everything) | _pieces("flowgrid"),
        },
        "approvals": {
            "address": "/api/ws/approvals",
            "description": "WebSocket with the tenant's approvals and deadlines.",
            "messages": _references("flowgrid", waiting),
        },
        "dashboard": {
            "address": "/api/ws/dashboard",
            "description": "WebSocket with the tenant's metrics.",
            "messages": {"metricsUpdate": {"$ref": "#/components/messages/metricsUpdate"}},
        },
    }
    messages = {_name("event", each): _message(each, "Event") for each in everything}
    messages |= {_name("flowgrid", each): _message(each, "FlowGridEvent") for each in everything}
    for kind, model in EPHEMERAL_DATA.items():
        for prefix, run in (("event", "run_id"), ("flowgrid", "instanceId")):
            messages[_name(prefix, kind)] = {
                "name": kind.value,
                "description": "Told live only: without a number, and never again.",
                "contentType": "application/json",
                "payload": {
                    "type": "object",
                    "required": ["type", run, "data"],
                    "properties": {
                        "type": {"const": kind.value},
                        run: {"type": "string"},
                        "data": {"$ref": f"#/components/schemas/{model.__name__}"},
                    },
                },
            }
    messages["metricsUpdate"] = {
        "name": "metrics.update",
        "contentType": "application/json",
        "payload": {
            "type": "object",
            "required": ["type", "timestamp", "data"],
            "properties": {
                "type": {"const": "metrics.update"},
                "timestamp": {"type": "string", "format": "date-time"},
                "data": {"type": "object"},
            },
        },
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Switchyard events",
            "version": version,
            "description": "How they come about, and what is promised: docs/events.md.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": {
            f"follow{name.capitalize()}": {
                "action": "send",
                "channel": {"$ref": f"#/channels/{name}"},
            }
            for name in channels
        },
        "components": {
            "messages": messages,
            "schemas": {"Event": event, "FlowGridEvent": flowgrid, **definitions, **facts["$defs"]},
        },
    }


@router.get("/asyncapi.json", include_in_schema=False)
async def get_asyncapi(request: Request) -> dict[str, Any]:
    """Answer the document."""
    return document(request.app.version)
