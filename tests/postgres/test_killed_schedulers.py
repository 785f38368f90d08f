"""Schedulers in OS processes of their own, of which one after the other is killed."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from postgres._machines import PATIENCE, wait_until

from bgsched import (
    EverySeconds,
    PostgresStore,
    Schedule,
    SystemClock,
)
from bgsched.testing.contract import make_request

OS_PROCESS = Path(__file__).parent.with_name("_os_process.py")


class TestOSProcesses:
    """Several schedulers, of which one after the other is killed and replaced."""

    def test_each_fire_time_has_one_run(self, store: PostgresStore, postgres_dsn: str, tmp_path: Path) -> None:
        self.soak(store, postgres_dsn, tmp_path / "signed", schedulers=4, requests=60, repetitions=3, kills=2, lease=4)

    @pytest.mark.slow
    def test_each_of_ten_thousand_fire_times_has_one_run(
        self, store: PostgresStore, postgres_dsn: str, tmp_path: Path
    ) -> None:
        self.soak(
            store, postgres_dsn, tmp_path / "signed", schedulers=8, requests=500, repetitions=20, kills=30, lease=15
        )

    def soak(
        self,
        store: PostgresStore,
        dsn: str,
        signed: Path,
        *,
        schedulers: int,
        requests: int,
        repetitions: int,
        kills: int,
        lease: int,
    ) -> None:
        expected = requests * repetitions
        living = [self.start(dsn, store.schema, signed, lease) for _ in range(schedulers)]
        try:
            for scheduler in living:
                assert scheduler.stdout is not None
                assert scheduler.stdout.readline() == "ready\n"
            timing = Schedule(EverySeconds(1), repetitions=repetitions)
            now = SystemClock().now()
            store.file([make_request(str(number), timing, now, process="sign") for number in range(requests)])
            for kill in range(1, kills + 1):
                self.wait_for_runs(store, expected * kill // (kills + 2))
                place = random.randrange(schedulers)
                living[place].send_signal(signal.SIGKILL)
                living[place].communicate()
                living[place] = self.start(dsn, store.schema, signed, lease)
            self.wait_for_runs(store, expected)
            wait_until(lambda: not self.going_on(store))
        finally:
            for scheduler in living:
                scheduler.communicate("", timeout=PATIENCE)
        self.judge(store, signed, expected)

    @staticmethod
    def start(dsn: str, schema: str, signed: Path, lease: int) -> "subprocess.Popen[str]":
        words: list[str | Path] = [sys.executable, "-W", "ignore", OS_PROCESS, dsn, schema, signed, str(lease)]
        return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @staticmethod
    def wait_for_runs(store: PostgresStore, count: int) -> None:
        def there() -> bool:
            with store.reading() as link:
                return bool(link.ask(f"SELECT count(*) >= %s FROM {store.schema}.runs", count)[0][0])

        wait_until(there)

    @staticmethod
    def going_on(store: PostgresStore) -> bool:
        """Whether a run is not ended; those of killed schedulers are, once their lease is over."""
        with store.reading() as link:
            return bool(link.ask(f"SELECT 1 FROM {store.schema}.runs WHERE status IN ('waiting', 'running') LIMIT 1"))

    @staticmethod
    def judge(store: PostgresStore, signed: Path, expected: int) -> None:
        with store.reading() as link:
            statuses: dict[str, int] = dict(link.ask(f"SELECT status, count(*) FROM {store.schema}.runs GROUP BY 1"))
            shares = link.ask(f"SELECT owner, count(*) FROM {store.schema}.runs GROUP BY 1 ORDER BY 2 DESC")
        print(f"\n{expected} fire times: {statuses}; shares {[count for _, count in shares]}")  # noqa: T201  a report
        lines = [line.rsplit(" ", 1)[0] for line in signed.read_text().splitlines()]
        assert len(lines) == len(set(lines)), "a fire time ran twice"
        assert sum(statuses.values()) == expected
        assert set(statuses) <= {"success", "abandoned"}
        assert statuses["success"] <= len(lines) <= expected
