"""PyTorch datasets over a dataset of a repository: no export, verified, shared among workers, exact to resume.

::

    import castore
    from castore.torch import DataLoader, PackedDataset

    data = castore.open("/data/tokens")["golden/sft"]
    loader = DataLoader(PackedDataset(data, 4096), batch_size=8, shuffle=True, seed=1, num_workers=2)
    for batch in loader:                 # input_ids, label_mask, doc_lens, max_doc_lens
        ...
        state = loader.state_dict()      # goes into the checkpoint; load_state_dict goes on behind this batch

Items are dictionaries with the keys that OLMo-core uses. Needs the extra ``castore[torch]``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from castore.errors import InvalidInputError, MissingExtraError
from castore.format.samples import offsets_of
from castore.train.epochs import Epochs
from castore.train.token_cache import TokenCache

try:
    import torch
    from torch.utils import data as torch_data
except ImportError as error:  # pragma: no cover - the extra is not installed
    raise MissingExtraError("torch", "torch") from error

if TYPE_CHECKING:
    from castore.dataset import Dataset

__all__ = ["DataLoader", "IterableDataset", "PackedDataset", "SampleDataset", "ShardedSampler", "collate"]

ORDERS = ("recorded", "source")

Item: TypeAlias = dict[str, Any]


class SampleDataset(torch_data.Dataset[Item]):
    """Samples, one an item, to be used as any map-style dataset.

    An item has ``input_ids`` int64[t], ``label_mask`` bool[t], true where the loss counts, and ``index``, the number of
    the sample in stored order.

    Args:
        data: A dataset of a repository.
        order: ``recorded``: as it would be exported; ``source``: as it is stored.
        cache_bytes: Bytes of local files for decoded tokens (``castore.train.token_cache``); None: half of what is free
            there, 0: none.
        cache_folder: Where these files go; by default where temporary files do.

    Raises:
        InvalidInputError: No such order.
    """

    def __init__(
        self,
        data: Dataset,
        *,
        order: str = "recorded",
        cache_bytes: int | None = None,
        cache_folder: str | None = None,
    ) -> None:
        if order not in ORDERS:
            raise InvalidInputError(f"order {order!r}: give one of {', '.join(ORDERS)}")
        self.name = f"samples of {data.root.hex()}, {order} order"
        self.pad_token_id = _pad_token_id(data)
        self._positions = data.positions if order == "recorded" and data.order is not None else None
        self._count = len(data) if self._positions is None else len(self._positions)
        self._cache = TokenCache(data, cache_bytes, cache_folder)

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<SampleDataset: {self._count} {self.name}>"

    def __getitem__(self, at: int) -> Item:
        at = _checked(at, self._count)
        sample = at if self._positions is None else int(self._positions[at])
        ids, mask = self._cache.read(sample)
        return {
            "input_ids": torch.from_numpy(ids.astype(np.int64)),
            "label_mask": torch.from_numpy(mask.copy()),
            "index": sample,
        }


class PackedDataset(torch_data.Dataset[Item]):
    """Samples packed into instances of one length.

    An item has ``input_ids`` int64[sequence_length], ``label_mask`` bool[sequence_length], ``doc_lens`` int32[d], the
    documents in it with the padding as the last one, so that attention can be kept within documents, and ``index``.

    The packing is computed once for the data and the rule and kept in the repository (``Dataset.pack``).

    Args:
        data: A dataset of a repository.
        sequence_length: Tokens of an instance.
        mode: ``documents``: true boundaries, nothing is lost; ``olmo-core``: those that OLMo-core finds.
        pad_token_id: Id in places without a token; by default that of the recorded tokenizer.
        cache_bytes, cache_folder: As of ``SampleDataset``.
        options: Further options of ``Dataset.pack``.

    Raises:
        InvalidInputError: No padding id was recorded, or the packing is refused.
    """

    def __init__(
        self,
        data: Dataset,
        sequence_length: int,
        *,
        mode: str = "documents",
        pad_token_id: int | None = None,
        cache_bytes: int | None = None,
        cache_folder: str | None = None,
        **options: Any,
    ) -> None:
        found = _pad_token_id(data) if pad_token_id is None else pad_token_id
        if found is None:
            raise InvalidInputError("no tokenizer with a padding token was recorded: give pad_token_id")
        self.pad_token_id = found
        self.instances = data.pack(sequence_length, mode, **options)
        self.name = f"packing {self.instances.digest.hex()}"
        self._documents = offsets_of(self.instances.instance_documents)
        self._segments = offsets_of(self.instances.document_segments)
        self._cache = TokenCache(data, cache_bytes, cache_folder)
        self.instances.check_fit(self._cache.offsets)

    def __len__(self) -> int:
        return len(self.instances)

    def __repr__(self) -> str:
        return f"<PackedDataset: {self.instances!r}>"

    def __getitem__(self, at: int) -> Item:
        packing = self.instances
        at = _checked(at, len(packing))
        input_ids = np.full(packing.sequence_length, self.pad_token_id, np.int64)
        label_mask = np.zeros(packing.sequence_length, np.bool_)
        documents = self._segments[self._documents[at] : self._documents[at + 1] + 1]
        inside = slice(int(documents[0]), int(documents[-1]))
        samples, starts = packing.segment_sample[inside].tolist(), packing.segment_start[inside].tolist()
        lengths = packing.segment_length[inside]
        done = 0
        for sample, start, length in zip(samples, starts, lengths.tolist(), strict=True):
            ids, mask = self._cache.read(sample, start, start + length)
            input_ids[done : done + length] = ids
            label_mask[done : done + length] = mask
            done += length
        doc_lens = np.add.reduceat(lengths, documents[:-1] - documents[0]).astype(np.int32)
        if done < packing.sequence_length:
            doc_lens = np.append(doc_lens, np.int32(packing.sequence_length - done))
        return {
            "input_ids": torch.from_numpy(input_ids),
            "label_mask": torch.from_numpy(label_mask),
            "doc_lens": torch.from_numpy(doc_lens),
            "index": at,
        }


def collate(items: Sequence[Item], pad_token_id: int = 0) -> Item:
    """A batch of items of either dataset, as OLMo-core's collator makes it.

    ``input_ids`` int64[b, t] and ``label_mask`` bool[b, t], padded at the end to the longest; ``index`` int64[b]; of
    packed items also ``doc_lens`` int32[b, d], padded with 0, and ``max_doc_lens``, a list of b integers.
    """
    pad = torch.nn.utils.rnn.pad_sequence
    batch: Item = {
        "input_ids": pad([item["input_ids"] for item in items], batch_first=True, padding_value=pad_token_id),
        "label_mask": pad([item["label_mask"] for item in items], batch_first=True, padding_value=False),
        "index": torch.tensor([item["index"] for item in items]),
    }
    if "doc_lens" in items[0]:
        batch["doc_lens"] = pad([item["doc_lens"] for item in items], batch_first=True, padding_value=0)
        batch["max_doc_lens"] = [int(item["doc_lens"].max()) for item in items]
    return batch


class _Collate:
    """``collate`` with the padding of a dataset; can be pickled."""

    def __init__(self, pad_token_id: int) -> None:
        self._pad_token_id = pad_token_id

    def __call__(self, items: Sequence[Item]) -> Item:
        return collate(items, self._pad_token_id)


class ShardedSampler(torch_data.Sampler[int]):
    """Which items a rank takes, in which order. Begins anew, or behind ``position`` items of all ranks.

    Args:
        count: Items of the dataset.
        shuffle, seed, drop_last: As of ``castore.train.epochs.Epochs``.
        rank, world_size: Of this process; by default those of ``torch.distributed`` where it is initialized.
    """

    def __init__(
        self,
        count: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        drop_last: bool = False,
    ) -> None:
        self.epochs = Epochs(count, shuffle, seed, *_rank(rank, world_size), drop_last)
        self.epoch = self.position = 0

    def set_epoch(self, epoch: int, position: int = 0) -> None:
        """Go to an epoch, and behind the first ``position`` items of all ranks in it."""
        self.epoch, self.position = epoch, position

    def __len__(self) -> int:
        return len(self.epochs) - self.position // self.epochs.world_size

    def __iter__(self) -> Iterator[int]:
        return iter(self.epochs.of_rank(self.epoch, self.position).tolist())


class DataLoader(torch_data.DataLoader[Item]):
    """PyTorch's loader with an order, shards and a state. What it yields does not depend on the number of workers.

    The state counts what was yielded, not what workers have prepared: after ``load_state_dict`` the next iteration
    yields exactly the items of the epoch that had not been yielded, also with another number of workers or of ranks.
    The iteration after it begins the next epoch.

    Args:
        dataset: A ``SampleDataset`` or ``PackedDataset``.
        batch_size: Items of a batch; None: no batches, single items.
        shuffle: Give every epoch an order of its own; else items come as the dataset numbers them.
        seed: Of the shuffles.
        rank, world_size: As of ``ShardedSampler``.
        drop_last: Leave out what does not go round all ranks, and then what does not fill a batch.
        options: Of PyTorch's loader: ``num_workers``, ``pin_memory``, ``collate_fn``, …
    """

    def __init__(
        self,
        dataset: SampleDataset | PackedDataset,
        batch_size: int | None = 1,
        *,
        shuffle: bool = False,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        drop_last: bool = False,
        **options: Any,
    ) -> None:
        self._of = dataset.name
        self._sampler = ShardedSampler(
            len(dataset), shuffle=shuffle, seed=seed, rank=rank, world_size=world_size, drop_last=drop_last
        )
        self._epoch = self._position = self._begin = 0
        if batch_size is not None:
            options.setdefault("collate_fn", _Collate(dataset.pad_token_id or 0))
        super().__init__(dataset, batch_size=batch_size, sampler=self._sampler, drop_last=drop_last, **options)

    def set_epoch(self, epoch: int) -> None:
        """Begin with this epoch; if a state in the midst of it was loaded, go on there, else at its first item."""
        if epoch != self._epoch:
            self._epoch, self._begin = epoch, 0
        self._position = self._begin

    def __iter__(self) -> Iterator[Item]:  # type: ignore[override]
        epochs, size = self._sampler.epochs, self.batch_size or 1
        begin, self._begin = self._begin, 0
        self._position = begin
        self._sampler.set_epoch(self._epoch, begin)
        left = len(self._sampler)
        for batch in super().__iter__():
            left -= min(size, left)
            self._position = (len(epochs) - left) * epochs.world_size
            # A state that is taken after the last batch is at the next epoch.
            if left < (size if self.drop_last else 1):
                self._epoch, self._position = self._epoch + 1, 0
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is, for a checkpoint: plain values."""
        return self._sampler.epochs.state(self._epoch, self._position, self._of)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a state was taken.

        Raises:
            InvalidInputError: It is a state over other data, another order or another packing of them.
        """
        self._epoch, self._begin = self._sampler.epochs.resume(state, self._of)
        self._position = self._begin


class IterableDataset(torch_data.IterableDataset[Item]):
    """The items of a ``SampleDataset`` or ``PackedDataset`` as a stream, cut among ranks and workers.

    Each worker has a state of its own, which ``torchdata.stateful_dataloader.StatefulDataLoader`` keeps; it goes on
    with the same number of workers and ranks. ``DataLoader`` of this module needs neither.

    Args:
        dataset: What to read.
        shuffle, seed, rank, world_size, drop_last: As of ``DataLoader``.
    """

    def __init__(
        self,
        dataset: SampleDataset | PackedDataset,
        *,
        shuffle: bool = False,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        drop_last: bool = False,
    ) -> None:
        self._dataset = dataset
        self._epochs = Epochs(len(dataset), shuffle, seed, *_rank(rank, world_size), drop_last)
        self._epoch = self._taken = self._begin = 0

    def __len__(self) -> int:
        return len(self._epochs)

    def set_epoch(self, epoch: int) -> None:
        """Begin with this epoch; if a state in the midst of it was loaded, go on there, else at its first item."""
        if epoch != self._epoch:
            self._epoch, self._begin = epoch, 0
        self._taken = self._begin

    def __iter__(self) -> Iterator[Item]:
        worker, workers = self._worker()
        begin, self._begin = self._begin, 0
        self._taken = begin
        for at in self._epochs.of_rank(self._epoch)[worker::workers][begin:].tolist():
            self._taken += 1
            yield self._dataset[at]
        self._epoch, self._taken = self._epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Where this worker is: plain values."""
        state = self._epochs.state(self._epoch, self._taken, self._dataset.name)
        return state | {"shard": self._shard()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a state of this worker was taken.

        Raises:
            InvalidInputError: It is a state over other data, or of another shard.
        """
        if state.get("shard") != self._shard():
            raise InvalidInputError(f"the state is of shard {state.get('shard')}, and this is {self._shard()}")
        self._epoch, self._begin = self._epochs.resume(state, self._dataset.name)
        self._taken = self._begin

    def _shard(self) -> list[int]:
        return [self._epochs.rank, self._epochs.world_size, *self._worker()]

    @staticmethod
    def _worker() -> tuple[int, int]:
        info = torch_data.get_worker_info()
        return (0, 1) if info is None else (info.id, info.num_workers)


def _rank(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Rank and number of ranks, as given or as ``torch.distributed`` says."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if rank is None:
        rank = torch.distributed.get_rank() if distributed else 0
    if world_size is None:
        world_size = torch.distributed.get_world_size() if distributed else 1
    return rank, world_size


def _pad_token_id(data: Dataset) -> int | None:
    """Padding as the recorded tokenizer has it; EOS, which pads where there is no other."""
    from castore.read.tokenizer import special_token_id

    found = special_token_id(data, "pad_token")
    return special_token_id(data, "eos_token") if found is None else found


def _checked(at: int, count: int) -> int:
    """An index as lists take it."""
    if not -count <= at < count:
        raise IndexError(f"item {at} of {count}")
    return at + count if at < 0 else at
