"""The OLMo-core layout: raw little-endian parts of ids, a byte a label, boundaries as gzipped text.

Facts of the layout are those of open-instruct's ``convert_sft_data_for_olmocore.py``, which writes it, and of
OLMo-core, which reads it: headerless files ``token_ids_part_%04d.npy`` of at most 1 GiB, ``labels_mask_part_%04d.npy``
over the same tokens, ``token_ids_part_%04d.csv.gz`` with ``start,end`` of every document that touches the part.
"""

from __future__ import annotations

from typing import NamedTuple

from castore.errors import InvalidInputError
from castore.read.columns import Columns, ids_end_of, vocab_size_of

PART_BYTES = 1 << 30
"""Bytes of ids in a full part."""

PART_BYTES_MIN = 1 << 12
"""Fewest that may be asked for: every part is three files."""


class Place(NamedTuple):
    """A byte of an exported file."""

    file: str
    offset: int


def part_size(asked: int | None) -> int:
    """Bytes of ids in a full part: what was asked for, or ``PART_BYTES``.

    Raises:
        InvalidInputError: Fewer than ``PART_BYTES_MIN`` were.
    """
    if asked is not None and asked < PART_BYTES_MIN:
        raise InvalidInputError(f"parts of {asked} bytes: give at least {PART_BYTES_MIN}")
    return PART_BYTES if asked is None else asked


def id_bytes(vocab_size: int) -> int:
    """Bytes of one id of a vocabulary: the smallest unsigned type that holds ``vocab_size - 1``."""
    return next(width for width in (1, 2, 4, 8) if vocab_size - 1 < 1 << 8 * width)


def id_width(data: Columns) -> int:
    """Bytes of one exported id of a dataset.

    Those that open-instruct takes, which come from its vocabulary without added tokens outside it; more if an id of an
    exported sample does not fit them. All ids are read only if there may be such ids.
    """
    said = id_bytes(vocab_size_of(data))
    return max(said, id_bytes(data.largest_id + 1)) if _may_overflow(data, said) else said


def _may_overflow(data: Columns, width: int) -> bool:
    """Whether an id may not fit: of a directory all do, and four bytes hold all."""
    if width >= 4 or not data.root or data.run is None:
        return False
    how = data.run.configuration
    by_program = how.mix_seed is None and how.imported is None  # which may give ids that the tokenizer does not have
    return by_program or ids_end_of(data) > 1 << 8 * width


def ids_file(part: int) -> str:
    """Name of a part of the ids."""
    return f"token_ids_part_{part:04d}.npy"


def labels_file(part: int) -> str:
    """Name of a part of the labels."""
    return f"labels_mask_part_{part:04d}.npy"


def boundaries_file(part: int) -> str:
    """Name of a part of the boundaries."""
    return f"token_ids_part_{part:04d}.csv.gz"


PLACED_SAMPLES_MAX = 1 << 16
"""Samples of a shuffled dataset up to which a place is found by the way: it takes the lengths of all of them."""


def place_is_cheap(data: Columns) -> bool:
    """Whether finding a place takes no more time than people would want to wait for it unasked."""
    if data.manifest.samples <= PLACED_SAMPLES_MAX:
        return True
    return data.manifest.order is None and not _may_overflow(data, id_bytes(vocab_size_of(data)))


def place_of(data: Columns, sample: int, index: int, array: str) -> Place | None:
    """Where element ``index`` of a sample stands in an export, or in the directory that the dataset is.

    None if the order leaves the sample out.
    """
    start = _export_start(data, sample)
    if start is None:
        return None
    width = id_width(data)
    part, item = divmod(start + index, data.part_items or PART_BYTES // width)
    return Place(labels_file(part), item) if array == "labels_mask" else Place(ids_file(part), item * width)


def _export_start(data: Columns, sample: int) -> int | None:
    """Tokens before a sample in an export."""
    order = data.manifest.order
    if order is None:
        return int(data.reader.sample_offsets(sample, sample + 1)[0])
    import numpy as np

    from castore.read.whole import whole_lengths

    positions = order.positions(data.fetch)
    at = np.flatnonzero(positions == sample)
    if len(at) == 0:
        return None
    lengths = whole_lengths(data)
    return int(lengths[positions[: int(at[0])]].sum(dtype=np.int64))
