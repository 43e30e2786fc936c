"""The other commands: what they print, their JSON, their exit codes, and how they treat names."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from castore.repository import Origin, Repository
from castore.store.local import LocalBackend
from castore.store.refs import RefStore
from castore_cli.formatting import number, plural, share, size, visible
from castore_cli.main import COMMANDS
from tests.cli.conftest import Run, tokenize
from tests.support.commands import CASTORE, SMALL_CASTORE, castore, environment
from tests.support.jobs import example_rows, row, write_rows


@pytest.fixture
def own(run: Run, tmp_path: Path) -> tuple[Path, Path]:
    """A repository of the test's own with one dataset, ``one``, and the file it came from."""
    path = write_rows(tmp_path / "rows.jsonl", example_rows()[:10])
    run("--repo", tmp_path / "own", *tokenize("--mix", path, "1.0", "--as", "one", "-m", "first words"))
    return tmp_path / "own", path


# ---- help


@pytest.mark.parametrize("command", COMMANDS)
def test_help(run: Run, command: str) -> None:
    for flag in ("--help", "-h"):
        said = run(command, flag)
        assert said.out.startswith(f"Usage: castore {command} [OPTIONS]")
        assert "--help" in said.out
        assert said.err == ""
        assert max(map(len, said.out.splitlines())) <= 80


def test_help_of_all(run: Run) -> None:
    out = run("--help").out
    for command in COMMANDS:
        assert re.search(rf"^  {command} +[A-Z].*\.$", out, re.MULTILINE), command
    assert "Exit codes: 0 done or equal, 1 different, 2 trouble, 3 a name moved meanwhile." in " ".join(out.split())
    assert run("--version").out.startswith("castore, version ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["diff", "a"],
        ["diff", "a", "b", "--no-such-option"],
        ["diff", "a", "b", "--context", "-1"],
        ["cat", "base"],
        ["cat", "base", "--sample", "-1"],
        ["tokenize", "--mix", "x"],
        ["tokenize"],
        ["tokenize", "--mix", "x.jsonl", "1.0", "--tokenizer", "t", "--as", "n", "--workers", "0"],
        ["tokenize", "--mix", "x.jsonl", "1.0", "--tokenizer", "t", "--as", "n", "--on-error", "maybe"],
        ["export", "base"],
        ["export", "base", "x", "--layout", "tar"],
        ["--no-such-option", "ls"],
    ],
)
def test_a_wrong_command_line_is_one_line(run: Run, arguments: list[str]) -> None:
    said = run(*arguments, status=2).trouble
    assert "--help')" in said or said == "option '--mix' requires 2 arguments"


MAKE_ONE = "the first command that writes data makes it; --repo or CASTORE_REPO names another"

# ---- ls, show


def test_ls(run: Run, own: tuple[Path, Path]) -> None:
    repo, _ = own
    out = run("--repo", repo, "ls").out
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.fullmatch(rf"one  [0-9a-f]{{12}}  10 samples  [\d,]+ tokens  {time}  a tester\n", out)
    (found,) = run("--repo", repo, "ls", "--json").json
    assert set(found) == {"name", "root", "samples", "tokens", "time", "author"}
    assert (found["name"], found["samples"], found["author"]) == ("one", 10, "a tester")


def test_ls_stands_in_columns(run: Run, tmp_path: Path) -> None:
    repository = Repository.open(tmp_path / "repo", create=True)
    repository.write([[1]], "a")
    repository.write([[1, 2]] * 1200, "golden/longer")
    lines = [line.partition("  20")[0] for line in run("--repo", tmp_path / "repo", "ls").out.splitlines()]
    roots = [repository[name].root.hex()[:12] for name in repository]
    assert lines == [
        f"a              {roots[0]}      1 sample       1 token ",
        f"golden/longer  {roots[1]}  1,200 samples  2,400 tokens",
    ]


def test_ls_takes_patterns(run: Run, own: tuple[Path, Path]) -> None:
    repo, _ = own
    for name in ("golden/a", "golden/b", "other"):
        run("--repo", repo, "tag", "one", name)

    def names(*patterns: str) -> list[str]:
        return [row["name"] for row in run("--repo", repo, "ls", *patterns, "--json").json]

    assert names("golden/*") == ["golden/a", "golden/b"]
    assert names("o*", "golden/b") == ["golden/b", "one", "other"]
    assert names("nothing*") == []
    assert run("--repo", repo, "ls", "nothing*").out == ""


def test_a_folder_in_place_of_a_name_is_told_how_to_write_it(
    run: Run, own: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo, _ = own
    monkeypatch.chdir(tmp_path)
    run("--repo", repo, "export", "one", "out")
    assert run("--repo", repo, "diff", "one", "out", status=2).trouble.endswith("; for the folder write ./out")
    assert "'castore import ./out --as NAME' makes a dataset" in run("--repo", repo, "lock", "./out", status=2).trouble
    assert not run("--repo", repo, "diff", "one", "nowhere", status=2).trouble.endswith("./nowhere")


def test_ls_of_many_is_sorted(run: Run) -> None:
    names = [line.split()[0] for line in run("ls").out.splitlines()]
    assert names == sorted(names)
    assert {"base", "again", "word"} <= set(names)


@pytest.mark.parametrize("as_json", [False, True])
def test_ls_shows_the_rest_beside_a_damaged_run(run: Run, own: tuple[Path, Path], as_json: bool) -> None:
    repo, path = own
    run("--repo", repo, *tokenize("--mix", path, "0.5", "--as", "two"))
    target = Repository.open(str(repo)).refs.current("one")
    assert target is not None
    (repo / "objects" / target.hex()[:2] / target.hex()).write_bytes(b"\0rubbish")
    said = run("--repo", repo, "ls", *["--json"] * as_json, status=2)
    if as_json:
        one, two = said.json
        assert "is damaged" in one["error"]
        assert two["samples"] == 5
    else:
        one, two = said.out.splitlines()
        assert re.match(r"one  object objects/.* is damaged", one)
        assert re.match(r"two  [0-9a-f]{12}  5 samples", two)


def test_ls_of_an_empty_repository(run: Run, tmp_path: Path) -> None:
    Repository.open(str(tmp_path / "new"), create=True)
    assert run("--repo", tmp_path / "new", "ls").out == ""
    assert run("--repo", tmp_path / "new", "ls", "--json").json == []


def test_show(run: Run) -> None:
    out = run("show", "base").out
    fields = {line.split("  ")[0].strip(): line[11:] for line in out.splitlines()}
    assert fields["samples"] == "59, 6,968 tokens"
    assert fields["order"] == "shuffled with seed 42 (numpy-pcg64-permutation)"
    assert fields["message"] == "made for base"
    assert fields["source"].endswith("base.jsonl 1.0: 59 samples, 6,968 tokens, 1 row dropped")
    assert len(fields["root"]) == len(fields["run"]) == 64
    assert "first 10" in run("show", "few").out


def test_show_in_json(run: Run) -> None:
    found = run("show", "base", "--json").json
    assert {"root", "arrays", "order", "recipe"} <= set(found)
    assert set(found["arrays"]) == {"token_ids", "labels_mask", "key", "length", "source"}
    assert set(found["arrays"]["token_ids"]) == {"dtype", "axis", "items", "root"}
    assert found["arrays"]["token_ids"]["items"] == 6968
    assert found["order"]["seed"] == 42
    assert found["recipe"]["max_seq_length"] is None
    assert found["statistics"]["samples"] == 59
    root = run("show", found["root"], "--json").json
    assert root["root"] == found["root"]
    assert root["run"] is None
    assert root["recipe"] is None
    run("show", found["root"])


def test_dropped_rows(run: Run, tmp_path: Path) -> None:
    assert re.fullmatch(r"/\S+base\.jsonl, row 6: nothing-trainable\n", run("show", "base", "--dropped").out)
    path = write_rows(tmp_path / "bad.jsonl", [row("a", "b"), b'{"messages": []}', b"not json", row("c")])
    repo = tmp_path / "repo"
    said = run("--repo", repo, *tokenize("--mix", path, "2.0", "--as", "x", "--on-error", "skip"), "--json").json
    assert said["dropped"] == {"bad-row": 4, "nothing-trainable": 2}
    lines = run("--repo", repo, "show", "x", "--dropped").out.splitlines()
    assert lines[0] == f"{path}, row 2: bad-row: messages: must not be empty"
    assert lines[1].startswith(f"{path}, row 3: bad-row: not valid JSON")
    assert lines[2] == f"{path}, row 4: nothing-trainable"
    assert len(lines) == 3
    listed = run("--repo", repo, "show", "x", "--dropped", "--json").json["dropped_rows"]
    assert [(r["row"], r["line"]) for r in listed] == [(1, 2), (2, 3), (3, 4)]
    assert run("show", run("show", "base", "--json").json["root"], "--dropped").out == ""


# ---- cat


def test_cat(run: Run) -> None:
    lines = run("cat", "base", "--sample", "0").out.splitlines()
    assert re.fullmatch(r"sample 0, /\S+base\.jsonl row 1: \d+ tokens, \d+ trained on", lines[0])
    assert lines[1].startswith("token_ids 1 ")
    assert re.fullmatch(r"trainable( \d+:\d+)+", lines[2])
    found = run("cat", "base", "--sample", "0", "--json").json
    assert {"sample", "source", "row", "token_ids", "trainable"} <= set(found)
    assert lines[1] == "token_ids " + " ".join(map(str, found["token_ids"]))
    assert lines[2] == "trainable " + " ".join(f"{lo}:{hi}" for lo, hi in found["trainable"])


def test_cat_as_text(run: Run) -> None:
    out = run("cat", "base", "--sample", "2", "--decode").out
    said = json.loads(example_rows()[2])["messages"]
    assert f"«{said[-1]['content']}" in out
    found = run("cat", "base", "--sample", "2", "--decode", "--json").json
    assert out.partition("\n")[2].replace("«", "").replace("»", "") == found["text"] + "\n"
    assert found["text"].endswith("<|endoftext|>")


def test_cat_of_a_bare_root(run: Run) -> None:
    root = run("show", "base", "--json").json["root"]
    assert run("cat", root, "--sample", "0").out.startswith("sample 0: ")
    assert "no vocabulary" in run("cat", root, "--sample", "0", "--decode", status=2).trouble


def test_a_sample_that_is_not_there(run: Run) -> None:
    assert run("cat", "base", "--sample", "59", status=2).trouble == "sample 59 of 59: ask for 0 to 58"


# ---- log, tag, rm, addresses


def test_the_life_of_a_name(run: Run, own: tuple[Path, Path]) -> None:
    repo, path = own

    def do(*arguments: str | Path, status: int = 0) -> Any:
        return run("--repo", repo, *arguments, status=status)

    first = do("show", "one", "--json").json
    do(*tokenize("--mix", path, "0.5", "--as", "one", "-m", "second words"))
    second = do("show", "one", "--json").json
    assert first["root"] != second["root"]
    assert do("show", "one@{0}", "--json").json == second
    assert do("show", "one@{1}", "--json").json == first
    assert do("diff", "one", "one@{1}", "-q", status=1).out == ""
    assert do("rm", "one").out == "one removed; 'castore tag one@{1} one' brings it back\n"
    assert do("ls").out == ""
    assert do("show", "one", status=2).trouble == "one was removed: 'one@{1}' is what it was before"
    assert "has nothing called 'one': " in do("rm", "one", status=2).trouble
    assert do("show", "one@{2}", "--json").json == first
    assert do("tag", "one@{1}", "one").out == f"one  {second['root']}\n"
    do("tag", "one@{3}", "deep/er-name_1.0", "-m", "again")
    assert do("show", "deep/er-name_1.0", "--json").json == first
    entries = do("log", "one", "--json").json
    assert [entry["sequence"] for entry in entries] == [3, 2, 1, 0]
    assert [entry["message"] for entry in entries] == ["tag one@{1}", "rm", "second words", "first words"]
    assert set(entries[0]) >= {"sequence", "target", "time_s", "author", "message"}
    assert entries[1]["target"] is None
    lines = do("log", "one").out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["one@{0}", "one@{1}", "one@{2}", "one@{3}"]
    assert lines[1].split()[1] == "removed"
    assert lines[3].endswith("a tester  first words")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nothing", "nothing called 'nothing': 'castore ls' lists the names"),
        ("", "nothing called ''"),
        ("base@{9}", "ref base has no entry @{9}: its log has 1"),
        ("base@{x}", "write name@{2} for the second value back"),
        ("base@{1", "write name@{2} for the second value back"),
        ("base@{²}", "write name@{2} for the second value back"),
        ("base@{-1}", "write name@{2} for the second value back"),
        ("base@{" + "9" * 5000 + "}", "write name@{2} for the second value back"),
        ("@{0}", "'' cannot name a ref"),
        ("../base", "../base"),
        ("abc", "nothing called 'abc'"),
        ("0" * 64, "no name and no run with a digest that begins with 000"),
        ("0" * 65, "does not begin a digest"),
        ("F" * 8, "nothing called"),
        ("/no/such/place#base", "there is no castore repository at /no/such/place"),
        ("#base", "is no place of a repository"),
        ("s3x://bucket#base", "s3x"),
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_addresses_that_lead_nowhere(run: Run, address: str, said: str) -> None:
    for command in (["show", address], ["diff", "base", address], ["cat", address, "--sample", "0"]):
        assert said in run(*command, status=2).trouble


def test_digest_prefixes(run: Run, own: tuple[Path, Path]) -> None:
    repo, _ = own
    found = run("--repo", repo, "show", "one", "--json").json
    for digest in (found["root"], found["run"]):
        for digits in (8, 20, 64):
            assert run("--repo", repo, "show", digest[:digits], "--json").json["root"] == found["root"]
        run("--repo", repo, "show", digest[:3], status=2)
    # Chunks are objects too, and no dataset.
    opened = Repository.open(str(repo))
    chunk = opened.dataset("one").manifest.arrays["token_ids"][1].entries[0].digest.hex()
    assert "no name and no run" in run("--repo", repo, "show", chunk, status=2).trouble


def test_an_ambiguous_prefix(run: Run, own: tuple[Path, Path]) -> None:
    """Two run records whose digests begin alike: made by trying times until that happens."""
    from dataclasses import replace

    repo, _ = own
    opened = Repository.open(str(repo))
    recorded = opened.dataset("one").run
    assert recorded is not None
    assert recorded.origin is not None
    by_prefix: dict[str, Any] = {}
    for time_s in range(20_000):
        made = replace(recorded, origin=replace(recorded.origin, time=time_s)).encode()
        rival = by_prefix.setdefault(made.digest.hex()[:4], made)
        if rival is not made:
            break
    for each in (made, rival):
        opened.objects.put(each.digest, each.data)
    opened.objects.flush()
    prefix = made.digest.hex()[:4]
    assert run("--repo", repo, "show", prefix, status=2).trouble == (
        f"{prefix} begins the digests of 2 runs: give more digits"
    )
    run("--repo", repo, "show", made.digest.hex()[:16])


@pytest.mark.parametrize("name", ["bad name", "../x", "-x", "x/", "a.lock", "é", "0" * 64, "x" * 201])
def test_names_that_cannot_be(run: Run, name: str, own: tuple[Path, Path]) -> None:
    repo, path = own
    for command in (["tag", "one", "--", name], ["rm", "--", name], ["log", "--", name]):
        assert "cannot name a ref" in run("--repo", repo, *command, status=2).trouble
    said = run("--repo", repo, *tokenize("--mix", path, "1.0", f"--as={name}"), status=2)
    assert "cannot name a ref" in said.trouble


def test_a_name_that_moved_meanwhile(run: Run, own: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 3, the rival's value stays, and the run can still be named."""
    repo, path = own
    from castore.ingest import job

    real = job.tokenize

    def slow(*arguments: Any, **options: Any) -> Any:
        result = real(*arguments, **options)
        rival = Repository.open(str(repo))
        rival.tag("one", "contested", Origin("a rival", "elsewhere", 0))
        return result

    monkeypatch.setattr(job, "tokenize", slow)
    said = run("--repo", repo, *tokenize("--mix", path, "0.5", "--as", "contested"), status=3)
    found = re.fullmatch(
        r"ref contested moved meanwhile: .*; the run is stored: castore tag ([0-9a-f]{16}) contested", said.trouble
    )
    assert found is not None
    assert run("--repo", repo, "diff", "contested", "one", "-q").out == ""
    run("--repo", repo, "tag", found[1], "mine")
    assert run("--repo", repo, "show", "mine", "--json").json["samples"] == 5


# ---- tokenize, export


def test_the_summary_of_tokenize(run: Run, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [*example_rows()[:20], row("nobody answers")])
    arguments = tuple(a for a in tokenize("--mix", path, "2.0", "--as", "x") if a != "-q")
    out = run("--repo", tmp_path / "repo", *arguments).out.splitlines()
    assert re.fullmatch(r"x  [0-9a-f]{64}", out[0])
    assert re.fullmatch(r"  samples  40, [\d,]+ tokens, [\d.]+ % of them trained on", out[1])
    assert out[2] == "  dropped  2 rows: 2 nothing-trainable (castore show x --dropped)"
    assert out[3] == "  reused   21 of 42 rows were tokenized before"
    assert re.fullmatch(r"  stored   \d+ new objects, [\d.]+ KiB", out[4])
    found = run("--repo", tmp_path / "repo", *arguments, "--json").json
    assert set(found) >= {"name", "root", "run", "samples", "tokens", "trainable", "dropped", "units", "rows", "stored"}
    assert found["root"] == out[0].split()[1]
    assert found["rows"] == {"total": 42, "reused": 42}
    assert found["units"]["total"] == found["units"]["reused"]


def test_the_summary_of_export(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "x" / "out"
    assert run("export", "base", target).out == f"{target}: 59 samples, 6,968 tokens in 1 part\n"
    assert "already holds files" in run("export", "base", target, status=2).trouble
    found = run("export", "base", target, "--replace", "--json").json
    assert found == {"folder": str(target), "samples": 59, "tokens": 6968, "parts": 1}


def test_time_and_author_may_be_given(run: Run, own: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    repo, path = own
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    monkeypatch.setenv("CASTORE_AUTHOR", "Somebody Else")
    digests = {run("--repo", repo, *tokenize("--mix", path, "0.5", "--as", n, "--json")).json["run"] for n in "xy"}
    assert len(digests) == 1
    entry = run("--repo", repo, "log", "x", "--json").json[0]
    assert (entry["time_s"], entry["author"]) == (86400, "Somebody Else")


def test_a_time_that_cannot_be_recorded(run: Run, own: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    repo, _ = own
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "9223372036854775807")
    assert run("--repo", repo, "tag", "one", "two", status=2).trouble.startswith("SOURCE_DATE_EPOCH is 9223372036854")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "\N{SUPERSCRIPT TWO}")  # a digit, and no number
    run("--repo", repo, "tag", "one", "two")


def test_a_log_that_tells_no_time(run: Run, own: tuple[Path, Path]) -> None:
    repo, _ = own
    refs = RefStore(LocalBackend(str(repo)))
    refs.update("far", refs.current("one"), time_s=2**63 - 1, author="a", message="m")
    assert "9223372036854775807 s" in run("--repo", repo, "log", "far").out
    assert "far" in run("--repo", repo, "ls").out


def test_where_the_repository_is(run: Run, own: tuple[Path, Path], tmp_path: Path) -> None:
    repo, path = own
    assert "one" in castore("ls", env={"CASTORE_REPO": str(repo)}).stdout
    home = tmp_path / "home"
    env = {"HOME": str(home), "XDG_DATA_HOME": str(home / "data")}
    said = castore("ls", env=env, check=2)
    assert said.stderr == f"castore: there is no castore repository at {home}/data/castore: {MAKE_ONE}\n"
    assert not home.exists()
    castore(*tokenize("--mix", path, "1.0", "--as", "x"), env=env)
    assert (home / "data" / "castore" / "format").exists()


# ---- terminals and pipes


def on_a_terminal(*arguments: str | Path, command: tuple[str, ...] = CASTORE, **env: str) -> str:
    """Run a command on a terminal of its own; everything it wrote there."""
    main_end, end = pty.openpty()
    process = subprocess.Popen([*command, *map(str, arguments)], stdout=end, stderr=end, env=environment(**env))
    os.close(end)
    out = []

    def read() -> None:
        while True:
            try:
                data = os.read(main_end, 4096)
            except OSError:
                return
            if not data:
                return
            out.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    process.wait(60)
    reader.join(10)
    os.close(main_end)
    return b"".join(out).decode()


@pytest.mark.slow
def test_colour_is_for_terminals(repo: Path) -> None:
    arguments: list[str | Path] = ["--repo", repo, "diff", "base", "word"]
    assert "\x1b[" not in castore(*arguments, check=1).stdout
    assert "\x1b[31m【 they】\x1b[0m" in on_a_terminal(*arguments, TERM="xterm")
    assert "\x1b[" not in on_a_terminal(*arguments, TERM="xterm", NO_COLOR="1")
    assert "\x1b[" not in on_a_terminal(*arguments, TERM="dumb")


@pytest.mark.slow
def test_progress_is_for_stderr(own: tuple[Path, Path], tmp_path: Path) -> None:
    _, path = own
    arguments = [a for a in tokenize("--mix", path, "1.0", "--as", "x") if a != "-q"]
    done = castore("--repo", tmp_path / "repo", *arguments, "--json")
    assert json.loads(done.stdout)["samples"] == 10
    assert "\x1b[" not in done.stderr
    # Work that is done at once shows nothing.
    again = ["--repo", tmp_path / "repo2", *arguments]
    assert "tokenizing" in on_a_terminal(*again, command=SMALL_CASTORE, CASTORE_TEST_SLEEP="1", TERM="xterm")


@pytest.mark.slow
@pytest.mark.parametrize("command", [["cat", "base", "--sample", "0", "--decode"], ["diff", "base", "again"], ["ls"]])
def test_a_reader_that_goes_away(repo: Path, command: list[str]) -> None:
    """No traceback, and not the exit code that says "different"."""
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.Popen(
        [*CASTORE, "--repo", str(repo), *command], stdout=writing, stderr=subprocess.PIPE, text=True, env=environment()
    )
    os.close(writing)
    _, err = process.communicate(timeout=60)
    assert err == ""
    assert process.returncode == 2


@pytest.mark.slow
def test_signs_that_the_terminal_does_not_have(repo: Path) -> None:
    done = castore("--repo", repo, "diff", "base", "word", env={"PYTHONIOENCODING": "iso8859-1"}, check=1)
    assert "\\u2192" in done.stdout
    assert done.stderr == ""


def test_numbers_and_texts() -> None:
    assert [number(n) for n in (0, 999, 1000, 1234567)] == ["0", "999", "1,000", "1,234,567"]
    assert [plural(n, "row") for n in (0, 1, 2, 1000)] == ["0 rows", "1 row", "2 rows", "1,000 rows"]
    assert [size(n) for n in (0, 1, 1023, 1024, 1536, 1 << 20, 5 << 30)] == [
        "0 bytes", "1 byte", "1,023 bytes", "1.0 KiB", "1.5 KiB", "1.0 MiB", "5.0 GiB",
    ]  # fmt: skip
    assert (share(1, 3), share(0, 0), share(2, 2)) == ("33.3 %", "0 %", "100.0 %")
    assert visible("a\tb\nc\x00\x7f\u200b é世") == "a⇥b⏎c\\x00\\x7f\\u200b é世"
