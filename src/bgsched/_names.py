"""What may be a name: of a process, of a request (its id), of who asks. Every store can hold it, and index it."""

import reprlib

__all__ = ["is_storable", "name_problem"]

_LONGEST = 200
_shortened = reprlib.Repr()
_shortened.maxstring = 80


def name_problem(name: object, least: int = 1) -> str | None:
    """Return why *name* cannot be one, to be said behind what it should be a name of; ``None``: it can."""
    if not (isinstance(name, str) and least <= len(name) <= _LONGEST):
        wanted = f"a string of {least} to {_LONGEST} characters"
    elif not is_storable(name):
        wanted = "text that every store can hold, without NUL and halves of surrogate pairs"
    else:
        return None
    return f"is {wanted}, got {_shortened.repr(name)}"


def is_storable(text: str) -> bool:
    """Return whether every store can hold *text* in a column of its own: it is UTF-8, without NUL."""
    if "\0" in text:
        return False
    try:
        text.isascii() or text.encode()
    except UnicodeEncodeError:
        return False
    return True
