"""`docker-compose.temporal.yml` against the rules of the compose specification and of our own."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.stack.postgres import ROLES
from cli.stack.temporal import DYNAMIC_CONFIGURATION, SEARCH_ATTRIBUTES
from models.settings import Settings, environment_variable

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docker-compose.temporal.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]

# A job ends; everything else is a server and says when it is healthy.
JOBS = {"temporal-schema", "temporal-namespace", "agent-image", "keys", "migrations"}
SERVERS = sorted(set(SERVICES) - JOBS)
VARIABLE = re.compile(r"\$\{([A-Z][A-Z0-9_]*)(?:(:\?|:-|\?|-)([^}]*))?\}")
SECRET = re.compile(r"PASSWORD|SECRET|ENCRYPTION_KEYS|TOKEN")


def test_the_whole_system_is_there() -> None:
    assert set(SERVICES) >= JOBS | {"postgresql", "s3", "temporal", "temporal-ui", "engine", "worker", "api"}


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_an_image_with_a_policy_for_its_end(name: str) -> None:
    service = SERVICES[name]
    assert service["image"]
    expected = ("no", "on-failure:5") if name in JOBS else ("unless-stopped",)
    assert service["restart"] in expected


@pytest.mark.parametrize("name", SERVERS)
def test_every_server_has_a_health_check(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in ("CMD", "CMD-SHELL")
    assert len(check["test"]) > 1
    for duration in ("interval", "timeout", "start_period"):
        assert re.fullmatch(r"[0-9]+s", check.get(duration, "1s"))
    assert int(check["retries"]) > 0


def test_no_service_has_a_name_of_its_own_that_would_prevent_scaling() -> None:
    assert not [name for name, service in SERVICES.items() if "container_name" in service]
    for name in ("worker", "api"):
        assert "ports" not in SERVICES[name]


@pytest.mark.parametrize("name", SERVICES)
def test_dependencies_exist_and_their_conditions_can_come_true(name: str) -> None:
    for other, dependency in SERVICES[name].get("depends_on", {}).items():
        condition = dependency["condition"]
        if other in JOBS:
            assert condition == "service_completed_successfully"
        else:
            assert condition == "service_healthy"
            assert "healthcheck" in SERVICES[other]


def test_dependencies_have_no_circle() -> None:
    remaining = {name: set(service.get("depends_on", {})) for name, service in SERVICES.items()}
    while remaining:
        ready = {name for name, needs in remaining.items() if not needs & set(remaining)}
        assert ready, f"circle among {sorted(remaining)}"
        for name in ready:
            del remaining[name]


@pytest.mark.parametrize("name", SERVICES)
def test_volumes_are_declared_or_files_of_the_repository(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source, target, *_ = volume.split(":")
        assert target.startswith("/")
        if source.startswith("."):
            assert (ROOT / source).exists(), f"{source} is missing"
        else:
            assert source in COMPOSE["volumes"]


def test_every_declared_volume_and_network_is_used() -> None:
    used = {v.split(":")[0] for service in SERVICES.values() for v in service.get("volumes", [])}
    assert set(COMPOSE["volumes"]) <= used
    networks = {network for service in SERVICES.values() for network in service.get("networks", [])}
    assert set(COMPOSE["networks"]) == networks


@pytest.mark.parametrize("name", [name for name in SERVERS if name != "proxy"])
def test_servers_with_data_keep_it_in_a_volume(name: str) -> None:
    data = {"postgresql": "/var/lib/postgresql", "s3": "/data", "engine": "/var/lib/docker"}
    targets = [volume.split(":")[1] for volume in SERVICES[name].get("volumes", [])]
    if name in data:
        assert data[name] in targets


def test_no_secret_has_a_default_and_each_missing_one_stops_the_start() -> None:
    variables = VARIABLE.findall(TEXT)
    assert {name for name, _, _ in variables if SECRET.search(name)}
    for name, operator, message in variables:
        if SECRET.search(name):
            assert operator == ":?", f"{name} must be required"
            assert message


def test_no_secret_is_written_into_the_file() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|_PWD|SECRET|KEYS$", variable):
                assert str(value).startswith("${"), f"{name}: {variable}"


def test_the_example_of_the_environment_names_every_required_variable_and_sets_none() -> None:
    required = {name for name, operator, _ in VARIABLE.findall(TEXT) if operator == ":?"}
    lines = (ROOT / "deploy" / "server.env.example").read_text().splitlines()
    example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert set(example) == required
    assert set(example.values()) == {""}


def test_ports_are_published_on_loopback_unless_the_operator_says_otherwise() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"proxy", "temporal-ui"}
    assert published["proxy"] == ["${SWITCHYARD_BIND:-127.0.0.1}:${SWITCHYARD_PORT:-8000}:8080"]
    # Temporal's Web UI has no log-in.
    assert published["temporal-ui"][0].startswith("127.0.0.1:")


def test_our_processes_get_settings_that_exist() -> None:
    known = {environment_variable(field) for field in Settings.model_fields} | {"TMPDIR"}
    for name in ("worker", "api", "migrations", "keys", "agent-image"):
        assert set(SERVICES[name]["environment"]) <= known


def test_only_the_engine_is_privileged_and_nobody_sees_the_hosts_docker_socket() -> None:
    assert [name for name, service in SERVICES.items() if service.get("privileged")] == ["engine"]
    assert "/var/run/docker.sock" not in TEXT


def test_the_worker_and_the_engine_see_the_sandbox_files_at_the_same_path() -> None:
    for name in ("worker", "engine"):
        assert "sandbox-files:/var/lib/switchyard/sandbox" in SERVICES[name]["volumes"]


def test_the_server_gets_the_dynamic_configuration_of_the_embedded_stack() -> None:
    file = yaml.safe_load((ROOT / "deploy" / "temporal" / "dynamic-config.yaml").read_text())
    values = {key: entries[0]["value"] for key, entries in file.items()}
    assert values == {key: yaml.safe_load(value) for key, value in DYNAMIC_CONFIGURATION.items()}


def test_the_scripts_make_the_same_roles_and_search_attributes_as_the_embedded_stack() -> None:
    roles = (ROOT / "deploy" / "postgres" / "roles.sh").read_text()
    for role in ROLES.values():
        assert f"CREATE ROLE {role} LOGIN NOSUPERUSER NOBYPASSRLS" in roles
    assert " ".join(SEARCH_ATTRIBUTES) in (ROOT / "deploy" / "temporal" / "namespace.sh").read_text()
