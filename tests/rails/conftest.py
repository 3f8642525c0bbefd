"""Outside rails on loopback: the adapter, the server it talks to, and the server's books."""

from collections.abc import AsyncIterator

import pytest

from tests.rails.line import Line, open_line


@pytest.fixture(params=["stripe", "cashfree"])
async def line(request: pytest.FixtureRequest) -> AsyncIterator[Line]:
    async with open_line(request.param) as opened:
        yield opened
