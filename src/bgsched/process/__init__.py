"""A process: a named piece of work, and how its requests run.

It is the callable that was decorated (`code`), plus a name and its policies (`value`, `options`). What is stored of it
is the name alone; the callable is found again by that name in a `ProcessRegistry` (`registry`). Nothing that is stored
can call what was not registered.
"""

from bgsched.process.code import is_async
from bgsched.process.options import ProcessOptions, policies_of
from bgsched.process.registry import PR, ProcessRegistry
from bgsched.process.value import Filer, Pool, Process

__all__ = ["PR", "Filer", "Pool", "Process", "ProcessOptions", "ProcessRegistry", "is_async", "policies_of"]
