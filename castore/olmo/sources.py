"""Which documents of an output directory came from which entry of its mix, told from its statistics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castore.format.run import SourceRecord, is_amount, unnamed_source

SOURCES_MAX = 64
"""Entries of a mix that are searched for; the search itself is short, since counts of tokens rarely agree by chance."""

_STEPS_MAX = 100_000


def sources_in_mix_order(
    listed: Sequence[Mapping[str, Any]], lengths: NDArray[Any], trainable: Callable[[], NDArray[Any]]
) -> list[Mapping[str, Any]] | None:
    """Put the datasets of the statistics into the order of the mix.

    The statistics list them in order of first appearance in the shuffled output, with documents, tokens and trainable
    tokens of each. Once the shuffle is undone the datasets are contiguous, so the right order is one in which every
    stretch has the counts of its dataset.

    Args:
        listed: Datasets as the statistics list them.
        lengths: Tokens of every document with the shuffle undone.
        trainable: Gives the trainable tokens of every document, likewise. Not asked for if no order has the tokens.

    Returns:
        The entries in mix order, or None if no order fits (a name that occurs twice in a mix is one entry there).
    """
    if not 1 <= len(listed) <= SOURCES_MAX:
        return None
    counts = [_counts(entry) for entry in listed]
    tokens = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    if _search(counts, tokens, None) is None:
        return None
    found = _search(counts, tokens, np.concatenate([[0], np.cumsum(trainable(), dtype=np.int64)]))
    return None if found is None else [listed[index] for index in found]


def _search(
    counts: Sequence[tuple[int, int, int]], tokens: NDArray[np.int64], trained: NDArray[np.int64] | None
) -> list[int] | None:
    """An order of datasets in which each has its counts; trainable tokens are left out of it if they are None."""
    steps = 0

    def search(at: int, left: tuple[int, ...]) -> list[int] | None:
        nonlocal steps
        steps += 1
        if not left:
            return [] if at == len(tokens) - 1 else None
        for index in left if steps < _STEPS_MAX else ():
            samples, token_count, trained_count = counts[index]
            stop = at + samples
            fits = stop < len(tokens) and tokens[stop] - tokens[at] == token_count
            if fits and (trained is None or trained[stop] - trained[at] == trained_count):
                rest = search(stop, tuple(i for i in left if i != index))
                if rest is not None:
                    return [index, *rest]
        return None

    return search(0, tuple(range(len(counts))))


def sources_of_numbers(
    listed: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    numbers: NDArray[Any],
    lengths: NDArray[Any],
    trainable: Callable[[], NDArray[Any]],
) -> list[Mapping[str, Any]] | None:
    """The datasets of the statistics as the sources that documents are supposed to be of.

    Args:
        listed: Datasets as the statistics list them.
        names: Of the sources; one name may be that of several, which are one entry in the statistics.
        numbers: Supposed source of every document.
        lengths: Tokens of every document.
        trainable: Gives the trainable tokens of every document.

    Returns:
        An entry for every source, or None if the statistics have other counts than the supposed sources.
    """
    if not listed:
        return None
    merged = np.array([names.index(name) for name in names], np.int64)[numbers]
    trained = trainable()
    entries: dict[int, Mapping[str, Any]] = {}
    left = list(listed)
    for number in np.unique(merged).tolist():
        chosen = merged == number
        counts = int(chosen.sum()), int(lengths[chosen].sum(dtype=np.int64)), int(trained[chosen].sum())
        fitting = [entry for entry in left if _counts(entry) == counts]
        if not fitting:
            return None
        # Of datasets with equal counts the one of the same name, if it has kept that.
        entries[number] = next((e for e in fitting if _name(e) == names[number]), fitting[0])
        left = [entry for entry in left if entry is not entries[number]]
    if left:
        return None
    return [entries.get(names.index(name), {"dataset_name": name}) for name in names]


def sources_of_names(listed: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Mapping[str, Any]] | None:
    """The datasets of the statistics that have the names of sources, or None if there are others.

    A source that is not listed, which are all of a directory without statistics, is one of its name alone.
    """
    own = {_name(entry): entry for entry in listed}
    return None if set(own) - set(names) else [own.get(name, {"dataset_name": name}) for name in names]


def _counts(entry: Mapping[str, Any]) -> tuple[int, int, int]:
    names = ("final_instances_in_output", "final_tokens_in_output", "final_trainable_tokens_in_output")
    # A count that is absent or no integer matches nothing.
    samples, tokens, trained = (_integer(entry, name, -1) for name in names)
    return samples, tokens, trained


def source_records(entries: Sequence[Mapping[str, Any]]) -> list[SourceRecord]:
    """Entries of the statistics as sources of a run record."""
    records = []
    for number, entry in enumerate(entries):
        dropped = _integer(entry, "instances_filtered_during_transformation")
        records.append(
            SourceRecord(
                _name(entry) or unnamed_source(number),
                amount=_amount(entry.get("frac_or_num_samples")),
                dropped={"nothing-trainable": dropped} if dropped else {},
                rows=_integer(entry, "original_dataset_size"),
                samples=_integer(entry, "instances_after_transformation"),
                selected=_integer(entry, "initial_instances"),
                split=text_of(entry.get("dataset_split", "train")),
                tokens=_integer(entry, "final_tokens_in_output"),
                trainable=_integer(entry, "final_trainable_tokens_in_output"),
            )
        )
    return records


def _name(entry: Mapping[str, Any]) -> str:
    """Name of a dataset of the statistics, empty if they have none."""
    value = entry.get("dataset_name")
    return "" if value is None else text_of(value)


def text_of(value: object) -> str:
    """A value as text; what is no Unicode is spelled out."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def integer_of(value: object, otherwise: int | None) -> int | None:
    """A value if it is an integer that can be recorded, else ``otherwise``."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63 else otherwise


def _integer(entry: Mapping[str, Any], name: str, otherwise: int = 0) -> int:
    value = integer_of(entry.get(name), None)
    return otherwise if value is None else value


def _amount(value: object) -> str:
    """An amount as a mix spells it: a share has a point and no exponent."""
    if isinstance(value, float) and math.isfinite(value):
        from decimal import Decimal  # only here: it costs start-up

        text = f"{Decimal(repr(value)):f}"
        text = text if "." in text else f"{text}.0"
    else:
        text = str(integer_of(value, None) or "1.0")
    return text if is_amount(text) else "1.0"
