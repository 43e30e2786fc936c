"""What ``tokenize`` can be told, and what holds where nothing was said: for Python and the command line alike.

An option has one name everywhere: the keyword in Python, the field of the job, and, with dashes, the option of the
command line. Loads no library.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Required, TypedDict

SHUFFLE_SEED = 42
"""Seed of the recorded order; open-instruct's default."""

MIX_SEED = 42
"""Seed of the random choice of rows; open-instruct fixes it."""

ON_ERROR = "stop"
"""What to do at a row that cannot be read."""

ERRORS = ("stop", "skip")
"""What can be done there: stop, or count the row and go on."""

FILE_SPLIT = "train"
"""The split of a Hugging Face dataset; local files have no other."""

MAIN_REVISION = "main"
"""The revision of a Hugging Face dataset."""


class TokenizeOptions(TypedDict, total=False):
    """What ``Repository.tokenize`` takes as keywords, beside those that say who, when and why.

    Attributes:
        tokenizer: Folder of a Hugging Face tokenizer.
        chat_template: Name or file of a template; None for the tokenizer folder's own.
        template_fallback: Take the tokenizer's own template for a name that is not registered, as open-instruct does.
        date: What templates that ask for the date write, ``YYYY-MM-DD`` or with ``THH:MM:SS``; None for the day on
            which the run began.
        max_seq_length: Tokens kept of a conversation; None for all.
        add_bos: Put the BOS token in front of every conversation.
        last_turn: Train on the last assistant turn of a conversation only.
        num_examples: Samples used of the shuffle; None for all.
        shuffle_seed: Seed of the recorded order; None to keep the order of the mix.
        mix_seed: Seed of the random choice of rows.
        split: Of the Hugging Face datasets: one for all, or one for each source.
        revision: Of the Hugging Face datasets.
        workers: Processes; None for one for each processor. With more than one, a script that has much to tokenize
            begins below ``if __name__ == "__main__":``, since workers import it.
        on_error: What to do at a row that cannot be read: ``stop`` there, or ``skip``, count it and go on.
        strict: Stop at the first row that becomes a sample and loses something of what it has: a message that the
            template does not write, tokens to the cut, a weight that is not heeded.
    """

    tokenizer: Required[str | os.PathLike[str]]
    chat_template: str | os.PathLike[str] | None
    template_fallback: bool
    date: str | None
    max_seq_length: int | None
    add_bos: bool
    last_turn: bool
    num_examples: int | None
    shuffle_seed: int | None
    mix_seed: int
    split: str | Sequence[str]
    revision: str
    workers: int | None
    on_error: str
    strict: bool
