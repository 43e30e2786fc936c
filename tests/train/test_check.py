"""The scan against a plain reading of the files of an export, and cases made by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from castore.errors import InvalidInputError
from castore.format.samples import Samples
from castore.train.causes import causes
from castore.train.check import analyse
from castore.train.report import Report, Rule, Tally
from tests.support.strategies import Row, samples_of
from tests.train.test_best_fit import packed_one_by_one

EOS, BOS, X = 0, 1, 7


# ---- the plain reading


@dataclass
class Token:
    """A token of the export, and what became of it."""

    id: int
    sample: int
    trainable: bool
    part: int
    document: int | None = None
    packed: bool = False


def plain(rows: Sequence[Row], sources: Sequence[int], rule: Rule, part_items: int, cut: int | None) -> Report:
    """The same report with a loop over tokens, from what OLMo-core's source says."""
    tokens = [
        Token(token, index, any(lo <= at < hi for lo, hi in spans), 0)
        for index, (ids, spans) in enumerate(rows)
        for at, token in enumerate(ids)
    ]
    for position, token in enumerate(tokens):
        token.part = position // part_items
    parts = [tokens[lo : lo + part_items] for lo in range(0, len(tokens), part_items)]
    tallies = {source: Tally() for source in sorted(set(sources))}
    packed: list[Any] = []
    documents: list[list[Token]] = []
    for part in parts:
        found = _documents(part, rule)
        pieces = [piece for document in found for piece in _pieces(len(document), rule)]
        free = packed_one_by_one(pieces, rule.sequence_length)
        packed.append((len(found), len(pieces), len(free), sum(pieces)))
        documents += found
    for number, document in enumerate(documents):
        tallies[sources[document[-1].sample]].documents += 1
        for at, token in enumerate(document):
            token.document, token.packed = number, rule.fragment or at < rule.sequence_length
    _count_tokens(tokens, documents, sources, tallies)
    _count_samples(rows, tokens, documents, sources, rule, cut, tallies)
    return Report(rule, cut, tallies, packed)


def _documents(part: list[Token], rule: Rule) -> list[list[Token]]:
    found, open_document = [], []
    for token, following in zip(part, [*part[1:], None], strict=True):
        open_document.append(token)
        if rule.metadata:
            ended = following is None or following.sample != token.sample
        else:
            ended = token.id == rule.eos and (rule.bos is None or following is None or following.id == rule.bos)
        if ended:
            found.append(open_document)
            open_document = []
    return found


def _pieces(length: int, rule: Rule) -> list[int]:
    limit = rule.sequence_length
    if rule.fragment:
        return [min(limit, length - start) for start in range(0, length, limit)]
    return [min(limit, length)]


def _count_tokens(
    tokens: list[Token], documents: list[list[Token]], sources: Sequence[int], tallies: dict[int, Tally]
) -> None:
    merged = [len({token.sample for token in document}) > 1 for document in documents]
    for token in tokens:
        tally = tallies[sources[token.sample]]
        names = ["packed" if token.packed else "tail" if token.document is None else "long", ""]
        if token.document is not None and merged[token.document]:
            names = ["packed", "mixed"] if token.packed else ["merged", ""]
        for name in filter(None, names):
            for kind in ("tokens", "trainable"):
                amount = 1 if kind == "tokens" else int(token.trainable)
                setattr(tally, f"{name}_{kind}", getattr(tally, f"{name}_{kind}") + amount)


def _count_samples(
    rows: Sequence[Row],
    tokens: list[Token],
    documents: list[list[Token]],
    sources: Sequence[int],
    rule: Rule,
    cut: int | None,
    tallies: dict[int, Tally],
) -> None:
    last_of_document = {id(document[-1]) for document in documents}
    for index, (ids, spans) in enumerate(rows):
        tally, own = tallies[sources[index]], [token for token in tokens if token.sample == index]
        tally.conversations += 1
        tally.empty += not own
        tally.tokens += len(ids)
        tally.trainable += sum(hi - lo for lo, hi in spans)
        ends = [id(token) in last_of_document for token in own]
        splits, unended = sum(ends[:-1]), bool(own) and not ends[-1]
        crossings = own[-1].part - own[0].part if own else 0
        tally.split += splits > 0
        tally.splits += splits
        tally.unended += unended
        tally.cut += unended and len(own) == cut
        tally.crossing += crossings > 0
        tally.crossings += crossings
        tally.long += len(own) > rule.sequence_length
        whole = any([id(token) for token in own] == [id(token) for token in document] for document in documents)
        tally.intact += bool(own) and whole and len(own) <= rule.sequence_length


# ---- helpers


def with_sources(rows: Sequence[Row], sources: Sequence[int]) -> Samples:
    samples = samples_of(rows)
    return Samples(samples.lengths, {**samples.columns, "source": np.array(sources, np.uint32)})


def scanned(
    rows: Sequence[Row],
    rule: Rule,
    *,
    part_items: int = 1 << 20,
    cut: int | None = None,
    sources: Sequence[int] | None = None,
    batch: int = 1000,
    block_tokens: int = 1 << 20,
) -> Report:
    numbers = sources or [0] * len(rows)
    batches = [
        with_sources(rows[lo : lo + batch], numbers[lo : lo + batch]) for lo in range(0, max(len(rows), 1), batch)
    ]
    return analyse(batches, rule, part_items, cut_length=cut, block_tokens=block_tokens)


def counts_of(report: Report) -> tuple[dict[int, Tally], list[Any]]:
    parts = [(p.documents, p.pieces, p.packing.instances, p.packing.tokens) for p in report.parts]
    return dict(report.by_source), parts


def row(*ids: int, trainable: Sequence[tuple[int, int]] = ()) -> Row:
    return tuple(ids), tuple(trainable)


def texts(report: Report) -> list[str]:
    return [cause.text for cause in causes(report)]


# ---- properties


@st.composite
def row_of_few_ids(draw: st.DrawFn) -> Row:
    ids = tuple(draw(st.lists(st.sampled_from([X, X, X, EOS, BOS]), max_size=14)))
    if draw(st.booleans()):
        ids = (*ids, EOS)
    edges = sorted(draw(st.sets(st.integers(0, len(ids)), max_size=6)))
    return ids, tuple(zip(edges[0::2], edges[1::2], strict=False))


rules = st.builds(
    Rule,
    st.sampled_from([1, 2, 4, 8, 32]),
    st.just(EOS),
    st.sampled_from([None, None, BOS, EOS]),
    fragment=st.booleans(),
    metadata=st.booleans(),
)


@given(
    st.lists(st.tuples(row_of_few_ids(), st.sampled_from([0, 0, 2, 5])), max_size=25),
    rules,
    st.sampled_from([1, 3, 7, 16, 1000]),
    st.sampled_from([1, 2, 5, 1000]),
    st.sampled_from([1, 4, 20, 1000]),
)
def test_the_scan_is_the_plain_reading(
    drawn: list[tuple[Row, int]], rule: Rule, part_items: int, batch: int, block_tokens: int
) -> None:
    rows, sources = [row for row, _ in drawn], [source for _, source in drawn]
    report = scanned(rows, rule, part_items=part_items, cut=4, sources=sources, batch=batch, block_tokens=block_tokens)
    expected = plain(rows, sources, rule, part_items, 4)
    tallies, parts = counts_of(report)
    assert tallies == expected.by_source
    assert parts == list(expected.parts)
    total = report.total
    assert total.dropped_tokens == total.tail_tokens + total.merged_tokens + total.long_tokens
    assert total.dropped_trainable == total.tail_trainable + total.merged_trainable + total.long_trainable
    assert total.packed_tokens == sum(part.packing.tokens for part in report.parts)
    assert total.documents == sum(part.documents for part in report.parts)
    assert causes(report) or total.intact == total.conversations


def test_a_document_that_is_open_over_many_blocks_is_carried() -> None:
    rows = [row(*[X] * 10, trainable=[(2, 7)]) for _ in range(300)] + [row(X, EOS)]
    sources = [index % 3 for index in range(len(rows))]
    for rule in (Rule(64, EOS), Rule(64, EOS, fragment=True)):
        report = scanned(rows, rule, sources=sources, block_tokens=10)
        assert counts_of(report) == (
            plain(rows, sources, rule, 1 << 20, None).by_source,
            [(1, 1, 1, 64)] if not rule.fragment else [(1, 47, 47, 3002)],
        )


# ---- by hand


def test_conversations_that_end_in_eos_arrive_whole() -> None:
    report = scanned([row(X, X, EOS, trainable=[(1, 3)]), row(X, EOS, trainable=[(0, 2)])], Rule(8, EOS))
    assert report.total == Tally(
        conversations=2,
        tokens=5,
        trainable=4,
        documents=2,
        packed_tokens=5,
        packed_trainable=4,
        intact=2,
    )
    assert (report.instances, report.pieces, report.efficiency) == (1, 2, 5 / 8)
    assert causes(report) == []
    assert not report.over(Fraction(0))


def test_no_eos_at_all_drops_everything() -> None:
    report = scanned([row(X, X, trainable=[(0, 1)]), row(X)], Rule(8, EOS))
    total = report.total
    assert (total.documents, total.packed_tokens, total.tail_tokens, total.tail_trainable) == (0, 0, 3, 1)
    assert (report.instances, report.efficiency) == (0, 0.0)
    assert report.over(Fraction(99, 100))
    assert texts(report) == [
        "2 conversations do not end in an EOS and merge with the next",
        "1 part holds no EOS: no document is found there, and OLMo-core before 3.0 stops with ZeroDivisionError",
        "3 tokens (1 trainable) are dropped: they lie behind the last end of a document in a part",
    ]


def test_a_double_eos_is_a_document_of_one_token() -> None:
    report = scanned([row(X, EOS, EOS), row(X, EOS)], Rule(4, EOS))
    total = report.total
    assert (total.documents, total.split, total.splits, total.intact, report.instances) == (3, 1, 1, 1, 2)
    assert texts(report) == ["1 conversation is split by an EOS before the last token, into 2 documents"]


def test_a_conversation_that_was_cut_merges_with_the_next_one() -> None:
    rows = [row(X, X, X, X, trainable=[(2, 4)]), row(X, X, EOS, trainable=[(1, 3)]), row(X, EOS)]
    report = scanned(rows, Rule(4, EOS), cut=4, sources=[0, 1, 1])
    assert report.by_source[0].merged_tokens == 0
    assert (report.by_source[1].merged_tokens, report.by_source[1].merged_trainable) == (3, 2)
    assert (report.by_source[0].documents, report.by_source[1].documents) == (0, 2)
    assert texts(report) == [
        "1 conversation cut at 4 when tokenized has no EOS and merges with the next",
        "4 tokens (2 trainable) reach the trainer in documents that hold tokens of more than one conversation",
        "3 tokens (2 trainable) are dropped: they lie behind the first 4 of merged documents",
    ]
    assert report.over(Fraction(1, 3))
    assert not report.over(Fraction(1, 2))
    # With the boundaries of the .csv.gz nothing merges.
    assert causes(scanned(rows, Rule(4, EOS, metadata=True), cut=4)) == []


def test_an_overlong_conversation_is_cut_or_split_into_pieces() -> None:
    rows = [row(*[X] * 9, EOS, trainable=[(3, 10)])]
    cut = scanned(rows, Rule(4, EOS))
    assert (cut.total.long_tokens, cut.total.long_trainable, cut.total.intact, cut.pieces) == (6, 6, 0, 1)
    assert texts(cut) == [
        "6 tokens (6 trainable) are dropped: they lie behind the first 4 of documents that are longer"
    ]
    pieces = scanned(rows, Rule(4, EOS, fragment=True))
    assert (pieces.total.dropped_tokens, pieces.pieces, pieces.instances) == (0, 3, 3)
    assert texts(pieces) == ["1 conversation is longer than 4 tokens and split into pieces of that length"]


def test_an_eos_at_the_edge_of_a_part_ends_a_document() -> None:
    report = scanned([row(X, X, X, EOS), row(X, X, X, EOS)], Rule(4, EOS), part_items=4)
    assert [(part.documents, part.packing.instances) for part in report.parts] == [(1, 1), (1, 1)]
    assert causes(report) == []


def test_a_document_that_crosses_a_part_is_cut_there() -> None:
    rows = [row(X, EOS), row(X, X, X, X, EOS, trainable=[(0, 5)]), row(X, EOS)]
    report = scanned(rows, Rule(8, EOS), part_items=4)
    total = report.total
    assert (total.documents, total.tail_tokens, total.tail_trainable) == (3, 3, 2)
    assert (total.crossing, total.crossings, total.intact) == (2, 2, 1)
    more = scanned([*rows[:2], row(X, EOS)], Rule(8, EOS), part_items=3)
    assert [part.documents for part in more.parts] == [1, 0, 2]
    assert "1 part holds no EOS" in " ".join(texts(more))
    assert "cut in two by the end of a part" in " ".join(texts(more))


def test_with_a_bos_an_eos_ends_a_document_only_in_front_of_it() -> None:
    rows = [row(BOS, X, EOS, X, EOS), row(BOS, X, EOS), row(X, EOS), row(BOS, EOS)]
    for block_tokens in (1, 1000):
        total = scanned(rows, Rule(16, EOS, BOS), block_tokens=block_tokens).total
        assert (total.documents, total.split, total.unended, total.intact) == (3, 0, 1, 2)
    # An EOS that ends a part needs no BOS behind it.
    assert scanned(rows, Rule(16, EOS, BOS), part_items=8).total.documents == 4
    assert texts(scanned(rows, Rule(16, EOS, BOS)))[0] == (
        "1 conversation does not end in an EOS that a BOS follows and merges with the next"
    )


def test_nothing_gives_nothing() -> None:
    report = scanned([], Rule(8, EOS))
    assert (report.total, report.parts, report.instances, causes(report)) == (Tally(), [], 0, [])
    assert not report.over(Fraction(0))


def test_empty_conversations_are_counted_and_found_by_nobody() -> None:
    report = scanned([row(), row(X, EOS), row(), row()], Rule(8, EOS, BOS), block_tokens=1)
    assert (report.total.conversations, report.total.empty, report.total.documents, report.total.intact) == (4, 3, 1, 1)
    assert texts(report) == ["3 conversations have no token and are not found"]


@pytest.mark.parametrize("length", [0, -4, 3, 1000, 4095])
def test_a_sequence_length_must_be_a_power_of_two(length: int) -> None:
    with pytest.raises(InvalidInputError, match="powers of two only"):
        Rule(length, EOS)


def test_wide_histograms_agree_with_numpy() -> None:
    rng = np.random.default_rng(3)
    ids = rng.integers(0, 300, 50_000)
    rows = [row(*part.tolist()) for part in np.split(ids, np.sort(rng.integers(0, 50_000, 400)))]
    report = scanned(rows, Rule(256, EOS), part_items=17_000, batch=37, block_tokens=900)
    lengths: Counter[int] = Counter()
    for lo in range(0, 50_000, 17_000):
        ends = np.flatnonzero(ids[lo : lo + 17_000] == EOS) + 1
        lengths.update(np.minimum(np.diff(ends, prepend=0), 256).tolist())
    assert report.total.packed_tokens == sum(length * count for length, count in lengths.items())
    assert report.total.documents == lengths.total() == int((ids == EOS).sum())
