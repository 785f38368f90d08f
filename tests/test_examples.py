"""The examples run, and say what they are there to show."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SHOWN = {
    "retry": "attempt 1: error, no route to the bank\n"
    "attempt 2: error, no route to the bank\nattempt 3: success, fetched",
    "groups": "the ledger is closed\nreports for acme\nmail to the board\n"
    "close-ledger: success\nreports: success\nmonth-end: success",
    "async_processes": "100 answers, the sum is 4950",
    "progress_and_kill": "killed after at least 10 pages: True",
    "process_pool": "count_primes success 168 None\nspin timed_out None None\ncrash error None WorkerDiedError\n"
    "about to crash",
    "dask_executor": "the sum is 285\nsquaring 0",
}


@pytest.mark.parametrize("name", SHOWN)
def test_an_example_shows_what_it_says(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / f"{name}.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == SHOWN[name]
