"""Which documents of an output directory came from which entry of its mix, told from its statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castore.format.codec import Value

SOURCES_MAX = 64
"""Entries of a mix that are searched for; the search itself is short, since counts of tokens rarely agree by chance."""

_STEPS_MAX = 100_000


def sources_in_mix_order(
    statistics: Mapping[str, Any], lengths: NDArray[Any], trainable: NDArray[Any]
) -> list[Mapping[str, Any]] | None:
    """Put the datasets of the statistics into the order of the mix.

    The statistics list them in order of first appearance in the shuffled output, with documents, tokens and trainable
    tokens of each. Once the shuffle is undone the datasets are contiguous, so the right order is one in which every
    stretch has the counts of its dataset.

    Args:
        statistics: ``dataset_statistics.json``.
        lengths: Tokens of every document with the shuffle undone.
        trainable: Trainable tokens of every document, likewise.

    Returns:
        The entries in mix order, or None if no order fits (a name that occurs twice in a mix is one entry there).
    """
    listed = statistics.get("per_dataset_statistics", [])
    if not isinstance(listed, list) or not 1 <= len(listed) <= SOURCES_MAX:
        return None
    tokens = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    trained = np.concatenate([[0], np.cumsum(trainable, dtype=np.int64)])
    counts = [_counts(entry) for entry in listed]
    steps = 0

    def search(at: int, left: tuple[int, ...]) -> list[int] | None:
        nonlocal steps
        steps += 1
        if not left:
            return [] if at == len(lengths) else None
        for index in left if steps < _STEPS_MAX else ():
            samples, token_count, trained_count = counts[index]
            stop = at + samples
            fits = stop <= len(lengths) and tokens[stop] - tokens[at] == token_count
            if fits and trained[stop] - trained[at] == trained_count:
                rest = search(stop, tuple(i for i in left if i != index))
                if rest is not None:
                    return [index, *rest]
        return None

    found = search(0, tuple(range(len(listed))))
    return None if found is None else [listed[index] for index in found]


def _counts(entry: Any) -> tuple[int, int, int]:
    names = ("final_instances_in_output", "final_tokens_in_output", "final_trainable_tokens_in_output")
    values = [entry.get(name) if isinstance(entry, dict) else None for name in names]
    # A count that is absent or no integer matches nothing.
    samples, tokens, trained = (value if isinstance(value, int) and value >= 0 else -1 for value in values)
    return samples, tokens, trained


def source_documents(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Value]]:
    """Entries of the statistics as sources of a run record."""
    documents: list[dict[str, Value]] = []
    for entry in entries:
        dropped = _integer(entry, "instances_filtered_during_transformation")
        amount = entry.get("frac_or_num_samples", 1.0)
        documents.append(
            {
                "amount": str(amount),
                "dropped": {"nothing-trainable": dropped} if dropped else {},
                "name": str(entry.get("dataset_name", "dataset")),
                "rows": _integer(entry, "original_dataset_size"),
                "samples": _integer(entry, "instances_after_transformation"),
                "selected": _integer(entry, "initial_instances"),
                "split": str(entry.get("dataset_split", "train")),
                "tokens": _integer(entry, "final_tokens_in_output"),
                "trainable": _integer(entry, "final_trainable_tokens_in_output"),
            }
        )
    return documents


def _integer(entry: Mapping[str, Any], name: str) -> int:
    value = entry.get(name)
    return value if isinstance(value, int) and value >= 0 else 0
