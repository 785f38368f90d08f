"""Times of the day: every minute of one set crossed with every second of another."""

from bisect import bisect_left
from collections.abc import Iterator
from functools import lru_cache

__all__ = ["Times", "minutes_of"]


class Times:
    """The seconds of the day that a rule names, kept as minutes of the day and seconds of the minute.

    At most 1,440 + 60 numbers stand for up to 86,400 times.
    """

    __slots__ = ("_bits", "_minutes", "_seconds", "_spread", "_starts", "first", "last", "total")

    def __init__(self, minutes: tuple[int, ...], seconds: tuple[int, ...] = (0,)) -> None:
        self._minutes = minutes
        self._seconds = seconds
        self._starts = tuple(minute * 60 + seconds[0] for minute in minutes)
        self._spread = seconds[-1] - seconds[0]
        self.first = self._starts[0]
        self.last = self._starts[-1] + self._spread
        self.total = len(minutes) * len(seconds)
        self._bits = 0

    @classmethod
    def at(cls, second_of_day: int) -> "Times":
        """Return the one time of the day."""
        minute, second = divmod(second_of_day, 60)
        return cls((minute,), (second,))

    def next(self, second_of_day: int) -> int:
        """Return the first time not before *second_of_day*, which is not later than :attr:`last`."""
        start = self._starts[bisect_left(self._starts, second_of_day - self._spread)]
        if start >= second_of_day:
            return start
        minute = start - self._seconds[0]
        return minute + self._seconds[bisect_left(self._seconds, second_of_day - minute)]

    def all(self) -> Iterator[int]:
        """Iterate over the times, in order."""
        return (minute * 60 + second for minute in self._minutes for second in self._seconds)

    def bits(self) -> int:
        """Return the times as a number whose bit i stands for second i of the day."""
        if not self._bits:
            minute = sum(1 << second for second in self._seconds)
            self._bits = sum(minute << (start * 60) for start in self._minutes)
        return self._bits

    def mask(self, unit: int) -> bytes:
        """Return a byte for each second of the day: 1 in the *unit* (a second or a minute) that begins with a time."""
        minute = bytearray(60)
        for second in self._seconds:
            minute[second : second + unit] = b"\1" * unit
        blank, named = bytes(60), set(self._minutes)
        return b"".join(minute if place in named else blank for place in range(1440))

    def count_before(self, second_of_day: int) -> int:
        """Count the times earlier than *second_of_day*."""
        minute, second = divmod(second_of_day, 60)
        place = bisect_left(self._minutes, minute)
        count = place * len(self._seconds)
        if place < len(self._minutes) and self._minutes[place] == minute:
            count += bisect_left(self._seconds, second)
        return count


@lru_cache(maxsize=512)
def minutes_of(hours: tuple[int, ...], minutes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the minutes of the day for hours and minutes of the hour."""
    return tuple(hour * 60 + minute for hour in hours for minute in minutes)
