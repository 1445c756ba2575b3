"""Columns of the finished tables, derived from the record types: one definition for every format.

A table has the same columns whatever the server sent: a field this version does not know, and a value that
does not fit its column, stand in the JSON column `_extra`. So nothing is lost, and no column changes its type
because one server answered differently.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import Final

import msgspec
from msgspec import inspect

from testpress_async.errors import ConfigError

from .answers import ExamQuestion, UserAnswer
from .attempts import Attempt, AttemptDetail
from .contents import (
    ChapterContent,
    ContentAttempt,
    Course,
    UserExam,
    UserLiveStream,
    UserVideo,
    UserVideoConference,
)
from .exams import Exam
from .people import Attendance, User
from .record import Day, Duration, Exact, Record, Whole

EXTRA: Final = "_extra"

RECORDS: Final[Mapping[str, type[Record]]] = {
    "exams": Exam,
    "attempts": Attempt,
    "attempt_details": AttemptDetail,
    "user_answers": UserAnswer,
    "exam_questions": ExamQuestion,
    "content_attempts": ContentAttempt,
    "user_videos": UserVideo,
    "user_exams": UserExam,
    "courses": Course,
    "chapter_contents": ChapterContent,
    "user_video_conferences": UserVideoConference,
    "user_live_streams": UserLiveStream,
    "users": User,
    "attendance": Attendance,
}
"""What a row of each table is."""

PARENT_FIELD: Final[Mapping[str, str]] = {"user_answers": "attempt_id", "attendance": "video_conference_id"}
"""Column that says which parent a row belongs to; the server's rows do not."""


class Kind(StrEnum):
    """What a column holds, as DuckDB spells the type."""

    WHOLE = "BIGINT"
    EXACT = "DECIMAL(18,4)"
    """Marks and scores: the server sends texts with two places."""
    REAL = "DOUBLE"
    """Shares and rates, which the server calculates and sends as numbers of any length."""
    SECONDS = "DECIMAL(18,6)"
    MOMENT = "TIMESTAMPTZ"
    DAY = "DATE"
    TRUTH = "BOOLEAN"
    TEXT = "VARCHAR"
    NESTED = "JSON"


class Column(msgspec.Struct, frozen=True):
    """A column *name*, filled from the server's *field*; None for `_extra`, which is filled from the rest."""

    name: str
    field: str | None
    kind: Kind
    comment: str = ""


_WORDS: Final = inspect.StrType | inspect.IntType | inspect.EnumType
_CALCULATED: Final = ("percent", "accuracy", "speed", "rating")
_EXTRA_COLUMN: Final = Column(
    EXTRA, None, Kind.NESTED, "fields without a column, and values that do not fit their column exactly"
)


@cache
def columns(table: str) -> tuple[Column, ...]:
    """Columns of *table*, its key first, `_extra` last."""
    found = [column for field in _fields(RECORDS[table]) for column in _columns(RECORDS[table], field)]
    parent = PARENT_FIELD.get(table)
    if parent is not None:
        found = [column for column in found if column.name != parent]
        place = 1 if found[0].name == "id" else 0
        found.insert(place, Column(parent, parent, Kind.WHOLE, "added by the export: whose record this is"))
    return (*found, _EXTRA_COLUMN)


def table_of(kind: type[Record]) -> str:
    """The table whose rows are of this *kind*. Raises ConfigError if there is none."""
    for table, record in RECORDS.items():
        if record is kind:
            return table
    raise ConfigError("kind", f"no table holds records of the kind {kind.__name__}")


@cache
def known_fields(table: str) -> frozenset[str]:
    """Fields of the server's records that have a column."""
    return frozenset(column.field for column in columns(table) if column.field is not None)


def _fields(record: type[Record]) -> tuple[inspect.Field, ...]:
    shape = inspect.type_info(record)
    assert isinstance(shape, inspect.StructType)  # noqa: S101 - what a record is
    return shape.fields


def _columns(record: type[Record], field: inspect.Field) -> tuple[Column, ...]:
    sent_as = field.encode_name
    meaning: object = getattr(record, field.name.removeprefix("raw_"), None)
    match meaning:
        case Duration():
            raw = f"raw_{sent_as}"
            return (
                Column(raw, sent_as, Kind.TEXT, "as the server sent it"),
                Column(f"{sent_as}_s", sent_as, Kind.SECONDS, f"seconds; the server's text is in {raw}"),
            )
        case Exact():
            kind = Kind.REAL if any(word in sent_as for word in _CALCULATED) else Kind.EXACT
        case Whole():
            kind = Kind.WHOLE
        case Day():
            kind = Kind.DAY
        case _:
            kind = _kind(field.type)
    return (Column(sent_as, sent_as, kind),)


def _kind(shape: inspect.Type) -> Kind:
    alternatives = shape.types if isinstance(shape, inspect.UnionType) else (shape,)
    found = [each for each in alternatives if not isinstance(each, inspect.NoneType | inspect.CustomType)]
    match found:
        case [inspect.IntType()]:
            return Kind.WHOLE
        case [inspect.BoolType()]:
            return Kind.TRUTH
        case [inspect.DateTimeType()]:
            return Kind.MOMENT
        case [_, *_] if all(isinstance(each, _WORDS) for each in found):
            return Kind.TEXT
        case _:
            return Kind.NESTED
