"""Signatures: keys of OpenSSH and PEM, what they vouch for, and what they do not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from castore.care.fsck import check
from castore.care.sign import TrustedKey, read_private_key, read_trusted, sign
from castore.care.vouch import SignedStore, vouch
from castore.errors import ConflictError, CorruptionError, FormatError, InvalidInputError, NotFoundError, SignatureError
from castore.format.codec import encode
from castore.format.digest import Digest
from castore.repository import Repository
from castore.store.local import LocalBackend
from castore.store.records import seal
from castore.store.refs import RefStore
from castore.store.signatures import Signature, SignatureStore, signed_bytes
from tests.care.test_fsck import healthy  # noqa: F401 - a fixture
from tests.care.test_hostile import repo  # noqa: F401 - a fixture
from tests.cli.conftest import Run, run  # noqa: F401 - a fixture

pytest.importorskip("cryptography")
ROOT, OTHER = Digest(b"r" * 32), Digest(b"o" * 32)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with keys: ada and eve of OpenSSH, bob of OpenSSL, rsa of another kind, locked with a passphrase."""
    folder = tmp_path_factory.mktemp("keys")
    for name, more in (("ada", ["-N", ""]), ("eve", ["-N", ""]), ("locked", ["-N", "sesame"])):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-C", f"{name}@example.org", "-f", str(folder / name), *more]
        subprocess.run(command, check=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", str(folder / "rsa")], check=True)
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(folder / "bob")], check=True)
    public = ["openssl", "pkey", "-in", str(folder / "bob"), "-pubout", "-out", str(folder / "bob.pub")]
    subprocess.run(public, check=True)
    return folder


def no_passphrase() -> str:
    raise AssertionError("there is none")


def test_what_is_signed_is_fixed() -> None:
    head = b"castore signature 1\0\x95\xb1castore/signature\x01\xa1a\x07\xc4\x20"
    assert signed_bytes("a", 7, ROOT) == head + b"r" * 32


class Names:
    """A store of names whose targets are their own roots, and its signatures."""

    def __init__(self, folder: Path, keys: Path) -> None:
        self.backend, self.keys = LocalBackend(str(folder)), keys
        self.refs, self.signatures = RefStore(self.backend), SignatureStore(self.backend)
        self.collected: set[Digest] = set()

    def move(self, name: str, *roots: Digest | None) -> None:
        for root in roots:
            self.refs.update(name, root, time_s=1, author="a", message="m")

    def sign(self, name: str, who: str = "ada") -> bool:
        entry = self.refs.read(name)
        assert entry is not None
        assert entry.target is not None
        key = read_private_key(str(self.keys / who), no_passphrase)
        return sign(self.signatures, name, entry.sequence, entry.target, key)[1]

    def root_of(self, target: Digest) -> Digest:
        if target in self.collected:
            raise NotFoundError("collected")
        return target

    def vouch(self, address: str, root: Digest, *who: str) -> list[tuple[str, str, int]]:
        trusted = [key for name in who or ("ada",) for key in read_trusted(str(self.keys / f"{name}.pub"))]
        store = SignedStore(self.refs, self.signatures, "here", self.root_of)
        return [
            (one.key.owner.partition("@")[0], one.name, one.position) for one in vouch(store, address, root, trusted)
        ]

    def refused(self, address: str, root: Digest, *who: str, why: str | None = None) -> None:
        with pytest.raises(SignatureError, match=why):
            self.vouch(address, root, *who)


@pytest.fixture
def names(tmp_path: Path, keys: Path) -> Names:
    return Names(tmp_path / "names", keys)


def test_name_and_root_and_key_count(names: Names) -> None:
    for name, root in (("golden/a", ROOT), ("golden/b", ROOT), ("golden", ROOT), ("golden/a/b", ROOT)):
        names.move(name, root)
    assert names.sign("golden/a")
    assert not names.sign("golden/a")
    assert names.vouch("golden/a", ROOT) == [("ada", "golden/a", 0)]
    for name in ("golden/b", "golden", "golden/a/b"):
        names.refused(name, ROOT, why="has no signature")
    names.refused("golden/a", ROOT, "eve", why="1 by keys that are not trusted")
    with pytest.raises(ConflictError, match="moved meanwhile"):
        names.vouch("golden/a", OTHER)


def test_a_root_that_is_moved_back_is_not_vouched_for(names: Names) -> None:
    """A replay, with and without a signature of what came between; each spelling of the name alike."""
    for name, signs in (("a", True), ("b", False)):
        names.move(name, ROOT)
        names.sign(name)
        names.move(name, OTHER)
        if signs:
            names.sign(name)
            assert names.vouch(name, OTHER) == [("ada", name, 1)]
        else:
            names.refused(name, OTHER, why="no signature")
        assert names.vouch(f"{name}@{{1}}", ROOT) == [("ada", name, 0)], "the entry that was signed"
        names.move(name, ROOT)
        for address in (name, f"{name}@{{0}}"):
            names.refused(address, ROOT, why="moved back")
        names.move(name, ROOT)
        names.refused(name, ROOT, why="moved back")
        names.refused(f"{name}@{{1}}", ROOT, why="moved back")
        assert names.vouch(f"{name}@{{3}}", ROOT) == [("ada", name, 0)]
        assert names.sign(name)
        assert names.vouch(name, ROOT) == [("ada", name, 3)]
        names.refused(f"{name}@{{2}}", OTHER, "eve")


@pytest.mark.parametrize("between", [None, OTHER, Digest(b"3" * 32)])
def test_what_came_between_is_seen_even_if_it_was_removed(names: Names, between: Digest | None) -> None:
    names.move("a", ROOT)
    names.sign("a")
    names.move("a", between, ROOT)
    if between is not None:
        names.collected.add(between)
    names.refused("a", ROOT, why="moved back")


def test_the_same_root_by_another_run_stays_vouched_for(names: Names) -> None:
    names.move("a", OTHER, ROOT, ROOT)
    names.sign("a")
    names.move("a", ROOT)
    assert names.vouch("a", ROOT) == [("ada", "a", 2)]
    assert names.vouch("a@{1}", ROOT) == [("ada", "a", 2)]
    assert names.vouch("a@{2}", ROOT) == [("ada", "a", 2)]


def test_a_copy_counts_its_own_positions(names: Names, tmp_path: Path) -> None:
    """There a name is vouched for as often as it was signed, and an older signature does not outdo a newer one."""
    third = Digest(b"3" * 32)
    names.move("a", ROOT)
    names.sign("a")
    names.move("a", OTHER, third)
    names.sign("a")
    there = Names(tmp_path / "there", names.keys)
    there.move("a", Digest(b"4" * 32), Digest(b"5" * 32), ROOT)
    names.signatures.copy_to(there.signatures, "a", ROOT)
    assert there.vouch("a", ROOT) == [("ada", "a", 0)], "position 0 of where it was signed, 2 here"
    there.move("a", third)
    names.signatures.copy_to(there.signatures, "a", third)
    assert there.vouch("a", third) == [("ada", "a", 2)]
    there.move("a", ROOT)
    there.refused("a", ROOT, why="position 0, and another root at position 2: it was moved back")
    fresh = Names(tmp_path / "fresh", names.keys)
    fresh.move("a", third)
    names.signatures.copy_to(fresh.signatures, "a", third)
    fresh.move("a", OTHER)
    fresh.sign("a")
    assert fresh.vouch("a", OTHER) == [("ada", "a", 3)], "later than what was signed elsewhere"


def test_a_digest_is_vouched_for_under_any_name(names: Names) -> None:
    names.move("x/y", OTHER, ROOT)
    names.move("z", ROOT)
    for address in (ROOT.hex(), ROOT.hex()[:12]):
        names.refused(address, ROOT, why="root 727272727272 has no signature")
    names.sign("x/y")
    names.sign("z", "eve")
    assert names.vouch(ROOT.hex(), ROOT) == [("ada", "x/y", 1)]
    assert names.vouch(ROOT.hex()[:12], ROOT, "ada", "eve") == [("ada", "x/y", 1), ("eve", "z", 0)]
    names.move(ROOT.hex()[:12], OTHER)  # a name that is spelled as the digest was
    names.refused(ROOT.hex()[:12], OTHER, why="no signature")


def test_forged_and_moved_signatures(names: Names) -> None:
    store, backend = names.signatures, names.backend
    ada, eve = (read_private_key(str(names.keys / name), no_passphrase) for name in ("ada", "eve"))
    public = ada.public_key().public_bytes_raw()
    names.move("a", ROOT)
    store.put(Signature("a", 0, ROOT, public, eve.sign(signed_bytes("a", 0, ROOT))))
    names.refused("a", ROOT, why="1 that are forged")
    # A true signature of something else, under the key of this.
    true = Signature("b", 0, ROOT, public, ada.sign(signed_bytes("b", 0, ROOT)))
    place = Signature("a", 0, OTHER, public, b"\0" * 64).key
    backend.create(place, true.encode())
    names.move("a", OTHER)
    names.refused("a", OTHER, why="no signature")
    with pytest.raises(CorruptionError, match="moved or copied"):
        Signature.decode(true.encode(), place)
    # The same, with the fields changed to fit, one by one and together.
    store.put(Signature("a", 1, OTHER, public, true.signature))
    store.put(Signature("b", 1, ROOT, public, true.signature))
    names.refused("a", OTHER, why="1 that are forged")
    names.move("b", OTHER, ROOT)
    names.refused("b", ROOT)
    # A forged later one does not take a true one's place, and one by a stranger neither.
    names.move("c", ROOT)
    names.sign("c")
    store.put(Signature("c", 9, OTHER, public, b"\1" * 64))
    store.put(Signature("c", 9, OTHER, eve.public_key().public_bytes_raw(), eve.sign(signed_bytes("c", 9, OTHER))))
    assert names.vouch("c", ROOT) == [("ada", "c", 0)]
    assert not names.sign("c")


@pytest.mark.parametrize("position", [-1, 1 << 63, "0", None, True])
def test_a_position_that_cannot_be(position: object) -> None:
    whole = Signature("a", 0, ROOT, b"p" * 32, b"s" * 64)
    fields = ["castore/signature", 1, "a", position, ROOT, b"p" * 32, b"s" * 64]
    with pytest.raises((FormatError, CorruptionError)):
        Signature.decode(seal(encode(fields)), whole.key)  # type: ignore[arg-type]
    fields = ["castore/signature", 1, "a", ROOT, b"p" * 32, b"s" * 64]
    with pytest.raises(FormatError):
        Signature.decode(seal(encode(fields)), whole.key)


def test_kinds_of_keys(names: Names, tmp_path: Path, keys: Path) -> None:
    names.move("a", ROOT)
    for name in ("ada", "bob"):
        names.sign("a", name)
        names.vouch("a", ROOT, name)
    sign(names.signatures, "a", 0, ROOT, read_private_key(str(keys / "locked"), lambda: "sesame"))
    names.vouch("a", ROOT, "locked")
    for name, ask in (("locked", lambda: "wrong"), ("rsa", no_passphrase), ("ada.pub", no_passphrase)):
        with pytest.raises(InvalidInputError):
            read_private_key(str(keys / name), ask)
    with pytest.raises(InvalidInputError, match="holds a public key: sign with the private one"):
        read_private_key(str(keys / "ada.pub"), no_passphrase)
    listed = tmp_path / "listed"
    ada, bob = (keys / "ada.pub").read_text(), (keys / "bob.pub").read_text()
    listed.write_text(f'# signers\n\nada@x namespaces="castore" {ada}restrict {ada}{bob}')
    found = read_trusted(str(listed))
    assert [key.owner for key in found] == [
        'ada@x namespaces="castore" ada@example.org', "restrict ada@example.org", f"{listed}:5"
    ]  # fmt: skip
    assert isinstance(found[0], TrustedKey)
    for text in ("", "# none\n", "ssh-rsa AAAA x\n", "ssh-ed25519\n", "ssh-ed25519 AAAA\n", bob[:60], "\x00"):
        listed.write_text(text)
        with pytest.raises(InvalidInputError):
            read_trusted(str(listed))


@pytest.mark.parametrize(
    "options",
    [
        'me@x namespaces="git"',
        'me@x valid-before="20200101"',
        'me@x,you@x zos-key-ring-label="a b",VALID-AFTER="20990101"',
        "*@x cert-authority",
        'restrict,expiry-time="20200101"',
    ],
)
def test_a_key_that_is_trusted_for_a_time_or_a_purpose_is_refused(keys: Path, tmp_path: Path, options: str) -> None:
    public = " ".join((keys / "ada.pub").read_text().split()[:2])
    trusted = tmp_path / "trusted"
    trusted.write_text(f"# of the team\n{options} {public} a comment\n")
    with pytest.raises(InvalidInputError, match=r"trusted, line 2: \S+ limits this key"):
        read_trusted(str(trusted))
    trusted.write_text(
        f'me@x,valid-before@x {public} namespaces=git\nrestrict,no-pty {public}\nme@x namespaces="git,cast*" {public}\n'
    )
    assert len(read_trusted(str(trusted))) == 3


def test_commands(run: Run, repo: Path, keys: Path, tmp_path: Path) -> None:  # noqa: F811
    trusted, untrusted = keys / "ada.pub", keys / "eve.pub"
    assert "has no signature" in run("verify", "golden/one", "--trusted", trusted, status=1).out
    said = run("diff", "golden/one", "two", "--require-signature", trusted, status=2)
    assert "has no signature" in said.trouble
    said = run("sign", "golden/one", "--key", keys / "ada").out
    assert "signed with key" in said
    told = run("verify", "golden/one", "--trusted", keys / "ada.pub", "--json").json
    assert [signer["key"] for signer in told["signers"]] == [said.split()[-1]], "both name the key alike"
    assert "was signed before" in run("sign", "golden/one", "--key", keys / "ada").out
    assert run("verify", "golden/one", "--trusted", trusted, "--json").json["verified"]
    assert "ada@example.org" in run("verify", "golden/one", "--trusted", trusted).out
    assert not run("verify", "golden/one", "--trusted", untrusted, "--json", status=1).json["verified"]
    insist = ("--require-signature", trusted)
    assert "two with root" in run("diff", "golden/one", "two", *insist, status=2).trouble
    run("diff", "golden/one", "two", *insist, "--unsigned", "two", status=1)
    run("diff", "golden/one", "golden/one@{0}", *insist)
    run("diff", "golden/one", "two", "--require-signature", untrusted, "--unsigned", "two", status=2)
    said = run("diff", "two", "two", *insist, "--unsigned", "two", status=2).trouble
    assert said == "--require-signature: of two and two nothing is left that needs a signature"
    assert "neither A nor B" in run("diff", "golden/one", "two", *insist, "--unsigned", "tow", status=2).err
    assert "goes with" in run("diff", "golden/one", "two", "--unsigned", "two", status=2).err
    (repo / "protected").write_text("")  # whatever the store says
    run("diff", "two", "two", *insist, status=2)
    (repo / "protected").unlink()
    target = tmp_path / "target"
    run("copy", "golden/one", target, "--create", "--require-signature", untrusted, status=2)
    assert Repository(LocalBackend(str(target))).refs.names() == []
    run("copy", "golden/one", target, "--create", "--require-signature", trusted, "-q")
    assert "ada" in run("--repo", target, "verify", "golden/one", "--trusted", trusted).out
    assert run("fsck", "-q").status == 0
    run("gc", "-q")
    assert run("verify", "golden/one", "--trusted", trusted).status == 0
    run("verify", "golden/one", "--trusted", trusted, "--min-position", "0")
    said = run("verify", "golden/one", "--trusted", trusted, "--min-position", "1", status=1).out
    assert said == "not verified: golden/one was signed at position 0, and 1 or a later one is wanted\n"
    root = told["root"]
    assert f"{root[:10]}  {root}  signed by ada" in run("verify", root[:10], "--trusted", trusted).out
    assert "as golden/one, position 0" in run("verify", f"{target}#{root[:10]}", "--trusted", trusted).out
    locked = run("lock", "golden/one", *insist).out
    assert "two with root" in run("lock", "two", *insist, status=2).trouble
    (tmp_path / "lock").write_text(locked)
    run("diff", "golden/one", "--expect", tmp_path / "lock", *insist)
    assert "two with root" in run("diff", "two", "--expect", tmp_path / "lock", *insist, status=2).trouble
    run("tag", "two", "golden/one", "--force", "-m", "slip")
    assert "has no signature" in run("verify", "golden/one", "--trusted", trusted, status=1).out
    run("diff", "golden/one@{1}", root, *insist)
    for address in ("golden/one", "golden/one@{0}", f"{repo}#golden/one"):
        run("diff", address, root, *insist, status=2)
    run("tag", root, "golden/one", "--force", "-m", "as it was")
    for address in ("golden/one", "golden/one@{0}", f"{repo}#golden/one"):
        assert "it was moved back" in run("diff", address, root, *insist, status=2).trouble
        assert "it was moved back" in run("copy", address, f"{target}#x", *insist, status=2).trouble
        assert "it was moved back" in run("verify", address, "--trusted", trusted, status=1).out
    assert Repository(LocalBackend(str(target))).refs.names() == ["golden/one"]
    for address in ("golden/one@{1}", "0123456789abcdef"):
        run("sign", address, "--key", keys / "ada", status=2)


def test_a_damaged_signature(run: Run, repo: Path, keys: Path) -> None:  # noqa: F811
    run("sign", "golden/one", "--key", keys / "ada")
    run("copy", "golden/one", repo.parent / "copy", "--create", "-q")
    (path,) = [path for path in (repo / "signatures").rglob("*") if path.is_file()]
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    run("verify", "golden/one", "--trusted", keys / "ada.pub", status=1)
    assert "signature-damaged" in run("fsck", "-q", status=1).out
    done = check(LocalBackend(str(repo)), source=LocalBackend(str(repo.parent / "copy")))
    assert done.findings.clean
    run("verify", "golden/one", "--trusted", keys / "ada.pub")
