"""Rendering conversations to text with jinja2, exactly as transformers' ``apply_chat_template`` does."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from types import BuiltinMethodType
from typing import TYPE_CHECKING, Any, NoReturn

from castore.errors import InvalidInputError, MissingExtraError

if TYPE_CHECKING:
    import jinja2

Message = dict[str, Any]


class JinjaRenderer:
    """A compiled jinja template with the variables that a tokenizer gives it.

    Args:
        text: Jinja source.
        special_tokens: ``bos_token`` and so on; a token that the tokenizer lacks stays undefined in the template.

    Raises:
        InvalidInputError: The text is no valid template.
        MissingExtraError: jinja2 is not installed.
    """

    def __init__(self, text: str, special_tokens: dict[str, str]) -> None:
        try:
            import jinja2
        except ImportError as error:
            raise MissingExtraError("jinja2", "tokenize") from error
        try:
            self._template = _environment().from_string(text)
        except jinja2.TemplateSyntaxError as error:
            raise InvalidInputError(
                f"the chat template is not valid jinja: line {error.lineno}: {error.message}"
            ) from None
        self._special_tokens = special_tokens

    def __call__(
        self, messages: list[Message], tools: list[Message] | None, *, add_generation_prompt: bool = False
    ) -> str:
        """Render; whatever the template raises (TypeError, TemplateError, ...) comes through.

        Raises:
            UnicodeEncodeError: The text has half a surrogate pair, from an escape in the template or in tools.
        """
        text = self._template.render(
            messages=messages,
            tools=tools,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **self._special_tokens,
        )
        if not text.isascii():
            text.encode()
        return text


def head_variables(text: str) -> dict[str, Any]:
    """Return what the ``{% set %}`` lines of a template head define."""
    return dict(vars(_environment().from_string(text).module))


def _environment() -> jinja2.Environment:
    from jinja2.ext import loopcontrols

    environment = _sandbox()(trim_blocks=True, lstrip_blocks=True, extensions=[_generation_tag(), loopcontrols])
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


_DICT_ATTRIBUTES = frozenset(dir(dict))
# What compiled templates pass along with every call, for functions that ask for the context.
_SCOPES = frozenset(("_loop_vars", "_block_vars"))


@cache
def _sandbox() -> type[jinja2.Environment]:
    """Build the sandbox: jinja2's own, with short cuts to the same answers for what templates do most.

    jinja2 asks a dozen questions before it lets a template read ``loop.last`` or ``message.get``, which is more than
    half of the time that a template takes. The answers depend on exact types that are listed here.
    """
    from jinja2.runtime import Context, LoopContext
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace

    class Sandbox(ImmutableSandboxedEnvironment):
        def getattr(self, obj: Any, attribute: str) -> Any:
            kind = type(obj)
            if kind is dict:
                if attribute not in _DICT_ATTRIBUTES:  # A dict has no other attributes: this means the key.
                    return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
                if attribute == "get":
                    return obj.get
            elif kind is LoopContext and attribute in ("first", "last", "index", "index0"):
                return getattr(obj, attribute)
            elif kind is Namespace and attribute[:1] != "_":
                with suppress(AttributeError):
                    return getattr(obj, attribute)
            return super().getattr(obj, attribute)

        def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
            is_method = type(obj) is BuiltinMethodType and type(obj.__self__) is dict
            if is_method and obj.__name__ == "get" and kwargs.keys() <= _SCOPES:
                return obj(*args)
            return super().call(context, obj, *args, **kwargs)

    return Sandbox


def _generation_tag() -> type[jinja2.ext.Extension]:
    """Build the extension for ``{% generation %}``: it marks assistant text for transformers; here it only renders."""
    from jinja2 import nodes
    from jinja2.ext import Extension

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012  jinja2 declares it a plain class attribute

        def parse(self, parser: Any) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            # A call block, as in transformers: names that the body sets stay inside.
            return nodes.CallBlock(self.call_method("_render_body"), [], [], body).set_lineno(line)

        def _render_body(self, caller: Callable[[], str]) -> str:
            return caller()

    return Generation


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # jinja2's own filter escapes HTML, which would put &#39; and < into training data.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    import jinja2

    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.datetime.now().strftime(pattern)
