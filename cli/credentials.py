"""Who the command line is: tokens by API address, in a file that only its owner may read.

The environment goes first: ``SWITCHYARD_API_URL`` and ``SWITCHYARD_TOKEN``. Then the embedded stack that
runs below this directory, and the tokens that ``switchyard login`` kept. Several people may be logged in at
once (a developer and a reviewer, say): ``SWITCHYARD_AS`` chooses one by name.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from models.errors import AuthenticationError

DEFAULT_URL = "http://127.0.0.1:8000"
URL_VARIABLE = "SWITCHYARD_API_URL"
TOKEN_VARIABLE = "SWITCHYARD_TOKEN"
AS_VARIABLE = "SWITCHYARD_AS"


class NotLoggedInError(AuthenticationError):
    """There is no valid token for the API."""

    code = "NOT_LOGGED_IN"

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"{reason} for {url}. Run `switchyard login --as NAME`, or set {TOKEN_VARIABLE}.",
            details={"api_url": url},
        )


class Profile(BaseModel):
    """One person's token for one API."""

    token: str = Field(repr=False)
    expires_at: int | None = None
    """Unix time."""
    tenant_id: str | None = None
    roles: list[str] = Field(default_factory=list[str])


class Account(BaseModel):
    """Everybody who is logged in to one API."""

    current: str
    profiles: dict[str, Profile]


def credentials_file() -> Path:
    """Return the path: ``$XDG_CONFIG_HOME/switchyard/credentials.json``, below ``~/.config`` by default."""
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "switchyard" / "credentials.json"


def read_accounts() -> dict[str, Account]:
    """Read the file; one that is not there or not readable holds nobody."""
    try:
        document: dict[str, Any] = json.loads(credentials_file().read_bytes())
        return {url: Account.model_validate(account) for url, account in document.items()}
    except (OSError, ValueError, ValidationError, AttributeError):
        return {}


def write_accounts(accounts: dict[str, Account]) -> None:
    """Write the file atomically, mode 0600, its directory 0700."""
    path = credentials_file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    content = json.dumps({url: account.model_dump() for url, account in accounts.items()}, indent=2) + "\n"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
    temporary.replace(path)


def keep(url: str, name: str, profile: Profile) -> None:
    """Keep a token and make it the current one."""
    accounts = read_accounts()
    account = accounts.setdefault(url, Account(current=name, profiles={}))
    account.current = name
    account.profiles[name] = profile
    write_accounts(accounts)


def forget(url: str, name: str | None = None) -> list[str]:
    """Remove one person's token, or everybody's, and return the names removed."""
    accounts = read_accounts()
    account = accounts.get(url)
    if account is None:
        return []
    removed = [entry for entry in account.profiles if name in (None, entry)]
    for entry in removed:
        del account.profiles[entry]
    if not account.profiles:
        del accounts[url]
    elif account.current not in account.profiles:
        account.current = next(iter(account.profiles))
    if removed:
        write_accounts(accounts)
    return removed


def api_url() -> str:
    """Return the API's address: the environment's, the embedded stack's here, or the default."""
    given = os.environ.get(URL_VARIABLE, "").strip()
    return (given or _embedded_url() or DEFAULT_URL).rstrip("/")


def _embedded_url() -> str | None:
    """Read the address from the state of the stack below this directory or one of its parents."""
    given = os.environ.get("SWITCHYARD_DATA_DIR")
    here = Path.cwd()
    candidates = [Path(given)] if given else [parent / ".switchyard" for parent in (here, *here.parents)]
    for directory in candidates:
        try:
            state: dict[str, Any] = json.loads((directory / "stack.json").read_bytes())
            url = state["addresses"]["api"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(url, str) and url:
            return url
    return None


def token_for(url: str) -> str:
    """Return the token to send to the API at ``url``.

    Raises:
        NotLoggedInError: There is none, or it has expired.
    """
    given = os.environ.get(TOKEN_VARIABLE, "").strip()
    if given:
        return given
    account = read_accounts().get(url)
    name = os.environ.get(AS_VARIABLE) or (account.current if account else None)
    profile = account.profiles.get(name) if account and name else None
    if profile is None:
        raise NotLoggedInError(url, f"{name} is not logged in" if name else "Nobody is logged in")
    if profile.expires_at is not None and profile.expires_at <= time.time():
        raise NotLoggedInError(url, f"The token of {name} has expired")
    return profile.token
