"""``python -m bgsched`` is the command ``bgsched``."""

import sys

from bgsched.cli import main

sys.exit(main())
