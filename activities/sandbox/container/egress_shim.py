"""Makes the egress broker's socket reachable inside the container as an HTTP proxy on loopback.

Runs as a process of its own beside the agent. It only carries bytes: what is allowed is decided by the broker
outside, so an agent that kills or replaces this gains nothing.
"""

import selectors
import socket

HIGH_WATER = 256 * 1024
PIECE = 64 * 1024


class _End:
    """One side of a carried connection."""

    __slots__ = ("closing", "outgoing", "peer", "sock")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.peer: _End = self
        self.outgoing = bytearray()
        self.closing = False


class EgressShim:
    """Carries bytes between the loopback listener and the broker's Unix socket, until killed."""

    def __init__(self, listener: socket.socket, broker: str) -> None:
        self._listener = listener
        self._broker = broker
        self._selector = selectors.DefaultSelector()

    def serve(self) -> None:
        """Run for ever."""
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        while True:
            for key, events in self._selector.select():
                end: _End | None = key.data
                if end is None:
                    self._accept()
                elif end.sock.fileno() >= 0:
                    self._carry(end, events)

    def _accept(self) -> None:
        inside, _ = self._listener.accept()
        outside = socket.socket(socket.AF_UNIX)
        try:
            outside.connect(self._broker)
        except OSError:
            inside.close()
            outside.close()
            return
        one, two = _End(inside), _End(outside)
        one.peer, two.peer = two, one
        self._watch(one)
        self._watch(two)

    def _carry(self, end: _End, events: int) -> None:
        try:
            if events & selectors.EVENT_READ:
                piece = end.sock.recv(PIECE)
                end.peer.outgoing += piece
                end.closing = not piece
            self._flush(end)
            self._flush(end.peer)
        except OSError:
            self._drop(end)
            return
        if end.closing and end.peer.closing and not end.outgoing and not end.peer.outgoing:
            self._drop(end)
            return
        self._watch(end)
        self._watch(end.peer)

    def _flush(self, end: _End) -> None:
        if end.outgoing:
            try:
                del end.outgoing[: end.sock.send(end.outgoing)]
            except BlockingIOError:
                return
        if end.peer.closing and not end.outgoing:
            end.sock.shutdown(socket.SHUT_WR)

    def _watch(self, end: _End) -> None:
        # Back-pressure: read only while the other side has taken what it was given.
        wanted = 0 if end.closing or len(end.peer.outgoing) > HIGH_WATER else selectors.EVENT_READ
        if end.outgoing:
            wanted |= selectors.EVENT_WRITE
        known = end.sock in self._selector.get_map()
        if known and not wanted:
            self._selector.unregister(end.sock)
        elif known:
            self._selector.modify(end.sock, wanted, end)
        elif wanted:
            self._selector.register(end.sock, wanted, end)

    def _drop(self, end: _End) -> None:
        for each in (end, end.peer):
            if each.sock.fileno() >= 0 and each.sock in self._selector.get_map():
                self._selector.unregister(each.sock)
            each.sock.close()
