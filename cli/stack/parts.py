"""The parts of the stack, in one list."""

from collections.abc import Sequence

from cli.stack.application import AGENT_IMAGE, API, MIGRATIONS, WORKER
from cli.stack.docker_engine import DOCKER
from cli.stack.errors import StackError
from cli.stack.object_store import OBJECT_STORE
from cli.stack.part import Part
from cli.stack.postgres import POSTGRES
from cli.stack.temporal import TEMPORAL

ALL_PARTS: tuple[Part, ...] = (
    POSTGRES,
    TEMPORAL,
    OBJECT_STORE,
    DOCKER,
    MIGRATIONS,
    AGENT_IMAGE,
    WORKER,
    API,
)


def parts_named(names: Sequence[str] | None) -> list[Part]:
    """The named parts; all for None.

    Raises:
        StackError: If there is no part of that name.
    """
    by_name = {part.name: part for part in ALL_PARTS}
    unknown = [name for name in names or () if name not in by_name]
    if unknown:
        raise StackError(f"There is no part {unknown[0]!r}; choose among {', '.join(by_name)}.")
    return list(ALL_PARTS) if names is None else [by_name[name] for name in names]


def parts_without(names: Sequence[str]) -> list[str]:
    """Names of all parts but the given ones; without Docker there is no image to build either.

    Raises:
        StackError: If there is no part of that name.
    """
    left_out = {part.name for part in parts_named(names)}
    if DOCKER.name in left_out:
        left_out.add(AGENT_IMAGE.name)
    return [part.name for part in ALL_PARTS if part.name not in left_out]
