"""Which files an output directory of open-instruct has, and what its statistics say: told without numpy."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from castore.errors import SourceError
from castore.store.files import open_regular

STATISTICS_FILE = "dataset_statistics.json"
STATISTICS_BYTES_MAX = 64 * 1024 * 1024
TOKENIZER_FILE_BYTES_MAX = 128 * 1024 * 1024
"""The largest ``tokenizer.json`` there is has 34 MB; as an object it must stay below 256 MiB."""

BOUNDS_LINE_MAX = 42
"""Bytes of a line of boundaries: two numbers of at most 20 digits."""

GZIP_TIME = slice(4, 8)
"""Bytes of a gzip file that tell when it was written (RFC 1952)."""

_PART_FILE = re.compile(r"(token_ids|labels_mask)_part_([0-9]{4,})\.(npy|csv\.gz)")


def read_statistics(folder: str) -> dict[str, Any]:
    """The parsed ``dataset_statistics.json``, empty if there is none.

    Raises:
        SourceError: It is no JSON object.
    """
    path = os.path.join(folder, STATISTICS_FILE)  # noqa: PTH118 - pathlib costs start-up
    try:
        if os.stat(path).st_size > STATISTICS_BYTES_MAX:  # noqa: PTH116
            raise SourceError(folder, f"{STATISTICS_FILE} is larger than {STATISTICS_BYTES_MAX} bytes")
        with open_regular(path) as file:
            statistics = json.loads(file.read())
    except FileNotFoundError:
        return {}
    except NotADirectoryError as error:
        raise SourceError(folder, "is no folder") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(folder, f"{STATISTICS_FILE} is not JSON: {error}") from error
    except OSError as error:
        raise SourceError(folder, f"{STATISTICS_FILE}: {error.strerror}") from error
    if not isinstance(statistics, dict):
        raise SourceError(folder, f"{STATISTICS_FILE} is not a JSON object")
    return statistics


def part_names(folder: str) -> list[tuple[str, str, str]]:
    """Names of ids, labels and boundaries of every part, none missing.

    Raises:
        SourceError: The folder cannot be listed, is not finished, or lacks a file.
    """
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208
    except OSError as error:
        raise SourceError(folder, error.strerror or "cannot be listed") from error
    partial = [name for name in names if ".partial." in name]
    if partial:
        raise SourceError(folder, f"holds {partial[0]}: the run that writes it is not finished")
    found = {name for name in names if _PART_FILE.fullmatch(name)}
    count = max((int(match[2]) + 1 for name in found if (match := _PART_FILE.fullmatch(name))), default=0)
    if count == 0:
        raise SourceError(folder, "holds no token_ids_part_0000.npy: it is no output directory of open-instruct")
    parts = []
    for i in range(count):
        part = f"token_ids_part_{i:04d}.npy", f"labels_mask_part_{i:04d}.npy", f"token_ids_part_{i:04d}.csv.gz"
        for name in part:
            if name not in found:
                raise SourceError(folder, f"{name} is missing")
        parts.append(part)
    return parts


class Statistics:
    """``dataset_statistics.json`` of a directory, whatever is in it: what is not as it should be counts as absent.

    Args:
        document: The parsed document; empty if there is none.

    Attributes:
        overall: Counts over all datasets.
        configuration: What the directory was made with.
        datasets: One map a dataset, in order of first appearance.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.overall = _map_of(document.get("overall_statistics"))
        self.configuration = _map_of(document.get("configuration"))
        listed = document.get("per_dataset_statistics")
        self.datasets = [_map_of(entry) for entry in listed] if isinstance(listed, list) else []


def _map_of(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
