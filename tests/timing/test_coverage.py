"""Every branch of the calendar is taken by a test that asserts what it does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = """
pytest tests/timing --cov=bgsched.timing --cov=bgsched._cron --cov=bgsched._calendar
--cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100
"""


@pytest.mark.slow
def test_every_branch_of_the_calendar_is_tested(tmp_path: Path) -> None:
    """Run what anybody may run, with few generated cases: luck shall not be needed."""
    environment = {**os.environ, "BGSCHED_EXAMPLES": "1", "COVERAGE_FILE": str(tmp_path / "coverage")}
    ended = subprocess.run(
        [sys.executable, "-m", *COMMAND.split(), "-q", "-p", "no:cacheprovider"],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
