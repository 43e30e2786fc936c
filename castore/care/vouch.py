"""Whether somebody who is trusted vouches for what an address means (``docs/how-to/sign.md``).

A signature says: from position p of its log on, this name rightly means this root. The store is not asked what needs
one, and what it shows is held against what was signed: a root that is moved back later, or one that a newer signature
has replaced, is not vouched for by the signature of then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from castore.care.sign import TrustedKey, is_true
from castore.errors import ConflictError, NotFoundError, SignatureError
from castore.format.digest import Digest, digest_hex
from castore.store.addresses import named_entry
from castore.store.refs import RefEntry, RefStore
from castore.store.signatures import Signature, SignatureStore


@dataclass(frozen=True, slots=True)
class Voucher:
    """A signature that vouches for an address.

    Attributes:
        key: Who signed.
        name: The name that was signed, which for the address of a digest is whatever it is.
        position: The position that was signed.
    """

    key: TrustedKey
    name: str
    position: int


@dataclass(frozen=True, slots=True)
class SignedStore:
    """What of a repository is looked at.

    Attributes:
        refs: Its names.
        signatures: Its signatures.
        place: What messages call it.
        root_of: The root of a run record or manifest; raises ``NotFoundError`` where it was collected.
    """

    refs: RefStore
    signatures: SignatureStore
    place: str
    root_of: Callable[[Digest], Digest]


def vouch(store: SignedStore, address: str, root: Digest, trusted: Sequence[TrustedKey]) -> list[Voucher]:
    """The true signatures by trusted keys that vouch for an address, of a name those of the newest position.

    ``name``: the root was signed for the name at a position at which the name has meant it without a break until now,
    and no later position was signed for another root. A repository to which the name was copied counts its own
    positions: there the root must not have been moved away from and back. ``name@{n}``: the same of that entry, but for
    later ones, which there must be. A digest says itself what it means: the root was signed under any name.

    Args:
        store: The repository that the address is in.
        address: A name, ``name@{n}``, or the beginning of the digest of a root or run.
        root: The root that it was found to mean.
        trusted: The keys.

    Raises:
        SignatureError: None vouches for it; the message says why.
        ConflictError: The name was moved since it was looked at.
    """
    entry = named_entry(address, store.refs, store.place)
    if entry is None:
        found = _Sorted(store.signatures.of_root(root), trusted)
        return found.checked(found.true, f"root {digest_hex(root)[:12]}")
    if entry.target is None or store.root_of(entry.target) != root:
        raise ConflictError(f"{address} moved meanwhile: look again and repeat")
    found = _Sorted(store.signatures.of(entry.name), trusted, root)
    told = f"{address} with root {digest_hex(root)[:12]}"
    of_root = found.checked([one for one in found.true if one.root == root], told)
    signed = of_root[0].position
    newest = entry.sequence == store.refs.current_sequence(entry.name)
    later = max((one.position for one in found.true if one.root != root), default=-1)
    if newest and later >= signed:
        raise SignatureError(
            f"{told} was signed at position {signed}, and another root at position {later}: it was moved back"
        )
    if not _unbroken(store, entry, root, signed):
        raise SignatureError(
            f"{told} was signed at position {signed}, and the name has meant something else since: it was moved back"
        )
    return [one for one in of_root if one.position == signed]


class _Sorted:
    """Signatures by what is to be thought of them: the true ones by trusted keys, and how many of the others."""

    def __init__(
        self, signatures: Iterable[Signature], trusted: Sequence[TrustedKey], root: Digest | None = None
    ) -> None:
        by_key = {key.public_key: key for key in trusted}
        self.true: list[Signature] = []
        self._others = self._forged = 0
        self._keys = by_key
        for one in signatures:
            counts = root is None or one.root == root
            if one.public_key not in by_key:
                self._others += counts
            elif is_true(one):
                self.true.append(one)
            else:
                self._forged += counts

    def checked(self, true: Sequence[Signature], told: str) -> list[Voucher]:
        """Those, the newest position first.

        Raises:
            SignatureError: There are none.
        """
        if not true:
            kinds = ((self._others, "by keys that are not trusted"), (self._forged, "that are forged"))
            said = [f"{count} {words}" for count, words in kinds if count]
            raise SignatureError(
                f"{told} has {'signatures, but only ' + ' and '.join(said) if said else 'no signature'}"
            )
        ordered = sorted(true, key=lambda one: (-one.position, one.name))
        return [Voucher(self._keys[one.public_key], one.name, one.position) for one in ordered]


def _unbroken(store: SignedStore, entry: RefEntry, root: Digest, signed: int) -> bool:
    """Whether the root has stood since a position that was signed, or has never stood before it came to stand now."""
    since = entry.sequence
    while since > signed and _root_at(store, entry.name, since - 1) == root:
        since -= 1
    return since <= signed or all(_root_at(store, entry.name, before) != root for before in range(since))


def _root_at(store: SignedStore, name: str, sequence: int) -> Digest | None:
    """What an entry meant; None if it removed the name, or what it meant was collected."""
    target = store.refs.entry(name, sequence).target
    try:
        return None if target is None else store.root_of(target)
    except NotFoundError:
        return None
