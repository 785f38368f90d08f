"""Codecs of what is made of other values: lists, sets, tuples, dicts, classes with fields, and alternatives."""

import dataclasses
import json
from collections.abc import Callable, Collection, Mapping, Set as AbstractSet
from contextlib import suppress
from typing import Any

from bgsched._codec import AmbiguousError, Codec, MisfitError, check_key, show

__all__ = ["Dict", "Many", "Record", "Row", "Union"]


class Many(Codec):
    """A list, set or tuple of equal things. A set is stored in one order, so that equal sets are equal JSON."""

    def __init__(self, kind: type, item: Codec) -> None:
        self.kind = kind
        self.item = item
        self.what = "a list" if kind is list else f"a {kind.__name__} or a list"

    def store(self, value: Any, path: str) -> Any:
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Collection):
            raise self.misfit(value, path)
        stored = [self.item.store(item, f"{path}[{place}]") for place, item in enumerate(value)]
        if not issubclass(self.kind, set | frozenset):
            return stored
        if not isinstance(value, AbstractSet):
            self.load(stored, path)  # JSON may list what no set can hold
        return sorted(stored, key=repr)

    def load(self, data: Any, path: str) -> Any:
        if not isinstance(data, list):
            raise self.misfit(data, path)
        items = [self.item.load(item, f"{path}[{place}]") for place, item in enumerate(data)]
        try:
            return self.kind(items)
        except TypeError as error:
            raise MisfitError(f"{path} is no {self.kind.__name__}: {error}") from None


class Row(Codec):
    """A tuple of given things."""

    def __init__(self, items: tuple[Codec, ...]) -> None:
        self.items = items
        self.what = f"a tuple or list of {len(items)}"

    def store(self, value: Any, path: str) -> Any:
        return [item.store(part, f"{path}[{n}]") for n, (item, part) in enumerate(self._parts(value, path))]

    def load(self, data: Any, path: str) -> Any:
        return tuple(item.load(part, f"{path}[{n}]") for n, (item, part) in enumerate(self._parts(data, path)))

    def _parts(self, value: Any, path: str) -> list[tuple[Codec, Any]]:
        if not isinstance(value, tuple | list) or len(value) != len(self.items):
            raise self.misfit(value, path)
        return list(zip(self.items, value, strict=True))


class Dict(Codec):
    """A dict; a key that is not stored as text becomes text, as JSON writes it."""

    what = "a dict"

    def __init__(self, key: Codec, value: Codec) -> None:
        self.key = key
        self.value = value

    def store(self, value: Any, path: str) -> Any:
        if not isinstance(value, Mapping):
            raise self.misfit(value, path)
        stored = {}
        for key, item in value.items():
            name = self._name(key, path)
            if name in stored:
                raise MisfitError(f"{path} has two keys that are stored as {name!r}")
            stored[name] = self.value.store(item, f"{path}.{name}")
        return stored

    def load(self, data: Any, path: str) -> Any:
        if not isinstance(data, dict):
            raise self.misfit(data, path)
        return {self._key(key, path): self.value.load(item, f"{path}.{key}") for key, item in data.items()}

    def _name(self, key: Any, path: str) -> str:
        stored = _or_as_json(self.key.store, key, f"{path}, its key")
        if not isinstance(stored, str):
            name = json.dumps(stored)
            if self.key.store(self._key(name, path), path) != stored:  # a text may be meant as well
                check_key(stored, path)
            return name
        check_key(stored, path)
        return stored

    def _key(self, name: str, path: str) -> Any:
        return _or_as_json(self.key.load, name, f"{path}, its key")


def _or_as_json(turn: Callable[[Any, str], Any], key: Any, path: str) -> Any:
    """Turn a key as it is or, where it is a text and does not fit, as the JSON that it may be the text of."""
    try:
        return turn(key, path)
    except MisfitError:
        if isinstance(key, str):
            with suppress(ValueError, MisfitError):
                return turn(json.loads(key), path)
        raise


class Record(Codec):
    """A dataclass, ``NamedTuple`` or ``TypedDict``, as a dict of its fields."""

    def __init__(
        self, kind: type, codecs: Callable[[], Mapping[str, Codec]], needed: Callable[[], Collection[str]]
    ) -> None:
        self.kind = kind
        self._codecs = codecs
        self._needed = needed
        self._unasked = _unasked_of(kind)
        self._computes = hasattr(kind, "__post_init__")
        self.what = f"a {kind.__name__}, or a dict of its fields"

    def store(self, value: Any, path: str) -> Any:
        is_made = type(value) is self.kind
        parts = {name: getattr(value, name) for name in self._codecs()} if is_made else value
        stored = self._each(parts, path, lambda codec, item, place: codec.store(item, place))
        if not is_made or self._unasked or self._computes:
            loaded = self.load(stored, path)  # the class may refuse what each field alone may be
            self._check_unasked(value if is_made else loaded, loaded, path)
            if is_made and self._computes and not _same(loaded, value):
                raise MisfitError(
                    f"{path} would come back as {show(loaded)} instead of {show(value)}, as {self.kind.__name__} "
                    "computes its fields anew; pass them as params of their own"
                )
        return stored

    def _check_unasked(self, value: Any, loaded: Any, path: str) -> None:
        """Refuse what would be lost: the constructor does not take it, and does not make it of the rest."""
        for name in self._unasked:
            given = getattr(value, name, None)
            if given != getattr(loaded, name, None):
                raise MisfitError(
                    f"{path} has {name}={show(given)}, which {self.kind.__name__}(...) does not take, so it is lost; "
                    "let the constructor take that field, or pass it as a param of its own"
                )

    def load(self, data: Any, path: str) -> Any:
        parts = self._each(data, path, lambda codec, item, place: codec.load(item, place))
        try:
            return self.kind(**parts)
        except Exception as error:  # noqa: BLE001  the class may refuse its values with what it likes
            raise MisfitError(f"{path} is no {self.kind.__name__}: {error}") from None

    def _each(self, value: Any, path: str, turn: Callable[[Codec, Any, str], Any]) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.misfit(value, path)
        codecs = self._codecs()
        for name in value:
            if name not in codecs:
                raise MisfitError(f"{path} has no field {name!r}; {self.kind.__name__} has {', '.join(codecs)}")
        for name in sorted(set(self._needed()).difference(value)):
            raise MisfitError(f"{path} lacks the field {name!r} of {self.kind.__name__}")
        return {name: turn(codecs[name], item, f"{path}.{name}") for name, item in value.items()}


def _unasked_of(kind: type) -> list[str]:
    """Return the fields of a dataclass that its constructor does not take."""
    return (
        [field.name for field in dataclasses.fields(kind) if not field.init] if dataclasses.is_dataclass(kind) else []
    )


class Union(Codec):
    """One of several hints: the one whose value it is, else the first that takes it as JSON."""

    def __init__(self, arms: tuple[Codec, ...]) -> None:
        self.arms = tuple(sorted(arms, key=lambda arm: arm.late))
        self.late = max(arm.late for arm in arms)
        self.what = " or ".join(arm.what for arm in arms)

    def store(self, value: Any, path: str) -> Any:
        taken = []
        for arm in self.arms:
            try:
                stored = arm.store(value, path)
                if _same(arm.load(stored, path), value):
                    return self._that_comes_back(value, stored, path)
            except AmbiguousError:
                raise
            except MisfitError:
                continue
            taken.append(stored)
        if not taken:
            raise self.misfit(value, path)
        return taken[0]

    def _that_comes_back(self, value: Any, stored: Any, path: str) -> Any:
        back = self.load(stored, path)
        if not _same(back, value):
            raise AmbiguousError(
                f"{path} would come back as {show(back)} instead of {show(value)}; use a narrower type hint"
            )
        return stored

    def load(self, data: Any, path: str) -> Any:
        for arm in self.arms:
            try:
                return arm.load(data, path)
            except MisfitError:
                continue
        raise self.misfit(data, path)


def _same(one: Any, other: Any) -> bool:
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:  # noqa: BLE001  some values refuse to be compared, such as Decimal("sNaN")
        return False
