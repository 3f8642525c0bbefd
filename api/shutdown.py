"""Ends the streams when the server is asked to stop: it waits for open connections before anything else."""

import asyncio
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from activities.streams.hub import Hub


@contextmanager
def ending_streams(hub: Hub) -> Generator[None]:
    """End the hub's streams at SIGTERM or SIGINT, before the server's own handler does its part."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def end(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(hub.end_all)
        following = before[signal.Signals(number)]
        if callable(following):
            following(number, frame)

    # A server that handles no signals itself keeps what it had.
    chained = {number for number, handler in before.items() if callable(handler)}
    for number in chained:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in chained:
            if signal.getsignal(number) is end:
                signal.signal(number, before[number])
