"""The pinned requirements fit the project's declaration and name no server."""

import re
import tomllib
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "requirements.txt").read_text()
PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", TEXT, re.MULTILINE)
}


def test_every_declared_dependency_is_pinned_to_a_version_it_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = chain(project["dependencies"], *project["optional-dependencies"].values())
    for line in declared:
        requirement = Requirement(line)
        pinned = PINS.get(canonicalize_name(requirement.name))
        assert pinned is not None, f"{requirement.name} is not pinned; run: make requirements"
        assert requirement.specifier.contains(pinned, prereleases=True), f"{line} against {pinned}"


def test_every_pin_has_a_hash_and_no_address_is_committed() -> None:
    assert len(PINS) > 50
    for block in re.split(r"\n(?=[A-Za-z0-9])", TEXT):
        assert "--hash=sha256:" in block or block.startswith("#")
    assert "://" not in TEXT
    assert "index-url" not in TEXT
