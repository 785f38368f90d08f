"""Where this OS process stands: a worker imports the host's modules, and must not become a second scheduler by it."""

from multiprocessing.process import current_process

__all__ = ["be_worker", "is_importing_main", "is_worker"]

_worker = False


def be_worker() -> None:
    """Remember that this OS process executes runs for a scheduler in another."""
    global _worker  # noqa: PLW0603  it is once true for the whole OS process, and stays
    _worker = True


def is_worker() -> bool:
    """Whether this OS process only executes runs for a scheduler in another."""
    return _worker


def is_importing_main() -> bool:
    """Whether this is a child that `multiprocessing` starts, importing the main module for it."""
    return getattr(current_process(), "_inheriting", False)  # what multiprocessing itself goes by
