"""The PostgreSQL of the tests: it answers, each test has a schema of its own, nothing outlives the session."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

psycopg = pytest.importorskip("psycopg")

seen: list[str] = []


def test_server_answers(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_an_empty_schema_of_its_own(postgres_dsn: str, postgres_schema: str, turn: int) -> None:
    assert postgres_schema not in seen
    seen.append(postgres_schema)
    with psycopg.connect(postgres_dsn, options=f"-c search_path={postgres_schema}") as connection:
        connection.execute("create table things (id int)")
        left = connection.execute(
            "select nspname from pg_namespace where nspname = any(%s)",
            (seen,),
        ).fetchall()
    assert left == [(postgres_schema,)]


def test_server_is_reached_by_a_unix_socket_only(postgres_dsn: str) -> None:
    if os.environ.get("BGSCHED_TEST_DSN"):
        pytest.skip("the server of BGSCHED_TEST_DSN is not ours")
    with psycopg.connect(postgres_dsn) as connection:
        assert connection.execute("show listen_addresses").fetchone() == ("",)


def test_server_does_not_outlive_a_killed_session(postgres_dsn: str) -> None:
    if os.environ.get("BGSCHED_TEST_DSN"):
        pytest.skip("the server of BGSCHED_TEST_DSN is not ours")
    script = (
        "import sys, _postgres\n"
        "server = _postgres.start_server(next(_postgres.find_binaries()))\n"
        "print(server.folder, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as session:
        assert session.stdout is not None
        folder = session.stdout.readline().strip()
        assert Path(folder).is_dir()
        session.send_signal(signal.SIGKILL)
        session.communicate(timeout=60)  # the keeper holds this pipe too: it ends when the keeper does
    assert not Path(folder).exists()


def test_without_postgres_a_test_skips(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BGSCHED_REQUIRE_POSTGRES", raising=False)
    outcome = run_without_postgres(pytester)
    outcome.assert_outcomes(skipped=1)
    outcome.stdout.fnmatch_lines(["*no PostgreSQL*could be started*"])


def test_without_postgres_a_test_fails_where_it_is_required(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BGSCHED_REQUIRE_POSTGRES", "1")
    outcome = run_without_postgres(pytester)
    outcome.assert_outcomes(errors=1)
    outcome.stdout.fnmatch_lines(["*BGSCHED_REQUIRE_POSTGRES=1*"])


def run_without_postgres(pytester: pytest.Pytester) -> pytest.RunResult:
    """Run one test that wants a schema, on a machine where no binaries are found."""
    tests = Path(__file__).parent.parent
    pytester.makeconftest((tests / "conftest.py").read_text())
    source = (tests / "_postgres.py").read_text()
    pytester.makepyfile(_missing=(tests / "_missing.py").read_text())
    pytester.makepyfile(_postgres=source + "\ndef find_binaries(): return iter(())\n")
    pytester.makepyfile("def test_it(postgres_schema): pass")
    pytester.syspathinsert()
    return pytester.runpytest_subprocess("-rs")
