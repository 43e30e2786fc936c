"""The fast path against the exact one: every template, every kind of tokenizer, hostile text, every cut."""

from __future__ import annotations

import collections
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from castore.ingest.templates import REGISTERED
from castore.ingest.tokenizer import ChatTemplate, ChatTokenizer, TokenizedRows, TokenizerFolder
from castore.ingest.word_encoder import CL100K, GPT2, WordEncoder
from tests.ingest.tiny import EXACT, FAST, FRAGMENTS, ROLES, as_rows, hostile, make_folder, train

ARRAYS = ("rows", "lengths", "token_ids", "span_counts", "span_starts", "span_ends")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TokenizerFolder]:
    return {kind: make_folder(tmp_path_factory.mktemp(kind), kind) for kind in FAST + EXACT}


def both_ways(
    folder: TokenizerFolder, template: str, length: int | None, rows: list[bytes], last: bool = False
) -> TokenizedRows:
    """Tokenize on the usual and on the exact path, check that they agree, and return the result."""
    found = ChatTemplate.resolve(template, folder)
    usual = ChatTokenizer(folder, found, length, last_turn_only=last).tokenize(rows, on_error="skip")
    exact = ChatTokenizer(folder, found, length, last_turn_only=last, exact_only=True).tokenize(rows, on_error="skip")
    assert usual.dropped == exact.dropped
    assert usual.lost == exact.lost
    for name in ARRAYS:
        assert np.array_equal(getattr(usual, name), getattr(exact, name)), name
    return usual


@pytest.mark.parametrize("template", sorted(REGISTERED))
@pytest.mark.parametrize("kind", FAST)
def test_fast_is_exact(folders: dict[str, TokenizerFolder], kind: str, template: str) -> None:
    rows = as_rows(hostile(len(kind) * 100 + len(template), 60))
    whole = both_ways(folders[kind], template, None, rows)
    cut = both_ways(folders[kind], template, 40, rows)
    assert ChatTokenizer(folders[kind], ChatTemplate.resolve(template, folders[kind]), None).is_fast
    assert whole.rows.size + len(whole.dropped) == len(rows)
    thinks = "think" in template or template == "assistant_message_only" or template.startswith(("r1", "simple"))
    assert whole.rows.size > 5 or thinks
    assert cut.lengths.max(initial=0) <= 40


@pytest.mark.parametrize("kind", EXACT)
def test_other_tokenizers_take_the_exact_path(folders: dict[str, TokenizerFolder], kind: str) -> None:
    assert not ChatTokenizer(folders[kind], ChatTemplate.resolve("olmo", folders[kind]), None).is_fast
    rows = as_rows(hostile(3, 60))
    for template in ("olmo", "tulu"):
        assert both_ways(folders[kind], template, 50 if template == "tulu" else None, rows).rows.size > 5


@pytest.mark.parametrize("template", ["olmo", "tulu"])
def test_every_cut_of_a_few_rows(folders: dict[str, TokenizerFolder], template: str) -> None:
    rows = as_rows([conversation for conversation in hostile(11, 80) if len(conversation) > 1])
    whole = both_ways(folders["dolma"], template, None, rows)
    longest = int(whole.lengths[:4].max())
    rows = [rows[index] for index in whole.rows[:4]]
    seen: collections.Counter[str] = collections.Counter()
    for length in range(1, min(longest, 120) + 2):
        result = both_ways(folders["dolma"], template, length, rows, last=length % 5 == 0)
        seen.update(reason for _, reason in result.dropped)
        seen["kept"] += int(result.rows.size)
    assert seen["kept"] > 100
    assert seen["nothing-trainable"] > 20


messages = st.fixed_dictionaries(
    {"role": st.sampled_from(ROLES), "content": st.lists(st.sampled_from(FRAGMENTS), max_size=4).map("".join)},
    optional={"function_calls": st.sampled_from([None, "", "f(x=5)", "<|im_end|>"]), "functions": st.just("[g]")},
)


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.lists(messages, min_size=1, max_size=6), min_size=1, max_size=4),
    st.sampled_from(sorted(REGISTERED)),
    st.sampled_from(FAST),
    st.none() | st.integers(1, 120),
)
def test_fast_is_exact_on_whatever_hypothesis_finds(
    folders: dict[str, TokenizerFolder], talk: list[list[dict[str, str]]], template: str, kind: str, length: int | None
) -> None:
    both_ways(folders[kind], template, length, as_rows(talk))


def test_a_longer_added_token_may_take_the_place_of_a_shared_one(
    folders: dict[str, TokenizerFolder], tmp_path: Path
) -> None:
    """The whole says ``fox?`` where the prefix says ``fox!``, which is one added token: counts must come from that."""
    path = tmp_path / "closing.jinja"
    path.write_text(
        "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}{{ '!' if loop.last else '?' }}{% endif %}"
        "{% endfor %}"
    )
    talk = [{"role": role, "content": said} for role, said in (("user", "<|im_start|>"), ("assistant", "fox"))]
    result = both_ways(folders["nested"], str(path), None, as_rows([talk * 2]))
    vocabulary = folders["nested"].vocabulary()
    assert [vocabulary[number] for number in result.token_ids] == [
        b"<|im_start|>",
        b"fox",
        b"?",
        b"<|im_start|>",
        b"fox!",
    ]
    assert list(zip(result.span_starts, result.span_ends, strict=True)) == [(1, 2), (4, 5)]


def test_rows_whose_bytes_do_not_add_up_take_the_exact_path(tmp_path: Path) -> None:
    """A pre-tokenizer that drops text: the tokens cover less than the row, and only offsets tell what."""
    from tokenizers import Regex, pre_tokenizers

    made = train("dolma")
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("fox|\u0301"), "removed"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    folder = make_folder(tmp_path)
    made.save(str(tmp_path / "tokenizer.json"))
    folder = TokenizerFolder.load(str(tmp_path))
    rows = as_rows([[{"role": "user", "content": word}, {"role": "assistant", "content": word + "x"}] for word in
                    ("a fox b", "plain", "e\u0301")])  # fmt: skip
    result = both_ways(folder, "tulu", None, rows)
    assert result.rows.tolist() == [0, 1, 2]
    assert int(result.lengths.sum()) == sum(
        len(made.encode(text, add_special_tokens=False).ids)
        for text in (
            f"<|user|>\n{word}\n<|assistant|>\n{word}x<|endoftext|>" for word in ("a fox b", "plain", "e\u0301")
        )
    )


@pytest.mark.parametrize(("kind", "rule", "step"), [("dolma", CL100K, 3), ("gpt2", GPT2, 7)], ids=["cl100k", "gpt2"])
def test_words_are_cut_as_the_library_cuts_them(kind: str, rule: str, step: int) -> None:
    """Characters of the whole basic plane and around pictographs, in places where rules differ."""
    library = train(kind)
    words = WordEncoder(library, rule)
    plane = [*range(0xD800), *range(0xE000, 0x10000)]
    strange = [0x149, 0x17F, 0x20000, 0x10FFFF, *range(0x1F2F0, 0x1F300), *range(0x1FB00, 0x1FB10)]
    points = [*sorted({*plane[::step]} - {*strange}), *range(0x1F300, 0x1FB00), *strange]
    context = "a{0}b {0}'s '{0}1{0}\n {0}  {0}\r\n'l{0}.{0} {0}{0}"
    texts = [context.format(chr(point)) for point in points]
    declined = 0
    for text, encoding in zip(texts, library.encode_batch_fast(texts, add_special_tokens=False), strict=True):
        ids = words.encode(text)
        declined += ids is None
        if ids is not None:
            assert np.frombuffer(ids, np.uint32).tolist() == encoding.ids, repr(text)
    assert declined == len(strange)


@settings(max_examples=300, deadline=None)
@given(
    st.text(
        st.sampled_from("aZs'tTlLrReEvVmMdD 019\t\n\r\x0b\x0c\x1c\x85\xa0.!?…é世ſК½²\u2003\u0301\u200d😀"), max_size=40
    )
)
def test_words_of_runs_and_contractions(text: str) -> None:
    for words, library in _word_encoders():
        ids = words.encode(text)
        assert (ids is None) == ("ſ" in text)
        if ids is not None:
            expected = library.encode(text, add_special_tokens=False).ids
            assert np.frombuffer(ids, np.uint32).tolist() == expected


_ENCODERS: list[tuple[WordEncoder, object]] = []


def _word_encoders() -> list:  # type: ignore[type-arg]
    if not _ENCODERS:
        for kind, rule in (("dolma", CL100K), ("gpt2", GPT2)):
            library = train(kind)
            _ENCODERS.append((WordEncoder(library, rule), library))
    return _ENCODERS


def test_the_dictionary_of_words_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("castore.ingest.word_encoder.WORDS_MAX", 10)
    library = train("dolma")
    words = WordEncoder(library, CL100K)
    text = " ".join(f"w{number}x" for number in range(100)) + " " + "y" * 500
    ids = words.encode(text)
    assert ids is not None
    assert np.frombuffer(ids, np.uint32).tolist() == library.encode(text, add_special_tokens=False).ids
    assert 0 < len(words) <= 10
    assert max(map(len, words)) < 50


# sha256 of what open-instruct wrote: token ids and label bytes, in its shuffled order.
GOLDENS = {
    ("olmo", 4096, (("gsm8k", 1),)): (
        "50c0c269cde53d093f36c2c8cb80b1c9be56e6868192f7da3b8c444bfc4e0f6e",
        "afd8755fc5821a21fb7d8ab5a498a8621ec7f3bfab9d329e732d5462bc120be8",
    ),
    ("tulu", 1024, (("gpteacher", 1), ("xquad", 3))): (
        "22e05a8b34f161ad44fc0518c82daf73a7d9f3c28f2d30d51f2fc76c7e061945",
        "c6b03ae4be20bfc705dc853fab1e74aca7aed48c7c01db84e86427bccaa878c0",
    ),
}


@pytest.mark.needs_data
@pytest.mark.skipif("CASTORE_DATA" not in os.environ, reason="CASTORE_DATA names no folder of real conversations")
@pytest.mark.parametrize(("template", "length", "mix"), GOLDENS)
def test_open_instruct_wrote_the_same(template: str, length: int, mix: tuple[tuple[str, int], ...]) -> None:
    data = Path(os.environ["CASTORE_DATA"])
    folder = TokenizerFolder.load(str(data / "dolma2-tokenizer"))
    chat = ChatTokenizer(folder, ChatTemplate.resolve(template, folder), length)
    documents: list[tuple[bytes, bytes]] = []
    for name, copies in mix:
        result = chat.tokenize((data / f"{name}.jsonl").read_bytes().splitlines())
        mask = np.zeros(result.token_ids.size, dtype=np.uint8)
        ends = np.cumsum(result.lengths, dtype=np.int64)
        starts = ends - result.lengths
        begins = np.repeat(starts, result.span_counts)
        for begin, lo, hi in zip(begins, result.span_starts, result.span_ends, strict=True):
            mask[begin + lo : begin + hi] = 1
        pieces = [(result.token_ids[a:b].tobytes(), mask[a:b].tobytes()) for a, b in zip(starts, ends, strict=True)]
        documents += pieces * copies
    order = np.random.default_rng(42).permutation(len(documents)).tolist()
    digests = tuple(hashlib.sha256(b"".join(documents[at][part] for at in order)).hexdigest() for part in (0, 1))
    assert digests == GOLDENS[template, length, mix]
