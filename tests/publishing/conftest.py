"""Publishing tests share one world with those of the marketplace."""

import pytest

from tests.publishing_world import World


@pytest.fixture(scope="session")
def world(publishing_world: World) -> World:
    return publishing_world
