"""All prefix renderings of a conversation in one rendering, for templates that write one message after the other.

Labels need the rendering of the first k messages, with and without the generation prompt, for every assistant message:
rendered one by one, a conversation of n turns costs n squared. Most templates are a head, one loop over the messages,
and a tail, where a turn of the loop looks at its own message and at those before it. Then the first k messages are the
head, k turns, and the tail; so the template is changed to write its tail, with the prompt and without, in front of the
loop and after each turn, and one rendering has them all.

Whether a template is of this kind is told from its syntax tree, and in doubt it is not. What the changed template
writes is compared with what the template itself writes for the whole of every conversation.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from castore.ingest.labels import Prefix

if TYPE_CHECKING:
    from jinja2 import nodes

Message = dict[str, Any]

MESSAGES, PROMPT = "messages", "add_generation_prompt"
_LAST = "castore_last"

# Of ``loop``: what does not depend on the messages that follow, but for ``last``, which is seen to.
_BACKWARD = frozenset(("last", "index", "index0", "first", "previtem", "cycle", "changed", "depth", "depth0"))


def split_by_turns(tree: nodes.Template, mark: str) -> bool | None:
    """Change a template so that it writes its tail after each turn.

    It then writes the head and a mark; and for the front of the loop and for each turn four parts, each with a mark
    behind it. Where a turn does not ask whether it is the last: the turn, the tail with the prompt, the tail without,
    nothing. Else: the turn as the last one and the tail with the prompt, the same without, and the turn as one that
    others follow with the prompt and without.

    Args:
        tree: Of the whole template.
        mark: Name of the variable that is written as a mark.

    Returns:
        Whether turns are written twice; None, and no change, if the template may be of another kind.
    """
    from jinja2 import nodes

    body = tree.body
    loops = [at for at, node in enumerate(body) if isinstance(node, nodes.For)]
    found = next((at for at in loops if _is_main(body, at)), None)
    if found is None:
        return None
    loop = body[found]
    assert isinstance(loop, nodes.For)
    tail, here = body[found + 1 :], nodes.Output([nodes.Name(mark, "load")])
    turn = loop.body
    twice = _asks_for_last(turn)
    if twice:
        for node in turn:
            _replace_last(node)
        as_last, followed = ([*turn, *tail], True), (turn, False)
        loop.body = [
            part
            for some, last in (as_last, followed)
            for prompt in (True, False)
            for part in (_with({_LAST: last, PROMPT: prompt}, some), here)
        ]
        front = [_with({PROMPT: True}, tail), here, _with({PROMPT: False}, tail), here, here, here]
    else:
        tails = [_with({PROMPT: True}, tail), here, _with({PROMPT: False}, tail), here]
        loop.body = [*turn, here, *tails, here]
        front = [here, *tails, here]
    tree.body = [*body[:found], here, *front, loop]
    return twice


def _is_main(body: list[nodes.Node], at: int) -> bool:
    """Whether the loop is the one over the messages, with nothing before, in or after it that looks ahead."""
    from jinja2 import nodes

    head, loop, tail = body[:at], body[at], body[at + 1 :]
    assert isinstance(loop, nodes.For)
    if loop.recursive or loop.test is not None or loop.else_ or not isinstance(loop.iter, nodes.Name):
        return False
    aliases = _aliases(head)
    if aliases is None or loop.iter.name not in aliases | {MESSAGES}:
        return False
    everything = [*head, *loop.body, *tail]
    if any(_looks_ahead(node, aliases) for node in everything):
        return False
    twice = _asks_for_last(loop.body)
    if any(_names(node) & {PROMPT} for node in (head if twice else [*head, *loop.body])):
        return False
    kinds = (nodes.Macro, nodes.Block, nodes.CallBlock, nodes.Break, nodes.Continue)
    if any(True for node in everything for _ in _self_and(node, kinds)):
        return False
    if any(not _only_backward(node) for node in loop.body):
        return False
    if twice and any(_changes(node) for node in loop.body):
        return False  # each turn is written twice then
    # The tail is now written inside the loop: it must see no variable of a turn, and change nothing that lasts.
    own = _assigned(loop.body) | _names(loop.target) | {"loop"}
    return not any(_names(node) & own or _changes(node) for node in tail)


def _aliases(head: list[nodes.Node]) -> set[str] | None:
    """Names that stand for the messages or for all but the first; None if one stands for something else as well."""
    from jinja2 import nodes

    aliases: set[str] = set()
    others: set[str] = set()
    for assign in (found for node in head for found in _self_and(node, nodes.Assign)):
        assert isinstance(assign, nodes.Assign)
        if isinstance(assign.target, nodes.Name):
            (aliases if _is_messages(assign.node) else others).add(assign.target.name)
    blocks = {name for node in head for found in _self_and(node, nodes.AssignBlock) for name in _names(found)}
    return None if aliases & (others | blocks) or MESSAGES in others | blocks | aliases else aliases


def _is_messages(node: nodes.Node) -> bool:
    """``messages`` or ``messages[1:]``."""
    from jinja2 import nodes

    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
        part = node.arg
        whole = part.stop is None and part.step is None
        node = node.node if whole and isinstance(part.start, nodes.Const) and part.start.value == 1 else part
    return isinstance(node, nodes.Name) and node.name == MESSAGES


def _looks_ahead(node: nodes.Node, aliases: set[str]) -> bool:
    """Whether a part reads messages otherwise than as the first of them, or to give them a name."""
    from jinja2 import nodes

    if isinstance(node, nodes.Assign) and isinstance(node.target, nodes.Name) and _is_messages(node.node):
        return False
    if isinstance(node, nodes.Getitem) and isinstance(node.node, nodes.Name) and node.node.name == MESSAGES:
        return not (isinstance(node.arg, nodes.Const) and node.arg.value == 0)
    if isinstance(node, nodes.Name):
        return node.name == MESSAGES or node.name in aliases
    if isinstance(node, nodes.ContextReference | nodes.DerivedContextReference):
        return True
    return any(_looks_ahead(child, aliases) for child in node.iter_child_nodes())


def _only_backward(node: nodes.Node, parent: nodes.Node | None = None) -> bool:
    """Whether ``loop`` stands only where it tells of this turn and those before."""
    from jinja2 import nodes

    if isinstance(node, nodes.Name) and node.name == "loop":
        return isinstance(parent, nodes.Getattr) and parent.attr in _BACKWARD
    if isinstance(node, nodes.For):  # its body has a ``loop`` of its own, whose messages are no messages
        return all(_only_backward(child, node) for child in (node.iter, *filter(None, [node.test])))
    return all(_only_backward(child, node) for child in node.iter_child_nodes())


def _assigned(body: list[nodes.Node]) -> set[str]:
    from jinja2 import nodes

    return {
        name.name
        for node in body
        for name in _self_and(node, nodes.Name)
        if isinstance(name, nodes.Name) and name.ctx == "store"
    }


def _changes(node: nodes.Node) -> bool:
    """Whether a part sets an attribute of a namespace, which would last."""
    from jinja2 import nodes

    return any(True for _ in _self_and(node, nodes.NSRef)) or any(True for _ in _self_and(node, nodes.ExprStmt))


def _names(node: nodes.Node) -> set[str]:
    from jinja2 import nodes

    found = _self_and(node, nodes.Name)
    return {name.name for name in found if isinstance(name, nodes.Name)}


def _self_and(node: nodes.Node, kind: Any) -> Iterator[nodes.Node]:
    if isinstance(node, kind):
        yield node
    yield from node.find_all(kind)


def _with(values: dict[str, bool], body: list[nodes.Node]) -> nodes.Node:
    """A copy of a part in which variables have values; what it sets stays inside."""
    from copy import deepcopy

    from jinja2 import nodes

    # Every node knows its environment, which is to stay one.
    kept: dict[int, object] = {id(node.environment): node.environment for node in body}
    names: list[nodes.Expr] = [nodes.Name(name, "param") for name in values]
    return nodes.With(names, [nodes.Const(value) for value in values.values()], deepcopy(body, kept))


def _asks_for_last(body: list[nodes.Node]) -> bool:
    return any(_is_last(found) for node in body for found in _self_and(node, _nodes().Getattr))


def _is_last(node: Any) -> bool:
    found: bool = (
        isinstance(node, _nodes().Getattr)
        and isinstance(node.node, _nodes().Name)
        and (node.node.name, node.attr) == ("loop", "last")
    )
    return found


def _replace_last(node: nodes.Node) -> None:
    """Put a variable in place of ``loop.last``, but for loops within, which have a ``loop`` of their own."""
    nodes = _nodes()

    def one(value: Any) -> Any:
        return nodes.Name(_LAST, "load") if _is_last(value) else value

    for field, value in node.iter_fields():
        if isinstance(node, nodes.For) and field in ("body", "else_"):
            continue
        setattr(node, field, [*map(one, value)] if isinstance(value, list) else one(value))
    for child in node.iter_child_nodes(exclude=("body", "else_") if isinstance(node, nodes.For) else ()):
        _replace_last(child)


def _nodes() -> Any:
    from jinja2 import nodes

    return nodes


class Turns:
    """What one rendering of a changed template wrote.

    Attributes:
        text: The whole conversation, without the generation prompt.
    """

    def __init__(self, pieces: Iterator[str], mark: str, messages: int, *, twice: bool) -> None:
        """Take the pieces that a template writes.

        Args:
            pieces: In order; ``mark`` itself, the very object, where ``split_by_turns`` put it.
            mark: The mark.
            messages: Number of messages.
            twice: Turns are written as the last one and as another.
        """
        stretches: list[list[str]] = [[]]
        for piece in pieces:
            if piece is mark:
                stretches.append([])
            else:
                stretches[-1].append(piece)
        texts = ["".join(some) for some in stretches]
        "".join(texts).encode()  # half a surrogate pair is no text
        head, parts = texts[0], [texts[1:-1][i::4] for i in range(4)]
        if twice:
            self._prompted, self._plain, with_prompt, followed = parts
            self._known = with_prompt == followed  # else a turn that others follow is another in front of a prompt
            self._starts = [*accumulate(map(len, followed), initial=len(head))]
            body = "".join(followed[:-1])
        else:
            turns, self._prompted, self._plain, _ = parts
            self._known = True
            self._starts = [*accumulate(map(len, turns[1:]), initial=len(head))]
            body = "".join(turns)
        self._before = messages - (len(self._plain) - 1)  # messages that the loop leaves out
        self.text = head + body + self._plain[-1]

    def header(self, count: int) -> Prefix | None:
        """The first ``count`` messages, at least one, and the generation prompt; None if that is not known."""
        return self._prefix(count, self._prompted) if self._known else None

    def through(self, count: int) -> Prefix | None:
        """The first ``count`` messages."""
        return self._prefix(count, self._plain)

    def _prefix(self, count: int, tails: list[str]) -> Prefix | None:
        at = count - self._before
        return Prefix(self._starts[at], tails[at]) if 0 <= at < len(tails) else None
