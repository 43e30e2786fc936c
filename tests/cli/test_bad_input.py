"""Everything that a user can get wrong: one line that names the place, exit code 2, nothing half-written."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from castore.repository import Repository
from tests.cli.conftest import Run, tokenize
from tests.support.commands import SMALL_CASTORE, castore, trouble
from tests.support.complete import check_complete
from tests.support.jobs import TOKENIZER, example_rows, row, write_rows

GOOD = row("a question", "an answer")


def bad_row(*messages: Any, **fields: Any) -> bytes:
    return json.dumps({"messages": list(messages), **fields}).encode()


def said_of(text: str | bytes, where: str, what: str) -> tuple[bytes, str, str]:
    return (text if isinstance(text, bytes) else text.encode()), where, what


ROWS = {
    "not JSON": said_of("{nope", "row 3: ", "not valid JSON"),
    "cut short": said_of(GOOD[:-4], "row 3: ", "not valid JSON"),
    "not UTF-8": said_of(b'{"messages": "\xff"}', "row 3: ", "not valid JSON"),
    "a list": said_of("[1, 2]", "row 3: ", "must be a JSON object, not a list"),
    "a number": said_of("17", "row 3: ", "must be a JSON object, not a number"),
    "no messages": said_of('{"text": "x"}', "row 3, messages: ", "this column is missing"),
    "messages null": said_of('{"messages": null}', "row 3, messages: ", "must be a list of messages, not null"),
    "messages text": said_of('{"messages": "hi"}', "row 3, messages: ", "must be a list of messages, not a string"),
    "no message": said_of('{"messages": []}', "row 3, messages: ", "must not be empty"),
    "message text": said_of('{"messages": ["hi"]}', "row 3, messages[0]: ", "must be an object, not a string"),
    "no role": said_of('{"messages": [{"content": "x"}]}', "row 3, messages[0].role: ", "is missing"),
    "role number": said_of(
        bad_row({"role": "user", "content": "x"}, {"role": 3, "content": "y"}),
        "row 3, messages[1].role: ",
        "must be a string, not a number",
    ),
    "content list": said_of(
        bad_row({"role": "user", "content": ["x"]}), "row 3, messages[0].content[0]: ", "must be a part such as"
    ),
    "tools not JSON": said_of(
        bad_row({"role": "user", "content": "x"}, tools="{nope"), "row 3, tools: ", "not valid JSON"
    ),
    "tools number": said_of(bad_row({"role": "user", "content": "x"}, tools=3), "row 3, tools: ", "must be a list"),
}


@pytest.mark.parametrize("case", ROWS)
@pytest.mark.parametrize("amount", ["1.0", "4"])
def test_a_bad_row(run: Run, tmp_path: Path, case: str, amount: str) -> None:
    text, where, what = ROWS[case]
    path = write_rows(tmp_path / "rows.jsonl", [GOOD, GOOD, text, GOOD])
    repo = tmp_path / "repo"
    said = run("--repo", repo, *tokenize("--mix", path, amount, "--as", "x"), status=2).trouble
    assert said.startswith(f"{path}, {where}{what}"), said
    assert Repository.open(str(repo)).refs.names() == []
    found = run("--repo", repo, *tokenize("--mix", path, amount, "--as", "x", "--on-error", "skip", "--json")).json
    assert (found["samples"], found["dropped"]) == (3, {"bad-row": 1})
    check_complete(Repository.open(str(repo)))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["not JSON", "role number", "no message"])
def test_a_bad_row_in_a_worker(tmp_path: Path, case: str) -> None:
    """The error comes home from another process, in the same words and without the worker's traceback."""
    text, where, what = ROWS[case]
    path = write_rows(tmp_path / "rows.jsonl", [*example_rows()[:150], text, *example_rows()[150:]])
    arguments: list[str | Path] = [
        "tokenize",
        "--mix",
        path,
        "1.0",
        "--tokenizer",
        TOKENIZER,
        "--workers",
        "2",
        "--as",
        "x",
        "-q",
    ]
    done = castore("--repo", tmp_path / "repo", *arguments, command=SMALL_CASTORE, check=None)
    assert trouble(done).startswith(f"{path}, {where.replace('3', '151', 1)}{what}")


def test_a_role_that_the_template_does_not_know(run: Run, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [GOOD, bad_row({"role": "wizard", "content": "x"})])
    template = tmp_path / "strict.jinja"
    template.write_text(
        "{% for m in messages %}{% if m['role'] not in ['user', 'assistant'] %}"
        "{{ raise_exception('unknown role ' + m['role']) }}{% endif %}{{ m['content'] }}{{ eos_token }}{% endfor %}"
    )
    arguments = tokenize("--mix", path, "1.0", "--as", "x", "--chat-template", template)
    said = run("--repo", tmp_path / "repo", *arguments, status=2).trouble
    assert said.startswith(f"{path}, row 2, messages")
    assert "unknown role wizard" in said


def test_content_that_the_template_cannot_use(run: Run, tmp_path: Path) -> None:
    messages = {"role": "user", "content": "x"}, {"role": "assistant", "content": None}
    path = write_rows(tmp_path / "rows.jsonl", [GOOD, bad_row(*messages)])
    arguments = tokenize("--mix", path, "1.0", "--as", "x", "--chat-template", "tulu")
    said = run("--repo", tmp_path / "repo", *arguments, status=2).trouble
    assert said == f"{path}, row 2, messages[1].content: the chat template needs text here, not null"


# ---- files


def test_files_that_cannot_be_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "dangling.jsonl").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "rows.txt").write_bytes(GOOD)
    (tmp_path / "rows").write_bytes(GOOD)
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "blank.jsonl").write_bytes(b"\n\n")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b"\n".join(example_rows()))[:-300])
    (tmp_path / "not.jsonl.gz").write_bytes(GOOD)
    (tmp_path / "not.json").write_bytes(b"[" + GOOD + b", {]")
    (tmp_path / "items.json").write_bytes(b"[" + GOOD + b", 5]")
    expected = {
        "folder.jsonl": "is a directory",
        "dangling.jsonl": "No such file or directory",
        "nothing.jsonl": "No such file or directory",
        "pipe.jsonl": "is not a regular file",
        "rows.txt": "unknown kind of file: castore reads .jsonl, .jsonl.gz, .jsonl.zst, .json, .json.gz, .json.zst",
        "rows": "unknown kind of file",
        "empty.jsonl": "without rows",
        "blank.jsonl": "without rows",
        "cut.jsonl.gz": "gzip data is damaged or cut short",
        "not.jsonl.gz": "gzip data is damaged or cut short",
        "not.json": "not valid JSON",
        "items.json": "must be a JSON object, not a number",
    }
    for name, what in expected.items():
        arguments = tokenize("--mix", tmp_path / name, "1.0", "--as", "x")
        said = run("--repo", tmp_path / "repo", *arguments, status=2).trouble
        assert what in said, (name, said)
        assert name in said, (name, said)


def test_what_is_no_parquet(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    path = tmp_path / "not.parquet"
    path.write_bytes(b"PAR1 nonsense PAR1")
    said = run("--repo", tmp_path / "repo", *tokenize("--mix", path, "1.0", "--as", "x"), status=2).trouble
    assert said.startswith(f"{path}: not readable as Parquet")


def test_parquet_without_the_column(run: Run, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"text": ["x"]}), tmp_path / "rows.parquet")
    said = run("--repo", tmp_path / "r", *tokenize("--mix", tmp_path / "rows.parquet", "1.0", "--as", "x"), status=2)
    assert said.trouble.startswith(f"{tmp_path}/rows.parquet, messages: no column `messages`: ")
    assert "text" in said.trouble


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"r\xff.jsonl")
    done = castore("--repo", tmp_path / "repo", *tokenize("--mix", path, "1.0", "--as", "x"), check=None)
    assert "r\\udcff.jsonl: No such file or directory" in trouble(done)
    write_rows(path, example_rows()[:5])
    castore("--repo", tmp_path / "repo", *tokenize("--mix", path, "1.0", "--as", "x"))
    castore("--repo", tmp_path / "repo", "export", "x", tmp_path / "out", "-q")
    assert "r\\udcff.jsonl 1.0: 5 samples" in castore("--repo", tmp_path / "repo", "show", "x").stdout


# ---- tokenizer and template


def test_tokenizers_and_templates_that_cannot_be_used(run: Run, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [GOOD])
    (tmp_path / "empty").mkdir()
    broken, bare, badly = (tmp_path / name for name in ("broken", "bare", "badly"))
    for folder in (broken, bare, badly):
        shutil.copytree(TOKENIZER, folder)
        (folder / "chat_template.jinja").unlink()
    config = json.loads((bare / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (bare / "tokenizer_config.json").write_text(json.dumps(config))
    (broken / "tokenizer.json").write_text("{}")
    (badly / "tokenizer_config.json").write_text("[")
    (tmp_path / "bad.jinja").write_text("{% for %}")
    (tmp_path / "binary.jinja").write_bytes(b"\xff\xfe")
    (tmp_path / "dir.jinja").mkdir()
    cases: list[tuple[Path, str | Path | None, str]] = [
        (tmp_path / "nowhere", None, "is not a folder"),
        (path, None, "is not a folder"),
        (tmp_path / "empty", None, "has no tokenizer.json"),
        (broken, "olmo", str(broken)),
        (badly, "olmo", "tokenizer_config.json"),
        (bare, None, "has no chat template of its own: give --chat-template NAME or FILE"),
        (bare, "no-such-name", "'no-such-name' is neither a registered name nor a file"),
        (bare, tmp_path / "nowhere.jinja", "nowhere.jinja cannot be read: No such file or directory"),
        (bare, "nowhere", "is neither a registered name nor a file"),
        (bare, tmp_path / "dir.jinja", "dir.jinja cannot be read: is a directory"),
        (bare, tmp_path / "bad.jinja", "template"),
        (bare, tmp_path / "binary.jinja", "is not UTF-8"),
    ]
    for folder, template, what in cases:
        options = [] if template is None else ["--chat-template", template]
        mix = ["--mix", path, "1.0", "--as", "x", "-q", "--workers", "1"]
        said = run("--repo", tmp_path / "repo", "tokenize", "--tokenizer", folder, *options, *mix, status=2)
        assert what in said.trouble, (folder, template, said)


def test_an_unknown_template_name_is_refused_or_falls_back_if_asked(run: Run, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [GOOD])
    arguments = tokenize("--mix", path, "1.0", "--as", "x", "--chat-template", "no-such-name")
    said = run("--repo", tmp_path / "repo", *arguments, status=2)
    assert "'no-such-name' is neither a registered name nor a file" in said.err
    said = run("--repo", tmp_path / "repo", *arguments, "--template-fallback")
    (line,) = said.err.splitlines()
    assert line.startswith("castore: warning: chat template 'no-such-name' is not a registered name: the template of")


# ---- the repository


READING = (
    ["ls"],
    ["show", "x"],
    ["log", "x"],
    ["diff", "x", "x"],
    ["cat", "x", "--sample", "0"],
    ["export", "x", "out"],
    ["tag", "x", "y"],
    ["rm", "x"],
)


@pytest.mark.parametrize("command", READING, ids=lambda command: command[0])
def test_no_repository(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    said = run("--repo", tmp_path / "nowhere", *command, status=2)
    assert said.trouble.startswith(
        f"there is no castore repository at {tmp_path}/nowhere: the first command that writes"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [*READING, ["tokenize"]], ids=lambda command: command[0])
def test_places_that_are_no_repository_of_ours(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if command == ["tokenize"]:
        command = [*map(str, tokenize("--mix", write_rows(tmp_path / "r.jsonl", [GOOD]), "1.0", "--as", "x"))]
    newer, foreign, other = (tmp_path / name for name in ("newer", "foreign", "other"))
    for folder in (newer, foreign, other):
        folder.mkdir()
    (newer / "format").write_text("castore repository, format 2\n")
    (foreign / "photo.jpg").write_text("x")
    (other / "format").write_text("something else\n")
    (tmp_path / "file").write_text("x")
    expected = {
        newer: f"the repository {newer} has format version 2, this castore reads up to 1: install a newer castore",
        foreign: f"{foreign} is neither empty nor a castore repository: it has no file 'format'",
        other: f"{other} is no castore repository: its file 'format' says something else",
    }
    before = sorted(tmp_path.rglob("*"))
    for folder, what in expected.items():
        assert run("--repo", folder, *command, status=2).trouble == what
    run("--repo", tmp_path / "file", *command, status=2)
    run("--repo", tmp_path / "file" / "below", *command, status=2)
    assert sorted(tmp_path.rglob("*")) == before


def damage(path: Path, how: str) -> None:
    raw = path.read_bytes()
    path.unlink()
    if how == "flipped":
        path.write_bytes(raw[: len(raw) // 2] + bytes([raw[len(raw) // 2] ^ 0x40]) + raw[len(raw) // 2 + 1 :])
    elif how == "cut":
        path.write_bytes(raw[: len(raw) // 2])
    elif how == "empty":
        path.write_bytes(b"")


VICTIMS = ("chunk", "labels", "length", "manifest", "run", "vocabulary", "ref")
DAMAGES = [
    (victim, how)
    for victim in VICTIMS
    for how in ("missing", "flipped", "cut", "empty")
    if (victim, how) != ("ref", "missing")  # which is no damage: there never was one
]


@pytest.mark.parametrize(("victim", "how"), DAMAGES)
def test_a_damaged_repository(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: str, how: str) -> None:
    """Every reading command either does its work or says in one line which object is damaged; none shows wrong data."""
    monkeypatch.chdir(tmp_path)
    paths = [write_rows(tmp_path / f"{i}.jsonl", example_rows()[: 10 + i]) for i in range(2)]
    repo = tmp_path / "repo"
    for name, path in zip("xy", paths, strict=True):
        run("--repo", repo, *tokenize("--mix", path, "1.0", "--as", name))
    data = Repository.open(str(repo)).dataset("x")
    assert data.run is not None
    assert data.run_digest is not None
    arrays = data.manifest.arrays
    digest = {
        "chunk": arrays["token_ids"][1].entries[0].digest,
        "labels": arrays["labels_mask"][1].entries[0].digest,
        "length": arrays["length"][1].entries[0].digest,
        "manifest": data.root,
        "run": data.run_digest,
        "vocabulary": data.run.files["vocabulary"],
        "ref": b"",
    }[victim].hex()
    place = repo / "objects" / digest[:2] / digest
    if victim == "ref":
        place = repo / "refs" / "x" / ("0" * 20)
    damage(place, how)
    needed = {
        "diff x y": {"chunk", "labels", "length", "manifest", "run", "vocabulary", "ref"},
        "show x": {"manifest", "run", "ref"},
        "cat x --sample 3": {"chunk", "labels", "length", "manifest", "run", "ref", "vocabulary"},
        "cat x --sample 3 --decode": {"chunk", "labels", "length", "manifest", "run", "vocabulary", "ref"},
        # The vocabulary tells whether ids may be wider than its size says.
        "export x out -q": {"chunk", "labels", "length", "manifest", "run", "ref", "vocabulary"},
        "diff x x": {"manifest", "run", "ref"},
    }
    for command, victims in needed.items():
        said = run("--repo", repo, *command.split(), status=None)
        if victim in victims and said.status == 2:
            assert digest in said.trouble or victim == "ref"
            assert "refs/x/" in said.trouble or victim != "ref"
            assert not (tmp_path / "out").exists()
        else:
            # Labels and vocabulary are not read where nothing asks for them.
            assert victim not in victims or (victim in ("vocabulary", "labels", "length") and "--decode" not in command)
            assert said.status in (0, 1)
            assert said.err == ""
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


# ---- permissions and room


def as_nobody(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user who owns nothing."""
    return castore(*arguments, command=(sys.executable, "-m", "tests.support.as_nobody"), check=None)


@pytest.fixture
def open_tmp(tmp_path: Path) -> Path:
    """A folder that everybody can reach."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    for folder in (tmp_path, *tmp_path.parents):
        if "pytest" in str(folder):
            folder.chmod(0o755)
        if not folder.stat().st_mode & 0o001:
            pytest.skip(f"{folder} is closed to other users")
    return tmp_path


@pytest.mark.slow
def test_no_permission(run: Run, open_tmp: Path) -> None:
    path = write_rows(open_tmp / "rows.jsonl", example_rows()[:5])
    # The last --tokenizer counts; the checkout's may lie where nobody else can read.
    mine = "--tokenizer", shutil.copytree(TOKENIZER, open_tmp / "tokenizer")
    repo = open_tmp / "repo"
    run("--repo", repo, *tokenize("--mix", path, "1.0", "--as", "x", *mine))
    # Reading is allowed, writing is not.
    assert as_nobody("--repo", repo, "ls").returncode == 0
    for command in (
        ["tag", "x", "y"],
        ["rm", "x"],
        ["export", "x", open_tmp / "out"],
        tokenize("--mix", path, "1.0", "--as", "z", *mine),
    ):
        assert "ermission" in trouble(as_nobody("--repo", repo, *command))
    new = open_tmp / "new"
    assert "ermission" in trouble(as_nobody("--repo", new, *tokenize("--mix", path, "1.0", "--as", "z", *mine)))
    assert sorted(p.name for p in open_tmp.iterdir()) == ["repo", "rows.jsonl", "tokenizer"]
    path.chmod(0o600)
    own = open_tmp / "own"
    own.mkdir(mode=0o777)
    own.chmod(0o777)
    said = trouble(as_nobody("--repo", own / "repo", *tokenize("--mix", path, "1.0", "--as", "z", *mine)))
    assert said == f"{path}: Permission denied"
    path.chmod(0o644)
    victim = next((repo / "objects").iterdir())
    victim.chmod(0o700)
    for command in (["diff", "x", "x"], ["show", "x"], ["export", "x", own / "out"]):
        done = as_nobody("--repo", repo, *command)
        assert done.returncode in (0, 2)
        if done.returncode:
            assert "ermission" in trouble(done)
            assert not (own / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("limit", [0, 2000, 20_000])
def test_no_more_room(run: Run, tmp_path: Path, limit: int) -> None:
    """RLIMIT_FSIZE stands in for a full disk; the next run, with room, comes to the same root."""
    import resource

    path = write_rows(tmp_path / "rows.jsonl", example_rows())
    repo = tmp_path / "repo"
    arguments = tokenize("--mix", path, "1.0", "--as", "x")
    done = castore(
        "--repo", repo, *arguments, command=SMALL_CASTORE,
        check=None, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    assert str(repo) in trouble(done)
    if (repo / "format").exists():
        check_complete(Repository.open(str(repo)))
    again = json.loads(castore("--repo", repo, *arguments, "--json", command=SMALL_CASTORE).stdout)
    other = json.loads(castore("--repo", tmp_path / "other", *arguments, "--json", command=SMALL_CASTORE).stdout)
    assert again["root"] == other["root"]
    check_complete(Repository.open(str(repo)))


@pytest.mark.parametrize("command", [("tokenize", "--mix", "x.jsonl", "1.0", "--tokenizer", "x"), ("import", "x")])
def test_a_seed_that_no_record_holds(run: Run, command: tuple[str, ...]) -> None:
    said = run(*command, "--as", "x", "--shuffle-seed", str(1 << 63), status=2).trouble
    assert said.startswith("invalid value for '--shuffle-seed': 9223372036854775808 is not in the range")


def test_a_place_that_does_not_answer(run: Run) -> None:
    said = run("--repo", "ftp://127.0.0.1:1/x", "ls", status=2).trouble
    assert said == "cannot reach ftp://127.0.0.1:1/x: Connection refused"
