"""The command line."""

import argparse
import sys

from bgsched import _cli_next

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Run the command that *argv* names and return its exit code."""
    parser = argparse.ArgumentParser(prog="bgsched")
    _cli_next.add_parser(parser.add_subparsers(required=True, metavar="command"))
    args = parser.parse_args(argv)
    code: int = args.run(args, sys.stdout)
    return code
