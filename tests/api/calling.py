"""Calling the application, in process or over a socket."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Collection, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI

from activities.services import open_services
from activities.temporal.client import connect
from api.app import create_app
from cli.stack.ports import free_ports
from cli.stack.process import wait_until
from cli.stack.secrets import SecretStore
from models.settings import Settings
from models.task_queues import TaskQueue
from worker import running_workers

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


def with_issuer(settings: Settings, directory: Path) -> Settings:
    """Let the settings issue their own tokens."""
    return settings.model_copy(
        update={"jwt_signing_key_file": SecretStore(directory).issuer_key_file(), "jwt_jwks_url": ""}
    )


@contextmanager
def serving(settings: Settings) -> Generator[str]:
    """Run the application behind a real HTTP server, on a thread of its own; gives its address."""
    port = free_ports(1)[0]
    here = settings.model_copy(update={"api_port": port, "public_url": f"http://127.0.0.1:{port}"})
    app = create_app(here)
    # Schemas are made when they are first needed, which two servers on two threads must not do at once.
    app.openapi()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), 30)
        assert server.started
        yield here.public_url
    finally:
        server.should_exit = True
        thread.join(10)


@contextmanager
def working(settings: Settings, queues: Collection[TaskQueue]) -> Generator[None]:
    """Run a worker of these queues on a thread of its own, so that it works while a test blocks."""
    started, loop_of = threading.Event(), list[asyncio.AbstractEventLoop]()
    stop = asyncio.Event()

    async def work() -> None:
        loop_of.append(asyncio.get_running_loop())
        async with open_services(settings, name="switchyard-test-worker") as services:
            client = await connect(settings, services.objects)
            async with running_workers(services, client, list(queues)):
                started.set()
                await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(work()), daemon=True)
    thread.start()
    try:
        wait_until(lambda: started.is_set() or not thread.is_alive(), 60)
        assert started.is_set()
        yield
    finally:
        loop_of[0].call_soon_threadsafe(stop.set)
        thread.join(30)
