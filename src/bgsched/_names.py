"""What may be a name: of a process, of a request (its id), of who asks. Every store can hold it, and index it."""

import reprlib

__all__ = ["name_problem"]

_LONGEST = 200
_shortened = reprlib.Repr()
_shortened.maxstring = 80


def name_problem(name: object) -> str | None:
    """Return why *name* cannot be one, to be said behind what it should be a name of; ``None``: it can."""
    if not (isinstance(name, str) and 0 < len(name) <= _LONGEST):
        wanted = f"a string of 1 to {_LONGEST} characters"
    elif "\0" in name or not (name.isascii() or _is_utf8(name)):
        wanted = "text that every store can hold, without NUL and halves of surrogate pairs"
    else:
        return None
    return f"is {wanted}, got {_shortened.repr(name)}"


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
