"""Do one work and print its figures as JSON; with ``--profile``, say where its time went as well."""

import argparse
import importlib
import json
from pathlib import Path

from benchmarks.profiling import profiled


def main() -> None:
    """Read the command line, do the work."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.work", description=__doc__)
    parser.add_argument("work", help="module.function in benchmarks/work")
    parser.add_argument("size", type=int)
    parser.add_argument("folder", type=Path, help="an empty folder to work in")
    parser.add_argument("--profile", action="store_true")
    asked = parser.parse_args()
    module, name = asked.work.split(".")
    work = getattr(importlib.import_module(f"benchmarks.work.{module}"), name)
    if asked.profile:
        work = profiled(work)
    print(json.dumps(work(asked.size, asked.folder)))


main()
