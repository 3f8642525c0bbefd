"""The AsyncAPI document names every event type and refers to nothing that it does not hold."""

from collections.abc import Iterator
from typing import Any, cast

import httpx

from models.event import EphemeralType, EventType
from models.event_data import EventData, data_model


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in cast("dict[str, Any]", node).items():
            if key == "$ref":
                yield str(value)
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in cast("list[object]", node):
            yield from references(value)


async def test_every_event_type_is_described_and_every_reference_holds(web: httpx.AsyncClient) -> None:
    document: dict[str, Any] = (await web.get("/asyncapi.json")).json()
    assert document["asyncapi"] == "3.0.0"
    names = {message["name"] for message in document["components"]["messages"].values()}
    live = {each.value for each in EphemeralType}
    assert names == {each.value for each in EventType} | live | {"metrics.update"}
    for reference in references(document):
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            assert part in found, reference
            found = found[part]


async def test_every_event_type_has_a_schema_of_what_it_says(web: httpx.AsyncClient) -> None:
    schemas = (await web.get("/asyncapi.json")).json()["components"]["schemas"]
    for each in EventType:
        model = data_model(each)
        assert model is not EventData, f"{each} has no model in models/event_data.py"
        assert schemas[model.__name__]["type"] == "object"
