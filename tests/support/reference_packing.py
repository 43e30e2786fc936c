"""Packings as ``docs/format/packings.md`` says: slow, obvious, a document at a time, no numpy, nothing of castore."""

from __future__ import annotations

from collections.abc import Sequence

Document = tuple[int, int]
"""First token and tokens, in the stream of all samples in their order."""


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Documents by instance."""
    instances: list[list[int]] = []
    space: list[int] = []
    since: list[int] = []  # when an instance came to have its space
    for time, document in enumerate(longest_first(lengths)):
        length = lengths[document]
        fitting = [i for i in range(len(instances)) if space[i] >= length]
        if fitting:
            chosen = min(fitting, key=lambda i: (space[i], since[i]))
        else:
            chosen = len(instances)
            instances.append([])
            space.append(capacity)
            since.append(time)
        instances[chosen].append(document)
        space[chosen] -= length
        since[chosen] = time
    return instances


def longest_first(lengths: Sequence[int]) -> list[int]:
    return sorted(range(len(lengths)), key=lambda document: -lengths[document])


def refilled(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Documents by instance, each filled as far as any choice can."""
    waiting: dict[int, list[int]] = {}
    for document, length in enumerate(lengths):
        waiting.setdefault(length, []).append(document)
    most_tried = max(64, 2097152 // capacity)
    instances = []
    while waiting:
        longest = max(waiting)
        left = {length: len(documents) - (length == longest) for length, documents in waiting.items()}
        fitting = sorted(length for length, count in left.items() if count and length <= capacity - longest)
        if len(fitting) > most_tried:
            fitting = [fitting[i * len(fitting) // most_tried] for i in range(most_tried)]
        filling = {longest: 1}
        for length, count in fullest(fitting, left, capacity - longest).items():
            filling[length] = filling.get(length, 0) + count
        times = min(len(waiting[length]) // count for length, count in filling.items())
        for _ in range(times):
            instance = []
            for length in sorted(filling, reverse=True):
                instance += waiting[length][: filling[length]]
                del waiting[length][: filling[length]]
            instances.append(instance)
        waiting = {length: documents for length, documents in waiting.items() if documents}
    return instances


def fullest(fitting: Sequence[int], left: dict[int, int], space: int) -> dict[int, int]:
    """How many of each length sum to the most that fits; of several choices the one with most of the longest, …"""
    sums = [{0}]  # of choices among the first lengths
    for length in fitting:
        sums.append({s + n * length for s in sums[-1] for n in range(left[length] + 1) if s + n * length <= space})
    rest, chosen = max(sums[-1]), {}
    for at in range(len(fitting) - 1, -1, -1):
        length = fitting[at]
        count = max(n for n in range(left[length] + 1) if rest - n * length in sums[at])
        if count:
            chosen[length] = count
        rest -= count * length
    return chosen


def of_documents(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Documents by instance in mode ``documents``."""
    packed = best_fit(lengths, capacity)
    needed = -(-sum(lengths) // capacity)
    if len(packed) > needed + needed // 1000:
        again = refilled(lengths, capacity)
        if len(again) < len(packed):
            return again
    return packed


def in_pieces(begin: int, length: int, capacity: int) -> list[Document]:
    return [(begin + at, min(capacity, length - at)) for at in range(0, length, capacity)]


def samples_as_documents(lengths: Sequence[int], capacity: int) -> list[list[Document]]:
    """Instances of mode ``documents`` over samples of these lengths."""
    documents, begin = [], 0
    for length in lengths:
        documents += in_pieces(begin, length, capacity)
        begin += length
    return [[documents[i] for i in instance] for instance in of_documents([n for _, n in documents], capacity)]


def olmo_core(
    stream: Sequence[int], capacity: int, eos: int, bos: int | None, fragment: bool, part_items: int
) -> list[list[Document]]:
    """Instances of mode ``olmo-core`` over a stream of ids."""
    instances = []
    for base in range(0, len(stream), part_items):
        end = min(base + part_items, len(stream))
        documents, begin = [], base
        for at in range(base, end):
            ends_it = at + 1 == base + part_items or at + 1 == len(stream) or bos is None or stream[at + 1] == bos
            if stream[at] == eos and ends_it:
                length = at + 1 - begin
                documents += in_pieces(begin, length, capacity) if fragment else [(begin, min(length, capacity))]
                begin = at + 1
        packed = best_fit([length for _, length in documents], capacity)
        instances += [[documents[i] for i in instance] for instance in packed]
    return instances


def columns(
    instances: Sequence[Sequence[Document]], samples: Sequence[int], lengths: Sequence[int]
) -> dict[str, list[int]]:
    """The columns of a packing; ``samples`` and ``lengths`` are the samples of the stream and their tokens."""
    found: dict[str, list[int]] = {
        name: []
        for name in ("instance_documents", "document_segments", "segment_sample", "segment_start", "segment_length")
    }
    for instance in instances:
        found["instance_documents"].append(len(instance))
        for begin, length in instance:
            segments, start = 0, 0
            for sample, tokens in zip(samples, lengths, strict=True):
                first, last = max(begin, start), min(begin + length, start + tokens)
                if first < last:
                    segments += 1
                    found["segment_sample"].append(sample)
                    found["segment_start"].append(first - start)
                    found["segment_length"].append(last - first)
                start += tokens
            found["document_segments"].append(segments)
    return found
