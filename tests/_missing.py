"""What becomes of a test that needs what is not there."""

import os
from typing import NoReturn

import pytest


def no_postgres(reason: str) -> NoReturn:
    """Skip the test on a laptop without PostgreSQL; fail it where PostgreSQL is required, as in CI."""
    if os.environ.get("BGSCHED_REQUIRE_POSTGRES") == "1":
        pytest.fail(f"BGSCHED_REQUIRE_POSTGRES=1, but there is no PostgreSQL: {reason}", pytrace=False)
    pytest.skip(f"no PostgreSQL: {reason}")
