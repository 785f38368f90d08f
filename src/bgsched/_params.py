"""The params of a function: which codec each of its type hints asks for.

Hints are read once, when a process is registered. One that cannot be resolved there (a name that only a type checker
imports) counts as no hint: such a param is plain JSON, and what does not fit is told so.
"""

import dataclasses
import inspect
import json
import sys
import threading
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set as AbstractSet
from datetime import timedelta
from enum import Enum
from functools import cache, cached_property, partial
from pathlib import PurePath
from typing import Any, NotRequired, Required

from typing_extensions import ReadOnly, get_type_hints, is_typeddict

from bgsched._codec import (
    TEXTS,
    Choice,
    Codec,
    MisfitError,
    Plain,
    Refused,
    Scalar,
    Span,
    Text,
    show,
)
from bgsched._codec_parts import Dict, Many, Record, Row, Union

__all__ = ["as_json", "codec_for", "hints_of"]

_PLAIN = Plain()
_SIMPLE: dict[type, Codec] = {
    **{kind: Scalar(kind) for kind in (str, int, float, bool, type(None))},
    **{kind: Text(kind, form) for kind, form in TEXTS.items()},
    timedelta: Span(),
}
_SEQUENCES = (list, Sequence, Iterable, Collection)


def hints_of(function: Callable[..., Any], signature: inspect.Signature) -> dict[str, Any]:
    """Return the type hint of each param of *function* that has one; ``None`` as default fits any."""
    return {
        name: hint if parameter.default is not None or isinstance(hint, Unread) else hint | None
        for name, parameter in signature.parameters.items()
        if parameter.annotation is not parameter.empty
        and (hint := _resolved(function, parameter.annotation)) is not Any
    }


def _resolved(function: Callable[..., Any], annotation: Any) -> Any:
    """Return the annotation without forward references; `Unread` for one that cannot be read here."""
    code = inspect.unwrap(function)
    while isinstance(code, partial):
        code = inspect.unwrap(code.func)
    called = getattr(code, "__init__" if isinstance(code, type) else "__call__", None)
    known = getattr(code, "__globals__", None) or getattr(called, "__globals__", None)
    if known is None:  # a class whose __init__ is not written in Python, such as a named tuple
        known = getattr(sys.modules.get(getattr(code, "__module__", None) or ""), "__dict__", {})
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, known, {})["it"]
    except Exception:  # noqa: BLE001  an annotation may be any expression, and fail in any way
        return Unread(annotation)


class Unread(Plain):
    """A hint that cannot be read, and its codec."""

    def __init__(self, annotation: Any) -> None:
        self._annotation = annotation

    def store(self, value: Any, path: str) -> Any:
        """Return *value* if it is JSON."""
        try:
            return super().store(value, path)
        except MisfitError as misfit:
            problem = str(misfit).partition(";")[0]
        raise MisfitError(
            f"{problem}, and the type hint {show(self._annotation)} cannot be read where the process is registered; "
            "import or define what it names at the top of the module, and not for type checkers only"
        )


def codec_for(hint: Any) -> Codec:
    """Return the codec of a type hint."""
    if isinstance(hint, Unread):
        return hint
    if hasattr(hint, "__value__"):  # of `type`, or of typing_extensions, which are two classes
        return _alias(hint)
    try:
        return _codec(hint)
    except TypeError:  # a hint that cannot be hashed, such as Literal[[1]]
        return _codec.__wrapped__(hint)


@cache
def _codec(hint: Any) -> Codec:
    while hasattr(hint, "__supertype__"):  # NewType
        hint = hint.__supertype__
    if hint in (Any, object, inspect.Parameter.empty) or isinstance(hint, typing.TypeVar):
        return _PLAIN
    if hint is None:
        return Scalar(type(None))
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return codec_for(parts[0])
    if origin in (typing.Union, types.UnionType):
        return Union(tuple(codec_for(part) for part in parts))
    if origin is typing.Literal:
        return _literal(parts)
    return _codec_of_class(origin or hint, parts, hint)


def _codec_of_class(kind: Any, parts: tuple[Any, ...], hint: Any) -> Codec:
    if not isinstance(kind, type):
        return Refused(hint)
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if issubclass(kind, Enum):
        return _enum(kind)
    if issubclass(kind, PurePath):
        return Text(kind, TEXTS[PurePath])
    if dataclasses.is_dataclass(kind) or is_typeddict(kind) or hasattr(kind, "_field_defaults"):
        return _record(kind)
    return _collection(kind, parts, hint)


def _collection(kind: Any, parts: tuple[Any, ...], hint: Any) -> Codec:
    item = codec_for(parts[0]) if parts else _PLAIN
    if kind is tuple and parts and parts[-1] is not Ellipsis:
        return Row(tuple(codec_for(part) for part in parts))
    if kind in (tuple, set, frozenset):
        return Many(kind, item)
    if kind is AbstractSet:
        return Many(frozenset, item)
    if kind in _SEQUENCES:
        return Many(list, item)
    if issubclass(kind, Mapping) and kind in (dict, Mapping, typing.MutableMapping, types.MappingProxyType):
        return Dict(*(codec_for(part) for part in parts)) if parts else Dict(_PLAIN, _PLAIN)
    return Refused(hint)


class _Open(threading.local):
    """The aliases that this thread looks behind just now."""

    def __init__(self) -> None:
        self.aliases: set[Any] = set()


_open = _Open()


def _alias(hint: Any) -> Codec:
    """Return the codec of what ``type Alias = ...`` stands for."""
    if hint in _open.aliases:
        return _Again(hint)
    _open.aliases.add(hint)
    try:
        return codec_for(hint.__value__)
    finally:
        _open.aliases.discard(hint)


class _Again(Codec):
    """The codec of an alias inside itself, which is read when it is first needed."""

    def __init__(self, alias: Any) -> None:
        self._alias = alias

    @cached_property
    def _codec(self) -> Codec:
        return codec_for(self._alias)

    def store(self, value: Any, path: str) -> Any:
        return self._codec.store(value, path)

    def load(self, data: Any, path: str) -> Any:
        return self._codec.load(data, path)


def _literal(values: Iterable[Any]) -> Codec:
    if any(isinstance(value, bytes) for value in values):
        return Refused(bytes)
    stored = [codec_for(type(value)).store(value, "") if isinstance(value, Enum) else value for value in values]
    return Choice(list(zip(stored, values, strict=True)))


def _enum(kind: type[Enum]) -> Codec:
    members = list(kind)
    by_value = all(isinstance(member.value, str | int | float | bool) for member in members)
    return Choice([(member.value if by_value else member.name, member) for member in members])


def _record(kind: Any) -> Codec:
    """Return the codec of a class with fields; its hints are read when first needed, as it may contain itself."""
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind) if field.init]
        required = [
            field.name
            for field in dataclasses.fields(kind)
            if field.init and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        ]
    elif is_typeddict(kind):
        names, required = list(kind.__annotations__), list(kind.__required_keys__)
    else:
        names = list(kind._fields)
        required = [name for name in names if name not in kind._field_defaults]

    @cache
    def codecs() -> Mapping[str, Codec]:
        hints = _hints_in(kind)
        return {name: codec_for(hints.get(name, Any)) for name in names}

    @cache
    def needed() -> Collection[str]:
        hints = _hints_in(kind, include_extras=True) if is_typeddict(kind) else {}
        return frozenset(name for name in names if _is_needed(hints.get(name), otherwise=name in required))

    return Record(kind, codecs, needed)


def _hints_in(kind: Any, *, include_extras: bool = False) -> dict[str, Any]:
    try:
        return get_type_hints(kind, include_extras=include_extras)
    except Exception:  # noqa: BLE001  as in _resolved
        return {}


def _is_needed(hint: Any, *, otherwise: bool) -> bool:
    """Whether a field of a ``TypedDict`` is required by its hint.

    Python itself does not see that of a hint that is text, as all are after ``from __future__ import annotations``.
    """
    while (origin := typing.get_origin(hint)) in (Required, NotRequired, ReadOnly, typing.Annotated):
        if origin in (Required, NotRequired):
            return origin is Required
        hint = typing.get_args(hint)[0]
    return otherwise


def as_json(value: Any, path: str) -> Any:
    """Return *value* as JSON by what it is, without a hint: for results, which nobody turns back.

    Raises:
        MisfitError: something in it has no form in JSON; the message says where.
    """
    kind: Any = type(value)
    if isinstance(value, Enum) or kind is timedelta or isinstance(value, PurePath) or kind in TEXTS:
        return codec_for(kind).store(value, path)
    if isinstance(value, list | tuple | set | frozenset) and not hasattr(value, "_fields"):
        stored = [as_json(item, f"{path}[{place}]") for place, item in enumerate(value)]
        return sorted(stored, key=repr) if isinstance(value, set | frozenset) else stored
    if isinstance(value, Mapping):
        return _object(value.items(), path)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _object([(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)], path)
    if hasattr(value, "_fields") and isinstance(value, tuple):
        return _object(zip(kind._fields, value, strict=True), path)
    return _PLAIN.store(value, path)


def _object(items: Iterable[tuple[Any, Any]], path: str) -> dict[str, Any]:
    stored = {}
    for key, item in items:
        name = as_json(key, f"{path}, its key")
        if not isinstance(name, str):
            name = json.dumps(name)  # as `Dict` does
        if name in stored:
            raise MisfitError(f"{path} has two keys that are stored as {name!r}")
        stored[name] = as_json(item, f"{path}.{name}")
    return stored
