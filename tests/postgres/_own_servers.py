"""Servers of a test's own, to be restarted and replaced."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import _postgres
import psycopg
from _missing import no_postgres


@contextmanager
def own_server() -> Iterator[Any]:
    """Start a server that the test may restart."""
    binaries = next(_postgres.find_binaries(), None)
    if binaries is None:
        no_postgres("only a server, and no binaries to start another one")
    server = _postgres.start_server(binaries, durable=True)  # an immediate restart loses what was not yet synced
    try:
        yield server
    finally:
        if (server.folder / "data" / "postmaster.pid").exists():
            pg_ctl(server, "stop", "-m", "fast")
        server.stop()


def pg_ctl(server: Any, *words: str) -> None:
    data = server.folder / "data"
    postgres = Path((data / "postmaster.opts").read_text().split()[0])
    log = server.folder / "log2"
    subprocess.run(
        [postgres.with_name("pg_ctl"), "-D", data, "-l", log, "-w", *words],
        user=_postgres.unprivileged_user(),
        cwd="/",
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


@contextmanager
def standby(server: Any) -> Iterator[tuple[Path, Callable[[], object]]]:
    """Start a server that has all that *server* acknowledges; yield its folder, and what makes it the first one."""
    binaries = Path((server.folder / "data" / "postmaster.opts").read_text().split()[0]).parent
    user = _postgres.unprivileged_user()

    def execute(name: str, *words: object) -> None:
        command = [str(word) for word in (binaries / name, *words)]
        quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        subprocess.run(command, user=user, cwd="/", check=True, **quiet)

    with tempfile.TemporaryDirectory(prefix="bgsched-pg-") as name:
        folder, data = Path(name), Path(name) / "data"
        if user is not None:
            shutil.chown(folder, user)
        execute("pg_basebackup", "-h", server.folder, "-U", "postgres", "-D", data, "-R", "-X", "stream", "-c", "fast")
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c max_connections=200"
        execute("pg_ctl", "-D", data, "-l", folder / "log", "-w", "-o", options, "start")
        try:
            with psycopg.connect(server.dsn, autocommit=True) as connection:
                connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
                connection.execute("SELECT pg_reload_conf()")
            yield folder, lambda: execute("pg_ctl", "-D", data, "-w", "promote")
        finally:
            execute("pg_ctl", "-D", data, "-m", "immediate", "stop")
