"""What a job is where nothing else was said, for the command line and Python alike; loads no library."""

from __future__ import annotations

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

MESSAGES_FORMAT = "messages"
"""The shape of rows that open-instruct reads: a column of messages."""

AUTO = "auto"
"""The format that is found out from the first row."""

FORMATS = (AUTO, MESSAGES_FORMAT, "sharegpt", "alpaca", "prompt-completion")
"""Shapes of rows that are read, by name."""
