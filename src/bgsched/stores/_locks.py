"""Who is alive on this machine, as the kernel knows it.

Each scheduler holds a lock on a file of its own for as long as it stands. The kernel lets go of it when the OS process
ends, however it ends, so that others see a death at once and never see one that did not happen. The locks are
``flock`` locks: they belong to an open file, so two schedulers of one OS process are told apart, and a forked child
that closes its copy changes nothing.

Whoever may read the database may look, whoever may write it may have a lock there: the files get its owner and mode,
as those that SQLite makes beside it do.

Where there is no ``flock`` (Windows, some network file systems) nobody knows, and the lease decides.
"""

import contextlib
import os
import weakref
from pathlib import Path

try:
    import fcntl
except ImportError:  # pragma: no cover  only where there is no flock
    fcntl = None  # type: ignore[assignment]

__all__ = ["OwnerLocks"]


class OwnerLocks:
    """The lock files of the schedulers on one *database*, in a folder beside it."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._folder = database.with_name(database.name + ".owners")
        self._held: dict[str, int] = {}
        _ALL.add(self)

    def hold(self, owner: str) -> None:
        """Take the owner's lock and keep it until `let_go`, `release` or the end of this OS process."""
        if owner in self._held or fcntl is None:
            return
        with contextlib.suppress(FileExistsError):
            self._folder.mkdir()
            self._share(self._folder)
        descriptor = os.open(self._path(owner), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._share(self._path(owner))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # the file system has no locks: the lease decides
            os.close(descriptor)
            self._forget(owner)
            return
        self._held[owner] = descriptor

    def holds(self, owner: str) -> bool:
        """Return whether the owner's lock is held here and others can see that."""
        return owner in self._held and self._path(owner).exists()

    def let_go(self, owner: str) -> None:
        """Let go of the owner's lock; its file stays, so that others see at once that nobody holds it."""
        descriptor = self._held.pop(owner, None)
        if descriptor is not None:
            os.close(descriptor)

    def release(self, owner: str) -> None:
        """Let go of the owner's lock, held or left by a dead one, and remove its file."""
        self._forget(owner)
        self.let_go(owner)

    def is_free(self, owner: str) -> bool | None:
        """Return whether nobody holds the owner's lock; ``None`` where that cannot be known."""
        if fcntl is None:
            return None
        try:
            descriptor = os.open(self._path(owner), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return None
        finally:
            os.close(descriptor)
        return True

    def forget_after_fork(self) -> None:
        """Close a child's copies, so that they do not keep a dead parent looking alive."""
        for descriptor in self._held.values():
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._held.clear()

    def _share(self, made: Path) -> None:
        """Let those use a file or folder who may use the database; where that is not allowed, the lease decides."""
        like = self._database.stat()
        mode = 0o600 | like.st_mode & 0o666
        with contextlib.suppress(OSError):
            os.chown(made, like.st_uid if os.geteuid() == 0 else -1, like.st_gid)
        with contextlib.suppress(OSError):
            made.chmod(mode | (mode & 0o444) >> 2 if made.is_dir() else mode)  # who may read may enter

    def _path(self, owner: str) -> Path:
        return self._folder / f"{owner}.lock"

    def _forget(self, owner: str) -> None:
        with contextlib.suppress(OSError):
            self._path(owner).unlink()


_ALL: "weakref.WeakSet[OwnerLocks]" = weakref.WeakSet()


def _after_fork() -> None:
    for locks in list(_ALL):
        locks.forget_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
