"""Imports run one way, from the pure to the shell; importing bgsched is cheap; one word means one thing.

A new module goes into `LAYERS`. A module may import from the rows above its own and from its own row, anywhere in its
text (at the top, inside a function, under TYPE_CHECKING); no cycle is allowed. A row's name stands for a module and,
once that has become a package, for everything in it; `*` stands for any letters; the longest matching name counts.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import metadata, requires
from pathlib import Path
from types import ModuleType

import pytest

import bgsched

ROOT = Path(__file__).parent.parent
PACKAGE = Path(bgsched.__file__).parent

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("clock", "_evolve", "_names", "_secrets", "_turns"),
    ("_calendar", "_cron"),  # the private rooms of the calendar
    ("timing",),
    ("run",),
    ("request",),
    ("_codec", "_codec_parts"),
    ("_params",),  # how params become JSON, by type hints
    ("_executors.choice", "_executors.place"),  # what may be given as executor=
    ("process",),
    ("_group",),
    ("_filing",),
    ("stores._questions", "stores._steps", "stores._claiming", "stores._retention", "stores.base"),  # the contract
    ("stores._memory_due",),
    (
        "stores._memory_tables",
        "stores._columns",
        "stores._values",
        "stores._rows",
        "stores._by_column",
        "stores._sql_filters",
        "stores._forks",
        "stores._locks",
        "stores._sqlite_connections",
        "stores._sqlite_files",
        "stores._sqlite_schema",
        "stores._address",
    ),
    ("stores._wire",),
    ("stores._links", "stores._listener", "stores._postgres_rows"),
    ("stores._sqlite_reader", "stores._postgres_pages", "stores._postgres_reader", "stores._postgres_schema"),
    ("stores.memory", "stores._sqlite_steps", "stores._postgres_steps"),
    ("stores.sqlite", "stores.postgres", "stores"),  # `stores` itself holds open_store
    ("_runlog", "_why", "_health"),
    ("monitor",),
    ("_current",),  # what a process sees of its own run
    ("_events",),  # what a host hears of, and what it wraps around runs
    ("_prints", "_outcome"),
    ("_worker",),
    ("_parts", "_lease"),
    ("_async", "_group_runs", "_moved_times", "_purging"),
    ("_executors.errand",),  # a run on its way to another OS process
    ("_executors.bench",),  # the side of the worker there
    ("_executors.wire",),  # the scheduler's side
    ("_executors.children", "_executors.foreign", "_executors.host_threads"),
    ("_executors.crew", "_executors"),
    ("_claims", "_reports"),
    ("_engine",),  # what a scheduler does with its store, pass by pass
    ("_loop", "_inline", "_forgotten", "_changes", "_arguments"),
    ("_life",),  # from start to shutdown
    ("scheduler",),
    ("testing",),
    ("integrations",),
    ("__init__",),
    ("_cli_*",),
    ("_demo",),  # a host application: it imports bgsched as any other does
    ("cli",),
    ("__main__",),
)

# Runtime dependencies, and what they bring along. Anything else is an extra, loaded when it is asked for.
MAY_BE_IMPORTED = {"bgsched", "croniter", "dateutil", "six", "typing_extensions", "tzdata"}
MAY_BE_IMPORTED |= {"__mp_main__"}  # what multiprocessing calls __main__, too

# The right column of the table of words in the design. Values: what to say instead.
REJECTED_WORDS = {
    "abort": "kill",
    "acquire": "claim",
    "actor": "process",
    "admin": "monitor",
    "args": "params",
    "backend": "store",
    "cancel": "unschedule or kill",
    "dead": "abandoned",
    "entry": "request",
    "execution": "run",
    "history": "run log",
    "inspector": "monitor",
    "instance": "run",
    "interval": "frequency",
    "job": "process or request",
    "jobstore": "store",
    "lock": "claim",
    "lost": "abandoned",
    "max_instances": "overlap",
    "missed": "misfire",
    "node": "owner",
    "occurrence": "fire time",
    "output": "run log",
    "pause": "unschedule",
    "payload": "params",
    "period": "frequency",
    "repository": "store",
    "rescue": "reap",
    "run_time": "fire time",
    "stuck": "abandoned",
    "task": "process",
    "tick": "fire time",
    "trigger": "timing",
    "worker_id": "owner",
}

# Names that we define all the same: "module:name" patterns, each with its reason.
ALLOWED_NAMES = {
    "*:args": "*args is Python's own word",
    "stores._locks:OwnerLocks": "lock files: what a scheduler takes is a claim",
    "*:*lock*": "a mutex or a lock file; what a scheduler takes is a claim",
    "scheduler:pause*": "Scheduler.pause() is in the design: the whole scheduler rests, no request is touched",
    "cli:pause*": "the command of the same name",
}

# In messages, docstrings and pages only words that have no everyday meaning beside the rejected one are looked for.
REJECTED_IN_TEXT = {"actor", "job", "jobstore", "max_instances", "task", "trigger", "worker_id"}

# Texts that say them all the same: "page or module:phrase" patterns, each with its reason.
ALLOWED_TEXT = {
    "docs/how-to/migrat*:*": "a migration guide quotes another library",
    "docs/explanation/timing-and-dst.md:*": "it compares other libraries, by the names of their classes",
    "*:*asyncio*task*": "asyncio's own word",
    "*:*max_tasks_per_child*": "an argument of Python's ProcessPoolExecutor",
}


def module_files(package: Path) -> dict[str, Path]:
    """Return each module's file by its name below the package: `timing`, `stores` (its `__init__`), `stores.base`."""
    names: dict[str, Path] = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return names


def imports_of(module: str, path: Path, modules: Mapping[str, Path], package: str = "bgsched") -> set[str]:
    """Return the modules of the package that this one names in an import statement or an `import_module("...")`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                found.update(alias.name for alias in names)
            case ast.ImportFrom(module=source, names=names, level=level):
                start = _absolute(module, path, level, source, package)
                # `from package import name` means the module of that name where there is one
                found.update(
                    f"{start}.{alias.name}" if _short(f"{start}.{alias.name}", package) in modules else start
                    for alias in names
                )
            case ast.Call(
                func=ast.Name(id="import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                found.add(name)
    return {short for name in found if (short := _short(name, package)) in modules} - {module}


def _absolute(module: str, path: Path, level: int, source: str | None, package: str) -> str:
    if level == 0:
        return source or ""
    parts = [package] if module == "__init__" else [package, *module.split(".")]
    if path.name != "__init__.py":
        parts = parts[:-1]
    parts = parts[: len(parts) - (level - 1)]
    return ".".join([*parts, *([source] if source else [])])


def _short(name: str, package: str) -> str:
    return "__init__" if name == package else name.removeprefix(f"{package}.")


def layer_of(module: str, layers: Sequence[Sequence[str]]) -> int | None:
    """Return the row of the longest name that matches the module or a package around it, or None."""
    matches = [
        (len(name), row)
        for row, names in enumerate(layers)
        for name in names
        if fnmatchcase(module, name) or fnmatchcase(module, f"{name}.*")
    ]
    return max(matches)[1] if matches else None


def violations(package: Path, layers: Sequence[Sequence[str]]) -> list[str]:
    """Return every module that has no layer and every import that runs upwards or in a circle."""
    modules = module_files(package)
    rows = {module: layer_of(module, layers) for module in modules}
    graph = {module: imports_of(module, path, modules) for module, path in modules.items()}
    found = [f"{module}: in no layer; add it to LAYERS" for module, row in rows.items() if row is None]
    for module, targets in graph.items():
        for target in sorted(targets):
            here, there = rows[module], rows[target]
            if here is not None and there is not None and there > here:
                found.append(f"{module} imports {target}, which is in a higher layer")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append("cycle: " + " -> ".join(reversed(error.args[1])))
    return found


def complain(found: Iterable[str]) -> None:
    """Fail with one line for each finding, if there is any."""
    if text := "\n".join(found):
        pytest.fail(text, pytrace=False)


def test_imports_run_one_way() -> None:
    complain(violations(PACKAGE, LAYERS))


def test_every_name_in_the_layers_stands_for_something() -> None:
    modules = module_files(PACKAGE)
    names = [name for row in LAYERS for name in row]
    assert [name for name in names if all(layer_of(module, [[name]]) is None for module in modules)] == []


class TestTheLayerCheckItself:
    @pytest.fixture
    def package(self, tmp_path: Path) -> Path:
        for name in ("__init__", "low", "high", "_cli_a", "rooms/__init__", "rooms/base", "rooms/memory"):
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.touch()
        return tmp_path

    layers = (("low",), ("rooms.base",), ("rooms",), ("high",), ("_cli_*",), ("__init__",))

    @pytest.mark.parametrize(
        ("module", "text"),
        [
            ("high", "import bgsched.low\nfrom bgsched import low\nfrom . import low\nfrom .rooms import base, Store"),
            ("rooms/memory", "from bgsched.rooms.base import Store\nfrom .base import Store\nfrom ..low import x"),
            ("rooms/__init__", "from .memory import MemoryStore\nfrom bgsched.rooms import base"),
            ("__init__", "from ._cli_a import main\nfrom .high import x\nimport json"),
        ],
    )
    def test_downwards_and_beside_is_allowed(self, package: Path, module: str, text: str) -> None:
        (package / f"{module}.py").write_text(text)
        assert violations(package, self.layers) == []

    @pytest.mark.parametrize(
        ("module", "text", "found"),
        [
            ("low", "from bgsched.high import x", "low imports high, which is in a higher layer"),
            ("low", "import bgsched.high as h", "low imports high, which is in a higher layer"),
            ("low", "from .high import x", "low imports high, which is in a higher layer"),
            ("low", "def f():\n    from bgsched import high", "low imports high, which is in a higher layer"),
            ("low", "if TYPE_CHECKING:\n    from .rooms.base import S", "low imports rooms.base, which is in a higher"),
            ("low", "import_module('bgsched.high')", "low imports high, which is in a higher layer"),
            ("high", "from bgsched import Store", "high imports __init__, which is in a higher layer"),
            ("rooms/base", "from .memory import x", "rooms.base imports rooms.memory, which is in a higher layer"),
            ("rooms/base", "from ..high import x", "rooms.base imports high, which is in a higher layer"),
            ("rooms/memory", "from . import x", "cycle: "),
            ("newcomer", "", "newcomer: in no layer; add it to LAYERS"),
        ],
    )
    def test_upwards_in_a_circle_and_unlisted_is_found(self, package: Path, module: str, text: str, found: str) -> None:
        (package / "rooms/__init__.py").write_text("from .memory import MemoryStore")
        (package / f"{module}.py").write_text(text)
        assert [line for line in violations(package, self.layers) if line.startswith(found)]


def test_importing_bgsched_imports_no_optional_dependency() -> None:
    script = "import sys; before = set(sys.modules); import bgsched; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split() if not name.startswith("_sysconfigdata")}
    assert loaded - sys.stdlib_module_names - MAY_BE_IMPORTED == set()


ON_A_FILE = """
from bgsched import Scheduler
scheduler = Scheduler("sqlite:///app.db")
scheduler.process("p")(lambda: None)
scheduler.run_now("p")
scheduler.run_until_idle()
print(*(run.status for run in scheduler.monitor.runs()))
"""


@pytest.mark.parametrize(
    ("missing", "script", "printed"),
    [
        ("sys.modules['psycopg'] = None", "from bgsched import *; print(MemoryStore())", "MemoryStore()\n"),
        ("sys.modules['fcntl'] = None; del os.register_at_fork, os.fork", ON_A_FILE, "success\n"),
    ],
    ids=["a driver", "what Windows lacks"],
)
def test_it_works_without(missing: str, script: str, printed: str, tmp_path: Path) -> None:
    code = f"import os, sys\n{missing}\n{script}"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (printed, "")


def test_three_packages_are_all_that_it_needs() -> None:
    needed = [text for text in requires("bgsched") or () if "extra ==" not in text]
    assert sorted(re.split(r"[^\w-]", text)[0] for text in needed) == [
        "croniter",
        "python-dateutil",
        "typing-extensions",
    ]
    assert metadata("bgsched")["License-Expression"] == "MIT"
    assert (PACKAGE / "py.typed").exists()  # without it, type checkers see nothing of the types


class TestPublicNames:
    @pytest.fixture
    def names(self) -> list[str]:
        for node in ast.parse((PACKAGE / "__init__.py").read_text()).body:
            match node:
                case (
                    ast.Assign(targets=[ast.Name(id="__all__")], value=value)
                    | ast.AnnAssign(target=ast.Name(id="__all__"), value=ast.expr() as value)
                ):
                    return list(ast.literal_eval(value))  # raises unless somebody wrote it by hand
        return pytest.fail("bgsched has no __all__")

    def test_each_can_be_imported(self, names: list[str]) -> None:
        assert [name for name in names if not hasattr(bgsched, name)] == []

    def test_each_is_listed_once(self, names: list[str]) -> None:
        assert sorted(names) == sorted(set(names))  # ruff's RUF022 keeps the order

    def test_nothing_else_looks_public(self, names: list[str]) -> None:
        bound = {name for name, value in vars(bgsched).items() if not isinstance(value, ModuleType)}
        assert {name for name in bound if not name.startswith("_")} - set(names) == set()


def defined_names(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and text of each name that this file gives to something; what others named does not count."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case (
                ast.Name(id=name, ctx=ast.Store())
                | ast.Attribute(attr=name, ctx=ast.Store())
                | ast.arg(arg=name)
                | ast.alias(asname=str(name))
                | ast.ExceptHandler(name=str(name))
                | ast.MatchAs(name=str(name))
                | ast.MatchStar(name=str(name))
            ):
                yield node.lineno, name


def rejected_word(text: str, words: Iterable[str]) -> str | None:
    """Return the rejected word in a name or a sentence: `JobStore`, `run_times`, `a job`; None if there is none."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", text)
    plain = "_" + re.sub(r"[^a-z0-9]+", "_", snake.lower()) + "_"
    found = [word for word in words if f"_{word}_" in plain or f"_{word}s_" in plain]
    return max(found, key=len, default=None)


def allowed(where: str, text: str, allowlist: Mapping[str, str]) -> bool:
    return any(fnmatchcase(f"{where}:{text}", pattern) for pattern in allowlist)


def test_rejected_words_name_nothing() -> None:
    complain(
        f"src/{path.relative_to(PACKAGE.parent)}:{line}: {name!r}: say {REJECTED_WORDS[word]!r}, not {word!r}"
        for module, path in module_files(PACKAGE).items()
        for line, name in defined_names(path)
        if (word := rejected_word(name, REJECTED_WORDS)) and not allowed(module, name, ALLOWED_NAMES)
    )


def test_rejected_words_are_in_no_message_or_docstring() -> None:
    complain(
        f"src/{path.relative_to(PACKAGE.parent)}:{node.lineno}: {line.strip()!r}: not {word!r}"
        for module, path in module_files(PACKAGE).items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for line in node.value.splitlines()
        if (word := rejected_word(line, REJECTED_IN_TEXT)) and not allowed(module, line, ALLOWED_TEXT)
    )


def test_rejected_words_are_on_no_page() -> None:
    pages = [*ROOT.glob("*.md"), *(page for page in ROOT.glob("docs/**/*.md") if "_build" not in page.parts)]
    complain(
        f"{name}:{number}: {line.strip()!r}: say {REJECTED_WORDS[word]!r}, not {word!r}"
        for page in sorted(pages)
        for name in [page.relative_to(ROOT).as_posix()]
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1)
        if (word := rejected_word(line, REJECTED_IN_TEXT)) and not allowed(name, line, ALLOWED_TEXT)
    )


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("job", "job"),
        ("JobStore", "job"),
        ("jobstore", "jobstore"),
        ("_run_jobs", "job"),
        ("HTTPTask", "task"),
        ("next_run_time", "run_time"),
        ("runTimes", "run_time"),
        ("MAX_INSTANCES", "max_instances"),
        ("one task each", "task"),
        ("deadline", None),
        ("block", None),
        ("isinstance", None),
        ("Multitasking", None),
        ("ticket", None),
        ("attempt_period_", "period"),
    ],
)
def test_a_word_is_found_in_a_name(text: str, word: str | None) -> None:
    assert rejected_word(text, REJECTED_WORDS) == word


def test_only_what_is_defined_counts_as_a_name(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("from a import b as c\ntask = x.create_task(y)\nself.job = 1\ndef f(node, *args): ...\n")
    assert {name for _, name in defined_names(path)} == {"c", "task", "f", "job", "node", "args"}
