"""Reading an output directory of open-instruct, in the layout that OLMo-core trains from.

A document is a range of one part, or of several where it crosses their ends. Parts are read, never mapped: somebody may
be writing to them. Everything that can contradict something else is compared when the folder is opened, so a folder
that is incomplete, half-written or mixed from two runs is refused with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from castore.errors import SourceError
from castore.format.samples import TOKENS_MAX, Column, Samples, SpanColumn
from castore.olmo.files import (
    STATISTICS_FILE,
    TOKENIZER_FILE_BYTES_MAX,
    Statistics,
    part_names,
    read_statistics,
)
from castore.olmo.parts import IDS, LABELS, ContentHash, Parts
from castore.olmo.sources import integer_of
from castore.store.files import open_regular

_ENDS_MAX = 4096
"""Documents of a part that are asked in which token documents end."""


class OlmoCoreFolder:
    """An output directory of ``convert_sft_data_for_olmocore.py``, or of ``castore export``.

    Args:
        path: The folder.
        beside: A folder whose boundaries are not parsed again where these are stored alike.

    Attributes:
        path: As it was spelled.
        statistics: The parsed ``dataset_statistics.json``.
        lengths: Tokens of every document in order, uint32[n]. Documents that cross parts are joined.
        id_bytes: Bytes of one id.

    Raises:
        SourceError: The folder is no such directory, or its files contradict each other.
    """

    def __init__(self, path: str, beside: OlmoCoreFolder | None = None) -> None:
        self.path = path
        self._said, self._names = read_statistics(path), part_names(path)
        self.statistics = Statistics(self._said)
        self.parts: Parts = Parts(path, self._names, {} if beside is None else beside.parts.bounds)
        self.id_bytes = self.parts.id_bytes
        self._starts = self._document_starts()
        lengths = np.diff(self._starts, append=self.tokens)
        if len(lengths) and int(lengths.max()) > TOKENS_MAX:
            at = int(lengths.argmax())
            raise SourceError(path, f"document {at} has {lengths[at]} tokens: at most {TOKENS_MAX} are possible")
        self.lengths = lengths.astype(np.uint32)

    @property
    def tokens(self) -> int:
        """Tokens of all documents."""
        return self.parts.starts[-1]

    @property
    def vocab_size(self) -> int:
        """The largest vocabulary whose ids have this width."""
        return 1 << min(8 * self.id_bytes, 63)

    @property
    def starts(self) -> NDArray[np.int64]:
        """Token at which every document begins, counted through all parts, int64[n]."""
        return self._starts

    @property
    def part_items(self) -> int | None:
        """Tokens of a full part; None where one part is all, which tells nothing of what would be a full one."""
        return self.parts[0].items if len(self.parts) > 1 else None

    def shuffled_count(self, otherwise: int = 0) -> int:
        """How many documents were shuffled, as far as the statistics tell; ``otherwise`` without statistics.

        Of a name that was twice in the mix they have the documents of both in the output, but count only the last
        one's before that.
        """
        total = 0
        for entry in self.statistics.datasets:
            kept = integer_of(entry.get("instances_after_transformation"), 0) or 0
            total += max(kept, integer_of(entry.get("final_instances_in_output"), 0) or 0)
        return total if self.statistics.datasets else otherwise

    def fits(self, vocab_size: int) -> bool:
        """Whether ids of a vocabulary are written in this width: the smallest unsigned type that holds them."""
        return next(width for width in (1, 2, 4, 8) if vocab_size - 1 < 1 << 8 * width) == self.id_bytes

    @cached_property
    def files(self) -> Mapping[str, bytes]:
        """Files of the folder's ``tokenizer/`` by name, empty if there are none."""
        folder = Path(self.path) / "tokenizer"
        names = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")
        return {name: _tokenizer_file(self.path, folder / name) for name in names if (folder / name).is_file()}

    @cached_property
    def shape(self) -> str:
        """BLAKE3 over width and boundaries, 64 hex digits: what can be told of the data without reading them."""
        hasher = blake3(self._starts.astype("<i8").data.cast("B"))  # which documents were joined, the parts do not tell
        for part in self.parts:
            starts = part.bounds.starts
            sizes = (part.id_bytes, part.items, len(starts))
            hasher.update(b"".join(size.to_bytes(8, "little") for size in sizes))
            hasher.update(starts.astype("<i8").data.cast("B"))
        return hasher.hexdigest()

    def digest(self) -> str:
        """BLAKE3 over shape, ids and labels of all documents, 64 hex digits.

        It is what ``ContentHash`` gives after all documents were used in their own order.
        """
        seen = ContentHash()
        self.parts.hash_all(seen)
        return seen.digest(self.shape)

    def check_unchanged(self) -> None:
        """Make sure that nobody wrote to the folder since it was opened.

        Raises:
            SourceError: Somebody did; the file is named.
        """
        self.parts.check_unchanged()
        if part_names(self.path) != self._names or read_statistics(self.path) != self._said:
            raise SourceError(self.path, "changed while it was read")

    # ---- documents

    def samples(self, lo: int, hi: int, seen: ContentHash | None = None) -> Samples:
        """Documents ``lo`` to ``hi`` with token_ids and labels_mask, which ``seen`` sees."""
        stop = int(self._starts[hi]) if hi < len(self._starts) else self.tokens
        return self._batch(self.lengths[lo:hi], [(int(self._starts[lo]), stop)], seen)

    def chosen(self, documents: NDArray[np.int64]) -> Samples:
        """The given documents in the given order, with token_ids and labels_mask."""
        return self._batch(self.lengths[documents], self._ranges(documents), None)

    def _ranges(self, documents: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Ranges of tokens of documents; those of documents that follow one another are one."""
        if not len(documents):
            return []
        first = np.flatnonzero(np.diff(documents, prepend=-2) != 1)
        last = np.append(first[1:], len(documents)) - 1
        starts, ends = self._starts[documents[first]], documents[last]
        stops = self._starts[ends] + self.lengths[ends]
        return list(zip(starts.tolist(), stops.tolist(), strict=True))

    def _batch(self, lengths: NDArray[np.uint32], ranges: list[tuple[int, int]], seen: ContentHash | None) -> Samples:
        ids, labels = self.parts.ranges(IDS, ranges), self.parts.ranges(LABELS, ranges)
        if seen is not None:
            seen.saw(IDS, ids)
            seen.saw(LABELS, labels)
        if ids.itemsize == 8 and len(ids) and int(ids.max()) >= 1 << 32:
            raise SourceError(self.path, f"token id {int(ids.max())} does not fit 32 bits")
        if len(labels) and int(labels.max()) > 1:
            raise SourceError(self.path, f"a label is {int(labels.max())}, not 0 or 1")
        columns: dict[str, Column] = {
            "token_ids": ids.astype(np.uint32, copy=False),
            "labels_mask": spans_of(labels, lengths),
        }
        return Samples(lengths, columns)

    def _document_starts(self) -> NDArray[np.int64]:
        """Token at which every document begins. A part's first document goes on from the part before, or it is new.

        A document that reaches the end of a full part and one that begins the next are written alike; the number of
        documents in the statistics tells how many of them are one. Where that leaves a choice, or there are no
        statistics, a document that ends in the token that most documents end in is complete.
        """
        starts = [part.bounds.starts + base for part, base in zip(self.parts, self.parts.starts, strict=False)]
        listed = sum(len(part) for part in starts)
        likely = self._joints() if len(self.parts) > 1 else []  # looking costs a read for every document looked at
        known = self.statistics.overall.get("total_instances")
        joined = sum(not complete for complete, _ in likely) if not isinstance(known, int) else listed - known
        if not 0 <= joined <= len(likely):
            raise SourceError(
                self.path,
                f"{STATISTICS_FILE} counts {known} documents, the boundaries list {listed} in {len(starts)} parts",
            )
        for _, part in likely[:joined]:
            starts[part] = starts[part][1:]
        return np.concatenate(starts)

    def _joints(self) -> list[tuple[bool, int]]:
        """(whether the document before it looks complete, part) of all parts but the first, by how likely it does not.

        It does if it ends in the token that most of the others end in; and it is if going on made it longer than any
        can be, as after one that was cut at that length. Of those that end so, ones that go on as documents rarely
        begin come first: templates put the token behind every turn too.
        """
        ends = [part.bounds.starts[1 : _ENDS_MAX + 1] - 1 for part in self.parts]
        if len(self.parts[-1].bounds.starts) <= _ENDS_MAX:  # the last document of all is complete
            ends[-1] = np.append(ends[-1], self.parts[-1].items - 1)
        tokens = np.concatenate([self._tokens_at(at, places) for at, places in enumerate(ends)])
        values, counts = np.unique(tokens, return_counts=True)
        usual = values[counts.argmax()]
        begun = [self._two_at(at, part.bounds.starts[at > 0 : _ENDS_MAX]) for at, part in enumerate(self.parts)]
        pairs, times = np.unique(np.concatenate(begun), return_counts=True)
        often = dict(zip(pairs.tolist(), times.tolist(), strict=True))
        longest = integer_of(self.statistics.configuration.get("max_sequence_length"), None)
        joints = []
        for at, (part, after) in enumerate(pairwise(self.parts), 1):
            length = part.items - int(part.bounds.starts[-1]) + int(np.append(after.bounds.starts, after.items)[1])
            too_long = longest is not None and length > longest
            begins = often.get(int(self._two_at(at, np.zeros(1, np.int64))[0]), 0)
            ended = self._tokens_at(at - 1, np.array([part.items - 1]))[0] == usual
            joints.append((too_long, bool(ended), begins, at))
        return [(too_long or ended, at) for too_long, ended, _, at in sorted(joints)]

    def _tokens_at(self, part: int, at: NDArray[np.int64]) -> NDArray[Any]:
        """The token at each place of a part."""
        return self.parts.ranges(IDS, [(place, place + 1) for place in (at + self.parts.starts[part]).tolist()])

    def _two_at(self, part: int, at: NDArray[np.int64]) -> NDArray[np.uint64]:
        """The token at each place of a part and the one after it, as one number."""
        after = np.minimum(at + 1, self.parts[part].items - 1)
        two = self._tokens_at(part, at), self._tokens_at(part, after)
        return two[0].astype(np.uint64) << np.uint64(32) | two[1].astype(np.uint64)


def _tokenizer_file(shown: str, path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            data = file.read(TOKENIZER_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise SourceError(shown, f"tokenizer/{path.name}: {error.strerror}") from error
    if len(data) > TOKENIZER_FILE_BYTES_MAX:
        raise SourceError(shown, f"tokenizer/{path.name} is larger than {TOKENIZER_FILE_BYTES_MAX} bytes")
    return data


def spans_of(labels: NDArray[np.uint8], lengths: NDArray[Any]) -> SpanColumn:
    """Maximal true spans within each document.

    Args:
        labels: uint8[sum(lengths)] of 0 and 1.
        lengths: Elements of each document.
    """
    return SpanColumn.of_mask(labels.view(np.bool_), lengths)


def check_statistics(folder: OlmoCoreFolder) -> None:
    """Compare the counts of the statistics with the files.

    Raises:
        SourceError: They are of another run.
    """
    found = {"total_instances": len(folder.lengths), "total_tokens": folder.tokens}
    for field, count in found.items():
        said = folder.statistics.overall.get(field)
        if isinstance(said, int) and said != count:
            raise SourceError(folder.path, f"{STATISTICS_FILE} says {field} {said}, the files hold {count}")
