"""The public fields of every record, and the page that tells where each comes from.

    python -m tests.support.fields      # writes the tables of docs/reference/records.md anew from the code

The source of a field is written by hand and kept; a new field gets `?`, which a test refuses.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

import msgspec

import testpress_async as tp
from testpress_async.models.record import Day, Duration, Exact, Join, Whole
from tests.support.markdown import ROOT

PAGE = ROOT / "docs/reference/records.md"
MEANS: dict[type, type] = {Exact: Decimal, Whole: int, Duration: timedelta, Day: date}
RECORDS: list[type[tp.Record]] = [
    kind
    for name in tp.__all__
    if isinstance(kind := getattr(tp, name), type) and issubclass(kind, tp.Record) and kind is not tp.Record
]
ROW = re.compile(r"^\| `(\w+)` \| (.*) \| (.*) \| (.*) \|$", re.MULTILINE)
TABLE = re.compile(r"(?<=<!-- fields of )(?P<name>\w+)(?P<rest> -->\n\n)(?P<rows>(?:\|.*\n)+)", re.MULTILINE)


@dataclass(frozen=True)
class Field:
    """`about`: what its docstring says, and how else it can be had."""

    name: str
    type: str
    about: str


def fields_of(kind: type[tp.Record]) -> list[Field]:
    """What a user can read of a record that its base does not have: fields, meanings, joins, properties."""
    return [*_sent(kind), *_joined(kind)]


def _own(kind: type[tp.Record]) -> list[msgspec.structs.FieldInfo]:
    base = kind.__base__
    inherited = (
        {field.name for field in msgspec.structs.fields(base)}
        if base and base is not tp.Record
        else set[str]()
    )
    return [field for field in msgspec.structs.fields(kind) if field.name not in inherited]


def _sent(kind: type[tp.Record]) -> Iterator[Field]:
    about = _docstrings(kind)
    for field in _own(kind):
        name = field.name.removeprefix("raw_")
        meaning = MEANS.get(type(vars(kind).get(name)))
        told = about.get(name, "")
        sent = "" if name == field.name else f"As sent: `{field.name}`."
        absent = "Not always sent." if field.default is msgspec.UNSET else ""
        shown = meaning.__name__ if meaning else rendered(field.type)
        yield Field(name, shown, " ".join(filter(None, (told, sent, absent))))


def _joined(kind: type[tp.Record]) -> Iterator[Field]:
    for name, value in vars(kind).items():
        if isinstance(value, Join):
            yield Field(
                name, f"{value._row_type.__name__}", f"The row of `{value.table}` that `{value._by}` names."
            )


def rendered(annotation: object) -> str:
    """An annotation in short: without None and absence, which nearly all have, and without bounds."""
    if typing.get_origin(annotation) is typing.Annotated:
        return rendered(typing.get_args(annotation)[0])
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        parts = [each for each in typing.get_args(annotation) if each not in (type(None), msgspec.UnsetType)]
        return ", ".join(map(rendered, parts))
    if origin := typing.get_origin(annotation):
        inner = [rendered(each) for each in typing.get_args(annotation) if each is not ...]
        return f"{origin.__name__} of {' to '.join(inner)}"
    return getattr(annotation, "__name__", str(annotation))


def _docstrings(kind: type) -> dict[str, str]:
    """What is written below the fields of a class."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    found: dict[str, str] = {}
    for above, below in zip(definition.body, definition.body[1:], strict=False):
        targets = above.targets if isinstance(above, ast.Assign) else [getattr(above, "target", None)]
        if (
            isinstance(targets[0], ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            text = inspect.cleandoc(str(below.value.value)).replace("\n", " ")
            found[targets[0].id.removeprefix("raw_")] = text
    return found


def table_of(kind: type[tp.Record], sources: dict[str, str]) -> str:
    rows = [
        f"| `{field.name}` | {field.type} | {sources.get(field.name, '?')} | {field.about} |"
        for field in fields_of(kind)
    ]
    return "\n".join(("| Field | Type | Source | |", "|---|---|---|---|", *rows, ""))


def rewritten(page: str) -> str:
    """*page* with the tables the code asks for, and the sources it has."""

    def anew(table: re.Match[str]) -> str:
        sources = {name: source for name, _, source, _ in ROW.findall(table["rows"])}
        return f"{table['name']}{table['rest']}{table_of(getattr(tp, table['name']), sources)}"

    return TABLE.sub(anew, page)


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text()))
