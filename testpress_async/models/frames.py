"""Records as Arrow tables with the columns of `schema`. Arrow converts; it is an extra, imported when used.

They are the columns that exports have, but for `_extra`: fields that no column is for are in no record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib import import_module
from itertools import repeat
from math import isfinite
from operator import attrgetter
from typing import Any, Final, Literal, Protocol, TypeVar

import msgspec
from msgspec import UNSET

from testpress_async.errors import ConfigError, DecodeFailed

from .record import Record
from .schema import PARENT_FIELD, RECORDS, Column, Kind, columns, table_of

R = TypeVar("R", bound=Record)
BadRecords = Literal["raise", "skip"]


class ArrowTable(Protocol):
    """What every consumer of Arrow takes; really a `pyarrow.Table`, which has no types of its own."""

    @property
    def num_rows(self) -> int: ...
    @property
    def column_names(self) -> list[str]: ...
    def to_pydict(self) -> dict[str, list[object]]: ...
    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...


def to_arrow(
    rows: Iterable[R] | Iterable[tuple[object, R]], kind: type[R], *, bad_records: BadRecords = "raise"
) -> ArrowTable:
    """Records of one *kind* as a `pyarrow.Table`, with the columns that exports of them have.

        async with client.fan_out(ids, client.attempts.user_answers) as results:
            answers = tp.to_arrow([row async for row in results], tp.UserAnswer)

    Blocks, for about 25 ms a thousand records: in a web app call it in a thread.

    Args:
        rows: Records, or pairs of a parent's id and a record, as a fan-out gives them: the id is the
            `attempt_id` of answers, the `video_conference_id` of attendance, and nothing of other kinds.
        bad_records: "raise" at a value that its column cannot hold exactly, or "skip" it: it is null.
    Raises:
        ConfigError: pyarrow is not installed, or there are no such records.
        DecodeFailed: A value does not fit its column.
    """
    builder = ArrowBuilder(table_of(kind), bad_records=bad_records)
    parents: list[object] = []
    records: list[R] = []
    for row in rows:
        parent, record = row if isinstance(row, tuple) else (None, row)
        if not isinstance(record, kind):
            raise ConfigError("rows", f"expected a {kind.__name__}, got a {type(record).__name__}")
        parents.append(parent)
        records.append(record)
    return builder.table([builder.batch(records, parents)])


class ArrowBuilder:
    """Makes the rows of *table* out of records, batch by batch. Only computes: usable in any thread.

    Raises:
        ConfigError: pyarrow is not installed.
    """

    def __init__(
        self, table: str, *, bad_records: BadRecords = "raise", parent_id: int | None = None
    ) -> None:
        self._arrow = imported("to_arrow", "arrow", "pyarrow")
        self._skips = bad_records == "skip"
        self._parent, self._parent_id = PARENT_FIELD.get(table), parent_id
        self._columns = columns(table)[:-1]
        self._cells = [_cells(column, RECORDS[table]) for column in self._columns]
        types = _types(self._arrow)
        self._schema = self._arrow.schema([(each.name, types[each.kind]) for each in self._columns])

    def batch(self, records: Sequence[Record], parents: Iterable[object] | None = None) -> object:
        """A `pyarrow.RecordBatch` of *records*; each belongs to the parent beside it, or all to `parent_id`.

        Raises:
            ConfigError: A parent is no id.
            DecodeFailed: A value does not fit its column, and is not to be skipped.
        """
        beside = repeat(self._parent_id) if parents is None else parents
        arrays = [self._array(records, index, beside) for index in range(len(self._columns))]
        return self._arrow.RecordBatch.from_arrays(arrays, schema=self._schema)

    def table(self, batches: Sequence[object]) -> ArrowTable:
        return self._arrow.Table.from_batches(batches, schema=self._schema)

    def _array(self, records: Sequence[Record], index: int, parents: Iterable[object]) -> object:
        cells, shape = self._cells[index], self._schema[index].type
        if self._columns[index].name == self._parent:
            return self._parents(cells(records), parents, shape)
        try:
            return self._arrow.array(cells(records), shape)
        except _MISFITS:
            return self._arrow.array([self._fitting(record, index) for record in records], shape)

    def _parents(self, sent: list[object], asked: Iterable[object], shape: object) -> object:
        """Ids of parents: those the server sent, or else those that were asked for."""
        pairs = zip(sent, asked, strict=False)
        try:
            return self._arrow.array([other if own is None else own for own, other in pairs], shape)
        except _MISFITS:
            raise ConfigError(
                "rows", f"expected the {self._parent} beside each record, as a number"
            ) from None

    def _fitting(self, record: Record, index: int) -> object:
        """The cell of *record*; None for a value that does not fit and may be skipped."""
        column, shape = self._columns[index], self._schema[index].type
        try:
            cells = self._cells[index]([record])
            self._arrow.array(cells, shape)
            return cells[0]
        except _MISFITS as misfit:
            if self._skips or column.kind is Kind.SECONDS:  # the server's text is in a column of its own
                return None
            if isinstance(misfit, DecodeFailed):
                raise
            record_id: object = getattr(record, "id", None)
            known = record_id if isinstance(record_id, int) else None
            expected = f'expected what fits a column of {shape}; `bad_records="skip"` leaves it null'
            raise DecodeFailed(f"$.{column.field}", expected, record_id=known) from None


def imported(purpose: str, extra: str, *modules: str) -> Any:
    """The first of *modules*, imported with the others; they have no types, or only where they are installed.

    Raises:
        ConfigError: One is not installed.
    """
    try:
        found = [import_module(module) for module in modules]
    except ImportError:
        needs = " and ".join(modules)
        raise ConfigError(purpose, f"needs {needs}: pip install 'testpress-async[{extra}]'") from None
    return found[0]


# --- one cell ----------------------------------------------------------------------------------------

_Cells = Callable[[Sequence[Record]], list[object]]

_MISFITS: Final = (DecodeFailed, ValueError, TypeError, OverflowError)  # Arrow's own are of these
_MICROSECOND: Final = timedelta(microseconds=1)


def _types(arrow: Any) -> dict[Kind, object]:
    return {
        Kind.WHOLE: arrow.int64(),
        Kind.EXACT: arrow.decimal128(18, 4),
        Kind.REAL: arrow.float64(),
        Kind.SECONDS: arrow.decimal128(18, 6),
        Kind.MOMENT: arrow.timestamp("us", tz="UTC"),
        Kind.DAY: arrow.date32(),
        Kind.TRUTH: arrow.bool_(),
        Kind.TEXT: arrow.string(),
        Kind.NESTED: arrow.string(),
    }


def _cells(column: Column, kind: type[Record]) -> _Cells:
    """What makes the cells of *column* out of records."""
    names = dict(zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True))
    name = names.get(column.field or "")
    if name is None:
        return lambda records: [None for _ in records]
    as_sent = column.kind in (Kind.TEXT, Kind.MOMENT)
    value_of: Callable[[Record], object] = attrgetter(name if as_sent else name.removeprefix("raw_"))
    convert = _CONVERSIONS.get(column.kind)
    if convert is None:
        return lambda records: [None if each is UNSET else each for each in map(value_of, records)]
    return lambda records: [
        None if each is None or each is UNSET else convert(each) for each in map(value_of, records)
    ]


def _real(value: Decimal) -> float:
    number = float(value)
    if not isfinite(number):
        raise ValueError("is too large")
    return number


def _seconds(value: timedelta) -> Decimal:
    return Decimal(value // _MICROSECOND).scaleb(-6)


def _moment(value: datetime) -> datetime:
    return value if 1 < value.year < 9999 else value.astimezone(UTC)  # which says if UTC has no such year


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


_CONVERSIONS: Final[dict[Kind, Callable[[Any], object]]] = {
    Kind.REAL: _real,
    Kind.SECONDS: _seconds,
    Kind.MOMENT: _moment,
    Kind.TEXT: str,
    Kind.NESTED: _json,
}
