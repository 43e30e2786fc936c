"""Small tokenizers trained on the spot, one for each way through ``castore.ingest``, and hostile conversations."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from castore.ingest.tokenizer_folder import TokenizerFolder
from castore.ingest.word_encoder import CL100K

Message = dict[str, Any]

VOCABULARY = 400
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "|||EMAIL_ADDRESS|||", "<|pad|>"]
# Kinds that the fast path takes, and kinds that it must leave alone.
FAST = ("dolma", "gpt2", "digits", "nested")
EXACT = ("trimmed", "normalized", "prefix-space", "unigram", "stripping", "two-rounds")

CORPUS = [
    "The quick brown fox says: I'll pay $120 for 3 eggs, don't you think? <think>no</think>",
    "system user assistant\nYou are a helpful AI assistant. content functions function_calls",
    "def f(x):\n    return x + 1\n\n\nprint(f(2))\r\n",
    "Größe naïve café Привет мир 世界你好 مرحبا हिन्दी 😀👩‍👩‍👧 … – “quoted”",
    "A conversation between User and Assistant. The user asks a question.",
]

FRAGMENTS = [
    "", " ", "  ", "\n", "\n\n", "\r\n", "\t", "\0", "\x1c", "\x85", "\u2003", "\u00a0",
    "a", "I'll", "don't", "120", "3", "x + 1", "content", "assistant", "assistant\n", "user\n", " eggs", "é",
    "e\u0301", "\u0301",
    "世界", "你", "Привет", "مرحبا", "हिन्दी", "😀", "👩‍👩‍👧", "\u200d", "ſ", "½²", "\U00020000", "\ufffd", "…", "“",
    "<think>", "</think>", "</think>\n\n", "<|", "|>", "|||", "<|im_", "im_end|>", "<|endoftext",
    "<|assistant|>\n", "<|user|>\n",
    *SPECIAL,
]  # fmt: skip
ROLES = ("user", "assistant", "user", "assistant", "assistant", "system", "environment", "tool")


def train(kind: str) -> Tokenizer:
    """Train a tokenizer of a kind in :data:`FAST` or :data:`EXACT`."""
    if kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        alphabet = sorted(set("".join(CORPUS + FRAGMENTS)) - {"\0"})
        unigram = trainers.UnigramTrainer(
            vocab_size=400, special_tokens=["<unk>", *SPECIAL], unk_token="<unk>", initial_alphabet=alphabet,
            show_progress=False,
        )  # fmt: skip
        tokenizer.train_from_iterator(CORPUS, unigram)
        return tokenizer
    tokenizer = Tokenizer(models.BPE())
    cl100k = pre_tokenizers.Split(Regex(CL100K), "removed", invert=True)
    bare = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    whole = pre_tokenizers.ByteLevel(add_prefix_space=kind == "prefix-space")
    tokenizer.pre_tokenizer = {
        "gpt2": whole,
        "prefix-space": whole,
        "digits": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), whole]),
    }.get(kind, pre_tokenizers.Sequence([cl100k, bare]))
    tokenizer.decoder = decoders.ByteLevel()
    if kind == "trimmed":
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    if kind == "normalized":
        tokenizer.normalizer = normalizers.NFC()
    special: list[Any] = list(SPECIAL)
    if kind == "nested":
        # Each of these could swallow, or be cut short by, a neighbour.
        special += ["<|im_end|>\n", "<|im_end|>\n<|im_start|>", "end|>", "<|endoftext|>\n", "|><|", "fox", "fox!"]
    bpe = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, bpe)
    if kind == "two-rounds":
        tokenizer.add_tokens([AddedToken("eggs", normalized=True)])
    if kind == "stripping":
        tokenizer.add_tokens([AddedToken("eggs", lstrip=True, normalized=False)])
    return tokenizer


def make_folder(path: Path, kind: str = "dolma", **config: Any) -> TokenizerFolder:
    """Write a tokenizer folder and load it; keyword arguments go to ``tokenizer_config.json`` (None removes)."""
    path.mkdir(parents=True, exist_ok=True)
    train(kind).save(str(path / "tokenizer.json"))
    settings: dict[str, Any] = {
        "bos_token": "<|endoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": {"content": "<|pad|>", "lstrip": False},
    }
    settings |= config
    (path / "tokenizer_config.json").write_text(
        json.dumps({key: val for key, val in settings.items() if val is not None})
    )
    return TokenizerFolder.load(str(path))


def hostile(seed: int, count: int) -> list[list[Message]]:
    """Make conversations out of :data:`FRAGMENTS`; contents often repeat each other."""
    rng = random.Random(seed)
    conversations = []
    for _ in range(count):
        said: list[str] = []
        messages = []
        for _ in range(rng.randint(1, 7)):
            content = "".join(rng.choice(FRAGMENTS) for _ in range(rng.randint(0, 5)))
            if said and rng.random() < 0.15:
                content = rng.choice(said)
            said.append(content)
            message: Message = {"role": rng.choice(ROLES), "content": content}
            for key in ("functions", "function_calls"):
                if rng.random() < 0.2:
                    message[key] = rng.choice([None, "", "f(x=5)", content, "[{}]"])
            if message["role"] == "assistant" and rng.random() < 0.05:
                message["content"] = None
            messages.append(message)
        conversations.append(messages)
    return conversations


def as_rows(conversations: list[list[Message]]) -> list[bytes]:
    """Write conversations as raw rows."""
    return [json.dumps({"messages": messages}, ensure_ascii=False).encode() for messages in conversations]
