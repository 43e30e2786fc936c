"""The same rows through every door: one root, or one refusal that names the right row."""

from __future__ import annotations

import datetime
import decimal
import gzip
import json
import math
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from castore.errors import CastoreError, SourceError
from castore.store.backend import MemoryBackend
from tests.support.jobs import run_job

pa = pytest.importorskip("pyarrow", reason="the library pyarrow is not installed")
datasets = pytest.importorskip("datasets", reason="the library datasets is not installed")

Row = dict[str, Any]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """No progress bars of the library."""
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


TEMPLATE = """\
{% for m in messages %}<{{ m.role }}>{{ m | tojson }}{% if m.content is none %}none{% endif %}{{ eos_token }}
{% endfor %}{{ tools | tojson }}"""

CALLS = """\
{% for m in messages %}<{{ m.role }}>{{ m.content }}{% for c in m.tool_calls or [] %}{{ c | tojson }}{% endfor %}{{
eos_token }}{% endfor %}"""


def lines(rows: Sequence[Row]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def json_doors(folder: Path, rows: Sequence[Row]) -> list[Path]:
    text = lines(rows)
    return [
        write(folder / "rows.jsonl", text),
        write(folder / "rows.jsonl.gz", gzip.compress(text)),
        write(folder / "rows.jsonl.zst", zstandard.compress(text)),
        write(folder / "rows.json", json.dumps(rows, indent=1).encode()),
        write(folder / "lines" / "train.jsonl", text).parent,
    ]


def column_doors(folder: Path, table: Any) -> list[Path]:
    (folder / "set").mkdir(exist_ok=True)
    for path in (folder / "rows.parquet", folder / "set" / "train.parquet"):
        pa.parquet.write_table(table, path, row_group_size=3)
    datasets.Dataset(table).save_to_disk(folder / "saved")
    datasets.DatasetDict({"train": datasets.Dataset(table)}).save_to_disk(folder / "dict")
    return [folder / "rows.parquet", folder / "set", folder / "saved", folder / "dict"]


def outcome(path: Path, template: Path, on_error: str) -> object:
    """The root and what was dropped, or the row at which it stopped."""
    try:
        result = run_job(MemoryBackend(), [(path, "1.0")], chat_template=template, on_error=on_error)
    except SourceError as error:
        return error.row or str(error)
    except CastoreError as error:
        return type(error).__name__, str(error)
    return result.root, dict(result.dropped)


def agree(doors: Sequence[Path], template: Path) -> None:
    for on_error in ("stop", "skip"):
        outcomes = {str(path): outcome(path, template, on_error) for path in doors}
        assert len(set(map(repr, outcomes.values()))) == 1, outcomes


# ---- random rows

TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6), st.sampled_from(["2026-01-01", "1", ""])
)
INTEGERS = st.one_of(
    st.integers(-(1 << 63), (1 << 63) - 1), st.integers(-(10**30), 10**30), st.integers((1 << 63) - 2, (1 << 64) + 2)
)
FLOATS = st.one_of(st.floats(), st.sampled_from([1e22, 1.1, 0.1e-6, -0.0, 2.0**63, 1e300]))

Kind = tuple[Any, st.SearchStrategy[Any]]
"""A type of columns, and values of it."""


def lists(item: Kind) -> Kind:
    return pa.list_(item[0]), st.lists(st.none() | item[1], max_size=3)


def objects(items: dict[str, Kind]) -> Kind:
    """Objects that may lack keys, or have null for them; their keys are in the order of the column's."""
    absent = object()
    values = st.fixed_dictionaries(
        {name: st.one_of(st.just(absent), st.none(), kind[1]) for name, kind in items.items()}
    )
    return (
        pa.struct([(name, kind[0]) for name, kind in items.items()]),
        values.map(lambda value: {name: value[name] for name in items if value[name] is not absent}),
    )


LEAVES: list[Kind] = [
    (pa.string(), TEXT),
    (pa.int64(), INTEGERS),
    (pa.float64(), FLOATS),
    (pa.bool_(), st.booleans()),
]
KINDS = st.recursive(
    st.sampled_from(LEAVES),
    lambda kinds: st.one_of(
        kinds.map(lists),
        st.dictionaries(st.text("abé_ ", min_size=1, max_size=3), kinds, min_size=1, max_size=3).map(objects),
    ),
    max_leaves=5,
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Row], Any]:
    """Rows, and the schema of columns that can hold them if the integers do."""
    arguments = objects(draw(st.dictionaries(st.text("xyz", min_size=1, max_size=2), KINDS, min_size=1, max_size=3)))
    call: Kind = objects({"name": (pa.string(), TEXT), "arguments": arguments})
    more = objects({"extra": draw(KINDS), "tool_calls": lists(call)})
    tool = objects({"name": (pa.string(), TEXT), "parameters": arguments})
    role = st.sampled_from(["user", "assistant"])
    rows = []
    for _ in range(draw(st.integers(1, 5))):
        messages = []
        for _ in range(draw(st.integers(0, 9)) and draw(st.integers(1, 3))):
            head: Row = {"role": draw(role)}
            if draw(st.integers(0, 9)):
                head["content"] = draw(TEXT | st.none())
            messages.append(head | draw(more[1]))
        row: Row = {"messages": messages}
        if draw(st.booleans()):
            row["tools"] = draw(st.lists(tool[1], max_size=2) | st.none())
        rows.append(row)
    message = pa.struct([("role", pa.string()), ("content", pa.string()), *list(more[0])])
    return rows, pa.schema([("messages", pa.list_(message)), ("tools", pa.list_(tool[0]))])


def table_of(rows: Sequence[Row], schema: Any) -> Any | None:
    """The rows as columns; None if columns cannot hold them."""
    try:
        return pa.Table.from_pylist(list(rows), schema)
    except (pa.ArrowException, OverflowError):
        return None


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=20)
@given(made=tables())
@example(
    made=(
        [{"messages": [{"role": "assistant", "content": "x", "tool_calls": [{"arguments": {"a": 1}}]}]},
         {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{"arguments": {"b": None}}]}]},
         {"messages": []}],
        pa.schema([("messages", pa.list_(pa.struct([
            ("role", pa.string()), ("content", pa.string()),
            ("tool_calls", pa.list_(pa.struct([("arguments", pa.struct([("a", pa.int64()), ("b", pa.string())]))]))),
        ])))]),
    )
)  # fmt: skip
def test_the_same_rows_have_one_root_or_one_refusal(
    tmp_path_factory: pytest.TempPathFactory, made: tuple[list[Row], Any]
) -> None:
    rows, schema = made
    folder = tmp_path_factory.mktemp("doors")
    template = write(folder / "all.jinja", TEMPLATE.encode())
    table = table_of(rows, schema)
    agree([*json_doors(folder, rows), *(column_doors(folder, table) if table is not None else [])], template)


# ---- what only columns have


TIME = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

FORMLESS: list[tuple[Any, Any, str]] = [
    (pa.decimal128(5, 2), decimal.Decimal("1.50"), "a decimal"),
    (pa.timestamp("us", "UTC"), TIME, "a timestamp"),
    (pa.timestamp("ns"), 1, "a value of type timestamp[ns] that cannot be read|a timestamp"),
    (pa.date32(), TIME.date(), "a date"),
    (pa.time64("us"), TIME.time(), "a time"),
    (pa.duration("s"), datetime.timedelta(1), "a duration"),
    (pa.binary(), b"\xff", "bytes"),
    (pa.binary(16), uuid.UUID(int=7).bytes, "bytes"),
    (pa.map_(pa.int64(), pa.string()), [(1, "x")], "a map whose keys are not distinct texts"),  # datasets has no maps
]


def with_value(kind: Any, value: Any, count: int = 5, at: int = 3) -> Any:
    """Rows of which one has a value under ``tool_calls[0].w``."""
    rows = [
        {"messages": [{"role": "user", "content": f"q{i}", "tool_calls": []},
                      {"role": "assistant", "content": "a",
                       "tool_calls": [{"id": "x", "w": value if i == at else None}]}]}
        for i in range(count)
    ]  # fmt: skip
    call = pa.struct([("id", pa.string()), ("w", kind)])
    message = pa.struct([("role", pa.string()), ("content", pa.string()), ("tool_calls", pa.list_(call))])
    return pa.Table.from_pylist(rows, pa.schema([("messages", pa.list_(message))]))


@pytest.mark.parametrize(("kind", "value", "said"), FORMLESS, ids=[str(kind) for kind, _, _ in FORMLESS])
def test_a_value_without_a_form_in_json_counts_only_where_it_is_read(
    tmp_path: Path, kind: Any, value: Any, said: str
) -> None:
    table = with_value(kind, value)
    if pa.types.is_map(kind):
        pa.parquet.write_table(table, tmp_path / "rows.parquet")
    doors = [tmp_path / "rows.parquet"] if pa.types.is_map(kind) else column_doors(tmp_path, table)
    calls = write(tmp_path / "calls.jinja", CALLS.encode())
    for path in doors:
        assert run_job(MemoryBackend(), [(path, "1.0")], chat_template="tulu").samples == 5
        with pytest.raises(SourceError) as caught:
            run_job(MemoryBackend(), [(path, "1.0")], chat_template=calls)
        assert (caught.value.row, caught.value.field) == (4, "messages[1].tool_calls[0].w")
        assert any(caught.value.reason.startswith(one) for one in said.split("|"))
        skipped = run_job(MemoryBackend(), [(path, "1.0")], chat_template=calls, on_error="skip")
        assert (skipped.samples, skipped.dropped) == (4, {"bad-row": 1})


@pytest.mark.parametrize(
    "reads",
    ["{{ w }}", "{% if w %}{% endif %}", "{{ w == 1 }}", "{{ w ~ '' }}", "{{ w | string }}", "{{ w.year }}",
     "{{ w['a'] }}", "{{ w | length }}", "{{ w | tojson }}", "{{ [w] | join }}", "{{ [w] }}", "{{ w + 1 }}",
     "{{ w < 1 }}", "{% for x in w %}{% endfor %}", "{{ 1 in w }}", "{{ w in [1] }}", "{{ w | upper }}",
     "{{ '%s' % w }}"],
)  # fmt: skip
def test_every_way_to_read_a_value_without_a_form_is_refused(tmp_path: Path, reads: str) -> None:
    path = tmp_path / "rows.parquet"
    pa.parquet.write_table(with_value(pa.decimal128(5, 2), decimal.Decimal("1.50")), path)
    text = (
        "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}"
        "{% if c.w is defined %}{% set w = c.w %}" + reads + "{% endif %}{% endfor %}{{ eos_token }}{% endfor %}"
    )
    with pytest.raises(SourceError) as caught:
        run_job(MemoryBackend(), [(path, "1.0")], chat_template=write(tmp_path / "reads.jinja", text.encode()))
    assert (caught.value.row, caught.value.field) == (4, "messages[1].tool_calls[0].w")


@pytest.mark.parametrize("text", ["2026-01-01", "12:00:00", "2026-01-01T00:00:00"])
def test_text_that_is_a_date_everywhere_is_text(tmp_path: Path, text: str) -> None:
    rows = [{"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": text}]}] * 2
    agree([*json_doors(tmp_path, rows), *column_doors(tmp_path, pa.Table.from_pylist(rows))],
          write(tmp_path / "all.jinja", TEMPLATE.encode()))  # fmt: skip


def test_a_map_is_an_object(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "assistant", "content": "x", "arguments": {"b": 1, "a": 2}}]}]
    pairs = [{"messages": [{"role": "assistant", "content": "x", "arguments": [("b", 1), ("a", 2)]}]}]
    message = pa.struct(
        [("role", pa.string()), ("content", pa.string()), ("arguments", pa.map_(pa.string(), pa.int64()))]
    )
    path = tmp_path / "rows.parquet"
    pa.parquet.write_table(pa.Table.from_pylist(pairs, pa.schema([("messages", pa.list_(message))])), path)
    agree([path, *json_doors(tmp_path, rows)], write(tmp_path / "all.jinja", TEMPLATE.encode()))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_not_null(tmp_path: Path, value: float) -> None:
    rows = [{"messages": [{"role": "assistant", "content": "x", "score": value}]}]
    agree([*json_doors(tmp_path, rows), *column_doors(tmp_path, pa.Table.from_pylist(rows))],
          write(tmp_path / "all.jinja", TEMPLATE.encode()))  # fmt: skip


def test_text_that_is_not_utf_8_takes_its_row_alone(tmp_path: Path) -> None:
    text = pa.array([b"good", b"\xff", b"fine"]).cast(pa.binary()).view(pa.string())
    roles = pa.array(["assistant"] * 3)
    messages = pa.ListArray.from_arrays([0, 1, 2, 3], pa.StructArray.from_arrays([roles, text], ["role", "content"]))
    path = tmp_path / "rows.parquet"
    pa.parquet.write_table(pa.table({"messages": messages}), path)
    with pytest.raises(SourceError) as caught:
        run_job(MemoryBackend(), [(path, "1.0")], chat_template="tulu")
    assert (caught.value.row, caught.value.field) == (2, "messages[0].content")
    assert run_job(MemoryBackend(), [(path, "1.0")], chat_template="tulu", on_error="skip").samples == 2


def test_nulls_in_a_text_of_json_are_kept(tmp_path: Path) -> None:
    """What is in a string is the same through every door, so that nothing has to be guessed."""
    tools = '[{"name": "f", "default": null}]'
    rows = [{"messages": [{"role": "assistant", "content": "x"}], "tools": tools}]
    template = write(tmp_path / "all.jinja", TEMPLATE.encode())
    doors = [*json_doors(tmp_path, rows), *column_doors(tmp_path, pa.Table.from_pylist(rows))]
    agree(doors, template)
    without = [{"messages": rows[0]["messages"], "tools": '[{"name": "f"}]'}]
    assert outcome(doors[0], template, "stop") != outcome(write(tmp_path / "b.jsonl", lines(without)), template, "stop")
