"""Docker's blocking SDK, called from asyncio: a pool of threads, each with its own client."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

import docker
import docker.errors
import requests.exceptions

Result = TypeVar("Result")

# What the SDK raises when the engine is away, slow, or refuses; docker-py reports a time-out of the HTTP
# read as requests' ConnectionError.
ENGINE_ERRORS: Final = (docker.errors.DockerException, requests.exceptions.RequestException, OSError)
FRAME_HEADER: Final = 8
STREAM_LIMIT: Final = 1 << 20
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
            address = urlsplit(self.docker_host)
            # The SDK leaves its socket open when it cannot connect.
            if address.scheme == "unix" and not Path(address.path).is_socket():
                raise ConnectionError(f"there is no socket at {address.path}")
            client = docker.APIClient(base_url=self.docker_host, timeout=self._timeout, version="auto")
            # Looking for proxies and .netrc costs more than the call.
            client.trust_env = False
            self._local.client = client
            self._clients.append(client)
        return client

    async def call(self, function: Callable[[docker.APIClient], Result]) -> Result:
        """Run ``function(client)`` in a thread. Cancelling the caller does not stop the thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: function(self.client()))

    async def attach(self, container: str) -> "AttachedStream":
        """Attach to a container's three streams. Attach before start, or early output is lost.

        The SDK's own attach hands out a socket that belongs to an HTTP response and closes with it, so the
        few lines of the upgrade are spoken here (Docker Engine API, "Attach to a container").

        Raises:
            OSError: The engine is away or refuses.
        """
        address = urlsplit(self.docker_host)
        if address.scheme == "unix":
            opening = asyncio.open_unix_connection(address.path, limit=STREAM_LIMIT)
        elif address.scheme in ("tcp", "http") and address.hostname:
            opening = asyncio.open_connection(address.hostname, address.port or 2375, limit=STREAM_LIMIT)
        else:
            raise ConnectionError(f"DOCKER_HOST {self.docker_host} must be unix://PATH or tcp://HOST:PORT")
        reader, writer = await opening
        try:
            query = "stdin=1&stdout=1&stderr=1&stream=1"
            writer.write(
                f"POST /containers/{container}/attach?{query} HTTP/1.1\r\nHost: docker\r\n"
                "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            status = head.split(b" ", 2)[1]
            if status not in (b"101", b"200"):
                raise ConnectionError(f"the engine refused to attach: HTTP {status.decode()}")
        except asyncio.IncompleteReadError as error:
            writer.transport.abort()
            raise ConnectionError("the engine ended the connection") from error
        except BaseException:
            writer.transport.abort()
            raise
        return AttachedStream(reader, writer)

    async def close(self) -> None:
        """Wait for calls under way and close the clients."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, lambda: self._executor.shutdown(wait=True))
        for client in self._clients:
            client.close()


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

    @property
    def ended(self) -> bool:
        """Whether the connection has ended and everything was read."""
        return self._reader.at_eof()

    def close(self) -> None:
        """Close the connection; the engine then closes the container's standard input."""
        self._writer.transport.abort()
