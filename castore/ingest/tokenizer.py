"""Batches of raw rows to tokens and trainable spans, byte for byte what open-instruct writes for them."""

from __future__ import annotations

import datetime
import json
import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from castore.errors import InvalidInputError
from castore.ingest.chat import MESSAGES, Conversation, RowError, explain_render_failure, json_parser, parse_row
from castore.ingest.clock import date_text
from castore.ingest.compiled import row_renderer
from castore.ingest.fastpath import ID_BYTES, FastTokenizer, Labelled, Row
from castore.ingest.labels import NOTHING_TRAINABLE, exact_labels
from castore.ingest.limits import TemplateLimitError
from castore.ingest.lost import CUT, TOKEN_MISSING, Lost, LostCounter, LostKey
from castore.ingest.render import CLOCK
from castore.ingest.templates import ChatTemplate
from castore.ingest.tokenizer_folder import TOKENIZER, TokenizerFolder

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    Uint32s = np.ndarray[Any, np.dtype[np.uint32]]

__all__ = ["ChatTemplate", "ChatTokenizer", "RowError", "TokenizedRows", "TokenizerFolder"]

TRANSFORM = "open-instruct sft"
# Raised whenever the tokens or spans of any row change.
TRANSFORM_VERSION = 1

# Raw bytes that are worked on at once: bounds memory whatever the batches that callers choose.
_STRETCH_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class TokenizedRows:
    """The rows of one batch that are kept, and what became of the others.

    Attributes:
        rows: uint32[kept]  Positions in the batch, ascending.
        lengths: uint32[kept]  Tokens per row.
        token_ids: uint32[sum(lengths)]
        span_counts: uint32[kept]  Trainable spans per row, at least one.
        span_starts: uint32[sum(span_counts)]  First token of each span, within its row.
        span_ends: uint32[sum(span_counts)]  Half-open ends; spans ascend, and do not touch.
        dropped: Position in the batch and reason of the other rows, ascending: ``nothing-trainable``,
            ``labels-not-derivable``, ``cut-inside-character`` or ``bad-row: <field>: <message>``.
        lost: Position in the batch of the rows that are kept and lost something, ascending, and what.
    """

    rows: Uint32s
    lengths: Uint32s
    token_ids: Uint32s
    span_counts: Uint32s
    span_starts: Uint32s
    span_ends: Uint32s
    dropped: list[tuple[int, str]]
    lost: list[tuple[int, Lost]] = field(default_factory=list)


class ChatTokenizer:
    """A tokenizer, a template and a cut, ready for batches of rows.

    Constructing checks the template and is cheap; the tokenizer itself is built with the first batch.

    Args:
        folder: The tokenizer.
        template: From :meth:`ChatTemplate.resolve`.
        max_seq_length: Tokens that are kept per row, at least 1; None keeps all.
        last_turn_only: Train on the last assistant message alone.
        now: What a template that asks for the date writes, for all rows; needed by such a template alone.
        exact_only: Take the slow path everywhere; the result is the same.

    Raises:
        InvalidInputError: The template is not valid, or the length is below 1.
    """

    def __init__(
        self,
        folder: TokenizerFolder,
        template: ChatTemplate,
        max_seq_length: int | None,
        *,
        last_turn_only: bool = False,
        now: datetime.datetime | None = None,
        exact_only: bool = False,
    ) -> None:
        if max_seq_length is not None and max_seq_length < 1:
            raise InvalidInputError(f"max sequence length must be at least 1, not {max_seq_length}")
        self._folder, self._template = folder, template
        self._max_length = max_seq_length
        self._last_turn_only = last_turn_only
        self._exact_only = exact_only
        # A template that does not name the clock gets none, so that the recipe cannot miss one.
        self._now = now if CLOCK in template.text else None
        self._render = row_renderer(template.text, folder.special_tokens, self._now, jinja_only=exact_only)
        self._lost = LostCounter(self._render.text, last_turn_only=last_turn_only)
        self._parse_json, self._json_error = json_parser()
        self._tokenizer: Tokenizer | None = None
        self._fast: FastTokenizer | None = None

    @property
    def is_fast(self) -> bool:
        """Whether this tokenizer qualifies for the fast path; rows that do not are found one by one."""
        self._load()
        return self._fast is not None

    def recipe(self) -> dict[str, object]:
        """Return everything that decides the tokens and spans of a row, and nothing else (no path, no name).

        Returns:
            Strings, integers, None and dicts of them only.
        """
        import tokenizers
        from blake3 import blake3

        recipe: dict[str, object] = {
            "transform": TRANSFORM,
            "transform_version": TRANSFORM_VERSION,
            "tokenizer": blake3(self._folder.files[TOKENIZER]).hexdigest(),
            "added_tokens": blake3(json.dumps(self._folder.configured_tokens(), sort_keys=True).encode()).hexdigest(),
            "special_tokens": dict(sorted(self._folder.special_tokens.items())),
            "template": blake3(self._template.text.encode()).hexdigest(),
            "max_seq_length": self._max_length,
            "trained_turns": "last" if self._last_turn_only else "all",
            # Merges and regexes are the library's; a patch release has never changed ids.
            "tokenizers": ".".join(tokenizers.__version__.split(".")[:2]),
        }
        if self._folder.split_special_tokens:
            recipe["split_special_tokens"] = True
        if self._now is not None:
            recipe["date"] = date_text(self._now)
        return recipe

    def tokenize(self, rows: Sequence[bytes], *, on_error: str = "stop") -> TokenizedRows:
        """Tokenize a batch and derive its labels.

        The result for a row does not depend on the rows around it.

        Args:
            rows: One JSON object each, UTF-8.
            on_error: "stop" raises for the first bad row; "skip" drops bad rows and says so.

        Raises:
            RowError: A row that open-instruct would die of; ``index`` is its position in the batch.
        """
        if on_error not in ("stop", "skip"):
            raise InvalidInputError(f"on_error must be 'stop' or 'skip', not {on_error!r}")
        self._load()
        done: list[Labelled] = []
        lost: list[tuple[int, Lost]] = []
        for start, end in _stretches(rows):
            done += self._stretch(rows, start, end, on_error == "skip", lost)
        return _gather(done, lost)

    def _stretch(
        self, rows: Sequence[bytes], start: int, end: int, skip: bool, lost: list[tuple[int, Lost]]
    ) -> list[Labelled]:
        results: list[Labelled | None] = []
        good: list[tuple[int, Conversation, Row]] = []
        for index in range(start, end):
            try:
                conversation, row = self._read(rows[index])
            except RowError as error:
                error.index = index
                if not skip or error.is_final:
                    raise
                results.append(Labelled(b"", f"bad-row: {error}"))
                continue
            good.append((len(results), conversation, row))
            results.append(None)
        if self._fast is not None:
            fast = self._fast.run([row for _, _, row in good], self._max_length)
            for (place, _, _), labelled in zip(good, fast, strict=True):
                results[place] = labelled
        for place, conversation, row in good:
            labelled = results[place]
            if labelled is None:
                labelled = results[place] = self._exact(row)
            if not isinstance(labelled.spans, str):
                found = self._lost_of(conversation, row, labelled)
                if found:
                    lost.append((start + place, found))
        return [result for result in results if result is not None]

    def _read(self, raw: bytes) -> tuple[Conversation, Row]:
        conversation = parse_row(raw, self._parse_json, self._json_error)
        try:
            rendered = self._render(conversation.messages, conversation.tools, self._last_turn_only)
        except TemplateLimitError as error:
            raise RowError(f"the chat template was stopped: {error}", field=MESSAGES, is_final=True) from None
        except Exception as error:
            if isinstance(error, MemoryError):
                raise
            tools = conversation.tools
            raise explain_render_failure(
                conversation.messages, error, lambda messages: self._render(messages, tools, False)
            ) from error
        return conversation, Row(conversation.messages, rendered)

    def _lost_of(self, conversation: Conversation, row: Row, labelled: Labelled) -> dict[LostKey, int]:
        """What a row that is kept lost."""
        lost = self._lost.count(conversation.messages, conversation.tools, row.rendered.text)
        for name in row.rendered.missing:
            lost[TOKEN_MISSING, name] = 1
        tokens, trainable = labelled.cut
        if tokens:
            lost |= {(CUT, "rows"): 1, (CUT, "tokens"): tokens}
        if trainable:
            lost[CUT, "trainable tokens"] = trainable
        return lost

    def _exact(self, row: Row) -> Labelled:
        tokenizer = self._tokenizer
        assert tokenizer is not None
        ids, spans, cut = exact_labels(
            row.messages,
            row.rendered,
            lambda text: tokenizer.encode(text, add_special_tokens=False),
            lambda some: tokenizer.decode(some, skip_special_tokens=False),
            self._max_length,
        )
        return Labelled(array("I", ids).tobytes(), spans, cut)

    def _load(self) -> None:
        if self._tokenizer is not None:
            return
        # Each worker process has one core: a pool of threads in the library would only get in the others' way.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        tokenizer = self._folder.build()
        if not self._exact_only:
            self._fast = FastTokenizer.create(tokenizer, self._folder.specification())
        self._tokenizer = tokenizer


def _stretches(rows: Sequence[bytes]) -> list[tuple[int, int]]:
    """Cut a batch into runs of rows of about :data:`_STRETCH_BYTES`; half-open, together all rows."""
    stretches = []
    start = size = 0
    for index, raw in enumerate(rows):
        size += len(raw)
        if size >= _STRETCH_BYTES:
            stretches.append((start, index + 1))
            start, size = index + 1, 0
    if start < len(rows):
        stretches.append((start, len(rows)))
    return stretches


def _gather(results: Sequence[Labelled], lost: list[tuple[int, Lost]]) -> TokenizedRows:
    kept: list[int] = []
    dropped: list[tuple[int, str]] = []
    ids: list[bytes] = []
    counts: list[int] = []
    flat: list[tuple[int, int]] = []
    for index, (row_ids, spans, _) in enumerate(results):
        if isinstance(spans, str):
            dropped.append((index, spans))
            continue
        assert spans, NOTHING_TRAINABLE
        kept.append(index)
        ids.append(row_ids)
        counts.append(len(spans))
        flat += spans
    edges = np.array(flat, dtype=np.uint32).reshape(-1, 2)
    return TokenizedRows(
        rows=np.array(kept, dtype=np.uint32),
        lengths=np.array([len(row_ids) // ID_BYTES for row_ids in ids], dtype=np.uint32),
        token_ids=np.frombuffer(b"".join(ids), dtype=np.uint32),
        span_counts=np.array(counts, dtype=np.uint32),
        span_starts=np.ascontiguousarray(edges[:, 0]),
        span_ends=np.ascontiguousarray(edges[:, 1]),
        dropped=dropped,
        lost=lost,
    )
