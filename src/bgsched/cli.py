"""The command line: `bgsched demo`, and questions to a store from any OS process.

A command prints a table, or with ``--json`` what the values' ``to_dict()`` says. Exit codes: 0 it worked, 1 `health`
says no, 2 it could not be done (the last line on stderr says why), 130 and 141 as a shell has them for Ctrl-C and for a
reader that went away.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn, TextIO

from bgsched import _cli_next, _cli_read, _cli_write
from bgsched._cli_text import Terminal, one_line, soften
from bgsched._demo import command as _demo
from bgsched.errors import BgschedError

__all__ = ["main"]

_FAILED = 2
_INTERRUPTED = 130
_NO_READER = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code.

    Raises:
        SystemExit: the command line cannot be read (2), or ``--help`` was asked for (0).
    """
    with _streams():
        return _do(_parser().parse_args(argv))


def _do(args: argparse.Namespace) -> int:
    soften(sys.stdout)
    try:
        code: int = args.command(args, Terminal.of(sys.stdout, colour=args.color))
        sys.stdout.flush()
    except BrokenPipeError:
        _leave_quietly()
        return _NO_READER
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (BgschedError, OSError) as error:
        sys.stderr.write(one_line(f"bgsched: {error}") + "\n")
        return _FAILED
    return code


@contextlib.contextmanager
def _streams() -> Iterator[None]:
    """Write to nowhere what is said on a stream that was closed (``>&-``): Python has ``None`` in its place."""
    out: TextIO | None = sys.stdout
    err: TextIO | None = sys.stderr
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(out or nowhere),
        contextlib.redirect_stderr(err or nowhere),
    ):
        yield


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(one_line(message))


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = _Parser(
        prog="bgsched",
        description="Background processes: see what ran, what did not, and why.",
        epilog="bgsched COMMAND --help tells the options of a command",
    )
    parser.add_argument("--version", action="version", version=f"bgsched {version('bgsched')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _demo.add_parser(commands)
    _cli_read.add_parsers(commands)
    _cli_write.add_parsers(commands)
    _cli_next.add_parser(commands)
    return parser


def _leave_quietly() -> None:
    """Point stdout at nothing, so that the interpreter's last flush does not complain of the closed pipe."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
