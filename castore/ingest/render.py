"""Rendering conversations to text with jinja2, exactly as transformers' ``apply_chat_template`` does."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from types import BuiltinMethodType, CodeType
from typing import TYPE_CHECKING, Any, NoReturn

from castore.errors import InvalidInputError
from castore.ingest.clock import written
from castore.ingest.limits import (
    BINARY,
    CHARACTERS_MAX,
    FILTERS,
    INDENT_MAX,
    STRING_METHODS,
    Budget,
    TemplateLimitError,
    bounded,
    bounded_pieces,
    check_binary,
    concat,
    joined,
    joining,
    printable,
)
from castore.ingest.prefixes import Turns, split_by_turns
from castore.ingest.rows import NoForm, NoFormError

if TYPE_CHECKING:
    import jinja2

Message = dict[str, Any]

CLOCK = "strftime_now"
"""The function by which a template asks for the date."""

_STEP, _JOIN = "castore_step", "castore_join"  # filters that the compiled form of a template uses
_MARK = "castore_mark"


class JinjaRenderer:
    """A compiled jinja template with the variables that a tokenizer gives it.

    Args:
        text: Jinja source.
        special_tokens: ``bos_token`` and so on; a token that the tokenizer lacks stays undefined in the template.
        now: What ``strftime_now`` writes; None for templates that do not ask.

    Raises:
        InvalidInputError: The text is no template that can be used.
    """

    def __init__(self, text: str, special_tokens: dict[str, str], now: datetime.datetime | None = None) -> None:
        self._budget = Budget()
        self._missing: set[str] = set()
        self._environment = _environment(self._budget, now)
        self._environment.undefined = _recording(self._missing)
        code, self._twice, by_turns = _codes(text)
        self._template = _loaded(self._environment, code)
        self._by_turns = None if by_turns is None else _loaded(self._environment, by_turns)
        self._special_tokens = special_tokens

    def __call__(
        self, messages: list[Message], tools: list[Message] | None, *, add_generation_prompt: bool = False
    ) -> str:
        """Render; whatever the template raises (TypeError, TemplateError, ...) comes through.

        Raises:
            TemplateLimitError: The template runs without end, or makes too much.
            UnicodeEncodeError: The text has half a surrogate pair, from an escape in the template or in tools.
        """
        self._budget.start()
        self._missing.clear()
        text = self._template.render(self._variables(messages, tools, add_generation_prompt))
        if not text.isascii():
            text.encode()
        return text

    @property
    def missing(self) -> frozenset[str]:
        """Names of the special tokens that the last call wrote for nothing, since the tokenizer has none such."""
        return frozenset(self._missing)

    def turns(self, messages: list[Message], tools: list[Message] | None) -> Turns | None:
        """The same with every prefix, in one rendering; None if the template may look ahead. Raises as a call does."""
        if self._by_turns is None:
            return None
        self._budget.start()
        variables = self._variables(messages, tools, False)
        mark = "\0turn"
        context = self._by_turns.new_context({**variables, _MARK: mark})
        return Turns(
            bounded_pieces(self._by_turns.root_render_func(context)), mark, len(messages), twice=bool(self._twice)
        )

    def _variables(self, messages: list[Message], tools: list[Message] | None, prompt: bool) -> dict[str, Any]:
        return {
            "messages": messages,
            "tools": tools,
            "documents": None,
            "add_generation_prompt": prompt,
            **self._special_tokens,
        }


def _recording(names: set[str]) -> type[jinja2.Undefined]:
    """What stands for variables that are not there; notes the names of special tokens whose text is asked for."""
    from jinja2 import Undefined
    from jinja2.utils import missing

    class Missing(Undefined):
        __slots__ = ()

        def __str__(self) -> str:
            name = self._undefined_name
            if self._undefined_obj is missing and isinstance(name, str) and name.endswith("_token"):
                names.add(name)
            return super().__str__()

    return Missing


def head_variables(text: str) -> dict[str, Any]:
    """Return what the ``{% set %}`` lines of a template head define."""
    environment = _environment(Budget(), None)
    return dict(vars(_loaded(environment, _compiled(environment, parsed(environment, text))).module))


def parsed(environment: jinja2.Environment, text: str) -> jinja2.nodes.Template:
    """The syntax tree of a template.

    Raises:
        InvalidInputError: It is no valid jinja, or asks for other templates.
    """
    from jinja2 import nodes

    with _refusing():
        tree = environment.parse(text)
        kinds: Any = (nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport)
        for node in tree.find_all(kinds):
            kind = type(node).__name__.lower()
            raise InvalidInputError(f"the chat template has {kind} in line {node.lineno}: there is no other template")
    return tree


@lru_cache(maxsize=32)
def _codes(text: str) -> tuple[CodeType, bool | None, CodeType | None]:
    """A template as code: as it is; what ``split_by_turns`` says; and by turns, if that can be.

    Kept, since a run makes several tokenizers of one template; code has nothing of the environment it is loaded in.

    Raises:
        InvalidInputError: As ``parsed`` and ``_compiled``.
    """
    environment = _environment(Budget(), None)
    code = _compiled(environment, parsed(environment, text))
    tree = parsed(environment, text)
    twice = split_by_turns(tree, _MARK)
    return code, twice, None if twice is None else _compiled(environment, tree)


def _compiled(environment: jinja2.Environment, tree: jinja2.nodes.Template) -> CodeType:
    """The code of a template that counts its steps.

    Raises:
        InvalidInputError: jinja2 or Python cannot compile it.
    """
    with _refusing():
        return environment.compile(_counted(tree))


def _loaded(environment: jinja2.Environment, code: CodeType) -> jinja2.Template:
    return environment.template_class.from_code(environment, code, environment.make_globals(None), None)


@contextmanager
def _refusing() -> Iterator[None]:
    """Whatever compiling raises as one line. Templates nest too deep for the parser or for Python, hold numbers that
    Python does not print, name filters that there are not; none of it is a fault of castore."""
    import jinja2

    try:
        yield
    except InvalidInputError:
        raise
    except jinja2.TemplateSyntaxError as error:
        raise InvalidInputError(f"the chat template is not valid jinja: line {error.lineno}: {error.message}") from None
    except RecursionError:
        raise InvalidInputError("the chat template is nested too deeply to be compiled") from None
    except Exception as error:  # noqa: BLE001 - whatever a compiler stumbles over, the template is at fault
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise InvalidInputError(f"the chat template cannot be compiled: {said}") from None


def _counted(tree: jinja2.nodes.Template) -> jinja2.nodes.Template:
    """The same template with a step in every turn of a loop and every call of a macro, and joins that are bounded."""
    from jinja2 import nodes

    def call(name: str, value: nodes.Expr) -> nodes.Filter:
        return nodes.Filter(value, name, [], [], None, None)

    def bound(value: Any) -> Any:
        return call(_JOIN, nodes.List(value.nodes)) if isinstance(value, nodes.Concat) else value

    def joins(node: nodes.Node) -> None:
        for field, value in node.iter_fields():
            setattr(node, field, [*map(bound, value)] if isinstance(value, list) else bound(value))
        for child in node.iter_child_nodes():
            joins(child)

    joins(tree)
    # Of a constant, a filter is worked out when the template is compiled.
    step = nodes.ExprStmt(call(_STEP, nodes.ContextReference()))
    blocks: Any = (nodes.For, nodes.Macro, nodes.CallBlock)
    for block in tree.find_all(blocks):
        block.body.insert(0, step)
    assert tree.environment is not None
    tree.set_environment(tree.environment)
    return tree


def _environment(budget: Budget, now: datetime.datetime | None) -> jinja2.Environment:
    from jinja2.ext import loopcontrols

    environment = _sandbox()(
        trim_blocks=True, lstrip_blocks=True, extensions=[_generation_tag(), loopcontrols], finalize=printable
    )
    for name, check in FILTERS.items():
        environment.filters[name] = bounded(environment.filters[name], check)
    environment.filters["join"] = joining(environment.filters["join"])
    environment.filters["tojson"] = _tojson
    environment.filters[_STEP] = budget.step
    environment.filters[_JOIN] = joined
    environment.globals["raise_exception"] = _raise_exception
    # Text by chance has no place in data that must be the same again.
    del environment.filters["random"], environment.globals["lipsum"]
    if now is not None:
        environment.globals[CLOCK] = lambda pattern: written(now, pattern)
    return environment


_DICT_ATTRIBUTES = frozenset(dir(dict))
# What compiled templates pass along with every call, for functions that ask for the context.
_SCOPES = frozenset(("_loop_vars", "_block_vars"))


@cache
def _sandbox() -> type[jinja2.Environment]:
    """Build the sandbox: jinja2's own, with bounds, and short cuts to the same answers for what templates do most.

    jinja2 asks a dozen questions before it lets a template read ``loop.last`` or ``message.get``, which is more than
    half of the time that a template takes. The answers depend on exact types that are listed here.
    """
    from jinja2.runtime import Context, LoopContext
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace

    class Sandbox(ImmutableSandboxedEnvironment):
        intercepted_binops = BINARY
        concat = staticmethod(concat)

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
            # Methods of strings, and what jinja2 puts in place of ``format``: a function with the method in it.
            method = getattr(obj, "__wrapped__", obj)
            if type(method) is BuiltinMethodType:
                owner, name = method.__self__, method.__name__
                if type(owner) is dict and name == "get" and kwargs.keys() <= _SCOPES:
                    return obj(*args)
                if isinstance(owner, str) and name in STRING_METHODS:
                    named = {key: value for key, value in kwargs.items() if key not in _SCOPES}
                    STRING_METHODS[name](owner, *args, **named)
            return super().call(context, obj, *args, **kwargs)

        def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
            if type(left) is str and type(right) is str and operator == "+" and len(left) + len(right) < CHARACTERS_MAX:
                return left + right
            check_binary(operator, left, right)
            return super().call_binop(context, operator, left, right)

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
    if isinstance(indent, int) and indent > INDENT_MAX:
        raise TemplateLimitError(f"it indents JSON by more than {INDENT_MAX} spaces")
    return json.dumps(
        printable(value),
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
        default=_no_json,
    )


def _no_json(value: object) -> NoReturn:
    if isinstance(value, NoForm):
        raise NoFormError(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _raise_exception(message: str) -> NoReturn:
    import jinja2

    raise jinja2.TemplateError(message)
