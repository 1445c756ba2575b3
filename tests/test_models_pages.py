"""Reading pages: one bad record costs one record, a bad page is refused, odd counts cost nothing."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testpress_async.errors import DecodeFailed, NotJSON
from testpress_async.models import (
    ATTEMPT_DETAIL,
    ATTEMPTS,
    ATTENDANCE,
    CONTENT_ATTEMPTS,
    COURSES,
    EXAMS,
    USER_ANSWERS,
    USERS,
    Head,
    PageReader,
    Record,
)

from .test_samples import as_json, sample

READERS: list[PageReader[Any]] = [
    ATTEMPTS,
    USER_ANSWERS,
    CONTENT_ATTEMPTS,
    ATTENDANCE,
    EXAMS,
    USERS,
    COURSES,
]
PRIMARY = [
    (ATTEMPTS, "attempts_list", "$.results"),
    (ATTENDANCE, "video_conference", "$.results"),
    (USER_ANSWERS, "user_answers", "$.results.user_answers"),
    (CONTENT_ATTEMPTS, "content_attempts", "$.results.content_attempts"),
]
BOM = b"\xef\xbb\xbf"


def tabled(table: str, rows: object, **others: object) -> bytes:
    return json.dumps({"count": 3, "results": {table: rows, **others}}).encode()


def listed(rows: object) -> bytes:
    return json.dumps({"count": 3, "results": rows}).encode()


def page_of(reader: PageReader[Any], rows: object) -> bytes:
    plain = reader in (ATTEMPTS, ATTENDANCE, EXAMS, USERS, COURSES)
    return listed(rows) if plain else tabled(reader.table, rows)


# One bad record

WrongPage = tuple[PageReader[Any], bytes, list[dict[str, object]], dict[int, tuple[str, str]]]


@st.composite
def pages_with_wrong_fields(
    draw: st.DrawFn,
) -> WrongPage:
    """A page of sample records, some with a field of a wrong type: reader, body, rows, index → fault."""
    reader, name, at = draw(st.sampled_from(PRIMARY))
    results = json.loads(sample(name))["results"]
    samples = results if isinstance(results, list) else results[reader.table]
    rows = [dict(draw(st.sampled_from(samples))) for _ in range(draw(st.integers(1, 8)))]
    for number, row in enumerate(rows):
        if "id" in row:
            row["id"] = 1000 + number
    wrong: dict[int, tuple[str, str]] = {}
    for index in draw(st.sets(st.integers(0, len(rows) - 1), min_size=1)):
        field = draw(st.sampled_from(sorted(rows[index])))
        rows[index][field] = {"of a": "wrong type"}
        wrong[index] = field, f"{at}[{index}].{field}"
    if isinstance(results, list):
        return reader, listed(rows), rows, wrong
    return reader, json.dumps({"results": {**results, reader.table: rows}}).encode(), rows, wrong


@given(pages_with_wrong_fields())
def test_a_wrong_field_costs_its_record_and_no_neighbour(
    case: WrongPage,
) -> None:
    """Exactly the records with a field of a wrong type are rejected, each with its place, id and bytes."""
    reader, body, rows, wrong = case
    reading = reader.read(body)
    assert as_json(reading.items) == [row for index, row in enumerate(rows) if index not in wrong]
    assert [index for index, _ in reading.rejected_at] == sorted(wrong)
    assert tuple(fault for _, fault in reading.rejected_at) == reading.rejected
    for index, fault in reading.rejected_at:
        field, path = wrong[index]
        assert fault.path == path
        assert fault.record_id == (None if field == "id" else rows[index].get("id"))
        assert json.loads(fault.raw) == rows[index]
        assert "got `object`" in fault.expected
        assert "wrong type" not in str(fault)


def test_a_wrong_field_deep_in_a_record_is_named_by_its_whole_path() -> None:
    """The place is named down to the field; keys the server chose are not repeated."""
    conference = {"id": 1, "video_conference": {"id": 1, "start": "soon"}}
    body = tabled("content_attempts", [{"id": 1}], user_video_conferences=[{"id": 5}, conference])
    reading = CONTENT_ATTEMPTS.read(body)
    (fault,) = reading.rejected
    assert fault.path == "$.results.user_video_conferences[1].video_conference.start"
    assert fault.record_id == 1
    with pytest.raises(DecodeFailed) as caught:
        ATTEMPT_DETAIL.read(b'{"id": 9, "difficulty_level_stats": {"Asha": {"total_count": "x"}}}')
    assert (caught.value.path, caught.value.record_id) == ("$.difficulty_level_stats[...].total_count", 9)


def test_a_bad_side_loaded_row_costs_a_join_and_no_record() -> None:
    """Its answer stays, without a question; the other answer keeps its own."""
    answers = [{"id": 1, "exam_question_id": 39}, {"id": 2, "exam_question_id": 40}]
    reading = USER_ANSWERS.read(
        tabled("user_answers", answers, exam_questions=[{"id": 39, "marks": []}, {"id": 40}])
    )
    first, second = reading.items
    assert first.question is None
    assert second.question is not None
    assert [fault.path for fault in reading.rejected] == ["$.results.exam_questions[0].marks"]
    assert [fault.record_id for fault in reading.rejected] == [39]
    assert reading.rejected_at == ()
    assert len(reading.tables["exam_questions"]) == 1


def test_bad_answers_and_bad_questions_are_told_apart() -> None:
    """`rejected` has both, the answers first; `rejected_at` has the answers, by their index."""
    answers = [{"id": 1}, {"id": 2, "result": 5}, 6]
    reading = USER_ANSWERS.read(tabled("user_answers", answers, exam_questions=[{}, "?"]))
    assert [fault.path for fault in reading.rejected] == [
        "$.results.user_answers[1].result",
        "$.results.user_answers[2]",
        "$.results.exam_questions[0]",
        "$.results.exam_questions[1]",
    ]
    assert [(index, fault.record_id) for index, fault in reading.rejected_at] == [(1, 2), (2, None)]
    assert [item.id for item in reading.items] == [1]


@pytest.mark.parametrize("rows", [[None], [5], ["x"], [[]], [True]])
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_object_is_no_record(reader: PageReader[Any], rows: list[object]) -> None:
    """A null, number, text or list among the records is rejected at its index."""
    reading = reader.read(page_of(reader, [{"id": 1}, *rows]))
    assert len(reading.items) == 1
    assert [index for index, _ in reading.rejected_at] == [1]
    assert reading.rejected[0].record_id is None


@pytest.mark.parametrize("row_id", ["7", 7.5, True, None, [7]])
def test_what_is_no_id_is_not_reported_as_one(row_id: object) -> None:
    """The id of a rejected record is an integer or not known."""
    (fault,) = ATTEMPTS.read(listed([{"id": row_id}])).rejected
    assert fault.record_id is None
    assert fault.path == "$.results[0].id"


def test_a_missing_id_is_reported_where_it_is_missing() -> None:
    """There is no place for a field that is not there but the record's own."""
    (fault,) = ATTEMPTS.read(listed([{"exam_id": 5}])).rejected
    assert (fault.path, fault.expected) == ("$.results[0]", "Object missing required field `id`")


def test_a_record_that_is_not_utf8_costs_itself() -> None:
    """`read` and `split` reject it, with its bytes; the neighbours are kept."""
    body = b'{"results": [{"id": 1, "name": "a"}, {"id": 2, "name": "\xff"}, {"id": 3, "name": "\xc3\xa9"}]}'
    reading, raw = ATTEMPTS.read(body), ATTEMPTS.split(body)
    assert [item.id for item in reading.items] == [1, 3]
    assert [json.loads(bytes(row))["id"] for row in raw.rows["attempts"]] == [1, 3]
    for fault in (*reading.rejected, *raw.rejected):
        assert (fault.path, fault.expected) == ("$.results[1]", "Expected UTF-8 text")
        assert fault.raw == b'{"id": 2, "name": "\xff"}'
    assert [fault.record_id for fault in raw.rejected] == [2]
    assert len(reading.rejected) == len(raw.rejected) == 1


def test_a_rejection_can_be_pickled_without_the_record() -> None:
    """The facts travel, the personal bytes do not."""
    (fault,) = ATTEMPTS.read(listed([{"id": 5, "name": "Asha", "date": 1}])).rejected
    again = pickle.loads(pickle.dumps(fault))
    assert (again.path, again.record_id, again.raw) == ("$.results[0].date", 5, b"")


# A page that is none


NOT_JSON = {
    "empty": b"",
    "blank": b" \n ",
    "html": b"<!doctype html><title>502 Bad Gateway</title>",
    "text": b"Bad Gateway",
    "two bodies": b'{"results": []}{"results": []}',
    "trailing text": b'{"results": []} ok',
    "two byte order marks": BOM + BOM + b'{"results": []}',
    "utf-16": '{"results": []}'.encode("utf-16"),
    "not utf-8 outside of records": b'{"results": [], "next": "\xff"}',
    "NaN": b'{"results": [{"id": 1, "score": NaN}]}',
    "comment": b'{"results": [] /* none */}',
    "trailing comma": b'{"results": [],}',
    "single quotes": b"{'results': []}",
    "control character": b'{"results": [], "next": "\x01"}',
    "wrong envelope and cut off": b'{"results": null, "count": 1',
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_json_is_refused_as_such(reader: PageReader[Any], body: bytes) -> None:
    """NotJSON, with the answer's bytes at hand and none of them in the text."""
    for read in (reader.read, reader.split):
        with pytest.raises(NotJSON) as caught:
            read(body)
        assert caught.value.path == "$"
        assert caught.value.raw == body.removeprefix(BOM)
        assert "Gateway" not in str(caught.value)


@pytest.mark.parametrize(("name", "reader"), [(name, reader) for reader, name, _ in PRIMARY])
def test_every_cut_of_a_page_is_refused(name: str, reader: PageReader[Any]) -> None:
    """Wherever the body ends early, no page is made of it."""
    body = sample(name).rstrip()
    for end in range(0, len(body), 7):
        with pytest.raises(NotJSON):
            reader.read(body[:end])
        with pytest.raises(NotJSON):
            reader.split(body[:end])


@pytest.mark.parametrize(
    ("body", "look"),
    [(b"", "an empty body"), (b" <html>", "what looks like HTML"), (b"oops", "something else")],
)
def test_the_error_says_what_the_answer_looks_like(body: bytes, look: str) -> None:
    """An empty body, HTML or something else."""
    with pytest.raises(NotJSON, match=look):
        ATTEMPTS.read(body)


ENVELOPES = {
    "list": (b'[{"id": 1}]', "$"),
    "text": (b'"ok"', "$"),
    "number": (b"5", "$"),
    "null": (b"null", "$"),
    "no results": (b'{"count": 0, "next": null}', "$"),
    "an error": (b'{"detail": "Not found."}', "$"),
    "results are null": (b'{"results": null}', "$.results"),
    "results are text": (b'{"results": "none"}', "$.results"),
    "results are a number": (b'{"results": 0}', "$.results"),
    "next is a number": (b'{"results": [], "next": 2}', "$.next"),
    "next is an object": (b'{"results": [], "next": {"page": 2}}', "$.next"),
}


@pytest.mark.parametrize(("body", "path"), ENVELOPES.values(), ids=ENVELOPES.keys())
@pytest.mark.parametrize("reader", READERS)
def test_a_wrong_envelope_is_refused_and_never_an_empty_page(
    reader: PageReader[Any], body: bytes, path: str
) -> None:
    """DecodeFailed names the place, and keeps the answer."""
    for read in (reader.read, reader.split):
        with pytest.raises(DecodeFailed) as caught:
            read(body)
        assert not isinstance(caught.value, NotJSON)
        assert (caught.value.path, caught.value.raw, caught.value.record_id) == (path, body, None)


@pytest.mark.parametrize("reader", [ATTEMPTS, ATTENDANCE, EXAMS, USERS, COURSES])
def test_tables_where_a_list_belongs_are_refused(reader: PageReader[Any]) -> None:
    """An object of lists is not what these endpoints send."""
    with pytest.raises(DecodeFailed) as caught:
        reader.read(tabled(reader.table, []))
    assert caught.value.path == "$.results"


@pytest.mark.parametrize("reader", [USER_ANSWERS, CONTENT_ATTEMPTS])
@pytest.mark.parametrize(
    ("results", "where"),
    [([], ""), ({}, ""), ({"others": []}, ""), (None, ".{}"), ({}, ".{}"), ("none", ".{}"), (5, ".{}")],
)
def test_tables_without_their_own_list_are_refused(
    reader: PageReader[Any], results: object, where: str
) -> None:
    """A missing list of the records asked for is an error, as is anything else in its place."""
    body = json.dumps({"results": {reader.table: results} if where else results}).encode()
    for read in (reader.read, reader.split):
        with pytest.raises(DecodeFailed) as caught:
            read(body)
        assert caught.value.path == "$.results" + where.format(reader.table)


def test_nesting_without_end_is_refused_by_the_library_not_the_interpreter() -> None:
    """A body of a hundred thousand brackets is a DecodeFailed, not a RecursionError."""
    deep = b"[" * 100_000 + b"]" * 100_000
    for body in (deep, b'{"results": [{"id": 1, "x": ' + deep + b"}]}"):
        for reader in READERS:
            for read in (reader.read, reader.split, ATTEMPT_DETAIL.read):
                with pytest.raises(DecodeFailed):
                    read(body)


def test_one_byte_order_mark_is_forgiven() -> None:
    """A UTF-8 byte order mark before the page is skipped, by every reader."""
    assert ATTEMPTS.read(BOM + sample("attempts_list")).items == ATTEMPTS.read(sample("attempts_list")).items
    assert [bytes(row) for row in ATTEMPTS.split(BOM + listed([{"id": 1}])).rows["attempts"]] == [
        b'{"id": 1}'
    ]
    assert ATTEMPT_DETAIL.read(BOM + b'{"id": 1}').id == 1


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_a_single_record_that_is_no_json_is_refused_as_such(body: bytes) -> None:
    """The same rules as for a page."""
    with pytest.raises(NotJSON) as caught:
        ATTEMPT_DETAIL.read(body)
    assert caught.value.raw == body.removeprefix(BOM)


@pytest.mark.parametrize(
    ("body", "path", "record_id"),
    [
        (b'{"id": 7, "sections": [{"id": 1}, {"id": 2, "order": "x"}]}', "$.sections[1].order", 7),
        (b'{"id": "7"}', "$.id", None),
        (b"[]", "$", None),
        (b'{"detail": "Not found."}', "$", None),
    ],
)
def test_a_single_record_of_a_wrong_shape_is_refused(body: bytes, path: str, record_id: int | None) -> None:
    """The error names the place and the record, and keeps the answer."""
    with pytest.raises(DecodeFailed) as caught:
        ATTEMPT_DETAIL.read(body)
    assert (caught.value.path, caught.value.record_id, caught.value.raw) == (path, record_id, body)


# What is forgiven


@pytest.mark.parametrize("reader", [USER_ANSWERS, CONTENT_ATTEMPTS])
@pytest.mark.parametrize("missing", [{}, {"exam_questions": None, "courses": None, "users": None}])
def test_side_loads_may_be_missing_or_null(reader: PageReader[Any], missing: dict[str, None]) -> None:
    """They are empty then, and nothing is wrong."""
    reading = reader.read(tabled(reader.table, [{"id": 1}], **missing))
    assert [item.id for item in reading.items] == [1]
    assert not any(reading.tables.values())
    assert reading.rejected == ()
    assert reader.split(tabled(reader.table, [{"id": 1}], **missing)).rejected == ()


@pytest.mark.parametrize("nonsense", [{}, "none", 5, {"0": {"id": 39}}])
def test_a_side_load_that_is_no_list_costs_the_joins_only(nonsense: object) -> None:
    """The records are read without it; the fault is reported, not swallowed."""
    body = tabled("user_answers", [{"id": 1, "exam_question_id": 39}], exam_questions=nonsense)
    reading, raw = USER_ANSWERS.read(body), USER_ANSWERS.split(body)
    assert reading.items[0].question is None
    assert reading.tables == {"exam_questions": []}
    assert [fault.path for fault in reading.rejected] == ["$.results.exam_questions"]
    assert [fault.path for fault in raw.rejected] == ["$.results.exam_questions"]
    assert list(raw.rows) == ["user_answers"]
    assert reading.rejected_at == ()


def test_unknown_tables_are_kept_as_bytes_and_otherwise_ignored() -> None:
    """`split` keeps every list the server sends; what is no list is nobody's record."""
    extra = {"chapters": [{"id": 5}], "bookmarks": [], "total": 5, "info": {"a": 1}, "nothing": None}
    body = tabled("content_attempts", [{"id": 1}], **extra)
    assert "chapters" not in CONTENT_ATTEMPTS.read(body).tables
    raw = CONTENT_ATTEMPTS.split(body)
    assert {table: [bytes(row) for row in rows] for table, rows in raw.rows.items()} == {
        "content_attempts": [b'{"id": 1}'],
        "chapters": [b'{"id": 5}'],
        "bookmarks": [],
    }
    assert raw.rejected == ()


@pytest.mark.parametrize("reader", READERS)
def test_an_empty_page_is_a_page(reader: PageReader[Any]) -> None:
    """No records is an answer, not an error."""
    body = page_of(reader, [])
    assert reader.read(body).items == []
    assert reader.split(body).rows == {reader.table: []}


def test_split_keeps_the_servers_own_bytes() -> None:
    """Spacing, number forms and unknown fields of a record stay as they came."""
    body = b'{"results": [ {"id":1.50 , "later" : "\\u00e9"} , 7,\n[] ]}'
    assert [bytes(row) for row in ATTEMPTS.split(body).rows["attempts"]] == [
        b'{"id":1.50 , "later" : "\\u00e9"}',
        b"7",
        b"[]",
    ]


@pytest.mark.parametrize(
    ("wire", "count"),
    [
        (0, 0),
        (1, 1),
        (2**63 - 1, 2**63 - 1),
        (-1, None),
        (2**63, None),
        (1.5, None),
        ("12", None),
        (True, None),
        ([], None),
        (None, None),
    ],
)
def test_a_count_that_cannot_be_is_not_known(wire: object, count: int | None) -> None:
    """A count is never negative, absurd or anything but a number; the page is read all the same."""
    body = json.dumps({"count": wire, "results": [{"id": 1}]}).encode()
    assert ATTEMPTS.read(body).head == ATTEMPTS.split(body).head == Head(count=count)
    assert len(ATTEMPTS.read(body).items) == 1


@pytest.mark.parametrize(
    ("wire", "per_page"),
    [(1, 1), (200, 200), (0, None), (-20, None), (2**63, None), ("20", None), (True, None), (None, None)],
)
def test_a_page_size_that_cannot_be_is_not_known(wire: object, per_page: int | None) -> None:
    """A page holds at least one record."""
    body = json.dumps({"per_page": wire, "results": []}).encode()
    assert ATTEMPTS.read(body).head == ATTEMPTS.split(body).head == Head(per_page=per_page)


@pytest.mark.parametrize(
    ("wire", "after"),
    [("https://x/?page=2", "https://x/?page=2"), ("?page=2", "?page=2"), ("", None), (None, None)],
)
def test_the_end_is_a_page_without_next(wire: str | None, after: str | None) -> None:
    """Null, empty and missing mean the end; any other text is passed on as it is."""
    assert ATTEMPTS.read(json.dumps({"next": wire, "results": []}).encode()).head.next == after
    assert ATTEMPTS.read(b'{"results": []}').head.next is None


def test_the_head_is_the_same_whether_a_record_was_bad_or_not() -> None:
    """Taking a page apart loses nothing of what surrounds the records."""
    head = {"count": 5, "per_page": 200, "next": "?page=2"}
    good = ATTEMPTS.read(json.dumps({**head, "results": [{"id": 1}]}).encode())
    bad = ATTEMPTS.read(json.dumps({**head, "results": [{"id": "1"}]}).encode())
    assert good.head == bad.head == Head(**head)


def test_plain_lists_come_without_tables() -> None:
    """Nothing is sent along with a plain list."""
    assert dict(ATTEMPTS.read(sample("attempts_list")).tables) == {}


def test_a_reader_names_its_table() -> None:
    """The name a table has in exports and reprs."""
    assert [reader.table for reader in READERS] == [
        "attempts",
        "user_answers",
        "content_attempts",
        "attendance",
        "exams",
        "users",
        "courses",
    ]
    assert repr(ATTEMPTS) == "PageReader('attempts')"
    assert all(issubclass(reader.record_type, Record) for reader in READERS)


# --- lists that come twice ---


@pytest.mark.parametrize("others", [0, 1, 100])
@pytest.mark.parametrize("gap", [0, 1, 300])
def test_a_second_list_is_found_however_it_is_written(others: int, gap: int) -> None:
    """Behind few lists or many, with spaces between its name and its beginning or without."""
    one = b'{"id": 1, "flags": ["x"], "note": "a [b"}'
    rows = b"[" + b",".join([one] * others) + b"]"
    body = b'{"results":%b,"results":%b[{"id": 2}]}' % (rows, b" " * gap)
    for read in (ATTEMPTS.read, ATTEMPTS.split):
        with pytest.raises(DecodeFailed, match="one list of records, got 2"):
            read(body)


@pytest.mark.parametrize("others", [1, 100])
def test_what_only_looks_like_a_second_list_is_none(others: int) -> None:
    """A list of that name inside a record, or a text that says so."""
    row = {"id": 1, "more": {"results": [1, 2]}, "name": '"results":['}
    assert len(ATTEMPTS.read(listed([row] * others)).items) == others


@pytest.mark.parametrize(
    "body",
    [
        b'{"results":{"user_answers":[{"id":1}]},"results":{"user_answers":[{"id":2}]}}',
        b'{"results":{"user_answers":[{"id":1}],"user_answers":[{"id":2}]}}',
        b'{"results":{"user_answers":[{"id":1}]},"results":{"user_answers":[{"id":"bad"}]}}',
        b'{"results":{},"results":{"user_answers":[{"id":"bad"}]}}',
    ],
)
def test_a_second_list_among_tables_is_found(body: bytes) -> None:
    """Whether the page could be decoded in one go or not."""
    for read in (USER_ANSWERS.read, USER_ANSWERS.split):
        with pytest.raises(DecodeFailed, match="one list of records, got 2"):
            read(body)
