"""Train the small tokenizer of the examples on ``conversations.jsonl``: byte-level BPE, 3,000 tokens.

It is for first steps and tests: small enough to ship, and built like the tokenizers of language models, with a
splitting expression, special tokens inside the vocabulary and a chat template beside it.

    python docs/examples/make_tokenizer.py [FOLDER]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as Steps
from tokenizers.trainers import BpeTrainer

HERE = Path(__file__).parent
CONVERSATIONS = HERE / "conversations.jsonl"
DEFAULT_FOLDER = HERE / "tokenizer"

VOCAB_SIZE = 3000
END, TURN_START, TURN_END, PAD = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"

# What merges never cross. In order: words with the space or sign before them, numbers of up to three digits, runs of
# signs with the line ends after them, line ends with the blanks before them, blanks that no word takes, other blanks.
SPLIT = (
    r"(?:[^\r\n\p{L}\p{N}])?\p{L}[\p{L}\p{M}]*"
    r"|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+"
    r"|\s+(?!\S)"
    r"|\s+"
)

CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": END,
    "eos_token": END,
    "unk_token": END,
    "pad_token": PAD,
    "clean_up_tokenization_spaces": False,
}

# ChatML. The last assistant turn ends the conversation, earlier turns end with a token of their own.
CHAT_TEMPLATE = """\
{#- ChatML with tools: the last assistant turn closes with eos_token, every other turn with <|im_end|>. -#}
{%- if tools -%}
    {{- '<|im_start|>system\\n<functions>' -}}{{- tools | tojson -}}{{- '</functions><|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
    {{- '<|im_start|>' + message['role'] + '\\n' -}}
    {%- if message['content'] -%}{{- message['content'] -}}{%- endif -%}
    {%- if message['functions'] -%}{{- '\\n<functions>' + message['functions'] + '</functions>' -}}{%- endif -%}
    {%- if message['function_calls'] -%}
        {{- '<function_calls>' + message['function_calls'] + '</function_calls>' -}}
    {%- endif -%}
    {%- if loop.last and message['role'] == 'assistant' -%}
        {{- eos_token -}}
    {%- else -%}
        {{- '<|im_end|>\\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""


def texts(conversations: Path) -> Iterator[str]:
    """Every text that a template may render, in the order of the file."""
    with open(conversations, encoding="utf-8") as file:
        for line in file:
            for message in json.loads(line)["messages"]:
                for field in ("content", "functions", "function_calls"):
                    if text := message.get(field):
                        yield text


def train(conversations: Path = CONVERSATIONS) -> Tokenizer:
    """A tokenizer trained on the conversations; the same merges every time, ties being broken by token number."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = Steps(
        [Split(Regex(SPLIT), behavior="isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[END, TURN_START, TURN_END, PAD],
        # All 256 bytes, so that no text is unknown.
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(conversations), trainer)
    return tokenizer


def write(tokenizer: Tokenizer, folder: Path) -> None:
    """The three files that a tokenizer folder holds."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer.to_str() + "\n", encoding="utf-8", newline="\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(CONFIG, indent=2) + "\n", encoding="utf-8", newline="\n")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8", newline="\n")


def main(arguments: Sequence[str]) -> None:
    folder = Path(arguments[0]) if arguments else DEFAULT_FOLDER
    tokenizer = train()
    write(tokenizer, folder)
    print(f"{folder}: {tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main(sys.argv[1:])
