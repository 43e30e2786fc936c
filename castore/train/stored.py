"""The packing of a dataset in a repository: read where somebody has made it, else made and stored for others."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from castore.errors import BackendError, NotFoundError
from castore.format.packing import packing_name
from castore.read.columns import Columns
from castore.store.backend import Backend
from castore.store.objects import ObjectStore
from castore.store.packings import PackingStore
from castore.train.instances import Instances, PackingRule, pack_dataset, read_instances


def stored_packing(
    data: Columns,
    rule: PackingRule,
    backend: Backend,
    objects: ObjectStore,
    *,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Instances:
    """The packing of a dataset under a rule.

    A repository that cannot be written to serves as well; then nothing is stored.

    Args:
        data: A dataset of the repository.
        rule: How to pack.
        backend: The repository.
        objects: Its objects.
        report: Called with tokens read and tokens in all, where they must be read.
    """
    records = PackingStore(backend)
    name = packing_name(data.root, rule.value())
    known = records.get(name)
    if known is not None:
        with suppress(NotFoundError):  # it was collected: a packing can be made again
            found = read_instances(objects.get, known, data.root, rule)
            with suppress(BackendError):  # not everybody may write
                records.renew(name)
            return found
    packing, chunks = pack_dataset(data, rule, report=report)
    document = packing.encode()
    made = {item.digest: item for item in [*chunks, document]}
    with suppress(BackendError):
        objects.put_all(made.values())
        objects.flush()
        records.put(name, document.digest, sorted({chunk.digest for chunk in chunks}))
    return read_instances(lambda digest: made[digest].data, document.digest, data.root, rule)
