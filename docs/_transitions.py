"""Two directives for Sphinx, both made from the table that the code obeys: `run-transitions`, `run-transition-table`.

A move that is added to `RUN_TRANSITIONS` is in the next build of the page.
"""

from typing import Any

from _diagram import ORDER, name_of, svg
from docutils import nodes
from docutils.parsers.rst import Directive

from bgsched.run import RUN_TRANSITIONS


class Diagram(Directive):
    """The diagram, as an image in the page."""

    def run(self) -> list[nodes.Node]:
        """Return the node."""
        return [nodes.raw("", f"<figure>{svg(RUN_TRANSITIONS)}</figure>", format="html")]


class Moves(Directive):
    """The same as a list."""

    def run(self) -> list[nodes.Node]:
        """Return the nodes."""
        moves = nodes.bullet_list()
        for before, afters in RUN_TRANSITIONS.items():
            if afters:
                words = nodes.paragraph()
                words += [nodes.literal(text=name_of(before)), nodes.Text(" to ")]
                for number, after in enumerate(sorted(afters, key=ORDER.index)):
                    words += [nodes.Text(", " if number else ""), nodes.literal(text=name_of(after))]
                moves += nodes.list_item("", words)
        return [moves]


def setup(app: Any) -> dict[str, bool]:
    """Register both."""
    app.add_directive("run-transitions", Diagram)
    app.add_directive("run-transition-table", Moves)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
