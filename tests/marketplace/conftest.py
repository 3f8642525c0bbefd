"""Marketplace tests live in the publishing tests' world."""

from tests.publishing.conftest import (
    publishing_api,
    publishing_services,
    publishing_settings,
    publishing_temporal,
    publishing_worker,
    world,
)

__all__ = [
    "publishing_api",
    "publishing_services",
    "publishing_settings",
    "publishing_temporal",
    "publishing_worker",
    "world",
]
