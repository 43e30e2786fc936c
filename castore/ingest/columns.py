"""Rows of Arrow columns as JSON, for Parquet, Arrow files and the ``datasets`` library alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from castore.errors import MissingExtraError
from castore.ingest.readers import orjson_library
from castore.ingest.rows import no_form, row_bytes

BATCH_BYTES = 1024 * 1024
"""Rows are decoded about so many bytes at a time; few, because repeated strings may be stored once."""

BATCH_ROWS_MAX = 256


def pyarrow_library() -> Any:
    """pyarrow with its readers; MissingExtraError if it is not installed."""
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet") from error
    return pyarrow


def rows_of(batch: Any, names: Sequence[str]) -> list[bytes]:
    """Rows of a ``pyarrow.RecordBatch`` or ``Table`` as JSON objects.

    A value without a form in JSON takes no row with it: something stands in its place (``rows.NO_FORM``).

    Args:
        batch: At most ``BATCH_ROWS_MAX`` rows.
        names: Columns, in the order in which they stand in a row.
    """
    pyarrow, orjson = pyarrow_library(), orjson_library()
    columns = [batch.column(name) for name in names]
    kinds = {kind for column in columns for kind in _kinds(column.type, pyarrow)}
    values = [_values(column, kinds) for column in columns]
    return [
        row_bytes(dict(zip(names, row, strict=True)), orjson, floats="float" in kinds)
        for row in zip(*values, strict=True)
    ]


def batch_rows(byte_count: int, row_count: int) -> int:
    """How many rows make about ``BATCH_BYTES``, of so many rows of so many bytes."""
    return min(max(BATCH_BYTES // (byte_count // max(row_count, 1) + 1), 1), BATCH_ROWS_MAX)


def _kinds(of: Any, pyarrow: Any) -> set[str]:
    """What in a type needs care: ``float``, or ``apart`` where the Python form that pyarrow makes is none of JSON."""
    types = pyarrow.types
    if types.is_floating(of):
        return {"float"}
    if types.is_map(of) or isinstance(of, pyarrow.BaseExtensionType):
        return {"float", "apart"}
    if types.is_dictionary(of):
        return _kinds(of.value_type, pyarrow)
    return {kind for at in range(of.num_fields) for kind in _kinds(of.field(at).type, pyarrow)}


def _values(column: Any, kinds: set[str]) -> list[Any]:
    if "apart" not in kinds:
        try:
            values: list[Any] = column.to_pylist()
            return values
        except Exception:  # noqa: BLE001  text that is not UTF-8, times that Python has not: found one by one
            pass
    return [_value(scalar) for scalar in column]


def _value(scalar: Any) -> Any:
    """A value as JSON has it, whatever is in it."""
    pyarrow = pyarrow_library()
    types, kind = pyarrow.types, scalar.type
    if not scalar.is_valid:
        return None
    if isinstance(kind, pyarrow.BaseExtensionType):
        # What an extension makes of a value is not known here: a UUID is bytes.
        return _value(scalar.value)
    if types.is_dictionary(kind):
        return _value(scalar.value)
    if types.is_struct(kind):
        return {kind.field(at).name: _value(scalar[at]) for at in range(kind.num_fields)}
    if types.is_map(kind):
        pairs = [(_value(pair[0]), _value(pair[1])) for pair in scalar.values]
        names = [name for name, _ in pairs]
        if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
            return no_form("a map whose keys are not distinct texts")
        return dict(pairs)
    if isinstance(scalar, pyarrow.ListScalar):
        return [_value(item) for item in scalar.values]
    try:
        return scalar.as_py()
    except Exception:  # noqa: BLE001  pyarrow and the codecs raise errors of their own
        return no_form(f"a value of type {kind} that cannot be read")
