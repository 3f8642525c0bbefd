"""The image has what agents expect of an interpreter, and nothing to gain by."""

import json

import docker
import pytest

from activities.sandbox.image import IMAGE, NOT_IN_THE_IMAGE, ImageRecipe, ensure_image, node_version
from activities.sandbox.runner import SandboxRunner
from models.sandbox import SandboxImageError
from tests.sandbox.agents import run_node, run_python


async def test_the_whole_python_standard_library_imports(runner: SandboxRunner) -> None:
    result = await run_python(
        runner,
        "import importlib, json, sys\nmissing = []\n"
        f"for name in sorted(sys.stdlib_module_names - {set(NOT_IN_THE_IMAGE)!r}):\n"
        "    try: importlib.import_module(name)\n"
        "    except ImportError as error: missing.append(str(error))\n"
        "print(json.dumps(missing))",
    )
    assert json.loads(result.stdout) == []


async def test_node_is_current_and_has_its_library(runner: SandboxRunner) -> None:
    result = await run_node(
        runner,
        "const { builtinModules } = require('module');\n"
        "for (const name of builtinModules) require(name);\n"
        "console.log(JSON.stringify([process.version, new Intl.NumberFormat('de').format(1234.5)]));",
    )
    version, number = json.loads(result.stdout)
    assert version == f"v{node_version()}"
    assert int(version[1:].split(".")[0]) >= 22
    assert number == "1.234,5"


async def test_certificates_and_time_zones_are_there(runner: SandboxRunner) -> None:
    result = await run_python(
        runner,
        "import json, ssl, zoneinfo\nzoneinfo.ZoneInfo('Asia/Kolkata')\n"
        "print(json.dumps(len(ssl.create_default_context().get_ca_certs()) > 50))",
    )
    assert result.stdout == b"true\n", result.stderr_tail


def test_an_image_of_the_same_recipe_is_not_built_again(docker_host: str, runner: SandboxRunner) -> None:
    client = docker.DockerClient(base_url=docker_host)
    lines: list[str] = []
    try:
        assert ensure_image(client, progress=lines.append) == client.images.get(IMAGE).id
    finally:
        client.close()
    assert lines == []


def test_the_recipe_decides_the_hash() -> None:
    assert ImageRecipe().digest() == ImageRecipe(mirror="http://mirror.test/debian").digest()
    assert ImageRecipe().digest() != ImageRecipe(suite="trixie").digest()


def test_an_image_that_cannot_be_built_says_every_reason(
    docker_host: str, runner: SandboxRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_args, **_kwargs: None)
    client = docker.DockerClient(base_url=docker_host)
    recipe = ImageRecipe(suite="none", base_image=None)
    try:
        with pytest.raises(SandboxImageError, match="apt-get install debootstrap"):
            ensure_image(client, recipe, tag="agent-runtime-test:latest")
    finally:
        client.close()
