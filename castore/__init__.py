"""castore: a content-addressed store for tokenized training data."""

__version__ = "0.1.0"
