"""HTML and SVG as nested calls: text is escaped where it enters, so nothing that a file says can become markup."""

from __future__ import annotations

import html


class Markup(str):
    """What is markup already and goes in as it is."""

    __slots__ = ()


Child = str | int | None


def element(name: str, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """Write an element; of attributes `class_` means class, `data_x` data-x, None and False leave it out."""
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    return Markup(
        "".join(each if isinstance(each, Markup) else escape(str(each)) for each in children if each is not None)
    )


def escape(text: str) -> str:
    # JSON can hold half a surrogate pair, which no file in UTF-8 can.
    return html.escape(text.encode("utf-8", "replace").decode())


def shorten(text: str, longest: int) -> str:
    """Leave out the middle of a text that is longer."""
    half = (longest - 1) // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"
