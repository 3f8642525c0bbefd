"""Server-sent events (WHATWG HTML §9.2) of a subscription: one task to write, one to see the client leave."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from activities.streams.channel import Ephemeral, Message
from activities.streams.subscription import Subscription
from models.errors import UnavailableError

RETRY_MILLISECONDS = 2000
"""When a client comes back after a lost connection, plus up to half of it, so that not all come at once."""

END = b"event: end\ndata: {}\n\n"
SIGN_OF_LIFE = b":\n\n"

Follow = Callable[[], AbstractAsyncContextManager[Subscription]]
Frame = Callable[[Subscription, Message | Ephemeral], bytes]


def frame_of_run(_: Subscription, message: Message | Ephemeral) -> bytes:
    """Return the frame that every client of a run shares."""
    return message.sse


class EventStreamResponse(Response):
    """Streams a subscription until its runs have ended, its client leaves or its credentials expire."""

    media_type = "text/event-stream"

    def __init__(self, follow: Follow, frame: Frame = frame_of_run) -> None:
        """Stream what ``follow`` gives, each message written by ``frame``."""
        super().__init__(
            status_code=200,
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
            media_type=self.media_type,
        )
        del self.headers["content-length"]
        self._follow = follow
        self._frame = frame

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one client."""
        async with self._follow() as subscription, _leaving(subscription, receive):
            try:
                await self._stream(subscription, send)
            except asyncio.CancelledError:
                # The hub lets go who takes nothing; any other cancellation is the server's.
                if subscription.sending_since is None or not subscription.closed:
                    raise
                current = asyncio.current_task()
                assert current is not None, "this is a coroutine"
                current.uncancel()

    async def _stream(self, subscription: Subscription, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        retry = RETRY_MILLISECONDS + random.randrange(RETRY_MILLISECONDS // 2)
        await send({"type": "http.response.body", "body": b"retry: %d\n\n" % retry, "more_body": True})
        while not subscription.closed:
            try:
                messages = await subscription.batch()
            except UnavailableError:
                # The client comes back and resumes where it was.
                break
            body = b"".join([self._frame(subscription, message) for message in messages])
            ended = subscription.ended
            if ended:
                body += END
            subscription.sending_since = time.monotonic()
            await send({"type": "http.response.body", "body": body or SIGN_OF_LIFE, "more_body": True})
            subscription.sending_since = None
            subscription.quiet_since = time.monotonic()
            if ended:
                break
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@asynccontextmanager
async def _leaving(subscription: Subscription, receive: Receive) -> AsyncGenerator[None]:
    """Close the subscription when its client goes."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            continue
        subscription.close()

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
