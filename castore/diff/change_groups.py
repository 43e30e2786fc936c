"""Equal kinds of change as one group, so that a change of everything reads as a sentence.

A change has a kind at several levels of detail, from "these tokens, here" to "tokens inserted". It is put into the
finest group that enough other changes are in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from castore.diff.edits import Change, Edit, Flip
from castore.format.files import Vocabulary

EXAMPLES_MAX = 3
GROUPS_MAX = 20
GROUP_SHARE = 20
"""A group about certain tokens or a certain place holds at least one in so many changes, and at least two."""

BEFORE = 2
MARK_BEFORE = 8
"""Tokens before a change that its place is known by; more, up to a special token such as ``<|im_start|>``, if there is
one so near."""

GLOBAL_SHARE = 4, 5
"""If so large a share of the changes is of one kind that leaves something open, it is told as one."""

SHOWN_TOKENS = 8
"""Tokens of an edit that are told; of a longer one only how many they are."""

PARTS_MAX = 4
"""Kinds of edits in one sample that are told one by one."""

SEAM = "|"
"""What stands between tokens where the same text was cut into others."""

_SHOWN_CHARACTERS = 40
_SEVERAL = -1  # in place of a count

Tokens = tuple[int, ...]


class Group(NamedTuple):
    """Changes of one kind.

    Attributes:
        kind: The kind as a text for programs: equal for equal kinds, in whatever datasets.
        text: The kind as a sentence for people, without the number of samples.
        samples: Pairs of samples that were found to have changed in this way.
        examples: The first of them, at most ``EXAMPLES_MAX``.
    """

    kind: str
    text: str
    samples: int
    examples: tuple[Change, ...]


class Changes(NamedTuple):
    """What kinds of change there are among the replaced samples.

    Attributes:
        replaced: Pairs of samples that stand in each other's place and differ.
        looked_at: Pairs that were aligned token by token: all of them, or, where they are many, some of every region.
            The counts of the groups are among these.
        groups: The kinds, the most frequent first, at most ``GROUPS_MAX``.
        other: Pairs looked at that are in none of the groups.
    """

    replaced: int = 0
    looked_at: int = 0
    groups: tuple[Group, ...] = ()
    other: int = 0


class _Detail(NamedTuple):
    """One kind of edit or flip: what is removed, what comes, after what. None where that is left open."""

    op: str
    removed: Tokens | int
    inserted: Tokens | int
    before: Tokens | None

    def at_place(self) -> _Detail:
        """The same without the tokens themselves."""
        return _Detail(self.op, _count(self.removed), _count(self.inserted), self.before)

    def anywhere(self) -> _Detail:
        """The same without the place."""
        return _Detail(self.op, self.removed, self.inserted, None)

    def roughly(self) -> _Detail:
        """The same with neither; more than one token are many."""
        return _Detail(self.op, _roughly(self.removed), _roughly(self.inserted), None)


class _Kind(NamedTuple):
    """What a sample has undergone, at one level of detail."""

    parts: tuple[_Detail, ...]
    word: str = ""  # in place of parts


class Grouping:
    """Collects changes and groups them.

    Args:
        vocabulary_a, vocabulary_b: To tell tokens as text.
    """

    def __init__(self, vocabulary_a: Vocabulary | None = None, vocabulary_b: Vocabulary | None = None) -> None:
        self.vocabulary_a, self.vocabulary_b = vocabulary_a, vocabulary_b
        self._changes: list[tuple[Change, tuple[_Kind, ...]]] = []
        self._marks: dict[int, bool] = {}

    def add(self, change: Change, tokens_a: Sequence[int], tokens_b: Sequence[int]) -> None:
        """Add a change and the tokens of its two samples. Only the change and its kinds are kept."""
        self._changes.append((change, _kinds(change, tokens_a, tokens_b, self._is_mark)))

    def _is_mark(self, token: int) -> bool:
        """Whether a token looks like a special one: ``<…>`` or ``[…]`` as a whole."""
        if token not in self._marks:
            text = self.vocabulary_a.token(token) if self.vocabulary_a is not None else b""
            self._marks[token] = len(text) > 2 and text[:1] + text[-1:] in (b"<>", b"[]")
        return self._marks[token]

    def changes(self, replaced: int) -> Changes:
        """The groups, of ``replaced`` pairs in all."""
        total = len(self._changes)
        few = 1 if total <= EXAMPLES_MAX else max(2, -(-total // GROUP_SHARE))
        kinds = _chosen([kinds for _, kinds in self._changes], few)
        members: dict[_Kind, list[Change]] = {}
        places: dict[_Kind, Counter[Tokens]] = {}
        for kind, (change, own) in zip(kinds, self._changes, strict=True):
            members.setdefault(kind, []).append(change)
            places.setdefault(kind, Counter()).update(part.before or () for part in own[0].parts)
        ranked = sorted(members.items(), key=lambda item: -len(item[1]))
        groups = [
            Group(_word(kind), self._sentence(kind, found, places[kind]), len(found), tuple(found[:EXAMPLES_MAX]))
            for kind, found in ranked[:GROUPS_MAX]
        ]
        return Changes(replaced, total, tuple(groups), total - sum(group.samples for group in groups))

    # ---- sentences

    def _sentence(self, kind: _Kind, found: Sequence[Change], places: Counter[Tokens]) -> str:
        if kind.word:
            return kind.word
        text = "; ".join(self._part_text(part) for part in kind.parts)
        if len(kind.parts) == 1 and kind.parts[0].before is None and 1 < len(places) <= PARTS_MAX and () not in places:
            shown = [self._text(place, self.vocabulary_a) for place, _ in places.most_common()]
            text = f"{text} after {', '.join(shown[:-1])} or {shown[-1]}"
        most = max(len(change.edits) + len(change.flips) for change in found)
        return text if most <= len(kind.parts) else f"{text}, up to {most:,} times in a sample"

    def _part_text(self, part: _Detail) -> str:
        if part.op in ("on", "off"):
            count = _count(part.removed)
            words = f"labels of {_many(count)} turned {part.op}"
        elif part.op == "insert":
            words = f"{_many(_count(part.inserted))} inserted{self._shown(part.inserted, self.vocabulary_b)}"
        elif part.op == "delete":
            words = f"{_many(_count(part.removed))} removed{self._shown(part.removed, self.vocabulary_a)}"
        else:
            old, new = (
                (self._text(part.removed, self.vocabulary_a), self._text(part.inserted, self.vocabulary_b))
                if isinstance(part.removed, tuple) and isinstance(part.inserted, tuple)
                else (_many(_count(part.removed)), _count_word(_count(part.inserted)))
            )
            if old == new and isinstance(part.removed, tuple) and isinstance(part.inserted, tuple):
                old, new = self._seams(part.removed, part.inserted)
            words = f"{old} replaced by {new}"
        if part.before is None:
            return words.removesuffix(",")
        return f"{words} after {self._text(part.before, self.vocabulary_a)}" if part.before else f"{words} at the start"

    def _seams(self, removed: Tokens, inserted: Tokens) -> tuple[str, str]:
        """Two ways to spell one text: where tokens end in it, or which they are where they end alike."""
        sides = ((removed, self.vocabulary_a), (inserted, self.vocabulary_b))
        old, new = (
            SEAM.join(vocabulary.decode([token]) for token in tokens) if vocabulary is not None else ""
            for tokens, vocabulary in sides
        )
        if old == new:
            old, new = (self._text(tokens, vocabulary) for tokens, vocabulary in sides)
            return f"{old} ({_ids(removed)})", f"{new} ({_ids(inserted)})"
        return _quoted(old), _quoted(new)

    def _shown(self, tokens: Tokens | int, vocabulary: Vocabulary | None) -> str:
        return f", {self._text(tokens, vocabulary)}," if isinstance(tokens, tuple) else ""

    def _text(self, tokens: Tokens | int, vocabulary: Vocabulary | None) -> str:
        if isinstance(tokens, int):
            return _many(tokens)
        text = vocabulary.decode(tokens) if vocabulary is not None else ""
        return _quoted(text) if text else _ids(tokens)


def _ids(tokens: Tokens) -> str:
    return f"token {tokens[0]}" if len(tokens) == 1 else f"tokens {', '.join(map(str, tokens))}"


def _quoted(text: str) -> str:
    return f"‹{text if len(text) <= _SHOWN_CHARACTERS else '…' + text[-_SHOWN_CHARACTERS:]}›"


def _chosen(kinds: Sequence[tuple[_Kind, ...]], few: int) -> list[_Kind]:
    """For each change the finest of its kinds that enough of those not yet placed have."""
    chosen: list[_Kind | None] = [None] * len(kinds)
    if len(kinds) > EXAMPLES_MAX:
        for level in range(len(kinds[0]) - 1):
            counted = Counter(own[level] for own in kinds if not _open_ended(own[level])).most_common(1)
            kind, count = counted[0] if counted else (_NONE, 0)
            if count * GLOBAL_SHARE[1] >= len(kinds) * GLOBAL_SHARE[0]:
                chosen = [kind if own[level] == kind else None for own in kinds]
                break
    for level in range(len(kinds[0]) if kinds else 0):
        last = level == len(kinds[0]) - 1
        counts = Counter(own[level] for own, done in zip(kinds, chosen, strict=True) if done is None)
        for i, own in enumerate(kinds):
            if chosen[i] is None and (last or (counts[own[level]] >= few and not _open_ended(own[level]))):
                chosen[i] = own[level]
    return [kind for kind in chosen if kind is not None]


def _open_ended(kind: _Kind) -> bool:
    return not kind.parts and not kind.word


_NONE = _Kind(())


def _kinds(
    change: Change, tokens_a: Sequence[int], tokens_b: Sequence[int], is_mark: Callable[[int], bool]
) -> tuple[_Kind, ...]:
    """The kinds of a change, finest first; ``_NONE`` where a level does not apply."""
    word = _in_a_word(change, len(tokens_a), len(tokens_b))
    if word is not None:
        return _NONE, _NONE, _NONE, _NONE, _Kind((), word)
    parts = [_edit_part(edit, tokens_a, tokens_b, is_mark) for edit in change.edits]
    parts += [_flip_part(flip, tokens_a, is_mark) for flip in change.flips]
    levels: list[Callable[[_Detail], _Detail]] = [
        lambda p: p,
        _Detail.at_place,
        _Detail.anywhere,
        _Detail.roughly,
    ]
    kinds = []
    for level in levels:
        distinct = tuple(sorted({level(part) for part in parts}, key=repr))
        kinds.append(_Kind(distinct) if len(distinct) <= PARTS_MAX else _NONE)
    return (*kinds, _Kind((), _rough_word(change)))


def _in_a_word(change: Change, length_a: int, length_b: int) -> str | None:
    if change.coarse:
        return "too many tokens differ to be aligned"
    edited = sum(max(edit.a[1] - edit.a[0], edit.b[1] - edit.b[0]) for edit in change.edits)
    if 2 * edited > max(length_a, length_b) and edited > BEFORE:
        return "most tokens differ"
    return None


def _rough_word(change: Change) -> str:
    ops = {edit.op for edit in change.edits}
    names = [name for op, name in (("insert", "inserted"), ("delete", "removed"), ("replace", "replaced")) if op in ops]
    words = [f"tokens {' and '.join(names)} in several places"] if names else []
    if change.flips:
        words.append("labels changed in several places")
    return "; ".join(words) if words else "other arrays differ"


def _edit_part(edit: Edit, tokens_a: Sequence[int], tokens_b: Sequence[int], is_mark: Callable[[int], bool]) -> _Detail:
    return _Detail(edit.op, _told(tokens_a, *edit.a), _told(tokens_b, *edit.b), _before(tokens_a, edit.a[0], is_mark))


def _flip_part(flip: Flip, tokens_a: Sequence[int], is_mark: Callable[[int], bool]) -> _Detail:
    return _Detail("on" if flip.trained else "off", flip.a[1] - flip.a[0], 0, _before(tokens_a, flip.a[0], is_mark))


def _told(tokens: Sequence[int], lo: int, hi: int) -> Tokens | int:
    return tuple(tokens[lo:hi]) if hi - lo <= SHOWN_TOKENS else hi - lo


def _before(tokens: Sequence[int], at: int, is_mark: Callable[[int], bool]) -> Tokens:
    for start in range(at - 1, max(at - MARK_BEFORE, 0) - 1, -1):
        if is_mark(tokens[start]):
            return tuple(tokens[start:at])
    return tuple(tokens[max(at - BEFORE, 0) : at])


def _count(tokens: Tokens | int) -> int:
    return tokens if isinstance(tokens, int) else len(tokens)


def _roughly(tokens: Tokens | int) -> int:
    count = _count(tokens)
    return count if count < 2 else _SEVERAL


def _many(count: int) -> str:
    if count == _SEVERAL:
        return "several tokens"
    return "one token" if count == 1 else f"{count:,} tokens"


def _count_word(count: int) -> str:
    if count == _SEVERAL:
        return "several"
    return "one" if count == 1 else f"{count:,}"


def _word(kind: _Kind) -> str:
    """A kind for programs."""
    if kind.word:
        return kind.word.replace(" ", "-").replace(";", "")
    return ";".join(
        f"{part.op}:{_spelled(part.removed)}>{_spelled(part.inserted)}@"
        f"{'*' if part.before is None else _spelled(part.before)}"
        for part in kind.parts
    )


def _spelled(tokens: Tokens | int) -> str:
    return f"#{tokens}" if isinstance(tokens, int) else ",".join(map(str, tokens))
