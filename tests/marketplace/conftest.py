"""Marketplace tests share one world with those of publishing."""

import pytest

from tests.publishing_world import World


@pytest.fixture(scope="session")
def world(publishing_world: World) -> World:
    return publishing_world
