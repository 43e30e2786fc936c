"""Signatures: keys of OpenSSH and PEM, what they vouch for, and what they do not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from castore.care.fsck import check
from castore.care.sign import TrustedKey, read_private_key, read_trusted, sign, verify
from castore.errors import CorruptionError, InvalidInputError, SignatureError
from castore.format.digest import Digest
from castore.repository import Repository
from castore.store.local import LocalBackend
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
    assert signed_bytes("a", ROOT) == (b"castore signature 1\0\x94\xb1castore/signature\x01\xa1a\xc4\x20" + b"r" * 32)


def test_name_and_root_and_key_count(tmp_path: Path, keys: Path) -> None:
    store = SignatureStore(LocalBackend(str(tmp_path)))
    ada = read_private_key(str(keys / "ada"), no_passphrase)
    trusted = read_trusted(str(keys / "ada.pub"))
    assert sign(store, "golden/a", ROOT, ada)[1]
    assert not sign(store, "golden/a", ROOT, ada)[1]
    assert [key.owner for key in verify(store, "golden/a", ROOT, trusted)] == ["ada@example.org"]
    for name, root, who, how in (
        ("golden/a", OTHER, "ada", "no signature"),
        ("golden/b", ROOT, "ada", "no signature"),
        ("golden", ROOT, "ada", "no signature"),
        ("golden/a", ROOT, "eve", "1 by keys that are not trusted"),
    ):
        with pytest.raises(SignatureError, match=how):
            verify(store, name, root, read_trusted(str(keys / f"{who}.pub")))


def test_forged_and_moved_signatures(tmp_path: Path, keys: Path) -> None:
    backend = LocalBackend(str(tmp_path))
    store = SignatureStore(backend)
    ada, eve = (read_private_key(str(keys / name), no_passphrase) for name in ("ada", "eve"))
    trusted = read_trusted(str(keys / "ada.pub"))
    public = ada.public_key().public_bytes_raw()
    store.put(Signature("a", ROOT, public, eve.sign(signed_bytes("a", ROOT))))
    with pytest.raises(SignatureError, match="1 that are forged"):
        verify(store, "a", ROOT, trusted)
    # A true signature of something else, under the key of this.
    true = Signature("b", ROOT, public, ada.sign(signed_bytes("b", ROOT)))
    place = Signature("a", OTHER, public, b"\0" * 64).key
    backend.create(place, true.encode())
    with pytest.raises(SignatureError, match="no signature"):
        verify(store, "a", OTHER, trusted)
    with pytest.raises(CorruptionError, match="moved or copied"):
        Signature.decode(true.encode(), place)
    # The same, with the fields changed to fit.
    store.put(Signature("a", OTHER, public, true.signature))
    with pytest.raises(SignatureError):
        verify(store, "a", OTHER, trusted)


def test_kinds_of_keys(tmp_path: Path, keys: Path) -> None:
    store = SignatureStore(LocalBackend(str(tmp_path)))
    for name in ("ada", "bob"):
        sign(store, "a", ROOT, read_private_key(str(keys / name), no_passphrase))
        verify(store, "a", ROOT, read_trusted(str(keys / f"{name}.pub")))
    sign(store, "a", ROOT, read_private_key(str(keys / "locked"), lambda: "sesame"))
    verify(store, "a", ROOT, read_trusted(str(keys / "locked.pub")))
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
    run("diff", "golden/one", "two", "--require-signature", trusted, status=1)
    run("diff", "golden/one", "two", "--require-signature", untrusted, status=2)
    assert (
        "two and two are no protected names"
        in run("diff", "two", "two", "--require-signature", trusted, status=2).trouble
    )
    target = tmp_path / "target"
    run("copy", "golden/one", target, "--create", "--require-signature", untrusted, status=2)
    assert Repository(LocalBackend(str(target))).refs.names() == []
    run("copy", "golden/one", target, "--create", "--require-signature", trusted, "-q")
    assert "ada" in run("--repo", target, "verify", "golden/one", "--trusted", trusted).out
    assert run("fsck", "-q").status == 0
    run("gc", "-q")
    assert run("verify", "golden/one", "--trusted", trusted).status == 0
    run("tag", "two", "golden/one", "--force", "-m", "slip")
    assert "has no signature" in run("verify", "golden/one", "--trusted", trusted, status=1).out
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
