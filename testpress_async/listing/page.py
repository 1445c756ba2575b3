"""One page, decoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from testpress_async.errors import DecodeFailed
from testpress_async.models.record import Discreet, Record, html_records

R = TypeVar("R", bound=Record)


class Page(Discreet, Generic[R], frozen=True):
    """A page of a listing.

    Attributes:
        number: 1-based page number.
        items: Its records, in the server's order.
        count: The server's total over all pages when it answered; None if it gave none.
        per_page: The page size the server says it uses; None if it says nothing.
        is_last: Whether the server gave no `next`.
        token: Resumes after this page: `listing.resume(page.token)`.
        tables: Side-loaded records by table name, such as "exam_questions"; empty for plain lists.
        rejected: Records that could not be decoded (`bad_records="skip"`), each with its raw bytes.
    """

    number: int
    items: Sequence[R]
    count: int | None
    per_page: int | None
    is_last: bool
    token: str
    tables: Mapping[str, Sequence[Record]]
    rejected: tuple[DecodeFailed, ...]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[R]:
        return iter(self.items)

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("number", self.number), ("records", len(self.items)), ("count", self.count)]

    def _repr_html_(self) -> str:
        """For notebooks: its first records, as their reprs show them."""
        of = "" if self.count is None else f" of {self.count:,}"
        records = f"{len(self.items):,}{of} records"
        along = ", ".join(f"{len(rows):,} {table}" for table, rows in self.tables.items())
        bad = f"{len(self.rejected):,} records cannot be decoded: see `rejected`" if self.rejected else ""
        notes = [note for note in (along and f"Sent along: {along}", bad) if note]
        return html_records(f"Page {self.number:,}", records, self.items, *notes)


@dataclass(frozen=True, slots=True, repr=False)
class RawPage:
    """A page as the server's own bytes: `rows` maps a table to its records, undecoded.

    `rejected`: what could not even be told apart or is not UTF-8, each with its raw bytes.
    """

    number: int
    rows: Mapping[str, Sequence[bytes]]
    count: int | None
    per_page: int | None
    is_last: bool
    token: str
    rejected: tuple[DecodeFailed, ...] = ()

    def __repr__(self) -> str:
        sizes = ", ".join(f"{table}={len(rows)}" for table, rows in self.rows.items())
        return f"RawPage(number={self.number}, {sizes}, count={self.count})"
