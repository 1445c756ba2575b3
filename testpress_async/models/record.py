"""What every record has in common: a repr that tells nothing personal, raw values with a meaning, joins.

`Record` prints an allowlist: ids and states. Who adds a record and forgets `_shown` gets only `id` printed.
Whoever lists a field too many still gets no text out of it: only numbers and known words are printed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from operator import attrgetter
from typing import ClassVar, Final, Generic, Self, TypeVar, cast, overload

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from testpress_async.errors import DecodeFailed

from .display import html_table
from .enums import OpenEnum
from .scalars import WireDuration, WireNumber, calendar_day, duration, exact, whole

__all__ = [
    "HIDDEN",
    "Day",
    "Discreet",
    "Duration",
    "Exact",
    "Join",
    "JoinedRecord",
    "Record",
    "SideLoads",
    "Whole",
    "attach_side_loads",
    "html_records",
]

RecordT = TypeVar("RecordT", bound="Record")
Raw = TypeVar("Raw")
Meaning = TypeVar("Meaning")


MOST_DISPLAYED: Final = 10
"""Records that a notebook shows of a page."""


class _Hidden:
    def __repr__(self) -> str:
        return "…"


HIDDEN: Final = _Hidden()
"""Printed in place of a value that is there and not for printing."""


class Discreet(Struct, frozen=True):
    """A frozen value that prints only what its class lists; msgspec's own printing shows every field."""

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return []

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown})"


class Record(Discreet, frozen=True, kw_only=True, gc=False):
    """A record of the server: frozen, compared by value; unknown fields are ignored.

    What comes out of JSON holds no cycles, so the garbage collector need not look at it.

    A field that every documented form of the record has is None when absent; one that only some versions
    send is `msgspec.UNSET` when absent, so that absent and null differ, and encoding gives back what came.
    """

    _shown: ClassVar[tuple[str, ...]] = ("id",)
    """Fields a repr may print; never a name, an address, a text, a URL or a secret."""

    def __rich_repr__(self) -> list[tuple[str, object]]:
        values = [(name, getattr(self, name, UNSET)) for name in self._shown]
        return [(name, _printable(value)) for name, value in values if value is not UNSET]

    def _repr_html_(self) -> str:
        """For notebooks: what `repr` shows, as a table."""
        return html_records(type(self).__name__, "", [self])


def html_records(title: str, about: str, records: Sequence[Record], *notes: str) -> str:
    """A table of what the reprs of the first *records* show, and how much they do not."""
    rows = [dict(record.__rich_repr__()) for record in records[:MOST_DISPLAYED]]
    more = [f"… and {len(records) - len(rows):,} more"] if len(records) > len(rows) else []
    hidden = len(type(records[0]).__struct_fields__) - len(rows[0]) if rows else 0
    unseen = f"{hidden} more fields can be personal and are not displayed: `record.NAME` or a frame has them"
    return html_table(title, about, rows, [*more, *notes, *([unseen] if hidden else [])])


def _printable(value: object) -> object:
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, OpenEnum) and value.is_known:
        return value.value
    return HIDDEN  # a text the server chose: it may be personal, or forge a line of a log


class _Meaning(Generic[Raw, Meaning]):
    """Base of the properties that read `raw_<name>`; a text without meaning raises `DecodeFailed`.

    Raises:
        DecodeFailed: Names the field and the record's id, not the value.
    """

    def __set_name__(self, owner: type[Record], name: str) -> None:
        self._name, self._raw_name = name, f"raw_{name}"

    @overload
    def __get__(self, record: None, owner: type[Record]) -> Self: ...
    @overload
    def __get__(self, record: Record, owner: type[Record]) -> Meaning | None: ...
    def __get__(self, record: Record | None, owner: type[Record]) -> Self | Meaning | None:
        if record is None:
            return self
        raw: Raw | UnsetType | None = getattr(record, self._raw_name)
        if raw is None or raw is UNSET:
            return None
        try:
            return self._read(raw)
        except ValueError as fault:
            record_id: object = getattr(record, "id", None)
            known_id = record_id if isinstance(record_id, int) else None
            raise DecodeFailed(f"$.{self._name}", str(fault), record_id=known_id) from None

    def _read(self, raw: Raw) -> Meaning | None:
        raise NotImplementedError


class Exact(_Meaning[WireNumber, Decimal]):
    """`Decimal` with the digits the server sent; None for null, `"NA"` and absent."""

    def _read(self, raw: WireNumber) -> Decimal | None:
        return exact(raw)


class Whole(_Meaning[WireNumber, int]):
    """`int`; None for null, `"NA"` and absent."""

    def _read(self, raw: WireNumber) -> int | None:
        return whole(raw)


class Duration(_Meaning[WireDuration, timedelta]):
    """`timedelta`; None for null, `"NA"` and absent. `unit_s`: seconds a plain number counts."""

    def __init__(self, *, unit_s: int = 1) -> None:
        self._unit_s = unit_s

    def _read(self, raw: WireDuration) -> timedelta | None:
        return duration(raw, unit_s=self._unit_s)


class Day(_Meaning[str, date]):
    """`date`; None for null, empty and absent."""

    def _read(self, raw: str) -> date | None:
        return calendar_day(raw)


class SideLoads:
    """The side-loaded tables of one page, shared by its records; rows are looked up by id.

    The index of a table is built when first asked for, so that a page nobody joins costs nothing.
    """

    __slots__ = ("_rows", "_tables")

    def __init__(self, tables: Mapping[str, Sequence[Record]]) -> None:
        self._tables = tables
        self._rows: dict[str, dict[int, Record]] = {}

    def find(self, table: str, row_type: type[RecordT], row_id: int | None) -> RecordT | None:
        """The row of *table* with this id, or None: the server does not side-load every row it refers to."""
        if row_id is None:
            return None
        rows = self._rows.get(table)
        if rows is None:
            rows = self._rows[table] = {_id_of(row): row for row in self._tables.get(table, ())}
        row = rows.get(row_id)
        return row if isinstance(row, row_type) else None


def _id_of(row: Record) -> int:
    row_id: int = getattr(row, "id")  # noqa: B009 (every side-loaded type has an id; `Record` need not)
    return row_id


_KEY: Final = "_side_loads"


class Join(Generic[RecordT]):
    """Property of a `JoinedRecord`: the row of a side-loaded table that one of its ids points to, or None."""

    def __init__(self, table: str, row_type: type[RecordT], *, by: str) -> None:
        self.table, self._row_type, self._by = table, row_type, by

    @overload
    def __get__(self, record: None, owner: type[Record]) -> Self: ...
    @overload
    def __get__(self, record: JoinedRecord, owner: type[Record]) -> RecordT | None: ...
    def __get__(self, record: JoinedRecord | None, owner: type[Record]) -> Self | RecordT | None:
        return self if record is None else self.row_for(record)

    def row_for(self, record: JoinedRecord) -> RecordT | None:
        """The row *record* points to; None if it points to none, or if that row was not sent along."""
        side_loads: SideLoads | None = vars(record).get(_KEY)
        row_id: int | None = getattr(record, self._by)
        return None if side_loads is None else side_loads.find(self.table, self._row_type, row_id)


class JoinedRecord(Record, frozen=True, kw_only=True, dict=True, gc=True):
    """A record that came along with others, which its joins look up.

    Joins take no part in comparing, hashing and encoding. A copy keeps them; a pickle carries the record's
    own joined rows, not its page; `msgspec.structs.replace` drops them.
    """

    def __copy__(self) -> Self:
        copied = replace(self)
        vars(copied).update(vars(self))
        return copied

    def __reduce__(self) -> tuple[object, ...]:
        rebuild, values = super().__reduce__()[:2]
        own_rows = {join.table: [row] for join in _joins_of(type(self)) if (row := join.row_for(self))}
        return rebuild, values, {_KEY: SideLoads(own_rows)} if own_rows else None


def _joins_of(record_type: type[JoinedRecord]) -> list[Join[Record]]:
    return [cast("Join[Record]", value) for value in vars(record_type).values() if isinstance(value, Join)]


# attrgetter, because this runs once a record of every page: a third faster than `vars`.
_entries_of: Final = cast("Callable[[JoinedRecord], dict[str, object]]", attrgetter("__dict__"))


def attach_side_loads(records: Sequence[JoinedRecord], side_loads: SideLoads) -> None:
    """Let the joins of *records* find their rows in *side_loads*. One dictionary entry a record."""
    for entries in map(_entries_of, records):
        entries[_KEY] = side_loads
