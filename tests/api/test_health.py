"""Liveness and readiness."""

import httpx

from api.app import create_app
from models.settings import Settings
from tests.api.calling import client_of, running


async def test_a_ready_api_names_every_server_behind_it(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health/ready")
    assert answer.json() == {
        "success": True,
        "data": {"status": "ready", "parts": {"database": "up", "temporal": "up", "object_store": "up"}},
    }
    assert answer.status_code == 200
    assert answer.headers["X-Correlation-Id"]


async def test_an_api_whose_servers_are_away_lives_but_is_not_ready(api_settings: Settings) -> None:
    away = api_settings.model_copy(
        update={"temporal_address": "127.0.0.1:9", "s3_endpoint_url": "http://127.0.0.1:9"}
    )
    async with running(create_app(away)) as app, client_of(app) as client:
        live = await client.get("/health/live")
        ready = await client.get("/health/ready")
    assert live.status_code == 200
    assert ready.status_code == 503
    assert ready.headers["Retry-After"] == "1"
    error = ready.json()["error"]
    assert error["code"] == "NOT_READY"
    assert error["details"] == {"parts": {"database": "up", "temporal": "down", "object_store": "down"}}
