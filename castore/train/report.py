"""What a trainer makes of an export, as values: its configuration, and counts of what becomes of conversations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction

from castore.errors import InvalidInputError
from castore.format.samples import TOKENS_MAX


@dataclass(frozen=True, slots=True)
class Rule:
    """How the trainer is configured.

    Attributes:
        sequence_length: Tokens of an instance, a power of two (OLMo-core takes no other).
        eos: Id that ends a document.
        bos: Id that must follow it, None if the trainer's tokenizer configuration names none.
        fragment: Split documents over the sequence length into pieces, in place of cutting them.
        metadata: Take documents from the ``.csv.gz`` files, in place of looking for EOS.

    Raises:
        InvalidInputError: The sequence length is no power of two up to ``TOKENS_MAX``, or no token has such an id.
    """

    sequence_length: int
    eos: int
    bos: int | None = None
    fragment: bool = False
    metadata: bool = False

    def __post_init__(self) -> None:
        for name, token in (("EOS", self.eos), ("BOS", self.bos)):
            if token is not None and not 0 <= token < 1 << 32:
                raise InvalidInputError(f"{name} {token} is the id of no token: ids are 0 to {(1 << 32) - 1}")
        if self.sequence_length > TOKENS_MAX:
            raise InvalidInputError(f"sequence length {self.sequence_length}: give 1 to {TOKENS_MAX}")
        if self.sequence_length < 1 or self.sequence_length & (self.sequence_length - 1):
            raise InvalidInputError(
                f"sequence length {self.sequence_length}: OLMo-core packs into powers of two only, such as 4096"
            )


@dataclass(frozen=True, slots=True)
class PackingCounts:
    """What a packing comes to: instances, and tokens of documents in them."""

    instances: int
    tokens: int


@dataclass(slots=True)
class Tally:
    """Counts over the conversations of one source, or of all.

    ``documents`` are attributed to the conversation that holds their last token. A document is *merged* if it holds
    tokens of more than one conversation.

    Attributes:
        conversations: Samples in the export; ``empty`` of them have no token.
        tokens, trainable: All of theirs.
        documents: Documents that the trainer finds.
        packed_tokens, packed_trainable: What reaches an instance.
        tail_tokens, tail_trainable: Dropped: behind the last end of a document in a part.
        merged_tokens, merged_trainable: Dropped: behind the sequence length of a merged document.
        long_tokens, long_trainable: Dropped: behind the sequence length of a document of one conversation.
        mixed_tokens, mixed_trainable: Packed, in a document that other conversations share.
        intact: Conversations that arrive whole and alone, as one document.
        split: Conversations with an end of a document before their last token, ``splits`` of them in all.
        unended: Conversations whose last token ends no document; ``cut`` of them have the length at which tokenizing
            cut conversations.
        crossing: Conversations that lie in two parts or more, ``crossings`` ends of a part in all.
        long: Conversations of more tokens than the sequence length.
    """

    conversations: int = 0
    empty: int = 0
    tokens: int = 0
    trainable: int = 0
    documents: int = 0
    packed_tokens: int = 0
    packed_trainable: int = 0
    tail_tokens: int = 0
    tail_trainable: int = 0
    merged_tokens: int = 0
    merged_trainable: int = 0
    long_tokens: int = 0
    long_trainable: int = 0
    mixed_tokens: int = 0
    mixed_trainable: int = 0
    intact: int = 0
    split: int = 0
    splits: int = 0
    unended: int = 0
    cut: int = 0
    crossing: int = 0
    crossings: int = 0
    long: int = 0

    @property
    def dropped_tokens(self) -> int:
        """Tokens that reach no instance."""
        return self.tokens - self.packed_tokens

    @property
    def dropped_trainable(self) -> int:
        """Trainable tokens that reach no instance."""
        return self.trainable - self.packed_trainable


COUNTS = tuple(field.name for field in fields(Tally))


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the export: documents found in it, pieces of at most the sequence length packed, and how."""

    documents: int
    pieces: int
    packing: PackingCounts


@dataclass(frozen=True, slots=True)
class Report:
    """What the trainer makes of an export.

    Attributes:
        rule: The trainer's configuration.
        cut_length: Length at which tokenizing cut conversations, None if it did not.
        by_source: Counts by number of the source.
        parts: The parts in order.
    """

    rule: Rule
    cut_length: int | None
    by_source: Mapping[int, Tally]
    parts: Sequence[Part]

    @property
    def total(self) -> Tally:
        """Counts over all sources."""
        return Tally(*(sum(getattr(tally, name) for tally in self.by_source.values()) for name in COUNTS))

    @property
    def instances(self) -> int:
        """Instances of all parts."""
        return sum(part.packing.instances for part in self.parts)

    @property
    def efficiency(self) -> float:
        """Share of the places in instances that hold a token, for people to read; 0 without instances."""
        places = self.instances * self.rule.sequence_length
        return self.total.packed_tokens / places if places else 0.0

    def over(self, max_loss: Fraction) -> bool:
        """Whether more than this share of the tokens, or of the trainable tokens, is dropped."""
        total = self.total
        return total.dropped_tokens > max_loss * total.tokens or total.dropped_trainable > max_loss * total.trainable

    @property
    def pieces(self) -> int:
        """What is packed: documents, those over the sequence length cut or in pieces."""
        return sum(part.pieces for part in self.parts)
