"""Tables of the report."""

from __future__ import annotations

from .markup import Markup, element


def head(*cells: str) -> Markup:
    """Write a row of column heads; an empty one is no head."""
    return element("thead", element("tr", *(element("th", c, scope="col") if c else element("td") for c in cells)))


def scrolled(table: Markup, label: str) -> Markup:
    """Let a wide table scroll by itself, also by the keyboard; `label` is unique in the page."""
    return element("div", table, class_="scroll", tabindex="0", role="region", aria_label=label)
