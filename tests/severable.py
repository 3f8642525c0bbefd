"""A wire to cut: a TCP address in front of a Docker Engine's Unix socket, which a test takes away."""

import asyncio
import contextlib
import threading
from collections.abc import Generator
from contextlib import contextmanager
from urllib.parse import urlsplit


class SeverableEngine:
    """Forwards an engine's socket; while it is severed, nobody gets through and open streams break."""

    def __init__(self, docker_host: str) -> None:
        """Forward to the engine at ``docker_host``, a ``unix://`` address."""
        self.docker_host = ""
        self._path = urlsplit(docker_host).path
        self._away = False
        self._open = set[asyncio.StreamWriter]()
        self._started, self._stop = threading.Event(), asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._started.wait(10)

    @contextmanager
    def severed(self) -> Generator[None]:
        """Keep everybody from the engine during the block."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._cut)
        try:
            yield
        finally:
            self._away = False

    def close(self) -> None:
        """Stop forwarding."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with await asyncio.start_server(self._forward, "127.0.0.1", 0) as server:
            self.docker_host = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            self._started.set()
            await self._stop.wait()
            self._cut()

    def _cut(self) -> None:
        self._away = True
        for writer in self._open:
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._away:
            writer.transport.abort()
            return
        engine_reader, engine_writer = await asyncio.open_unix_connection(self._path)
        both = {writer, engine_writer}
        self._open |= both
        try:
            await asyncio.gather(_pipe(reader, engine_writer), _pipe(engine_reader, writer))
        finally:
            self._open -= both
            for each in both:
                each.close()
                with contextlib.suppress(OSError):
                    await each.wait_closed()


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Copy until the source ends; the end is passed on, because attached containers wait for it."""
    with contextlib.suppress(OSError):
        while piece := await source.read(65_536):
            sink.write(piece)
            await sink.drain()
        sink.write_eof()
