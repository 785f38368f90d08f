"""A program of its own: it works until it is told to stop, by Ctrl-C, or by SIGTERM from systemd or a container."""

import logging
import signal
import sys
import threading

from bgsched import EverySeconds, Schedule, Scheduler, current_run

scheduler = Scheduler(sys.argv[1] if len(sys.argv) > 1 else "sqlite:///service.db")


@scheduler.process("count-words", timing=Schedule(EverySeconds(1)))
def count_words(text: str = "to be or not to be") -> dict[str, int]:
    words = text.split()
    current_run().log.info("%d words", len(words))
    return {word: words.count(word) for word in words}


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    told_to_stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told_to_stop.set())
    scheduler.start()
    print("working; Ctrl-C ends it", flush=True)
    told_to_stop.wait()
    report = scheduler.shutdown(timeout=10)
    print("nothing was left" if report.clean else f"left {len(report.left)} runs")


if __name__ == "__main__":
    main()
