"""The egress broker: the only way out of a container, one Unix socket per execution.

The container has no network. Its proxy variables point at a loopback shim that carries bytes to this socket,
so identity is the socket itself and nothing the agent sends. Three ways out, all judged by the manifest:

* ``CONNECT host:port``: an opaque tunnel for clients that speak TLS themselves;
* ``http://host/path``: plain HTTP, forwarded;
* ``http://egress/<alias>/path``: the broker originates TLS and adds the deployment's credential, which
  therefore never enters the container.
"""

import asyncio
import contextlib
import json
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path

from activities.sandbox.egress_http import (
    MAX_HEAD_BYTES,
    PIECE,
    MalformedRequestError,
    RequestHead,
    body_length,
    read_body,
    read_head,
)
from activities.sandbox.egress_policy import (
    EGRESS_HOST,
    EgressLedger,
    EgressRefusedError,
    EgressSettings,
    pin_address,
)
from models.manifest import NetworkHost
from models.sandbox import EgressDecision

SOCKET_NAME = "broker.sock"
PLAIN_PORT = 80
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class EgressSession:
    """The way out of one execution; `close` ends it and everything that uses it.

    Attributes:
        ledger: Decisions and counters.
    """

    def __init__(
        self, network: Sequence[NetworkHost], secrets: Mapping[str, str], settings: EgressSettings
    ) -> None:
        self.ledger = EgressLedger(network, settings)
        self._secrets = secrets
        self._settings = settings
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    @classmethod
    async def listen(
        cls,
        folder: Path,
        network: Sequence[NetworkHost],
        secrets: Mapping[str, str],
        settings: EgressSettings,
    ) -> "EgressSession":
        """Listen on ``folder/broker.sock``.

        Args:
            folder: Host folder that the container sees read-only as ``/run/egress``.
            network: The manifest's declarations.
            secrets: Values by the ``config_key`` of the declared credentials.
            settings: The broker's settings.

        Raises:
            OSError: The socket cannot be made.
        """
        session = cls(network, secrets, settings)
        path = folder / SOCKET_NAME
        session._server = await asyncio.start_unix_server(session._accept, path, limit=MAX_HEAD_BYTES)
        # Only this execution's container sees the folder.
        path.chmod(0o666)
        return session

    async def close(self) -> None:
        """Stop listening and cut every connection."""
        if self._server is not None:
            self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._open) >= self._settings.max_connections:
            writer.transport.abort()
            return
        self._open.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            writer.close()
            self._open.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one proxy request; one connection carries one request or one tunnel."""
        try:
            head = await read_head(reader)
            if head is None:
                return
            if head.method == "CONNECT":
                host, port = head.authority()
                if host != EGRESS_HOST and not self._readable(host, port):
                    await self._tunnel(host, port, (reader, writer))
                    return
                await _answer(writer, b"HTTP/1.1 200 Connection established\r\n\r\n")
                head = await read_head(reader)
                if head is None:
                    return
            else:
                absolute = head.absolute()
                host, port, path = absolute if absolute else (EGRESS_HOST, PLAIN_PORT, head.target)
                head = RequestHead(head.method, path, head.headers)
            if not head.target.startswith("/"):
                raise MalformedRequestError("the request target must be a path")
            await self._request(host, port, head, (reader, writer))
        except MalformedRequestError as error:
            await _refuse(writer, 400, str(error))

    def _readable(self, host: str, port: int) -> bool:
        """Whether a tunnel to here is judged request by request: plain HTTP with declared methods."""
        try:
            self.ledger.rule_for(host, port, None)
        except EgressRefusedError:
            return port == PLAIN_PORT
        return False

    async def _tunnel(self, host: str, port: int, client: Streams) -> None:
        decision = EgressDecision(host=host, port=port, method="CONNECT", allowed=True, reason="allowed")
        try:
            rule = self.ledger.rule_for(host, port, None)
            upstream = await self._connect(decision, rule, tls=False)
        except EgressRefusedError as error:
            await self._refused(decision, str(error), client[1])
            return
        try:
            await _answer(client[1], b"HTTP/1.1 200 Connection established\r\n\r\n")
            out = self._carry(client[0], upstream[1], rule, decision, sent=True)
            back = self._carry(upstream[0], client[1], rule, decision, sent=False)
            async with asyncio.TaskGroup() as both:
                both.create_task(out)
                both.create_task(back)
        except* EgressRefusedError as group:
            self.ledger.withdraw(decision, str(group.exceptions[0]))
        except* OSError:
            client[1].transport.abort()
        finally:
            upstream[1].transport.abort()

    async def _request(self, host: str, port: int, head: RequestHead, client: Streams) -> None:
        """Forward one judged request and its answer."""
        decision = EgressDecision(host=host, port=port, method=head.method, allowed=True, reason="allowed")
        length = body_length(head)
        try:
            if host == EGRESS_HOST:
                alias, slash, rest = head.target[1:].partition("/")
                rule = self.ledger.rule_named(alias, head.method)
                decision.host, decision.port = rule.host, rule.port
                path, added = f"{slash or '/'}{rest}", self._credential(rule, decision)
                tls = rule.port != PLAIN_PORT
            else:
                rule, path, added, tls = self.ledger.rule_for(host, port, head.method), head.target, {}, False
            upstream = await self._connect(decision, rule, tls=tls)
        except EgressRefusedError as error:
            await self._refused(decision, str(error), client[1])
            return
        name = rule.host if rule.port in (443, PLAIN_PORT) else f"{rule.host}:{rule.port}"
        try:
            await self._send_request(
                head.write(name, path, added, length is None), length, rule, decision, client, upstream
            )
            await self._carry(upstream[0], client[1], rule, decision, sent=False)
        except EgressRefusedError as error:
            self.ledger.withdraw(decision, str(error))
            client[1].transport.abort()
        finally:
            upstream[1].transport.abort()

    async def _send_request(
        self,
        head: bytes,
        length: int | None,
        rule: NetworkHost,
        decision: EgressDecision,
        client: Streams,
        upstream: Streams,
    ) -> None:
        writer = upstream[1]
        writer.write(head)
        async for piece in read_body(client[0], length):
            self._count(rule, decision, len(piece), sent=True)
            writer.write(piece if length is not None else b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
        if length is None:
            writer.write(b"0\r\n\r\n")
        self._count(rule, decision, len(head), sent=True)
        await writer.drain()

    def _credential(self, rule: NetworkHost, decision: EgressDecision) -> dict[str, str]:
        declared = rule.credential
        if declared is None:
            return {}
        value = self._secrets.get(declared.config_key)
        if value is None or not value.isascii() or not value.isprintable():
            raise EgressRefusedError(f"the deployment's config has no usable {declared.config_key!r}")
        if rule.port == PLAIN_PORT:
            raise EgressRefusedError("a credential is only sent over TLS")
        decision.credential = rule.alias or rule.host
        return {declared.header: f"{declared.prefix}{value}"}

    async def _connect(self, decision: EgressDecision, rule: NetworkHost, *, tls: bool) -> Streams:
        """Connect to the pinned address and record the decision."""
        self.ledger.check_open()
        decision.address = await pin_address(rule.host, rule.port, self._settings)
        context = (self._settings.tls or ssl.create_default_context()) if tls else None
        try:
            async with asyncio.timeout(self._settings.connect_seconds):
                streams = await asyncio.open_connection(
                    decision.address, rule.port, ssl=context, server_hostname=rule.host if tls else None
                )
        except OSError as error:
            raise EgressRefusedError(f"the host cannot be reached: {type(error).__name__}") from None
        self.ledger.record(decision)
        return streams

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        rule: NetworkHost,
        decision: EgressDecision,
        *,
        sent: bool,
    ) -> None:
        while piece := await reader.read(PIECE):
            self._count(rule, decision, len(piece), sent=sent)
            writer.write(piece)
            await writer.drain()
        with contextlib.suppress(OSError):
            if writer.can_write_eof():
                writer.write_eof()

    def _count(self, rule: NetworkHost, decision: EgressDecision, size: int, *, sent: bool) -> None:
        if sent:
            decision.bytes_sent += size
        else:
            decision.bytes_received += size
        self.ledger.count(rule, size)

    async def _refused(self, decision: EgressDecision, reason: str, writer: asyncio.StreamWriter) -> None:
        decision.allowed, decision.reason, decision.credential = False, reason, None
        self.ledger.record(decision)
        await _refuse(writer, 403, reason)


async def _answer(writer: asyncio.StreamWriter, message: bytes) -> None:
    writer.write(message)
    await writer.drain()


async def _refuse(writer: asyncio.StreamWriter, status: int, reason: str) -> None:
    body = json.dumps({"error": "EGRESS_REFUSED", "message": reason}).encode()
    phrase = "Forbidden" if status == 403 else "Bad Request"
    head = (
        f"HTTP/1.1 {status} {phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    await _answer(writer, head.encode() + body)
