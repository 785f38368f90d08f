"""Find the code blocks of a Markdown page and run them, in order, in one namespace.

- ```` ```python ```` runs; ```` ```pycon ```` is compared by doctest, in the same namespace;
- ```` ```console ```` runs where the line above says `<!-- run -->`: a line that starts with `$ ` is a command, what
  follows it is the expected output (`...` stands for anything; no output means that only the exit code counts);
- `<!-- no-run: reason -->` above a fence leaves it out, and needs its reason.

`python _docs.py PAGE` runs one page in the current folder, as `__main__`, so that a page that starts threads cannot
disturb another. A failure names the page and the line in it: blocks are compiled with the page's own line numbers.
"""

import doctest
import re
import subprocess
import sys
import traceback
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^(?P<indent>[ ]*)(?P<fence>`{3,}|~{3,}|:{3,})[ ]*(?P<info>.*?)[ ]*$")
MARK = re.compile(r"^\s*<!--\s*(?P<word>run|no-run)\b\s*:?\s*(?P<reason>.*?)\s*-->\s*$")
RUNNABLE = ("python", "pycon", "console")
SPELLED_OTHERWISE = {"py", "python3", "py3", "ipython", "sh", "bash", "shell", "shell-session"}
CODE_DIRECTIVES = ("{code}", "{code-block}", "{code-cell}", "{sourcecode}")


class PageError(Exception):
    """A block that failed, or a page whose marks make no sense; says where."""

    def __init__(self, page: Path, line: int, what: str) -> None:
        super().__init__(f"{page}:{line}: {what}")


@dataclass(frozen=True)
class Block:
    """A fenced block that shall run; `line` is that of its first line of code, counted from 1."""

    page: Path
    line: int
    language: str
    code: str


@dataclass(frozen=True)
class Mark:
    """A comment above a fence that says whether it runs."""

    line: int
    runs: bool


def find_blocks(page: Path) -> list[Block]:
    """Return the blocks that shall run, in order."""
    return list(_walk(page, page.read_text(encoding="utf-8").splitlines()))


def _walk(page: Path, lines: list[str]) -> Iterator[Block]:
    mark: Mark | None = None
    open_directives: list[str] = []  # {note} and the like: what is inside is page, not code
    number = 0
    while number < len(lines):
        line, number = lines[number], number + 1
        if mark_match := MARK.match(line):
            mark = _read_mark(page, number, mark_match)
            continue
        opening = FENCE.match(line)
        if opening is None:
            if mark is not None and line.strip():
                raise PageError(page, mark.line, "this mark stands above no fence")
            continue
        fence, info = opening["fence"], opening["info"]
        if open_directives and not info and fence.startswith(open_directives[-1]):
            open_directives.pop()
        elif info.startswith("{") and not info.startswith(CODE_DIRECTIVES):
            open_directives.append(fence)
        else:
            end = _closing(page, lines, number, fence)
            if _shall_run(page, number, info, mark):
                code = "\n".join(text.removeprefix(opening["indent"]) for text in lines[number:end]) + "\n"
                yield Block(page, number + 1, info.split(maxsplit=1)[0], code)
            number = end + 1
        mark = None


def _read_mark(page: Path, line: int, match: re.Match[str]) -> Mark:
    if match["word"] == "no-run" and not match["reason"]:
        raise PageError(page, line, "say why: <!-- no-run: reason -->")
    return Mark(line, runs=match["word"] == "run")


def _closing(page: Path, lines: list[str], start: int, fence: str) -> int:
    for index in range(start, len(lines)):
        text = lines[index].strip()
        if text.startswith(fence) and not text.strip(fence[0]):
            return index
    raise PageError(page, start, "this fence is never closed")


def _shall_run(page: Path, line: int, info: str, mark: Mark | None) -> bool:
    language = info.split(maxsplit=1)[0] if info else ""
    if language in SPELLED_OTHERWISE or info.startswith(CODE_DIRECTIVES):
        raise PageError(page, line, f"a fence {info!r} would never run: write python, pycon or console")
    if mark is None:
        return language in ("python", "pycon")
    if language not in RUNNABLE:
        raise PageError(page, line, f"a fence {info!r} cannot be marked: only {', '.join(RUNNABLE)} run")
    return mark.runs


def run_page(page: Path) -> None:
    """Run every block of the page in one fresh `__main__`, or raise `PageError` for the first that fails."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    for block in find_blocks(page):
        RUNNERS[block.language](block, module.__dict__)


def _run_python(block: Block, namespace: dict[str, object]) -> None:
    try:
        exec(compile("\n" * (block.line - 1) + block.code, str(block.page), "exec"), namespace)
    except BaseException as error:
        own = traceback.TracebackException.from_exception(error)
        inside = [frame for frame in own.stack if frame.filename == str(block.page)]
        line = inside[-1].lineno if inside else getattr(error, "lineno", None)
        raise PageError(block.page, line or block.line, "".join(own.format())) from error


def _run_doctest(block: Block, namespace: dict[str, object]) -> None:
    test = doctest.DocTestParser().get_doctest(block.code, namespace, block.page.name, str(block.page), block.line - 1)
    test.globs = namespace  # DocTest made a copy; what a block defines, the next one sees
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
    runner.run(test, out=report.append, clear_globs=False)
    if report:
        failed = re.search(r", line (\d+), in ", report[0])
        raise PageError(block.page, int(failed[1]) if failed else block.line, "".join(report))


def _run_console(block: Block, _namespace: dict[str, object]) -> None:
    for line, command, expected in _commands(block):
        done = subprocess.run(
            command,
            shell=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise PageError(block.page, line, f"$ {command}\nexit code {done.returncode}:\n{done.stdout}")
        got = done.stdout.rstrip() + "\n"
        if expected and not doctest.OutputChecker().check_output(expected.rstrip() + "\n", got, doctest.ELLIPSIS):
            raise PageError(block.page, line, f"$ {command}\nexpected:\n{expected}\ngot:\n{done.stdout}")


def _commands(block: Block) -> Iterator[tuple[int, str, str]]:
    """Yield the line, the command and the expected output of each `$ ` of the block."""
    starts = re.split(r"(?m)^\$ ", block.code)
    if starts[0].strip():
        raise PageError(block.page, block.line, "a console block begins with a command: `$ ...`")
    line = block.line + starts[0].count("\n")
    for text in starts[1:]:
        command = re.match(r"(?:.*\\\n)*.*", text)  # a line that ends in a backslash goes on
        assert command is not None, "the pattern matches anything"
        yield line, command[0], text[command.end() :].removeprefix("\n")
        line += text.count("\n")


RUNNERS = {"python": _run_python, "pycon": _run_doctest, "console": _run_console}


if __name__ == "__main__":
    try:
        run_page(Path(sys.argv[1]))
    except PageError as failure:
        sys.exit(str(failure))
