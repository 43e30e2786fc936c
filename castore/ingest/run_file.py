"""Run files: what to tokenize and how, as a text in TOML that is reviewed and versioned.

::

    tokenizer = "tokenizers/olmo"
    chat_template = "tulu"
    max_seq_length = 4096

    [[mix]]
    path = "math.jsonl"
    amount = 0.5

Keys are those of ``TokenizeOptions``; each source of the mix is a table with ``path``, ``amount`` and, of a Hugging
Face dataset, ``split``. Paths that are relative count from the folder of the file, so that it means the same wherever
the command is run. What a run record says is written in the same form (``docs/reference/run-file.md``).
"""

from __future__ import annotations

import datetime
import os
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast, get_args, get_origin, get_type_hints

from castore.errors import InvalidInputError, did_you_mean
from castore.format.digest import Digest, digest_hex
from castore.format.files import TEMPLATE_FILE, decode_file
from castore.format.run import Run, SourceRecord
from castore.ingest.defaults import FILE_SPLIT, TokenizeOptions
from castore.ingest.hub import spells_dataset
from castore.ingest.mix import Amount
from castore.ingest.templates import BOS_PREFIX, REGISTERED, is_template_path, read_template, registered_text
from castore.ingest.tokenizer_folder import kept_template
from castore.ingest.unit_feed import BAD_ROW
from castore.store.files import open_regular

RUN_FILE_BYTES_MAX = 16 * 1024 * 1024
"""Bytes of the largest run file: one with as many sources as a run record takes has half of them."""

_ENTRY_KEYS = ("path", "amount", "split")
_HINTS = get_type_hints(TokenizeOptions)
_KINDS = {bool: "true or false", int: "a whole number", str: "a text in quotes", list: "a list of texts"}


class RunFile(NamedTuple):
    """What a run file says: the mix, and the keywords of ``Repository.tokenize``."""

    mix: list[tuple[str, str]]
    options: TokenizeOptions


class _Float(str):
    """A number with a point as it is spelled: 0.37 is a share of exactly that text."""


def read_config(path: str | os.PathLike[str]) -> RunFile:
    """Read a run file for ``repository.tokenize(mix, name=…, **options)``.

    Raises:
        InvalidInputError: It cannot be read, says something that there is not, or lacks the mix or the tokenizer.
    """
    place = os.fspath(path)
    mix, options = parse_run_file(_content(place), place, _folder_of(place))
    if not mix:
        raise InvalidInputError(f"{place} has no source: begin each with [[mix]], and give it path and amount")
    if "tokenizer" not in options:
        raise InvalidInputError(f'{place} names no tokenizer: add tokenizer = "FOLDER"')
    return RunFile(mix, cast("TokenizeOptions", options))


def read_partial_config(path: str, piped: BinaryIO) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """As ``read_config``, but what it does not say is left to the command line.

    Args:
        path: The file; ``-`` for the standard input, in which relative paths count from the current folder.
        piped: The standard input.
    """
    if path == "-":
        return parse_run_file(piped.read(RUN_FILE_BYTES_MAX + 1), "standard input", "")
    return parse_run_file(_content(path), path, _folder_of(path))


def _content(path: str) -> bytes:
    try:
        with open_regular(path, pipes=True) as file:
            content = file.read(RUN_FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:  # a path may hold what none can
        raise InvalidInputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return content


# ---- reading


def parse_run_file(content: bytes, place: str, folder: str) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """The mix and the options that a run file gives, either of which it may leave out.

    Args:
        content: Of the file.
        place: What messages call it.
        folder: Where relative paths begin.

    Raises:
        InvalidInputError: It is no TOML, has a key that there is not, or a value that cannot be; names the key.
    """
    document = _document(content, place)
    entries = _mix_of(document.pop("mix", []), place)
    options = {name: _option(name, value, place) for name, value in document.items()}
    if "tokenizer" in options:
        options["tokenizer"] = _below(folder, options["tokenizer"])
    template = options.get("chat_template")
    if template is not None and template not in REGISTERED and is_template_path(template):
        options["chat_template"] = _below(folder, template)
    if any("split" in entry for entry in entries):
        default = options.get("split", FILE_SPLIT)
        if not isinstance(default, str):
            raise InvalidInputError(f"{place}: split is a list, and a source has a split of its own: give only one")
        options["split"] = [entry.get("split", default) for entry in entries]
    return [(_placed(entry["path"], folder), entry["amount"]) for entry in entries], options


def _document(content: bytes, place: str) -> dict[str, Any]:
    if len(content) > RUN_FILE_BYTES_MAX:
        raise InvalidInputError(f"{place} is larger than {RUN_FILE_BYTES_MAX} bytes")
    try:
        return tomllib.loads(content.decode("utf-8"), parse_float=_Float)
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{place} is not UTF-8 (byte {error.start})") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{place} is no TOML: {error}") from error


def _option(name: str, value: object, place: str) -> Any:
    if name not in _HINTS:
        raise InvalidInputError(f"{place}: unknown key {name!r}{did_you_mean(name, [*_HINTS, 'mix'])}")
    if name == "shuffle_seed" and value is False:  # TOML has no None
        return None
    if name == "date" and isinstance(value, datetime.date):
        return value.isoformat()
    kinds = _kinds(_HINTS[name])
    if type(value) not in kinds or (isinstance(value, list) and not all(type(each) is str for each in value)):
        said = " or ".join(_KINDS[kind] for kind in kinds)
        raise InvalidInputError(f"{place}: {name} is {_shown(value)}: give {said}")
    return value


def _kinds(hint: Any) -> tuple[type, ...]:
    """The types in TOML of an option."""
    kinds = [list if get_origin(one) is Sequence else one for one in get_args(hint) or (hint,)]
    return tuple(kind for kind in _KINDS if kind in kinds)


def _mix_of(listed: object, place: str) -> list[dict[str, str]]:
    if not isinstance(listed, list):
        raise InvalidInputError(f"{place}: mix is no list of sources: begin each with [[mix]]")
    return [_entry(entry, f"{place}, mix[{at}]") for at, entry in enumerate(listed)]


def _entry(entry: object, where: str) -> dict[str, str]:
    if not isinstance(entry, dict):
        raise InvalidInputError(f"{where} is {_shown(entry)}: give a table with path and amount")
    for name in entry:
        if name not in _ENTRY_KEYS:
            raise InvalidInputError(f"{where}: unknown key {name!r}{did_you_mean(name, _ENTRY_KEYS)}")
    for name in ("path", "amount"):
        if name not in entry:
            raise InvalidInputError(f"{where} has no {name}")
    for name in ("path", "split"):
        if type(entry.get(name, "")) is not str:
            raise InvalidInputError(f"{where}: {name} is {_shown(entry[name])}: give {_KINDS[str]}")
    try:
        amount = str(entry["amount"]) if isinstance(entry["amount"], _Float) else entry["amount"]
        return {**entry, "amount": Amount.of(amount).text}
    except InvalidInputError as error:
        raise InvalidInputError(f"{where}: {error}") from error


def _placed(path: str, folder: str) -> str:
    """A source as the command line would name it, had it been written in the folder of the file."""
    if "://" in path or path == "-":
        return path
    here = _below(folder, path)
    return path if spells_dataset(path) and not Path(here).exists() else here


def _folder_of(path: str) -> str:
    return os.path.dirname(path)  # noqa: PTH120 - keeps the spelling, and is empty for a file of the current folder


def _below(folder: str, path: str) -> str:
    """A path that counts from the folder, spelled as it was where that can be; ``~`` is the home directory."""
    return os.path.join(folder, os.path.expanduser(path))  # noqa: PTH118, PTH111


def _shown(value: object) -> str:
    """A value as it was spelled, cut if it is long."""
    return str(value) if isinstance(value, _Float | datetime.time) else f"{value!r:.60}"


# ---- writing


def run_file_of(run: Run, root: Digest, fetch: Callable[[Digest], bytes], name: str) -> str:
    """The run file that makes the same again where the files are the same.

    Args:
        run: The run record.
        root: What it came to.
        fetch: Gives an object.
        name: What messages call the dataset.

    Raises:
        InvalidInputError: It was not made by ``tokenize``.
    """
    asked = run.configuration
    if asked.tokenizer is None or asked.mix_seed is None or any(source.amount is None for source in run.sources):
        how = f"imported from {asked.imported}" if asked.imported is not None else "not made by castore tokenize"
        raise InvalidInputError(f"{name} was {how}: there is no run file of it")
    lines = [
        f"# root {digest_hex(root)}",
        "# Relative paths count from the folder of this file; these are as they were given where it was made.",
        *(f"{key} = {_toml(value)}" for key, value in _options_of(run, fetch).items() if value is not None),
    ]
    for source in run.sources:
        lines += ["", "[[mix]]", *_entry_lines(source)]
    return "\n".join(lines) + "\n"


def _options_of(run: Run, fetch: Callable[[Digest], bytes]) -> dict[str, Any]:
    """What the command was told; None for what need not be said."""
    asked, template = run.configuration, run.configuration.chat_template
    is_unknown = template is not None and template not in REGISTERED and not is_template_path(template)
    date = run.recipe.get("date")
    has_skipped = run.statistics is not None and BAD_ROW in run.statistics.dropped
    return {
        "tokenizer": asked.tokenizer,
        "chat_template": template,
        "template_fallback": True if is_unknown else None,
        "date": date if isinstance(date, str) else None,
        "max_seq_length": asked.max_seq_length,
        "add_bos": True if _adds_bos(run, fetch) else None,
        "last_turn": True if run.recipe.get("trained_turns") == "last" else None,
        "num_examples": asked.num_examples,
        "shuffle_seed": False if asked.shuffle_seed is None else asked.shuffle_seed,
        "mix_seed": asked.mix_seed,
        "revision": next((source.revision for source in run.sources if source.revision is not None), None),
        "on_error": "skip" if has_skipped else None,
    }


def _adds_bos(run: Run, fetch: Callable[[Digest], bytes]) -> bool:
    """Whether the template that was used is another one with the BOS token put in front.

    Where that cannot be told, since the file is gone, it is said to be: a template that begins so by itself is then
    refused when the run file is used, rather than another one used without a word.
    """
    if TEMPLATE_FILE not in run.files:
        return False
    used = decode_file(fetch(run.files[TEMPLATE_FILE])).decode("utf-8", "replace")
    return used.startswith(BOS_PREFIX) and used not in _templates_meant(run, fetch)


def _templates_meant(run: Run, fetch: Callable[[Digest], bytes]) -> Iterator[str]:
    """The text of the template that the run names, without BOS put in front, if it can be had."""
    name = run.configuration.chat_template
    if name in REGISTERED:
        yield registered_text(name)
    elif name is not None and is_template_path(name):
        try:
            yield read_template(name)
        except InvalidInputError:
            return
    elif (text := kept_template({key: decode_file(fetch(run.files[key])) for key in _kept(run.files)})) is not None:
        yield text


def _kept(files: Iterable[str]) -> list[str]:
    return [name for name in files if name.startswith("tokenizer/") and name != "tokenizer/tokenizer.json"]


def _entry_lines(source: SourceRecord) -> Iterator[str]:
    amount = str(source.amount)
    is_number = amount[:1].isdigit() and amount[-1:].isdigit() and (amount[:1] != "0" or amount[1:2] in (".", ""))
    yield f"path = {_toml(source.name)}"
    yield f"amount = {amount if is_number else _toml(amount)}"
    if source.split not in (None, FILE_SPLIT):
        yield f"split = {_toml(source.split)}"


def _toml(value: object) -> str:
    """A value in TOML, in printable characters only."""
    if not isinstance(value, str):
        return str(value).lower()
    text = "".join(each if each.isprintable() and each not in '"\\' else _escaped(each) for each in value)
    return f'"{text}"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"
