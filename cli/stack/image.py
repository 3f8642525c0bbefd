"""The step that makes sure the agent image is there: ``python -m cli.stack.image``."""

import contextlib
import sys

import docker

from activities.sandbox.image import ensure_image
from models.errors import PlatformError
from models.settings import Settings, load_settings


def build(settings: Settings) -> None:
    """Build the image named by the settings unless the engine has it; progress goes to the log."""
    client = docker.DockerClient(base_url=settings.docker_host, timeout=600)
    with contextlib.closing(client):
        ensure_image(client, tag=settings.sandbox_image, progress=lambda line: print(line, flush=True))


if __name__ == "__main__":
    try:
        build(load_settings())
    except PlatformError as error:
        sys.exit(error.message)
