"""``Repository.write``: an iterator of samples into a writer, passing over what an interrupted write has stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from castore.errors import InvalidInputError
from castore.format.schema import IGNORED_LABEL
from castore.ingest.sample_writer import SampleWriter
from castore.ingest.write_job import WriteResult

_EXAMPLE = frozenset({"input_ids", "labels", "labels_mask", "attention_mask"})


def write_all(writer: SampleWriter, samples: Iterable[Any]) -> WriteResult:
    """Write what an iterator gives, passing over what an interrupted write has stored.

    Raises:
        InvalidInputError: A sample cannot be, or one that is passed over is another than the stored one.
    """
    known, count = writer.position, 0
    with writer:
        for at, sample in enumerate(samples):
            token_ids, labels_mask, rest = _parts(sample, at)
            (writer.append if at >= known else writer.pass_over)(token_ids, labels_mask, **rest)
            count += 1
        if count < known:
            raise InvalidInputError(
                f"{count} samples were given, and the interrupted write has {known}: take another resume_key"
            )
    if writer.result is None:
        raise InvalidInputError("no sample was written")
    return writer.result


def _parts(sample: Any, at: int) -> tuple[Any, Any, dict[str, Any]]:
    """Token ids, mask, and what else ``append`` takes, of a sample in one of the forms that ``write`` takes."""
    if isinstance(sample, Mapping):
        rest = {name: value for name, value in sample.items() if name not in ("token_ids", "labels_mask")}
        if "token_ids" not in sample:
            if "input_ids" not in sample:
                raise InvalidInputError(f"sample {at} has no token_ids and no input_ids")
            return _example_parts(sample, at)
        return sample["token_ids"], sample.get("labels_mask"), rest
    if isinstance(sample, tuple) and len(sample) == 2 and not np.isscalar(sample[0]):
        return sample[0], sample[1], {}
    return sample, None, {}


def _example_parts(sample: Mapping[str, Any], at: int) -> tuple[Any, Any, dict[str, Any]]:
    """The same of an example for the trainers of Hugging Face: the form that ``Dataset.to_hf`` gives.

    ``labels`` are the ids, or −100 where the loss does not count; ``attention_mask`` says that there is no padding.
    """
    rest = {name: value for name, value in sample.items() if name not in _EXAMPLE}
    ids = np.asarray(sample["input_ids"])
    padding = sample.get("attention_mask")
    if padding is not None and not np.all(np.asarray(padding) == 1):
        raise InvalidInputError(f"sample {at}: attention_mask has zeros: give samples without padding")
    if "labels_mask" in sample or sample.get("labels") is None:
        return ids, sample.get("labels_mask"), rest
    labels = np.asarray(sample["labels"])
    if labels.shape != ids.shape:
        raise InvalidInputError(
            f"sample {at}: labels are of shape {list(labels.shape)}, input_ids are of shape {list(ids.shape)}"
        )
    mask = labels != IGNORED_LABEL
    wrong = np.flatnonzero(mask & (labels != ids))
    if len(wrong):
        place = int(wrong[0])
        raise InvalidInputError(
            f"sample {at}: labels[{place}] is {labels[place]}, where {IGNORED_LABEL} or the token {ids[place]} can be"
        )
    return ids, mask, rest
