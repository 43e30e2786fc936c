"""Tokenizer folders: what is read, what is refused, how ids become bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from castore.errors import InvalidInputError
from castore.ingest.tokenizer import ChatTemplate, TokenizerFolder
from tests.ingest.tiny import SPECIAL, VOCABULARY, make_folder, train


def test_what_is_read(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, chat_template="from config")
    assert folder.path == str(tmp_path)
    assert set(folder.files) == {"tokenizer.json", "tokenizer_config.json"}
    assert folder.files["tokenizer.json"] == (tmp_path / "tokenizer.json").read_bytes()
    assert folder.special_tokens == {
        "bos_token": "<|endoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|pad|>",
    }
    assert folder.vocab_size == train("dolma").get_vocab_size(with_added_tokens=False) == VOCABULARY
    assert folder.chat_template == "from config"
    assert folder.warnings == ()


def test_the_template_file_wins_over_the_config(tmp_path: Path) -> None:
    make_folder(tmp_path, chat_template=[{"name": "rag", "template": "t"}, {"name": "default", "template": "d"}])
    assert TokenizerFolder.load(str(tmp_path)).chat_template == "d"
    (tmp_path / "chat_template.jinja").write_text("file\n")
    folder = TokenizerFolder.load(str(tmp_path))
    assert folder.chat_template == "file\n"
    assert ChatTemplate.own(folder).text == "file\n"
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(InvalidInputError, match=r"chat_template.jinja is not UTF-8"):
        TokenizerFolder.load(str(tmp_path))


def test_special_tokens_map_wins_unless_the_config_lists_added_tokens(tmp_path: Path) -> None:
    make_folder(tmp_path, bos_token=None, pad_token=None)
    (tmp_path / "special_tokens_map.json").write_text(
        json.dumps({"bos_token": {"content": "<|im_start|>"}, "eos_token": "<|im_end|>", "pad_token": "<|pad|>"})
    )
    special = TokenizerFolder.load(str(tmp_path)).special_tokens
    assert (special["bos_token"], special["eos_token"], special["pad_token"]) == (
        "<|im_start|>",
        "<|im_end|>",
        "<|pad|>",
    )
    folder = make_folder(tmp_path, added_tokens_decoder={"0": {"content": SPECIAL[0], "special": True}})
    assert folder.special_tokens["eos_token"] == "<|endoftext|>"


@pytest.mark.parametrize("pad", [None, "<|endoftext|>"])
def test_a_tokenizer_without_its_own_padding_gets_one_as_in_open_instruct(tmp_path: Path, pad: str | None) -> None:
    folder = make_folder(tmp_path, pad_token=pad)
    assert folder.special_tokens["pad_token"] == "<pad>"
    assert folder.vocab_size == VOCABULARY
    vocabulary = folder.vocabulary()
    assert len(vocabulary) == VOCABULARY + 1
    assert vocabulary[VOCABULARY] == b"<pad>"
    assert folder.build().encode("a<pad>b").ids[1] == VOCABULARY


def test_neox_has_special_tokens_that_no_file_names(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, bos_token=None, pad_token=None, tokenizer_class="GPTNeoXTokenizerFast")
    assert folder.special_tokens["bos_token"] == "<|endoftext|>"
    assert folder.special_tokens["pad_token"] == "<|padding|>"


def test_tokens_of_the_config_are_added(tmp_path: Path) -> None:
    listed = {
        str(VOCABULARY): {"content": "<|more|>", "special": True},
        "0": {"content": SPECIAL[0], "special": True},
        "x": 3,
        "²": {"content": "<|square|>"},
        "9" * 5000: {"content": "<|many|>"},
    }
    folder = make_folder(tmp_path, added_tokens_decoder=listed)
    assert folder.build().encode("<|more|>").ids == [VOCABULARY]


def test_a_class_that_transformers_rebuilds_is_warned_of(tmp_path: Path) -> None:
    (warning,) = make_folder(tmp_path, tokenizer_class="GPT2Tokenizer").warnings
    assert "GPT2Tokenizer" in warning
    assert "\n" not in warning


def test_the_vocabulary_spells_bytes(tmp_path: Path) -> None:
    vocabulary = make_folder(tmp_path).vocabulary()
    text = "héllo 世界\n\0 <|im_end|>"
    ids = train("dolma").encode(text).ids
    assert b"".join(vocabulary[number] for number in ids) == text.encode()
    assert {bytes([byte]) for byte in range(256)} <= set(vocabulary)


def test_the_vocabulary_of_other_tokenizers_is_their_pieces(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, "unigram")
    vocabulary = folder.vocabulary()
    assert len(vocabulary) == folder.vocab_size
    assert any(piece.startswith("▁".encode()) for piece in vocabulary)
    assert "世".encode() in vocabulary
    assert b"<|im_start|>" in vocabulary


def test_truncation_and_padding_of_the_file_are_switched_off(tmp_path: Path) -> None:
    made = train("dolma")
    made.enable_truncation(3)
    made.enable_padding(length=99)
    made.save(str(tmp_path / "tokenizer.json"))
    folder = TokenizerFolder.load(str(tmp_path))
    assert 3 < len(folder.build().encode("The quick brown fox says: I'll pay").ids) < 99


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no tokenizer.json$"),
        (b"{", "tokenizer.json is not valid JSON"),
        (b"\xff\xfe", "tokenizer.json is not valid JSON"),
        (b"[]", "tokenizer.json is not a JSON object$"),
        (b"{}", "tokenizer.json has no model with a vocabulary$"),
    ],
)
def test_broken_folders_are_one_line_that_names_the_file(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(InvalidInputError, match=message) as caught:
        TokenizerFolder.load(str(tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="is not a folder"):
        TokenizerFolder.load(str(tmp_path / "absent"))


def test_a_file_that_only_the_library_refuses(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0}}}')
    with pytest.raises(InvalidInputError, match=r"tokenizer.json is no tokenizer: "):
        TokenizerFolder.load(str(tmp_path)).build()


def test_a_broken_config_is_named(tmp_path: Path) -> None:
    make_folder(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("nope")
    with pytest.raises(InvalidInputError, match=r"tokenizer_config.json is not valid JSON"):
        TokenizerFolder.load(str(tmp_path))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    make_folder(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    os.mkfifo(tmp_path / "tokenizer_config.json")
    load = (
        "import sys, castore.ingest.tokenizer_folder as f\n"
        "try: f.TokenizerFolder.load(sys.argv[1])\n"
        "except f.InvalidInputError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", load, tmp_path], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout == f"{tmp_path}/tokenizer_config.json cannot be read: is not a regular file\n", done


def test_a_template_that_never_ends_is_refused(tmp_path: Path) -> None:
    folder = TokenizerFolder.load(str(make_folder(tmp_path).path))
    with pytest.raises(InvalidInputError, match="chat template /dev/zero cannot be read: is not a regular file"):
        ChatTemplate.resolve("/dev/zero", folder)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("allenai/OLMo-2", r"is not a folder: if it is one of the Hugging Face Hub, 'hf download allenai/OLMo-2 "),
        ("../nowhere", "is not a folder$"),
        ("/no/where/at/all", "is not a folder$"),
    ],
)
def test_what_is_no_folder_says_how_to_come_by_one(path: str, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        TokenizerFolder.load(path)


def test_a_file_of_a_folder_names_the_folder(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InvalidInputError, match=f"give {tmp_path}, the folder that it is in"):
        TokenizerFolder.load(str(tmp_path / "tokenizer.json"))


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"tokenizer.model": b"\n\x0e\n\x05<unk>"}, "tokenizer.model is one of SentencePiece"),
        ({"spiece.model": b"\n\x0e"}, "spiece.model is one of SentencePiece"),
        ({"tokenizer.model": b"IQ== 0\nIg== 1\n"}, "tokenizer.model is one of tiktoken"),
        ({"cl100k_base.tiktoken": b"IQ== 0\n"}, "cl100k_base.tiktoken is one of tiktoken"),
        ({"tekken.json": b"{}"}, "tekken.json is one of mistral-common"),
        ({"vocab.json": b"{}", "merges.txt": b""}, "vocab.json and merges.txt are not read"),
        ({"vocab.txt": b"a\n"}, "vocab.txt is not read"),
    ],
)
def test_a_tokenizer_of_another_kind_says_how_to_convert_it(tmp_path: Path, files: dict[str, bytes], said: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInputError) as caught:
        TokenizerFolder.load(str(tmp_path))
    assert f"has no tokenizer.json: {said}" in str(caught.value)
    assert "transformers" in str(caught.value)
    if len(files) == 1 and "vocab.txt" not in files:
        with pytest.raises(InvalidInputError, match=r"is not a folder: .*transformers"):
            TokenizerFolder.load(str(tmp_path / next(iter(files))))
