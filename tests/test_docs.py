"""Every code block of the README and the documentation runs; so do the examples in docstrings."""

import argparse
import doctest
import importlib
import json
import os
import pkgutil
import re
import runpy
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from enum import EnumType, StrEnum
from pathlib import Path
from typing import Any

import pytest
from _docs import PageError, find_blocks

import bgsched
import bgsched.testing
from bgsched import Health, LogLine, Progress, RequestStatus, Run, RunError, RunStatus, SchedulerRecord, Summary
from bgsched.cli import _parser
from bgsched.monitor import Bucket
from bgsched.run import RUN_TRANSITIONS, Attempt
from bgsched.stores.base import Ended
from bgsched.testing.contract import make_request

ROOT = Path(__file__).parent.parent
RUNNER = Path(__file__).with_name("_docs.py")
PAGE_TIMEOUT = 60.0
PAGES = [ROOT / "README.md", *sorted(page for page in ROOT.glob("docs/**/*.md") if "_build" not in page.parts)]
MODULES = ["bgsched", *sorted(found.name for found in pkgutil.walk_packages(bgsched.__path__, "bgsched."))]
MODULES.remove("bgsched.__main__")  # importing it runs the command line


def run_in_subprocess(page: Path, folder: Path, database: str | None = None) -> str:
    """Run the page in an OS process and a folder of its own; return what it complained of, or an empty string.

    *database*: the address of a PostgreSQL database for it, which it finds in its environment.
    """
    unset = {"BGSCHED_STORE", "NO_COLOR", "DATABASE_URL"}  # what a page shows depends on the page alone
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    if database is not None:
        environment["DATABASE_URL"] = database
    with subprocess.Popen(
        [sys.executable, "-P", "-W", "error", RUNNER, page],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as child:
        try:
            output, _ = child.communicate(timeout=PAGE_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)  # the page's own children too: the group is ours
            return f"{page} did not end within {PAGE_TIMEOUT:.0f} s\n{child.communicate()[0]}"
        return output if child.returncode else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_code_blocks_run(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    database = request.getfixturevalue("postgres_database") if "DATABASE_URL" in page.read_text() else None
    if find_blocks(page) and (complaint := run_in_subprocess(page, tmp_path, database)):
        pytest.fail(complaint, pytrace=False)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("bgsched"):
            raise
        pytest.skip(f"needs an extra: {error}")
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0


def test_readme_opens_with_the_two_commands() -> None:
    first, second = re.findall(r"^```console\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)[
        :2
    ]
    assert first == "$ make demo\n$ make test\n"
    assert second == "$ uv run bgsched demo\n$ uv run pytest\n"


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")), ids=lambda page: page.name)
def test_links_of_the_front_pages_lead_somewhere(page: Path) -> None:
    """Sphinx checks those of docs/."""
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []


class TestTheCollectorItself:
    """The test above is worth what its collector finds: a failing block is reported with its page and line."""

    @pytest.fixture
    def page(self, tmp_path: Path) -> Path:
        return tmp_path / "page.md"

    def test_blocks_share_a_namespace_and_run_in_a_folder_of_their_own(self, page: Path, tmp_path: Path) -> None:
        page.write_text(
            "# Title\n\n```python\nfrom pathlib import Path\nn = 1\n```\n\n"
            "- in a list:\n\n  ```python\n  n += 1\n  Path('made').write_text(__name__)\n  ```\n\n"
            "````{note}\n```pycon\n>>> n\n2\n>>> n = 3\n```\n````\n\n"
            "```python\nassert n == 3\n```\n\n"
            "<!-- run -->\n\n```console\n$ cat made\n__main__\n$ echo one \\\n  two\none...o\n$ python -c 'pass'\n```\n"
        )
        assert run_in_subprocess(page, tmp_path) == ""
        assert [block.line for block in find_blocks(page)] == [4, 11, 17, 24, 30]

    @pytest.mark.parametrize(
        ("text", "line", "words"),
        [
            ("```python\nx = 1\n\n1 / 0\n```\n", 4, "ZeroDivisionError"),
            ("```python\ndef f():\n    raise OSError('no')\n```\n\n```python\nf()\n```\n", 3, "OSError: no"),
            ("Text\n\n```python\nx = = 1\n```\n", 4, "SyntaxError"),
            ("```python\nexit(0)\n```\n", 2, "SystemExit"),
            ("```python\nimport warnings\nwarnings.warn('old')\n```\n", 3, "UserWarning: old"),
            ("```pycon\n>>> 1 + 1\n2\n>>> 1 + 1\n3\n```\n", 4, "Expected:"),
            ("<!-- run -->\n```console\n$ true\n$ echo no; exit 3\n```\n", 4, "exit code 3"),
            ("<!-- run -->\n```console\n$ echo one\none\n$ echo two\nthree\n```\n", 5, "three"),
            ("<!-- no-run: -->\n```python\n1 / 0\n```\n", 1, "say why"),
            ("<!-- no-run: a reason -->\n\nText\n", 1, "above no fence"),
            ("<!-- run -->\n```text\nx\n```\n", 2, "cannot be marked"),
            ("```py\n1 / 0\n```\n", 1, "would never run"),
            ("```{code-block} python\n1 / 0\n```\n", 1, "would never run"),
            ("```python\n1 / 0\n", 1, "never closed"),
        ],
    )
    def test_what_fails_is_reported_with_page_and_line(
        self, page: Path, tmp_path: Path, text: str, line: int, words: str
    ) -> None:
        page.write_text(text)
        complaint = run_in_subprocess(page, tmp_path)
        assert f"{page}:{line}: " in complaint
        assert words in complaint

    @pytest.mark.parametrize(
        "text",
        [
            "<!-- no-run: it would hang -->\n```python\n1 / 0\n```\n",
            "```console\n$ exit 1\n```\n",
            "````markdown\n```python\n1 / 0\n```\n````\n",
            "```toml\nx = 1\n```\n",
        ],
    )
    def test_what_shall_not_run_does_not(self, page: Path, text: str) -> None:
        page.write_text(text)
        assert find_blocks(page) == []

    def test_a_page_that_hangs_is_ended(self, page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(run_in_subprocess.__globals__, "PAGE_TIMEOUT", 0.5)
        page.write_text("```python\nimport threading\nthreading.Event().wait()\n```\n")
        assert "did not end within" in run_in_subprocess(page, tmp_path)

    def test_a_mark_without_reason_fails_at_collection_too(self, page: Path) -> None:
        page.write_text("<!-- no-run -->\n```python\n```\n")
        with pytest.raises(PageError, match=r"page\.md:1: say why"):
            find_blocks(page)


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SHAPES: dict[str, Any] = {
    "Run": Run(request_id="r", process="p", fire_time=NOON, recorded_at=NOON, duration=timedelta(seconds=1.5)),
    "Attempt": Attempt(1, RunStatus.ERROR, None, NOON, NOON),
    "Progress": Progress(),
    "Error": RunError("ValueError", "no"),
    "LogLine": LogLine(1, 1, NOON, "INFO", "x", "y"),
    "Request": make_request(),
    "Summary": Summary(counts={}),
    "Bucket": Bucket(NOON, {}),
    "Ended": Ended(NOON, None, RunStatus.SUCCESS, 1),
    "Health": Health(ok=True),
    "SchedulerRecord": SchedulerRecord(
        owner="o", host="h", pid=1, started_at=NOON, heartbeat_at=NOON, lease_until=NOON
    ),
}


class TestWhatIsDrawnOrListed:
    """Pages that repeat what the code says are held to it."""

    def test_the_diagram_of_the_statuses_has_every_move(self) -> None:
        diagram = runpy.run_path(str(ROOT / "docs/_diagram.py"))
        drawn = re.findall(r"<title>(.*?)</title>", diagram["svg"](RUN_TRANSITIONS))
        moves = [
            f"{diagram['name_of'](before)} to {after.value}"
            for before, afters in RUN_TRANSITIONS.items()
            for after in afters
        ]
        assert sorted(drawn) == sorted(moves)

    @pytest.mark.parametrize("kind", [RunStatus, RequestStatus])
    def test_each_status_is_explained(self, kind: type[StrEnum]) -> None:
        text = (ROOT / "docs/reference/statuses.md").read_text()
        assert [member.value for member in kind if f"\n| `{member.value}` |" not in text] == []

    def test_the_shapes_are_those_of_to_dict(self) -> None:
        text = (ROOT / "docs/reference/shapes.md").read_text()
        for heading, value in SHAPES.items():
            table = re.search(rf"^## {heading}\n\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
            assert table is not None
            keys = re.findall(r"`(\w+)`", "".join(re.findall(r"(?m)^\| (`.*?) \|", table[1])))
            assert sorted(keys) == sorted(value.to_dict()), heading
            json.dumps(value.to_dict(), allow_nan=False)

    def test_the_reference_has_every_public_name(self) -> None:
        text = (ROOT / "docs/reference/api.md").read_text()
        described = re.findall(r"(?m)^\.\. auto(?:class|function):: bgsched\.(.+)$", text)
        data = re.findall(r"(?m)^(?:\.\. py:data:: | {13})(\w+)$", text)
        public = [*bgsched.__all__, "PostgresStore", *(f"testing.{name}" for name in bgsched.testing.__all__)]
        assert sorted(set(public) - {*described, *data}) == []
        assert sorted({name for name in described if name.count(".") == 0} - set(public)) == []
        integrations = {module.stem for module in ROOT.glob("src/bgsched/integrations/[!_]*.py")}
        assert {name.split(".")[1] for name in described if name.startswith("integrations.")} == integrations

    def test_the_reference_has_the_members_of_each_enum(self) -> None:
        text = (ROOT / "docs/reference/api.md").read_text()
        names = [name for name in bgsched.__all__ if isinstance(getattr(bgsched, name), EnumType)]
        with_members = re.findall(r"autoclass:: bgsched\.(\w+)\n   :members:\n   :undoc-members:\n", text)
        assert sorted(with_members) == sorted(names)

    def test_no_description_of_a_property_is_taken_for_its_type(self) -> None:
        """Napoleon reads what stands before a colon in the first line as one."""
        taken = [
            f"{kind.__name__}.{name}"
            for kind in (getattr(bgsched, name) for name in bgsched.__all__)
            if isinstance(kind, type)
            for name, value in vars(kind).items()
            if isinstance(value, property) and ": " in re.sub(r"`[^`]*`", "", (value.__doc__ or "").split("\n")[0])
        ]
        assert taken == []

    def test_each_command_and_option_is_in_the_reference(self) -> None:
        text = (ROOT / "docs/reference/command-line.md").read_text()
        (commands,) = [action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)]
        options = {
            option
            for parser in commands.choices.values()
            for action in parser._actions
            for option in action.option_strings
        }
        assert [name for name in commands.choices if f"`{name}" not in text and f"bgsched {name}" not in text] == []
        assert sorted(option for option in options if f"`{option}" not in text) == []

    def test_guarantees_name_tests_that_are_there(self) -> None:
        named = set(re.findall(r"\btest_\w+(?!\.py)\b", (ROOT / "docs/explanation/guarantees.md").read_text()))
        files = [*ROOT.glob("tests/**/*.py"), *ROOT.glob("src/bgsched/testing/contract/*.py")]
        there = set(re.findall(r"def (test_\w+)", "".join(path.read_text() for path in files)))
        assert sorted(name for name in named - there if not (ROOT / f"tests/{name}.py").exists()) == []
