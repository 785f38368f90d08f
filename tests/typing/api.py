"""What a type checker must accept, written as a user writes it; pyright reads this file, nothing runs it."""

import bgsched

module_name: str = bgsched.__name__
