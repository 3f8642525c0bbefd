"""TCP ports of the parts: choosing free ones, and naming who holds a taken one."""

import contextlib
import random
import socket
from collections.abc import Iterable

import psutil

from cli.stack.errors import PortTakenError

LOOPBACK = "127.0.0.1"
_AUTOMATIC_PORTS = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """Whether nobody listens on ``port`` of the loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_ports(count: int, avoid: Iterable[int] = ()) -> list[int]:
    """``count`` distinct ports nobody listens on, at random.

    They lie below the range from which the kernel takes the source ports of outgoing connections, which
    would otherwise occupy one between this choice and the server's start.
    """
    candidates = set(_AUTOMATIC_PORTS) - set(avoid)
    ports: list[int] = []
    for port in random.SystemRandom().sample(sorted(candidates), len(candidates)):
        if len(ports) == count:
            break
        if is_free(port):
            ports.append(port)
    return ports


def holder_of(port: int) -> str:
    """Name and process id of the listener on ``port``, as far as we may know them."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        connections = []
    for connection in connections:
        local = connection.laddr
        if local and local.port == port and connection.status == psutil.CONN_LISTEN and connection.pid:
            with contextlib.suppress(psutil.Error):
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    return "another process (of another user, or outside this container)"


def require_free(ports: Iterable[tuple[str, int]]) -> None:
    """Refuse the first port of ``(part, port)`` that is taken.

    Raises:
        PortTakenError: Naming part, port and holder.
    """
    for part, port in ports:
        if not is_free(port):
            raise PortTakenError(part, port, holder_of(port))
