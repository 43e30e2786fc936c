"""Pages as files of HTML: one environment of templates, which is the one door by which text gets into a page.

Whatever a template puts out is made visible (control characters, marks of direction and lone surrogates are spelled
out, as ``\\u202e``) and then escaped, wherever it stands in the template; only what a template made itself is markup. A
name that a template does not know is an error, and not nothing.

jinja2 is imported here, and this module where a page is made.
"""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from castore_cli.formatting import number, plural, visible


@cache
def environment() -> Environment:
    """The environment of all pages."""
    made = Environment(
        loader=PackageLoader("castore_cli", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible_text,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )
    made.filters.update(clip=clip, number=number, plural=plural, token=token_text)
    return made


def render(template: str, **values: Any) -> Markup:
    """What a template makes of some values, to be put into another one or written."""
    return Markup(environment().get_template(template).render(values))


def asset(name: str) -> Markup:
    """A style or a script of castore, for a page to hold as it is."""
    return Markup((files("castore_cli") / "page" / name).read_text(encoding="utf-8"))


def policy_source(text: str) -> str:
    """How a Content-Security-Policy names one inline text."""
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def visible_text(value: Any) -> Any:
    """Text with what is not printable spelled out; line ends stay, as does markup and what is no text."""
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "\n".join(map(visible, value.split("\n")))


def token_text(text: str) -> str:
    """The text of a token: a line end shows as a sign and is one."""
    return text.replace("\n", "⏎\n")


def clip(text: str, most: int) -> str:
    """The beginning of a text that is too long."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
