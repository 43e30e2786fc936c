"""Local folders of the ``datasets`` library, read from their files.

The library finds the files of a split. It does not read them where castore can: its cache goes by the time of a file,
so that what it gives may be what was there before; and its JSON loader makes times of texts that are dates, floats of
integers and nulls of keys that are not there. What castore has no reader for is read by the library in a cache of its
own, which is empty.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from castore.errors import InvalidInputError, SourceError
from castore.ingest.arrow_file import ArrowReader
from castore.ingest.defaults import FILE_SPLIT
from castore.ingest.hub import HubReader, datasets_library, loading
from castore.ingest.joined import JoinedPart, JoinedReader
from castore.ingest.readers import FileReader, RowReader, opened
from castore.ingest.source import READ_SUFFIXES, open_reader

_STATE, _INFO, _DICT = "state.json", "dataset_info.json", "dataset_dict.json"
_STATE_BYTES_MAX = 1 << 24


def open_folder(name: str, split: str, revision: str) -> tuple[RowReader, tuple[str, ...]]:
    """The rows of a split of a folder, and lines that the user should see.

    Args:
        name: The folder, as ``load_dataset`` takes it or as ``save_to_disk`` made it.
        split: As ``load_dataset`` takes it; of a folder of ``save_to_disk`` the name of one.
        revision: Passed on to the library where that reads.

    Raises:
        SourceError: The folder is not what it should be, or has no such split.
        MissingExtraError: ``datasets`` or ``pyarrow`` is not installed.
    """
    folder = Path(name).expanduser()
    if (folder / _DICT).is_file():
        return _open_saved(name, _saved_split(name, folder, split)), ()
    if (folder / _STATE).is_file() and (folder / _INFO).is_file():
        said = _read_json(folder / _STATE).get("_split")
        if split not in (FILE_SPLIT, said):
            raise SourceError(name, f"holds one split, {said or FILE_SPLIT}, not {split}")
        return _open_saved(name, folder), ()
    datasets = datasets_library()
    with tempfile.TemporaryDirectory(prefix="castore-datasets-") as cache, loading(name) as lines:
        files = datasets.load_dataset_builder(str(folder), cache_dir=cache).config.data_files or {}
    paths = {str(key): [str(path) for path in some] for key, some in files.items()}
    if not paths or not all(_is_ours(path) for some in paths.values() for path in some):
        reader = HubReader(name, split, revision, folder)
        return reader, reader.warnings
    readers = {key: [open_reader(path) for path in some] for key, some in paths.items()}
    with loading(name):
        parts = _parts(datasets, readers, split)
    return JoinedReader(name, parts), tuple(f"{name}: {line}" for line in dict.fromkeys(lines))


def _is_ours(path: str) -> bool:
    return path.lower().endswith(READ_SUFFIXES) and Path(path).is_file()


def _parts(datasets: Any, readers: Mapping[str, Sequence[FileReader]], split: str) -> list[JoinedPart]:
    """What of the files a split means: its name, several with ``+``, or slices of them."""
    if split in readers:
        return [JoinedPart(reader) for reader in readers[split]]
    if split == "all":
        return [JoinedPart(reader) for some in readers.values() for reader in some]
    counts = _RowCounts(lambda key: [reader.count() for reader in readers[key]], readers)
    parts = []
    for piece in datasets.ReadInstruction.from_spec(split).to_absolute(counts):
        lo, hi = piece.from_ or 0, counts[piece.splitname] if piece.to is None else piece.to
        first = 0
        for reader, count in zip(readers[piece.splitname], counts.each(piece.splitname), strict=True):
            begin, end = max(lo - first, 0), min(hi - first, count)
            if begin < end:
                parts.append(JoinedPart(reader, begin, end))
            first += count
    return parts


class _RowCounts(dict[str, int]):
    """Rows of each split, counted when asked for."""

    def __init__(self, count: Callable[[str], list[int]], names: Mapping[str, Any]) -> None:
        super().__init__(dict.fromkeys(names, -1))
        self._count, self._each = count, dict[str, list[int]]()

    def each(self, name: str) -> list[int]:
        """Rows of each file of a split."""
        if name not in self._each:
            self._each[name] = self._count(name)
        return self._each[name]

    def __getitem__(self, name: str) -> int:
        return sum(self.each(name)) if name in self else super().__getitem__(name)


# ---- save_to_disk


def _saved_split(name: str, folder: Path, split: str) -> Path:
    splits = _read_json(folder / _DICT).get("splits")
    if not isinstance(splits, list) or not all(isinstance(one, str) for one in splits):
        raise SourceError(name, f"{_DICT} lists no splits")
    if split not in splits:
        raise SourceError(name, f"has the splits {', '.join(splits)}, not {split}: give --split")
    return _inside(name, folder, split)


def _open_saved(name: str, folder: Path) -> RowReader:
    state = _read_json(folder / _STATE)
    files = state.get("_data_files")
    if not isinstance(files, list) or not all(
        isinstance(one, dict) and isinstance(one.get("filename"), str) for one in files
    ):
        raise SourceError(name, f"{folder / _STATE} lists no data files")
    if state.get("_indices_data_files"):
        raise SourceError(name, "holds rows and a choice of them: save it again after flatten_indices()")
    paths = [_inside(name, folder, one["filename"]) for one in files]
    return JoinedReader(name, [JoinedPart(ArrowReader(str(path))) for path in paths])


def _inside(name: str, folder: Path, file: str) -> Path:
    if Path(file).name != file or file in ("", ".", ".."):
        raise SourceError(name, f"names {file!r:.80}, which is no file or folder directly in it")
    return folder / file


def _read_json(path: Path) -> dict[str, Any]:
    with opened(str(path)) as file:
        text = file.read(_STATE_BYTES_MAX + 1)
    try:
        value = json.loads(text) if len(text) <= _STATE_BYTES_MAX else None
    except (ValueError, RecursionError) as error:
        raise SourceError(str(path), f"not valid JSON: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise InvalidInputError(f"{path} is not a JSON object")
    return value
