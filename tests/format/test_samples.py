"""Batches of samples: columns, slices, masks, and chunks that are functions of the samples alone."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from castore.errors import InvalidInputError
from castore.format.chunk import decode_values, encode_spans, encode_values, uint32s, values_header
from castore.format.samples import Samples, SpanColumn, decode_column, offsets_of, sample_keys
from castore.format.schema import ITEM_BYTES, KEY, LABELS_MASK, LENGTH, ROW, TOKEN_IDS
from tests.support.spans import decode_spans
from tests.support.strategies import FINE, Row, row_lists, samples_of

big_endian = np.dtype(">u4")


@given(row_lists)
def test_chunks_round_trip(rows: list[Row]) -> None:
    samples = samples_of(rows)
    tokens = decode_values(samples.encode(TOKEN_IDS).data, "uint32")
    assert (tokens.sample_count, tokens.item_count) == (len(rows), sum(len(ids) for ids, _ in rows))
    assert list(uint32s(tokens.items)) == [t for ids, _ in rows for t in ids]
    assert np.array_equal(decode_column(tokens), samples.columns["token_ids"])
    spans = decode_spans(samples.encode(LABELS_MASK).data)
    assert [tuple(row) for row in spans.by_sample()] == [s for _, s in rows]
    column = spans.column
    assert column.encode().data == samples.encode(LABELS_MASK).data


@given(row_lists)
def test_masks(rows: list[Row]) -> None:
    samples = samples_of(rows)
    column = samples.columns["labels_mask"]
    assert isinstance(column, SpanColumn)
    expected = []
    for ids, spans in rows:
        row = [0] * len(ids)
        for start, stop in spans:
            row[start:stop] = [1] * (stop - start)
        expected += row
    assert column.mask(samples.lengths).tolist() == expected


@given(row_lists, st.integers(0, 130), st.integers(0, 130))
def test_slices_and_concatenation(rows: list[Row], i: int, j: int) -> None:
    lo, hi = sorted((i % (len(rows) + 1), j % (len(rows) + 1)))
    samples = samples_of(rows)
    parts = [samples.slice(*part, FINE) for part in ((0, lo), (lo, hi), (hi, len(rows)))]
    again = Samples.concat(parts, FINE)
    for array in FINE:
        assert again.encode(array) == samples.encode(array)
        assert parts[1].encode(array) == samples_of(rows[lo:hi]).encode(array)
    assert decode_spans(samples.encode(LABELS_MASK).data).by_sample(lo, hi) == [list(s) for _, s in rows[lo:hi]]


def test_byte_order_and_layout_of_memory_do_not_show() -> None:
    ids = np.array([1, 2, 3, 2**31], np.uint32)
    lengths = np.array([3, 1], np.uint32)
    plain = Samples(lengths, {"token_ids": ids}).encode(TOKEN_IDS)
    strided = np.repeat(ids, 2)[::2]
    for other in (ids.astype(big_endian), strided, ids.astype("<u4")):
        assert Samples(lengths, {"token_ids": other}).encode(TOKEN_IDS) == plain
        assert np.array_equal(sample_keys(other, lengths), sample_keys(ids, lengths))
    rows = np.array([5, 2**40], ">u8")
    assert decode_values(Samples(lengths, {"row": rows}).encode(ROW).data, "uint64").items[:8] == b"\5" + bytes(7)


def test_keys_and_lengths() -> None:
    lengths = np.array([2, 0, 1], np.uint32)
    keys = sample_keys(np.array([7, 8, 9], np.uint32), lengths)
    samples = Samples(lengths, {"key": keys, "length": lengths})
    column = decode_column(decode_values(samples.encode(KEY).data, "bytes16"))
    assert isinstance(column, np.ndarray)
    assert np.array_equal(column, keys)
    assert decode_values(samples.encode(LENGTH).data, "uint32").item_count == 3
    assert len(set(map(bytes, keys))) == 3


def test_the_hint_for_the_compressor_points_at_the_integers() -> None:
    made = samples_of([((1, 2), ((0, 1),))])
    tokens, spans = made.encode(TOKEN_IDS), made.encode(LABELS_MASK)
    assert tokens.u32_tail is not None
    assert tokens.data[tokens.u32_tail :] == b"\1\0\0\0\2\0\0\0"
    assert spans.u32_tail is not None
    assert len(spans.data) - spans.u32_tail == 12


def test_a_span_over_the_end_of_its_sample() -> None:
    column = SpanColumn(*(np.array(part, np.uint32) for part in ([1], [0], [3])))
    with pytest.raises(InvalidInputError):
        column.mask(np.array([2], np.uint32))


def test_offsets() -> None:
    assert offsets_of(np.array([], np.uint32)).tolist() == [0]
    assert offsets_of(np.array([2**31, 2**31, 2**31], np.uint32)).tolist() == [0, 2**31, 2**32, 3 * 2**31]


def test_a_header_says_what_the_whole_would() -> None:
    """What the header of a values chunk is accepted for, decoding accepts too, and says the same."""
    draw = random.Random(1)
    accepted = refused = 0
    for _ in range(4000):
        dtype = draw.choice(sorted(ITEM_BYTES))
        count = draw.choice([0, 1, 15, 16, 31, 127, 128, 255, 256, 9000])
        data = encode_values(dtype, draw.choice([count, 0, 1 << 40]), bytes(ITEM_BYTES[dtype] * count)).data
        if draw.random() < 0.7:
            at = draw.randrange(min(len(data), 40))
            data = draw.choice([data[:at], data + b"\0", data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :]])
        header = values_header(data)
        if header is None:
            refused += 1
            continue
        accepted += 1
        whole = decode_values(data, header[0])
        assert header == (whole.dtype, whole.sample_count, whole.item_count)
    assert accepted > 1000
    assert refused > 1000
    assert values_header(encode_spans(b"", b"", b"").data) is None
