"""Calling the application in process."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI

TokenFor = Callable[..., str]
"""``token_for("ada", Role.DEVELOPER, tenant_id=...)``."""


@asynccontextmanager
async def running(app: FastAPI) -> AsyncGenerator[FastAPI]:
    """Run the application's start and stop around the block."""
    async with app.router.lifespan_context(app):
        yield app


def client_of(app: FastAPI, peer: str = "127.0.0.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, client=(peer, 40000), raise_app_exceptions=True)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
