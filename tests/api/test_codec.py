"""The codec shows plain text to those allowed, in the form that Temporal's Web UI speaks."""

import base64
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from temporalio.api.common.v1 import Payload

from activities.temporal.codec import EncryptionCodec, KeyRing
from models.identity import Role
from models.settings import Settings
from tests.api.calling import TokenFor, bearer, client_of

REMOTE = "192.0.2.7"


def as_json(payload: Payload) -> dict[str, Any]:
    return {
        "metadata": {name: base64.b64encode(value).decode() for name, value in payload.metadata.items()},
        "data": base64.b64encode(payload.data).decode(),
    }


@pytest.fixture
async def encrypted(api_settings: Settings) -> dict[str, Any]:
    codec = EncryptionCodec(KeyRing(api_settings.encryption_key_ring()))
    plain = Payload(metadata={"encoding": b"json/plain"}, data=b'{"inputs": "plain text"}')
    return {"payloads": [as_json(payload) for payload in await codec.encode([plain])]}


def plain_text(answer: httpx.Response) -> bytes:
    return base64.b64decode(answer.json()["payloads"][0]["data"])


async def test_an_operator_sees_plain_text(
    app: FastAPI, encrypted: dict[str, Any], token_for: TokenFor
) -> None:
    async with client_of(app, REMOTE) as client:
        answer = await client.post(
            "/codec/decode", json=encrypted, headers=bearer(token_for("op", Role.OPERATOR))
        )
    assert answer.status_code == 200
    assert plain_text(answer) == b'{"inputs": "plain text"}'


async def test_others_do_not(app: FastAPI, encrypted: dict[str, Any], token_for: TokenFor) -> None:
    async with client_of(app, REMOTE) as client:
        nobody = await client.post("/codec/decode", json=encrypted)
        user = await client.post("/codec/decode", json=encrypted, headers=bearer(token_for("ada", Role.USER)))
    assert (nobody.status_code, user.status_code) == (401, 403)


async def test_the_embedded_stack_shows_it_to_whoever_sits_at_the_machine(
    client: httpx.AsyncClient, encrypted: dict[str, Any], token_for: TokenFor
) -> None:
    assert plain_text(await client.post("/codec/decode", json=encrypted)) == b'{"inputs": "plain text"}'
    as_user = await client.post("/codec/decode", json=encrypted, headers=bearer(token_for("a", Role.USER)))
    assert as_user.status_code == 403, "credentials, where given, are what counts"
    rebound = await client.post("/codec/decode", json=encrypted, headers={"Host": "evil.example:8000"})
    assert rebound.status_code == 401


async def test_what_was_encoded_here_decodes_here(client: httpx.AsyncClient) -> None:
    body = {
        "payloads": [{"metadata": {"encoding": base64.b64encode(b"json/plain").decode()}, "data": "e30="}]
    }
    encoded = await client.post("/codec/encode", json=body)
    assert encoded.json() != body
    assert (await client.post("/codec/decode", json=encoded.json())).json() == body


@pytest.mark.parametrize(
    "payload",
    [
        {"metadata": {"encoding": "YmluYXJ5L2VuY3J5cHRlZA=="}, "data": "AAAA"},
        {
            "metadata": {"encoding": "YmluYXJ5L2VuY3J5cHRlZA==", "encryption-key-id": "bm9uZQ=="},
            "data": "AAAA",
        },
        {"metadata": {"encoding": "YmluYXJ5L2VuY3J5cHRlZA==", "encryption-key-id": "/w=="}, "data": "AAAA"},
        {"metadata": {"encoding": "not base64"}, "data": ""},
        {"data": "é"},
    ],
)
async def test_what_cannot_be_decoded_is_refused(client: httpx.AsyncClient, payload: dict[str, Any]) -> None:
    answer = await client.post("/codec/decode", json={"payloads": [payload]})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] in ("PAYLOAD_UNDECODABLE", "INVALID_REQUEST")


async def test_a_payload_shorter_than_its_nonce_is_refused(
    client: httpx.AsyncClient, encrypted: dict[str, Any]
) -> None:
    encrypted["payloads"][0]["data"] = "AAAA"
    answer = await client.post("/codec/decode", json=encrypted)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "PAYLOAD_UNDECODABLE")


async def test_a_tampered_payload_is_refused(client: httpx.AsyncClient, encrypted: dict[str, Any]) -> None:
    data = bytearray(base64.b64decode(encrypted["payloads"][0]["data"]))
    data[-1] ^= 1
    encrypted["payloads"][0]["data"] = base64.b64encode(data).decode()
    answer = await client.post("/codec/decode", json=encrypted)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "PAYLOAD_UNDECODABLE")


async def test_browsers_may_call_it_from_the_web_ui_only(
    client: httpx.AsyncClient, api_settings: Settings, encrypted: dict[str, Any]
) -> None:
    ui = {"Origin": api_settings.temporal_ui_url}
    preflight = await client.options("/codec/decode", headers=ui)
    assert preflight.status_code == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == api_settings.temporal_ui_url
    assert "X-Namespace" in preflight.headers["Access-Control-Allow-Headers"]
    answer = await client.post("/codec/decode", json=encrypted, headers=ui)
    assert answer.headers["Access-Control-Allow-Origin"] == api_settings.temporal_ui_url
    foreign = await client.post("/codec/decode", json=encrypted, headers={"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in foreign.headers
    assert (
        await client.options("/codec/decode", headers={"Origin": "https://evil.example"})
    ).status_code == 405
