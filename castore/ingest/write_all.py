"""``Repository.write``: an iterator of samples into a writer, passing over what an interrupted write has stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from castore.errors import InvalidInputError
from castore.ingest.write_job import WriteResult
from castore.ingest.writer import SampleWriter


def write_all(writer: SampleWriter, samples: Iterable[Any]) -> WriteResult:
    """Write what an iterator gives, passing over what an interrupted write has stored.

    Raises:
        InvalidInputError: A sample that was passed over has other tokens than the stored one.
    """
    known, count = writer.position, 0
    with writer:
        for at, sample in enumerate(samples):
            token_ids, labels_mask, rest = _parts(sample, at)
            if at >= known:
                writer.append(token_ids, labels_mask, **rest)
            elif not writer.is_known(at, token_ids):
                raise InvalidInputError(
                    f"sample {at} is another than the one that the interrupted write has: take another resume_key"
                )
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
            raise InvalidInputError(f"sample {at} has no token_ids")
        return sample["token_ids"], sample.get("labels_mask"), rest
    if isinstance(sample, tuple) and len(sample) == 2 and not np.isscalar(sample[0]):
        return sample[0], sample[1], {}
    return sample, None, {}
