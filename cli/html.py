"""Text as HTML: the one door by which text of the data gets into a page."""

from __future__ import annotations

from html import escape

from castore_cli.text import visible


def safe(text: str) -> str:
    """Text for HTML, in an element or an attribute: markup escaped, and what is not printable spelled out.

    Line ends stay. What reorders text or cannot be encoded (marks of direction, control
    characters, lone surrogates) reads ``\\u202e``.
    """
    return escape("\n".join(map(visible, text.split("\n"))))


def token_text(text: str) -> str:
    """The text of a token for HTML: a line end shows as a sign and is one."""
    return safe(text.replace("\n", "⏎\n"))


def clip(text: str, most: int) -> str:
    """The beginning of a text that is too long."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def element(tag: str, text: str, kind: str = "", **attributes: str) -> str:
    """An element with text in it."""
    more = f' class="{kind}"' if kind else ""
    more += "".join(f' {name}="{safe(value)}"' for name, value in attributes.items())
    return f"<{tag}{more}>{safe(text)}</{tag}>"
