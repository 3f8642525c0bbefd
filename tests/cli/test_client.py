"""The command line against a real API: credentials, errors, exit statuses, output."""

import io
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import structlog
import typer

import cli.keys
import cli.login
from cli.client import ApiClient, ApiUnreachableError, NotSwitchyardError
from cli.credentials import NotLoggedInError, api_url, credentials_file, token_for
from cli.exit import ExitStatus, status_of
from cli.output import clean, shown
from cli.stack.ports import free_ports
from models.errors import (
    AuthenticationError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    PlatformError,
    UnavailableError,
)
from models.settings import Settings
from tests.api.calling import serving, with_issuer


@pytest.fixture(scope="module")
def server(services: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    # The server shares this process; its log must not mix with what commands print.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(io.StringIO()))
    with serving(with_issuer(services, tmp_path_factory.mktemp("cli-secrets"))) as url:
        yield url
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def home(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person with an empty home, beside a running embedded stack."""
    for name in ("SWITCHYARD_API_URL", "SWITCHYARD_TOKEN", "SWITCHYARD_AS", "SWITCHYARD_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    project = tmp_path / "project" / "deep"
    project.mkdir(parents=True)
    (tmp_path / "project" / ".switchyard").mkdir()
    state = tmp_path / "project" / ".switchyard" / "stack.json"
    state.write_text(json.dumps({"addresses": {"api": server}}))
    monkeypatch.chdir(project)
    return tmp_path


def switchyard(*arguments: str) -> None:
    """Run a command as `cli.main` does, letting its errors through."""
    app = typer.Typer()
    cli.login.register(app)
    cli.keys.register(app)
    app(args=list(arguments), standalone_mode=False)


def test_the_embedded_stack_is_found_from_a_directory_below_it(server: str) -> None:
    assert api_url() == server


def test_the_environment_names_another_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWITCHYARD_API_URL", "https://switchyard.example/")
    assert api_url() == "https://switchyard.example"


def test_login_keeps_a_token_that_only_its_owner_can_read(
    server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    switchyard("login", "--as", "ada", "--role", "developer", "--role", "reviewer", "--tenant", "acme")
    said = capsys.readouterr()
    assert "ada of acme (developer, reviewer)" in said.err
    assert stat.S_IMODE(credentials_file().stat().st_mode) == 0o600
    assert token_for(server) not in said.err + said.out
    switchyard("whoami", "--json")
    me = json.loads(capsys.readouterr().out)
    assert (me["name"], me["tenant_id"], me["roles"]) == ("ada", "acme", ["developer", "reviewer"])


def test_several_people_are_logged_in_and_one_is_chosen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    switchyard("login", "--as", "ada")
    switchyard("login", "--as", "bob")
    for chosen, expected in ((None, "bob"), ("ada", "ada")):
        if chosen:
            monkeypatch.setenv("SWITCHYARD_AS", chosen)
        capsys.readouterr()
        switchyard("whoami", "--json")
        assert json.loads(capsys.readouterr().out)["name"] == expected


def test_after_logout_a_command_says_how_to_log_in(server: str) -> None:
    switchyard("login", "--as", "ada")
    switchyard("logout")
    with pytest.raises(NotLoggedInError, match="switchyard login") as refused:
        switchyard("whoami")
    assert status_of(refused.value) is ExitStatus.NOT_ALLOWED


def test_an_expired_token_is_not_sent(server: str) -> None:
    switchyard("login", "--as", "ada")
    accounts = json.loads(credentials_file().read_text())
    accounts[server]["profiles"]["ada"]["expires_at"] = 1
    credentials_file().write_text(json.dumps(accounts))
    with pytest.raises(NotLoggedInError, match="expired"):
        switchyard("whoami")


def test_a_broken_credentials_file_means_nobody_is_logged_in(server: str) -> None:
    credentials_file().parent.mkdir(parents=True)
    for content in ("{", "[]", '{"x": 1}', '{"x": {"current": "a"}}'):
        credentials_file().write_text(content)
        with pytest.raises(NotLoggedInError):
            token_for(server)


def test_keys_are_made_listed_and_revoked(capsys: pytest.CaptureFixture[str], server: str) -> None:
    switchyard("login", "--as", "ada", "--role", "developer", "--tenant", f"t{os.getpid()}")
    capsys.readouterr()
    switchyard("keys", "create", "ci", "--scope", "runs:read", "--days", "7")
    key = capsys.readouterr().out.strip()
    with ApiClient(server, key) as client:
        assert client.get("/me")["permissions"] == ["runs:read"]
    switchyard("keys", "list", "--json")
    (listed,) = json.loads(capsys.readouterr().out)
    switchyard("keys", "list")
    assert listed["api_key_id"] in capsys.readouterr().out
    switchyard("keys", "revoke", listed["api_key_id"])
    with ApiClient(server, key) as client, pytest.raises(AuthenticationError):
        client.get("/me")


def test_a_key_from_standard_input_is_kept(
    server: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    switchyard("login", "--as", "ada")
    capsys.readouterr()
    switchyard("keys", "create", "laptop", "--scope", "runs:read")
    key = capsys.readouterr().out
    switchyard("logout")
    monkeypatch.setattr("sys.stdin.read", lambda: key, raising=False)
    switchyard("login", "--token-stdin")
    assert token_for(server) == key.strip()


@pytest.mark.parametrize(
    ("path", "kind", "code", "status"),
    [
        ("/nowhere", NotFoundError, "ROUTE_NOT_FOUND", ExitStatus.NOT_FOUND),
        ("/users/none", InvalidRequestError, "INVALID_REQUEST", ExitStatus.REFUSED),
        ("/users", PermissionDeniedError, "PERMISSION_DENIED", ExitStatus.NOT_ALLOWED),
    ],
)
def test_a_refusal_keeps_its_code_and_fits_an_exit_status(
    server: str, path: str, kind: type[PlatformError], code: str, status: ExitStatus
) -> None:
    switchyard("login", "--as", "ada", "--role", "user")
    with ApiClient(server, token_for(server)) as client, pytest.raises(kind) as refused:
        client.get(path)
    assert refused.value.code == code
    assert status_of(refused.value) is status


def test_every_failing_field_is_printed(server: str) -> None:
    switchyard("login", "--as", "ada")
    with ApiClient(server, token_for(server)) as client, pytest.raises(InvalidRequestError) as refused:
        client.post("/api-keys", {"name": "", "scopes": [], "surplus": 1})
    for field in ("body.name", "body.scopes", "body.surplus"):
        assert f"\n  {field}: " in refused.value.message


def test_an_api_that_does_not_answer_says_how_to_start_it() -> None:
    with (
        ApiClient(f"http://127.0.0.1:{free_ports(1)[0]}", None) as client,
        pytest.raises(ApiUnreachableError, match="switchyard up") as refused,
    ):
        client.get("/health/live")
    assert status_of(refused.value) is ExitStatus.UNAVAILABLE


class Scripted:
    """A network that answers as told, and remembers what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def client(self) -> ApiClient:
        return ApiClient("http://api.example", "t", transport=httpx.MockTransport(self.answer))

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        told = self.answers.pop(0)
        if isinstance(told, Exception):
            raise told
        return told


def refusal(status: int, code: str) -> httpx.Response:
    error = {"code": code, "message": "No.", "details": {}, "correlation_id": "c"}
    return httpx.Response(status, json={"success": False, "error": error}, headers={"Retry-After": "0"})


DONE = httpx.Response(200, json={"success": True, "data": {"id": 1}})


def test_a_lost_answer_is_asked_for_again_with_the_same_key() -> None:
    network = Scripted(
        refusal(503, "UNAVAILABLE"),
        refusal(409, "IDEMPOTENCY_IN_PROGRESS"),
        refusal(429, "RATE_LIMITED"),
        DONE,
    )
    with network.client() as client:
        assert client.post("/x", {"a": 1}) == {"id": 1}
    keys = {request.headers["Idempotency-Key"] for request in network.requests}
    assert len(network.requests) == 4
    assert len(keys) == 1


def test_a_refusal_that_will_not_pass_is_not_repeated() -> None:
    network = Scripted(refusal(409, "CONFLICT"))
    with network.client() as client, pytest.raises(ConflictError):
        client.post("/x")
    assert len(network.requests) == 1


def test_what_is_not_switchyard_is_named() -> None:
    pages = [httpx.Response(502, text="<html>") for _ in range(4)]
    with Scripted(*pages).client() as client, pytest.raises(NotSwitchyardError):
        client.get("/x")
    with Scripted(*[refusal(503, "UNAVAILABLE")] * 4).client() as client, pytest.raises(UnavailableError):
        client.get("/x")


def test_lists_are_read_page_by_page_up_to_the_wanted_number() -> None:
    def page(items: list[int], cursor: str | None) -> httpx.Response:
        return httpx.Response(200, json={"success": True, "data": {"items": items, "next_cursor": cursor}})

    network = Scripted(page([1, 2], "c1"), page([3], None))
    with network.client() as client:
        assert list(client.items("/x", kind="k")) == [1, 2, 3]
    assert [dict(request.url.params) for request in network.requests] == [
        {"kind": "k", "limit": "100"},
        {"kind": "k", "limit": "100", "cursor": "c1"},
    ]
    network = Scripted(page([1, 2], "c1"))
    with network.client() as client:
        assert list(client.items("/x", maximum=2)) == [1, 2]


def test_other_peoples_text_does_not_steer_the_terminal() -> None:
    assert clean("a\x1b[2Jb\u202ec\n") == "a\ufffd[2Jb\ufffdc\n"
    assert shown([True, None, "x"]) == "yes, , x"
