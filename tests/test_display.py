"""What notebooks show: small tables with every text escaped, and nothing that `repr` hides."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import testpress_async as tp
from testpress_async.models.display import duration, html_table, number, size
from testpress_async.models.record import MOST_DISPLAYED
from tests.support.exporting import export, opened
from tests.support.pages import Pages
from tests.test_models_records import RECORD_TYPES
from tests.test_models_redaction import SECRET, full_of_secrets

TAGS = {"div", "b", "span", "table", "thead", "tbody", "tr", "th", "td"}


class Reader(HTMLParser):
    """Tags and texts of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.cells: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if {"td", "th"} & set(self.open):
            self.cells[-1] += data


def html_of(value: object) -> str:
    return cast("Any", value)._repr_html_()


def text_of(value: object) -> str:
    return " ".join(Reader(html_of(value)).texts)


# --- HTML ----------------------------------------------------------------------------------------------

texts = st.text() | st.sampled_from(["<script>alert(1)</script>", "&lt;", '"><img src=x>', "</td>", "<!--"])
cells = texts | st.none() | st.integers() | st.booleans()


@given(
    texts, texts, st.lists(st.dictionaries(texts, cells, max_size=4), max_size=4), st.lists(texts, max_size=2)
)
def test_any_text_is_escaped(
    title: str, about: str, rows: list[Mapping[str, object]], notes: list[str]
) -> None:
    """Whatever is put in, the only tags are those of the table; texts come out as they went in."""
    html = html_table(title, about, rows, notes)
    assert set(re.findall(r"<(?!/?(?:div|b|span|table|thead|tbody|tr|th|td)[ >])", html)) == set()
    read = Reader(html)
    assert read.open == []
    assert read.tags <= TAGS
    assert read.attributes <= {"style"}
    shown = {name for row in rows for name, value in row.items() if value != ""}
    values = ["–" if value is None else str(value) for row in rows for value in row.values() if value != ""]
    if "\r" not in html:  # parsers read it as \n
        assert shown <= set(read.cells)
        assert set(values) <= set(read.cells)
        assert title in "".join(read.texts)
        assert all(note in read.texts for note in notes if note)


def test_columns_of_nothing_are_left_out() -> None:
    """A column that is empty in all rows says nothing."""
    read = Reader(html_table("t", "", [{"a": 1, "b": ""}, {"a": None, "c": "x"}]))
    assert read.cells == ["a", "c", "1", "", "–", "x"]


def test_numbers_stand_right() -> None:
    """With their units; texts stand left."""
    html = html_table("t", "", [{"n": 12, "size": "1.5 MB", "word": "Completed"}, {"n": None, "word": "2nd"}])
    assert re.findall(r"<th [^>]*text-align:(\w+)\">(\w+)", html) == [
        ("right", "n"),
        ("right", "size"),
        ("left", "word"),
    ]


def test_numbers_for_people() -> None:
    """Thousands are told apart, bytes and seconds have a unit that fits."""
    assert (number(1234567), number(None)) == ("1,234,567", "?")
    assert (size(999), size(1_500_000)) == ("999 bytes", "1.5 MB")
    assert (duration(90), duration(150), duration(7200)) == ("90 seconds", "2 minutes", "2.0 hours")


def test_colours_are_those_of_the_page() -> None:
    """Nothing sets a colour that a light or a dark page could swallow."""
    html = html_of(tp.Attempt(id=1))
    assert set(re.findall(r"(?<![-\w])(?:color|background):([^;\"]+)", html)) == {"inherit", "none"}


# --- records and pages ---------------------------------------------------------------------------------


@pytest.mark.parametrize("record_type", RECORD_TYPES)
def test_no_record_displays_a_text_it_holds(record_type: type[tp.Record]) -> None:
    """With every field filled with a secret, the table shows what `repr` shows."""
    record, _ = full_of_secrets(record_type)
    html = html_of(record)
    assert SECRET not in html
    assert "2031" not in html
    shown = [text for name, value in record.__rich_repr__() for text in (name, value)]
    names, values = shown[::2], ["–" if value is None else str(value) for value in shown[1::2]]
    assert Reader(html).cells == [*names, *values]


async def test_no_personal_value_of_the_sandbox_is_displayed() -> None:
    """Pages, records and what comes along with them: no text of any field that `repr` hides."""
    async with opened(attempts=12, content_attempts=30, users=12) as (_, client):
        listings = [
            client.attempts.list(),
            client.content_attempts.list(),
            client.users.list(),
            client.courses.list(),
            client.exams.list(),
            client.attempts.user_answers(1),
            client.video_conferences.attendees(1),
        ]
        pages = [await cast("Any", listing) for listing in listings]
        details = [await client.attempts.get(number) for number in range(1, 5)]
    displayed = [*pages, *details]
    for page in pages:
        displayed += [*page.items, *(row for rows in page.tables.values() for row in rows)]
    hidden = 0
    for value in displayed:
        text = text_of(value)
        for record in [*value.items[:MOST_DISPLAYED]] if isinstance(value, tp.Page) else [value]:
            told = {str(each) for _, each in record.__rich_repr__()}
            for secret in set(texts_in(msgspec.to_builtins(record))) - told:
                hidden += 1
                assert secret not in text, (type(record), secret)
    assert hidden > 500


def texts_in(value: object) -> Iterable[str]:
    """Every text of a record that is long enough to tell somebody by."""
    if isinstance(value, str):
        yield from [value] if len(value) > 4 else []
    elif isinstance(value, dict):
        for each in cast("dict[str, object]", value).values():
            yield from texts_in(each)
    elif isinstance(value, list | tuple):
        for each in cast("list[object]", value):
            yield from texts_in(each)


async def test_a_page_displays_its_first_records() -> None:
    """The first ten, how many there are, what came along, what is bad, and how to see the rest."""
    rows: list[object] = [{"id": number, "name": SECRET} for number in range(1, 26)]
    body = {"count": 70, "per_page": 26, "next": None, "results": [*rows, {"id": "x", "name": SECRET}]}
    async with Pages({1: json.dumps(body).encode()}).client() as client:
        page = await client.attempts.list(bad_records="skip")
    text = text_of(page)
    assert text.startswith("Page 1   25 of 70 records ")
    assert "… and 15 more" in text
    assert "1 records cannot be decoded: see `rejected`" in text
    assert "35 more fields can be personal and are not displayed" in text
    assert Reader(html_of(page)).cells[:9] == ["id", "exam_id", "state", "1", "–", "–", "2", "–", "–"]


async def test_a_page_of_answers_says_what_came_along(client: tp.Client) -> None:
    """Questions are counted, not displayed."""
    page = await client.attempts.user_answers(1)
    assert f"Sent along: {len(page.tables['exam_questions'])} exam_questions" in text_of(page)


async def test_an_empty_page_is_a_line() -> None:
    """No table, no columns."""
    async with Pages({1: b'{"count": 0, "next": null, "results": []}'}).client() as client:
        assert Reader(html_of(await client.attempts.list())).tags == {"div", "b", "span"}


def test_records_cost_nothing_for_it() -> None:
    """A record has no room for its display: the method is its class's."""
    assert not hasattr(tp.Attempt(id=1), "__dict__")


# --- plans, reports and datasets -------------------------------------------------------------------------


async def test_a_harvest_is_displayed_from_plan_to_dataset(tmp_path: Path) -> None:
    """Every table with its records; what is known later is empty, what is nought is not there."""
    async with opened(attempts=12, content_attempts=10) as (institute, client):
        plan = await tp.plan(client, ["user_answers"])
        report = await export(client, tmp_path / "out", "user_answers")
        answers = institute.truth.count("user_answers")
    assert Reader(html_of(plan)).cells[:4] == ["table", "records", "requests", "size"]
    assert f"at least {plan.requests} requests" in text_of(plan)
    assert "What is empty is known when" in text_of(plan)
    dataset = tp.Dataset(tmp_path / "out")
    for told in (report, dataset):
        read = Reader(html_of(told))
        place = read.cells.index("user_answers")
        assert read.cells[place : place + 3] == ["user_answers", f"{answers:,}", f"{answers:,}"]
        assert read.cells[:4] == ["table", "records", "new", "certified"]
    assert f"{len(dataset.tables)} finished tables" in text_of(dataset)
    assert repr(dataset) == f"Dataset('{tmp_path}/out')"


def test_a_dataset_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    """A display never raises: an empty place is empty, a damaged one is told with its remedy."""
    assert text_of(tp.Dataset(tmp_path / "none")).endswith("no finished tables")
    (tmp_path / "manifest").mkdir()
    (tmp_path / "manifest" / "00000001.json").write_text("{}")
    with pytest.raises(tp.DatasetError) as caught:
        tp.Dataset(tmp_path).report()
    assert str(caught.value) in text_of(tp.Dataset(tmp_path))


def test_a_dataset_in_a_store_is_not_looked_into() -> None:
    """Displaying takes no requests."""
    obstore = pytest.importorskip("obstore")
    assert text_of(tp.Dataset(obstore.store.MemoryStore())) == "Dataset('MemoryStore')"


def test_what_was_not_proved_is_told() -> None:
    """By name, above the notes of the server."""
    tables = [tp.TableReport(table="attempts", records=5, unverified=1, quarantined=2)]
    report = tp.Report(
        tables=tuple(tables), requests=3, elapsed_s=1, data_bytes=9, resumed=False, notes=("<odd>",)
    )
    read = Reader(html_of(report))
    assert read.cells == ["table", "records", "unverified", "quarantined", "attempts", "5", "1", "2"]
    assert read.texts[-2:] == ["Not proved complete: attempts", "<odd>"]
