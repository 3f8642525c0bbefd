"""``switchyard login | logout | whoami``."""

import sys
from typing import Annotated

import typer

from cli.output import JsonOption, note, print_facts, print_json
from models.identity import Role


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (login, logout, whoami):
        app.command(rich_help_panel="Identity")(command)


def login(
    name: Annotated[
        str | None, typer.Option("--as", help="Who to be, on the machine that runs the embedded stack.")
    ] = None,
    role: Annotated[
        list[Role] | None,
        typer.Option("--role", help="May be given several times; default: user, developer."),
    ] = None,
    tenant: Annotated[str, typer.Option(help="Organisation.")] = "default",
    email: Annotated[str | None, typer.Option(help="Address for letters; default: made up.")] = None,
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="Read a token or API key from standard input and keep it.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Log in: by name on the embedded stack, or with a token of the identity provider."""
    from cli.client import ApiClient, connect
    from cli.credentials import Profile, api_url, keep

    if token_stdin == (name is not None):
        raise typer.BadParameter("Give either --as NAME or --token-stdin.")
    url = api_url()
    if name is None:
        token = sys.stdin.read().strip()
        with ApiClient(url, token) as client:
            me = client.get("/me")
        name = str(me["name"] or me["user_id"])
        profile = Profile(token=token, tenant_id=me["tenant_id"], roles=me["roles"])
    else:
        body: dict[str, object] = {"name": name, "tenant": tenant}
        if role:
            body["roles"] = [str(entry) for entry in role]
        if email:
            body["email"] = email
        with connect(anonymous=True) as client:
            made = client.post("/login", body)
        profile = Profile(
            token=made["access_token"],
            expires_at=made["expires_at"],
            tenant_id=made["tenant_id"],
            roles=made["roles"],
        )
    keep(url, name, profile)
    if json:
        print_json({"api_url": url, "name": name, **profile.model_dump(exclude={"token"})})
    else:
        note(f"Logged in to {url} as {name} of {profile.tenant_id} ({', '.join(profile.roles)}).")


def logout(
    name: Annotated[str | None, typer.Option("--as", help="Who to log out; default: everybody.")] = None,
) -> None:
    """Forget the tokens kept for this API."""
    from cli.credentials import api_url, forget

    removed = forget(api_url(), name)
    note(f"Logged out: {', '.join(removed)}." if removed else "Nobody was logged in.")


def whoami(json: JsonOption = False) -> None:
    """Show who you are to the API and what you may do."""
    from cli.client import connect

    with connect() as client:
        me = client.get("/me")
    if json:
        print_json(me)
    else:
        print_facts(me)
