"""One page, decoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from testpress_async.errors import DecodeFailed
from testpress_async.models.record import Record

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True, repr=False)
class Page(Generic[R]):
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

    def __repr__(self) -> str:
        return f"Page(number={self.number}, records={len(self.items)}, count={self.count})"


@dataclass(frozen=True, slots=True, repr=False)
class RawPage:
    """A page as the server's own bytes: `rows` maps a table to its records, undecoded.

    `rejected`: what could not even be told apart or is not UTF-8, each with its raw bytes.
    """

    number: int
    rows: Mapping[str, Sequence[msgspec.Raw]]
    count: int | None
    per_page: int | None
    is_last: bool
    token: str
    rejected: tuple[DecodeFailed, ...] = ()

    def __repr__(self) -> str:
        sizes = ", ".join(f"{table}={len(rows)}" for table, rows in self.rows.items())
        return f"RawPage(number={self.number}, {sizes}, count={self.count})"
