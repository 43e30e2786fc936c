"""A tokenizer folder in Hugging Face layout: its files, its special tokens, and the tokenizer that they describe.

``tokenizer.json`` is used as it is written. That is what transformers does unless ``tokenizer_class`` names a class
that it builds anew, such as those in :data:`_REBUILT_CLASSES`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from castore.errors import InvalidInputError, MissingExtraError
from castore.format.files import VOCABULARY_FILE, Vocabulary, decode_vocabulary, encode_file, encode_vocabulary
from castore.format.object import Object
from castore.ingest.foreign_tokenizers import conversion_of
from castore.ingest.settings import (
    Settings,
    Token,
    listed_tokens,
    merge_settings,
    own_template,
    special_tokens,
    unlisted_tokens,
)
from castore.olmo.files import TOKENIZER_FILE_BYTES_MAX
from castore.store.files import open_regular

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER = "tokenizer.json"
CONFIG = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
SPECIAL_TOKENS = "special_tokens_map.json"

ADDED_TOKENS = "added_tokens.json"
MORE_TEMPLATES = "additional_chat_templates"

# transformers 5 builds these, and their Fast forms, from their vocabulary with a pre-tokenizer of its own choice.
_REBUILT_CLASSES = frozenset(
    f"{family}Tokenizer" for family in ("CodeLlama", "Cohere", "GPT2", "GPTNeoX", "Gemma", "Llama", "Qwen2")
)


def folder_vocabulary(path: str) -> Vocabulary:
    """The text of every id of the tokenizer in a folder.

    Raises:
        InvalidInputError: As of ``TokenizerFolder.load``.
    """
    return decode_vocabulary(encode_vocabulary(TokenizerFolder.load(path).vocabulary()).data)


@dataclass(frozen=True)
class TokenizerFolder:
    """What castore reads of a tokenizer folder. Picklable; holds no library object.

    Attributes:
        path: As the user gave it.
        files: Name to bytes of the files that were read.
        chat_template: The tokenizer's own template, or None.
        special_tokens: What templates see: ``bos_token``, ``eos_token``, ``unk_token``, ``pad_token``, where set.
        vocab_size: Entries of the model's vocabulary, without added tokens that lie outside it.
        listed_tokens: Tokens to add to those of ``tokenizer.json``, or whose flags to replace.
        unlisted_tokens: Tokens to add after them where they are missing.
        split_special_tokens: Text that spells a special token is ordinary text.
        warnings: Lines that the user should see.
    """

    path: str
    files: dict[str, bytes] = field(repr=False)
    chat_template: str | None = field(repr=False)
    special_tokens: dict[str, str]
    vocab_size: int
    listed_tokens: tuple[Token, ...] = field(default=(), repr=False)
    unlisted_tokens: tuple[Token, ...] = field(default=(), repr=False)
    split_special_tokens: bool = False
    warnings: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: str, known: Mapping[str, bytes] | None = None) -> TokenizerFolder:
        """Read a local folder, each file once.

        Args:
            path: The folder.
            known: Files of it that were read already, so that all is said of the same bytes.

        Raises:
            InvalidInputError: No such folder, no ``tokenizer.json``, or a file that does not hold what it should.
        """
        folder = Path(path)
        if not folder.is_dir():
            said = (conversion_of([folder]) if folder.is_file() else "") or _folder_of(path)
            raise InvalidInputError(f"tokenizer {path} is not a folder{said}")
        if not (folder / TOKENIZER).is_file():
            said = conversion_of(sorted(folder.iterdir()))
            raise InvalidInputError(f"tokenizer folder {path} has no {TOKENIZER}{said}")
        files = {}
        for name in (TOKENIZER, CONFIG, TEMPLATE, SPECIAL_TOKENS, ADDED_TOKENS):
            if known is not None and name in known:
                files[name] = known[name]
            elif (folder / name).exists():
                files[name] = _read(folder / name)
        specification = _json_object(folder, files, TOKENIZER)
        vocab_size = _vocab_size(specification, folder)
        config = _json_object(folder, files, CONFIG)
        settings = merge_settings(config, _json_object(folder, files, SPECIAL_TOKENS))
        special = special_tokens(settings, (specification.get("padding") or {}).get("pad_token"))
        loaded = cls(
            path,
            files,
            _own_template(folder, files, config),
            special,
            vocab_size,
            tuple(listed_tokens(settings, _json_object(folder, files, ADDED_TOKENS))),
            tuple(unlisted_tokens(settings, special)),
            settings.get("split_special_tokens") is True,
            _warnings(folder, settings, specification),
        )
        loaded.__dict__["_specification"] = specification
        return loaded

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is parsed: the files travel to another process in a tenth of the time."""
        return {name: value for name, value in self.__dict__.items() if name != "_specification"}

    def specification(self) -> dict[str, Any]:
        """Return ``tokenizer.json`` parsed."""
        if "_specification" not in self.__dict__:
            self.__dict__["_specification"] = _parsed(self.files[TOKENIZER])
        specification: dict[str, Any] = self.__dict__["_specification"]
        return specification

    def kept_files(self) -> dict[str, Object]:
        """The files and the vocabulary as objects, by the names that a run record lists them under."""
        files = {f"tokenizer/{name}": encode_file(content) for name, content in sorted(self.files.items())}
        return files | {VOCABULARY_FILE: encode_vocabulary(self.vocabulary())}

    def build(self) -> Tokenizer:
        """Build the tokenizer: uncut, unpadded, special tokens that the file does not list added.

        Raises:
            InvalidInputError: The library refuses ``tokenizer.json``.
            MissingExtraError: tokenizers is not installed.
        """
        try:
            from tokenizers import AddedToken, Tokenizer
        except ImportError as error:
            raise MissingExtraError("tokenizers", "tokenize") from error
        try:
            tokenizer = Tokenizer.from_str(self.files[TOKENIZER].decode("utf-8"))
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise InvalidInputError(f"{Path(self.path) / TOKENIZER} is no tokenizer: {reason}") from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = self.split_special_tokens
        tokenizer.add_tokens([AddedToken(**token) for token in self.listed_tokens])
        known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
        for token in self.unlisted_tokens:
            if token["content"] not in known:
                tokenizer.add_tokens([AddedToken(**token | {"special": True})])
                known.add(token["content"])
        return tokenizer

    def configured_tokens(self) -> list[Token]:
        """Return the tokens that other files than ``tokenizer.json`` add or alter, but for plain special tokens."""
        return [*self.listed_tokens, *(token for token in self.unlisted_tokens if len(token) > 1)]

    def vocabulary(self) -> list[bytes]:
        """Return the text of every id.

        Returns:
            One entry per id up to the largest: the bytes that a byte-level token stands for, the UTF-8 of added
            tokens and of pieces of other tokenizers; empty where an id is not used.
        """
        specification = self.specification()
        texts, added = self._listed_tokens(specification) or self._built_tokens()
        # What is in no byte-level token becomes a character that no byte stands for, and so does not encode.
        alphabet = _ByteOf(byte_alphabet() if is_byte_level(specification) else {})
        tokens = [""] * (max([*texts.values(), *added.values()], default=-1) + 1)
        for token, number in texts.items():
            tokens[number] = token
        vocabulary = _translated(tokens, alphabet)
        for token, number in added.items():
            vocabulary[number] = token.encode("utf-8", "replace")
        return vocabulary

    def _listed_tokens(self, specification: dict[str, Any]) -> tuple[dict[str, int], dict[str, int]] | None:
        """Return the model's tokens and the added ones as ``tokenizer.json`` lists them.

        None if that is not all: other files may add tokens, whose ids only the library knows. Building the tokenizer
        takes several times as long.
        """
        texts = specification.get("model", {}).get("vocab")
        listed = specification.get("added_tokens", [])
        added = {token["content"]: token["id"] for token in listed}
        wanted = [token["content"] for token in (*self.listed_tokens, *self.unlisted_tokens)]
        return (texts, added) if isinstance(texts, dict) and added.keys() >= set(wanted) else None

    def _built_tokens(self) -> tuple[dict[str, int], dict[str, int]]:
        tokenizer = self.build()
        added = {token.content: number for number, token in tokenizer.get_added_tokens_decoder().items()}
        return tokenizer.get_vocab(with_added_tokens=True), added


def _folder_of(path: str) -> str:
    """How to come by the folder that was probably meant, as the end of a sentence."""
    if Path(path).is_file():
        return f": give {Path(path).parent}, the folder that it is in"
    parts = path.split("/")
    if len(parts) == 2 and all(part and part[0] != "." for part in parts):
        return f": if it is one of the Hugging Face Hub, 'hf download {path} --local-dir DIR' makes one"
    return ""


def _translated(tokens: list[str], alphabet: _ByteOf) -> list[bytes]:
    """The bytes of tokens; those that are not of the alphabet as UTF-8."""
    try:  # all at once, which is how it is for most tokenizers: a character is a byte
        whole = "".join(tokens).translate(alphabet).encode("latin-1")
    except UnicodeEncodeError:
        return [_spelled(token, alphabet) for token in tokens]
    ends = [*accumulate(map(len, tokens), initial=0)]
    return [whole[start:stop] for start, stop in pairwise(ends)]


def _spelled(token: str, alphabet: _ByteOf) -> bytes:
    try:
        return token.translate(alphabet).encode("latin-1")
    except UnicodeEncodeError:
        return token.encode("utf-8", "replace")


class _ByteOf(dict[int, int]):
    """A table for ``str.translate``: byte-level characters to their bytes, every other one to U+FFFF."""

    def __init__(self, alphabet: dict[str, int]) -> None:
        super().__init__({ord(character): byte for character, byte in alphabet.items()})

    def __missing__(self, character: int) -> int:
        return 0xFFFF


def is_byte_level(specification: dict[str, Any]) -> bool:
    """Tell whether the tokens of a ``tokenizer.json`` spell bytes."""
    decoder = specification.get("decoder") or {}
    return "ByteLevel" in [decoder.get("type"), *(step.get("type") for step in decoder.get("decoders", ()))]


def byte_alphabet() -> dict[str, int]:
    """Return the characters that byte-level tokens are written in, and the byte that each stands for.

    Bytes that print as themselves do; the others follow in order from U+0100.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


def _read(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            data = file.read(TOKENIZER_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > TOKENIZER_FILE_BYTES_MAX:
        raise InvalidInputError(f"{path} is larger than {TOKENIZER_FILE_BYTES_MAX} bytes")
    return data


def _json_object(folder: Path, files: dict[str, bytes], name: str) -> dict[str, Any]:
    if name not in files:
        return {}
    try:
        value = _parsed(files[name])
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{folder / name} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidInputError(f"{folder / name} is not a JSON object")
    return value


def _parsed(content: bytes) -> Any:
    """Parse JSON with the quick library if it is there; a tokenizer.json has a hundred thousand entries."""
    try:
        import orjson
    except ImportError:
        return json.loads(content)
    return orjson.loads(content)


def _vocab_size(specification: dict[str, Any], folder: Path) -> int:
    model = specification.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict | list):
        raise InvalidInputError(f"{folder / TOKENIZER} has no model with a vocabulary")
    return len(vocabulary)


def _own_template(folder: Path, files: dict[str, bytes], config: Settings) -> str | None:
    more = {path.stem: _text(path, _read(path)) for path in sorted((folder / MORE_TEMPLATES).glob("*.jinja"))}
    if TEMPLATE in files:
        return own_template(_text(folder / TEMPLATE, files[TEMPLATE]), more)
    return own_template(None, more) if more else own_template(config.get("chat_template"), {})


def kept_template(files: Mapping[str, bytes]) -> str | None:
    """The tokenizer's own template, from files as ``kept_files`` names them; templates for tools are not kept."""
    if (text := files.get(f"tokenizer/{TEMPLATE}")) is not None:
        return text.decode("utf-8", "replace")
    try:
        config = _parsed(files.get(f"tokenizer/{CONFIG}", b"{}"))
    except (ValueError, RecursionError):  # the record may be anybody's
        return None
    return own_template(config.get("chat_template"), {}) if isinstance(config, dict) else None


def _text(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is not UTF-8 (byte {error.start})") from error


def _warnings(folder: Path, settings: Settings, specification: dict[str, Any]) -> tuple[str, ...]:
    lines = []
    name = str(settings.get("tokenizer_class"))
    if name.removesuffix("Fast") in _REBUILT_CLASSES and not _is_overruled(name, folder):
        lines.append(
            f"{folder / CONFIG} names {name}: transformers 5 then replaces the pre-tokenizer by the one of that class, "
            f"and where it differs many texts get other ids; castore uses {TOKENIZER} as it is written"
        )
    side = (specification.get("truncation") or {}).get("direction", "Right")
    if str(settings.get("truncation_side", side)).lower() == "left":
        lines.append(
            f"{folder} asks for truncation on the left: castore, unlike transformers, keeps the first tokens of a "
            "conversation that is too long"
        )
    return tuple(lines)


def _is_overruled(tokenizer_class: str, folder: Path) -> bool:
    """Tell whether a model's ``config.json`` makes transformers pass over the class: OLMo has another of its own."""
    try:
        config = json.loads(_read(folder / "config.json"))
    except (InvalidInputError, ValueError, RecursionError):
        return False
    is_olmo = isinstance(config, dict) and str(config.get("model_type")).startswith("olmo")
    return is_olmo and not tokenizer_class.startswith("GPTNeoX")
