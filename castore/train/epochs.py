"""Which item comes when: an order for every epoch, cut among ranks, and where in it a run was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castore.errors import CorruptionError, InvalidInputError
from castore.format.digest import digest_of
from castore.format.order import Order

STATE_VERSION = 1


@dataclass(frozen=True, slots=True)
class Epochs:
    """The orders of the epochs over ``count`` items.

    A shuffled epoch is drawn as a recorded order is (``castore.format.order``), from the seed and the number of the
    epoch. numpy does not promise its draws for ever, so a state holds the digest of its order, and a numpy that draws
    another is told.

    Attributes:
        count: Items.
        shuffle: Whether each epoch has an order of its own; else items come as they are numbered.
        seed: 0 to 2**31 - 1.
        rank, world_size: Which items are this process's: every ``world_size``-th, from the ``rank``-th on.
        drop_last: Leave out what does not go round all ranks; else the first items of the epoch come again, so that
            all ranks have equally many, as in ``torch.utils.data.DistributedSampler``.
    """

    count: int
    shuffle: bool = False
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    drop_last: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise InvalidInputError(f"rank {self.rank} of {self.world_size}: give 0 to {self.world_size - 1}")
        if not 0 <= self.seed < 1 << 31:
            raise InvalidInputError(f"seed {self.seed}: give 0 to {(1 << 31) - 1}")

    def __len__(self) -> int:
        """Items of one rank in one epoch."""
        return self.count // self.world_size if self.drop_last else -(-self.count // self.world_size)

    def whole(self, epoch: int) -> NDArray[np.int64]:
        """The items of an epoch for all ranks, int64[len · world_size]."""
        order = np.arange(self.count, dtype=np.int64)
        if self.shuffle:
            order = Order.shuffled((self.seed << 32) + epoch, self.count).positions()
        return np.resize(order, len(self) * self.world_size) if self.count else order

    def of_rank(self, epoch: int, position: int = 0) -> NDArray[np.int64]:
        """This rank's items of an epoch that come after the first ``position`` of all ranks, int64."""
        return self.whole(epoch)[position + self.rank :: self.world_size]

    # ---- where a run was

    def state(self, epoch: int, position: int, of: str) -> dict[str, Any]:
        """Where a run is: in an epoch after the first ``position`` items of all ranks; ``of`` names what is read."""
        return {
            "version": STATE_VERSION,
            "of": of,
            "shuffle": self.shuffle,
            "seed": self.seed,
            "drop_last": self.drop_last,
            "epoch": epoch,
            "position": position,
            "order": self._order_digest(epoch) if position else "",
        }

    def resume(self, state: dict[str, Any], of: str) -> tuple[int, int]:
        """Epoch and position of a state, which may come from another number of ranks.

        Raises:
            InvalidInputError: It is a state over other data, or another order of them.
            CorruptionError: The installed numpy draws another order than the one that wrote it.
        """
        if state.get("version") != STATE_VERSION:
            raise InvalidInputError(f"a state of version {state.get('version')}, where {STATE_VERSION} is known")
        wanted = {"of": of, "shuffle": self.shuffle, "seed": self.seed}
        for name, value in wanted.items():
            if state.get(name) != value:
                what = "data" if name == "of" else name
                raise InvalidInputError(f"the state was taken with {what} {state.get(name)}, and this is {value}")
        epoch, position = int(state["epoch"]), int(state["position"])
        if position and self._order_digest(epoch) != state.get("order"):
            raise CorruptionError("this numpy shuffles otherwise than the one that wrote the state: install that one")
        return epoch, position

    def _order_digest(self, epoch: int) -> str:
        """What identifies the order of an epoch before it is cut among ranks."""
        if not self.shuffle:
            return f"{self.count} as numbered"
        order = Order.shuffled((self.seed << 32) + epoch, self.count)
        return digest_of(order.digest).hex()[:32]
