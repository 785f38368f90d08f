"""The commands that change something: they file through a scheduler that is never started, so they run nothing.

Whichever scheduler is alive on the store hears of the change within a second.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from bgsched._cli_options import positive, shared_options, store_url
from bgsched._cli_read import requests_table, runs_table
from bgsched._cli_text import Terminal
from bgsched.request import Request
from bgsched.scheduler import Scheduler
from bgsched.stores import open_store

__all__ = ["add_parsers"]


def add_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands to the parser."""
    shared = shared_options()
    kill = commands.add_parser("kill", parents=[shared], help="ask a run to stop")
    kill.add_argument("run", type=positive, metavar="RUN", help="the run's number")
    kill.set_defaults(command=_kill)

    unschedule = commands.add_parser("unschedule", parents=[shared], help="stop the future fire times of a request")
    unschedule.add_argument("request", metavar="REQUEST")
    unschedule.set_defaults(command=_unschedule)

    reschedule = commands.add_parser(
        "reschedule", parents=[shared], help="give a request fire times again; an immediate one runs again"
    )
    reschedule.add_argument("request", metavar="REQUEST")
    reschedule.set_defaults(command=_reschedule)


def _kill(args: argparse.Namespace, terminal: Terminal) -> int:
    with _scheduler(args.store) as scheduler:
        run = scheduler.kill(args.run)
    if args.json:
        terminal.json(run.to_dict())
    elif run.is_active:
        terminal.say(f"run {run.id} of {run.process} was asked to stop; bgsched show {run.id} tells when it has")
    else:
        terminal.say(f"run {run.id} of {run.process} has ended:")
        runs_table(terminal, [run])
    return 0


def _unschedule(args: argparse.Namespace, terminal: Terminal) -> int:
    with _scheduler(args.store) as scheduler:
        return _tell(args, terminal, scheduler.unschedule(args.request))


def _reschedule(args: argparse.Namespace, terminal: Terminal) -> int:
    with _scheduler(args.store) as scheduler:
        return _tell(args, terminal, scheduler.reschedule(args.request, channel="cli"))


def _tell(args: argparse.Namespace, terminal: Terminal, request: Request) -> int:
    if args.json:
        terminal.json(request.to_dict())
    else:
        requests_table(terminal, [request])
    return 0


@contextmanager
def _scheduler(given: str | None) -> Iterator[Scheduler]:
    """Lend a scheduler on the store that is meant; a mistyped file name makes no new database."""
    url = store_url(given)
    open_store(url, read_only=True).close()
    store = open_store(url)
    try:
        yield Scheduler(store)
    finally:
        store.close()
