"""The command `bgsched demo`."""

import argparse
import logging
from pathlib import Path

from bgsched._cli_options import span
from bgsched._cli_text import Terminal
from bgsched._demo.story import play

__all__ = ["add_parser"]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    demo = commands.add_parser(
        "demo",
        help="watch a small office do its work in the background",
        description="A small host application: invoices are booked, sealed and archived by background processes. "
        "Kill it half-way and start it again: nothing is done twice.",
    )
    demo.add_argument("--for", dest="span", type=span, default="15s", metavar="SPAN", help="15s (the default), 1m")
    demo.add_argument("--dir", type=Path, default=Path("bgsched-demo"), help="its folder (default: ./bgsched-demo)")
    demo.add_argument("--store", metavar="URL", help="where requests and runs are kept (default: a file in its folder)")
    demo.add_argument("--color", action=argparse.BooleanOptionalAction, help="colour (default: on a terminal)")
    demo.set_defaults(command=_demo)


def _demo(args: argparse.Namespace, terminal: Terminal) -> int:
    logging.basicConfig(handlers=[logging.NullHandler()])  # the terminal is the screen's; run logs have it all
    return play(args.dir, args.store, args.span, terminal)
