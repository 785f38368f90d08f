"""How the values of sensitive params may be written, so that a text that holds one can be told, and masked."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote

__all__ = ["spellings"]

_SHORTEST = 4  # characters that can be told from words


def spellings(secrets: Iterable[Any]) -> frozenset[str]:
    """Return how the texts and numbers in *secrets* may be written, where that is long enough."""
    texts = {text for value in _leaves(secrets) for text in _ways_to_write(value)}
    return frozenset(text for text in texts if len(text) >= _SHORTEST)


def _leaves(secrets: Iterable[Any]) -> Iterator[str]:
    waiting, seen = list(secrets), set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen or value is None or isinstance(value, bool):
            continue
        if isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple | set | frozenset):
            waiting.extend(value)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            waiting.extend(getattr(value, field.name) for field in dataclasses.fields(value))
        else:
            with suppress(Exception):  # a value may fail to say what it is
                yield str(value)
            continue
        seen.add(id(value))  # it may contain itself


def _ways_to_write(secret: str) -> Iterator[str]:
    """Yield the secret as it is, line by line as it may be printed, and inside a ``repr``, JSON and a URL."""
    for text in {secret, *secret.splitlines()}:
        yield from (text, repr(text)[1:-1], json.dumps(text)[1:-1], quote(text, safe=""))
