"""Docker's blocking SDK, called from asyncio: a pool of threads, each with its own client."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import docker
import docker.errors
import requests.exceptions

Result = TypeVar("Result")

# What the SDK raises when the engine is away, slow, or refuses; docker-py reports a time-out of the HTTP
# read as requests' ConnectionError.
ENGINE_ERRORS: Final = (docker.errors.DockerException, requests.exceptions.RequestException, OSError)
FRAME_HEADER: Final = 8
STDOUT: Final = 1
STDERR: Final = 2


class Engine:
    """Asynchronous access to one Docker Engine."""

    def __init__(self, docker_host: str, *, threads: int = 16, timeout: int = 60) -> None:
        self.docker_host = docker_host
        self._timeout = timeout
        self._local = threading.local()
        self._clients: list[docker.APIClient] = []
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="docker")

    def client(self) -> docker.APIClient:
        """This thread's client."""
        client: docker.APIClient | None = getattr(self._local, "client", None)
        if client is None:
            client = docker.APIClient(base_url=self.docker_host, timeout=self._timeout, version="auto")
            self._local.client = client
            self._clients.append(client)
        return client

    async def call(self, function: Callable[[docker.APIClient], Result]) -> Result:
        """Run ``function(client)`` in a thread. Cancelling the caller does not stop the thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: function(self.client()))

    async def attach(self, container: str) -> "AttachedStream":
        """Attach to a container's three streams. Attach before start, or early output is lost."""
        raw = await self.call(lambda client: _attach(client, container))
        raw.setblocking(False)
        try:
            reader, writer = await asyncio.open_connection(sock=raw, limit=1 << 20)
        except BaseException:
            raw.close()
            raise
        return AttachedStream(reader, writer)

    async def close(self) -> None:
        """Wait for calls under way and close the clients."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, lambda: self._executor.shutdown(wait=True))
        for client in self._clients:
            client.close()


def _attach(client: docker.APIClient, container: str) -> socket.socket:
    params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
    held: Any = client.attach_socket(container, params=params)
    # The SDK's object belongs to the HTTP response and closes with it: keep our own descriptor.
    try:
        return socket.socket(fileno=os.dup(held.fileno()))
    finally:
        held.close()


class AttachedStream:
    """Standard input, output and error of a container over one hijacked connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> tuple[int, bytes] | None:
        """Next piece as ``(STDOUT | STDERR, bytes)``; None at the end or when the connection breaks."""
        try:
            header = await self._reader.readexactly(FRAME_HEADER)
            return header[0], await self._reader.readexactly(int.from_bytes(header[4:], "big"))
        except (asyncio.IncompleteReadError, OSError):
            return None

    async def send(self, *parts: bytes) -> None:
        """Write to standard input.

        Raises:
            OSError: The container or the engine has gone.
        """
        for part in parts:
            self._writer.write(part)
        await self._writer.drain()

    def close(self) -> None:
        """Close the connection; the engine then closes the container's standard input."""
        self._writer.transport.abort()
