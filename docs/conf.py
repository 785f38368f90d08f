"""How Sphinx builds the documentation: `make docs`, warnings are errors, no network."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for _transitions

project = "bgsched"
author = "The bgsched maintainers"
copyright = author
release = version_of("bgsched")

# No intersphinx: the build must not need the network.
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "_transitions"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False

# Nitpicky: a public name of ours that leads nowhere is an error. Names of others lead nowhere without intersphinx, and
# neither do type variables and private names.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!bgsched\b).*"), ("py:.*", r"bgsched\.(.*\.)?(_.*|[A-Z]|PR|Filer|Registry)")]

html_theme = "furo"
html_title = f"bgsched {release}"
