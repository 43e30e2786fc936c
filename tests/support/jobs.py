"""Small jobs on the conversations that ship with castore, on any backend, with trees small enough to have levels."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from unittest import mock

from castore.ingest import job as job_module
from castore.ingest.job import Sizes, TokenizeResult
from castore.ingest.run_writer import Progress
from castore.ingest.tokenizer import ChatTokenizer, TokenizedRows
from castore.read.columns import Columns
from castore.repository import Origin, Repository
from castore.store.backend import Backend
from castore.store.marker import open_layout

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
CONVERSATIONS = EXAMPLES / "conversations.jsonl"
TOKENIZER = EXAMPLES / "tokenizer"
SMALL = Sizes(block_bytes=3000, chunk_bytes=4000, fanout=4)
PROCESS_SIZES = Sizes(block_bytes=8000, chunk_bytes=8000, fanout=4)  # of ``small_castore``
ORIGIN = Origin("a tester", "somewhere", 1_700_000_000)

Mix = Sequence[tuple[str | Path, str]]


@lru_cache
def example_rows() -> tuple[bytes, ...]:
    """The shipped conversations, one JSON object each."""
    return tuple(CONVERSATIONS.read_bytes().splitlines())


def write_rows(path: Path, rows: Sequence[bytes]) -> Path:
    """Write JSON lines."""
    path.write_bytes(b"".join(row + b"\n" for row in rows))
    return path


def row(*texts: str, **fields: Any) -> bytes:
    """A conversation that alternates between user and assistant."""
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    return json.dumps({"messages": messages, **fields}, ensure_ascii=False).encode()


def tokenize(repository: Repository, mix: Mix, name: str = "out", **options: Any) -> TokenizeResult:
    """``Repository.tokenize`` with the shipped tokenizer, in this process, by nobody in particular."""
    return repository.tokenize(mix, **{"tokenizer": TOKENIZER, "name": name, "origin": ORIGIN, "workers": 1} | options)


def run_job(
    backend: Backend,
    mix: Mix,
    *,
    name: str = "out",
    sizes: Sizes = SMALL,
    report: Callable[[Progress], None] = lambda progress: None,
    warn: Callable[[str], None] = lambda message: None,
    **options: Any,
) -> TokenizeResult:
    """All that ``castore tokenize`` does, on a backend."""
    open_layout(backend, create=True)
    repository = Repository(backend)
    with mock.patch.object(job_module, "tokenize", partial(job_module.tokenize, sizes=sizes)):
        return tokenize(repository, mix, name, report=report, warn=warn, **options)


@contextmanager
def counted_tokenizing(memory: dict[Any, TokenizedRows] | None = None) -> Iterator[list[int]]:
    """Yield a list to which every call of ``ChatTokenizer.tokenize`` adds its number of rows.

    With ``memory`` a batch that was seen before costs nothing (and still counts).
    """
    calls: list[int] = []
    real = ChatTokenizer.tokenize

    def tokenize(self: ChatTokenizer, rows: Sequence[bytes], *, on_error: str = "stop") -> TokenizedRows:
        calls.append(len(rows))
        if memory is None:
            return real(self, rows, on_error=on_error)
        key = json.dumps(self.recipe(), sort_keys=True), tuple(rows), on_error
        if key not in memory:
            memory[key] = real(self, rows, on_error=on_error)
        return memory[key]

    with mock.patch.object(ChatTokenizer, "tokenize", tokenize):
        yield calls


def with_vocab_size(data: Columns, vocab_size: int | None) -> None:
    """Let an opened dataset's run record name another size of the vocabulary."""
    assert data.run is not None
    data.run = replace(data.run, configuration=replace(data.run.configuration, vocab_size=vocab_size))
