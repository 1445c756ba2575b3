"""Rows 38 to 55 of the fault matrix: what an answer says, over real sockets.

One bad record costs one record, a bad page is refused, and no error repeats a value of a record.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

import testpress_async as tp
from testpress_async.errors import NotJSON
from testpress_async.sandbox import Fault
from tests.support.exporting import ATTEMPTS, export
from tests.support.exporting import opened as sandbox
from tests.support.raw_server import http

from .institute import (
    SECRET,
    attempt,
    attempts,
    ids,
    opened,
    page_of,
    raw_page_of,
    raw_rows,
    refusal,
    require_discreet,
    rows,
)

PATIENT = tp.RetryPolicy(max_tries=5)
GOOD = rows({"id": 1}, {"id": 2})
BOM = b"\xef\xbb\xbf"
HTML = {"Content-Type": "text/html"}
PORTAL = (
    b"<!DOCTYPE html><html><head><script>alert('x')</script><title>Log in \x1b[31mto\r\n hotel "
    + b"w" * 500
    + b"</title></head><body>"
    + SECRET.encode()
    + b"</body></html>"
)

# --- no JSON at all (38 to 41) -----------------------------------------------------------------------

NOTHING = {
    "captive portal": PORTAL,
    "empty": b"",
    "blank": b" \r\n",
    "text": b"upstream connect error " + SECRET.encode(),
    "cut": GOOD[:-3],
    "javascript": b"callback(" + GOOD + b");",
}


@pytest.mark.row(38, 39)
@pytest.mark.parametrize("body", NOTHING.values(), ids=NOTHING.keys())
@pytest.mark.parametrize("packed", [False, True])
async def test_no_json_is_asked_for_again_a_few_times(body: bytes, packed: bool) -> None:
    """A proxy's page may be gone the next time; when it stays, it is an error and never an empty list."""
    headers = HTML | ({"Content-Encoding": "gzip"} if packed else {})
    wrong = http(gzip.compress(body) if packed else body, headers=headers)
    async with opened(wrong, http(GOOD), retry=PATIENT) as (_, client):
        assert ids(await attempts(client)) == [1, 2]
    error = await refusal(wrong, retry=PATIENT)
    assert isinstance(error, NotJSON)
    assert error.tries == 3
    assert error.raw == body


@pytest.mark.row(38)
async def test_what_came_instead_is_told_in_a_short_printable_text() -> None:
    """The title of a page, and no more of it: no markup, no control characters, no novel."""
    error = await refusal(http(PORTAL, headers=HTML))
    text = str(error)
    assert "an HTML page titled “Log in [31mto hotel ww" in text
    assert "is base_url the institute's own address?" in text
    assert text.isprintable()
    assert len(text) < 400


@pytest.mark.row(38, 39)
@pytest.mark.parametrize("body", [PORTAL, b""])
async def test_no_json_for_a_login_or_a_single_record_is_an_error_too(body: bytes) -> None:
    """Whatever was asked for."""
    login: dict[str, Any] = {"token": None, "username": "u", "password": "a-pass" + "word"}
    assert isinstance(await refusal(http(body), call=attempt), NotJSON)
    error = await refusal(http(body), **login)
    assert isinstance(error, NotJSON)
    require_discreet(error, "a-pass" + "word")


@pytest.mark.row(40)
@pytest.mark.parametrize(
    "kind", ["text/plain", "text/html; charset=latin-1", "application/octet-stream", "", "?", "x" * 500]
)
async def test_json_under_another_content_type_is_json(kind: str) -> None:
    """The bytes decide; this API is known to send JSON as text/html."""
    body = rows({"id": 1, "name": "Ärger"})
    script = http(body).replace(b"Content-Type: application/json", f"Content-Type: {kind}".encode())
    async with opened(script) as (_, client):
        (record,) = await attempts(client)
        assert record.name == "Ärger"


@pytest.mark.row(40)
async def test_json_without_content_type_is_json() -> None:
    """A missing header is no fault of the data."""
    async with opened(http(GOOD).replace(b"Content-Type: application/json\r\n", b"")) as (_, client):
        assert ids(await attempts(client)) == [1, 2]


@pytest.mark.row(41)
@pytest.mark.parametrize("location", ["/accounts/login/?next=/api/", "/", "../../../../login"])
async def test_a_redirect_to_a_login_page_is_a_lost_session(location: str) -> None:
    """The page behind it, a 200, is not even asked for."""
    moved = http(b"", status="302 Found", headers={"Location": location})
    async with opened(moved, http(PORTAL)) as (server, client):
        with pytest.raises(tp.AuthenticationFailed, match="login page"):
            await attempts(client)
        assert len(server.heads) == 1


@pytest.mark.row(41)
@pytest.mark.parametrize("status", ["300 Multiple Choices", "304 Not Modified", "305 Use Proxy", "306 -"])
async def test_an_answer_that_is_neither_data_nor_a_redirect_is_refused(status: str) -> None:
    """Not even a perfect page counts under a status nobody asked for; the next try would be the same."""
    body = b"" if status.startswith("304") else GOOD
    async with opened(http(body, status=status), retry=PATIENT) as (server, client):
        with pytest.raises(tp.AnswerLost, match="neither data nor a redirect"):
            await attempts(client)
        assert len(server.heads) == 1


# --- texts (42 to 44, 49) ----------------------------------------------------------------------------

NO_TEXT = {
    "a lone byte": b"\xff",
    "half a character": b"\xc3",
    "an encoded surrogate": b"\xed\xa0\x80",
    "too long a form": b"\xc0\xaf",
    "latin-1": "Jürgen".encode("latin-1"),
}
HALF_PAIRS = {
    "first half": rb"\ud83d",
    "second half": rb"\uDE00",
    "the wrong way round": rb"\uDE00\ud83d",
    "twice": rb"\ud83d\ud83d\ude00",
    "half and a letter": rb"\ud83d\u0041",
}


def among(field: bytes, text: bytes) -> bytes:
    """Three records; the one in the middle has *text* as *field*."""
    bad = b'{"id": 2, "email": "' + SECRET.encode() + b'", "' + field + b'": "' + text + b'"}'
    return raw_rows(b'{"id": 1, "name": "a"}', bad, '{"id": 3, "name": "é"}'.encode())


@pytest.mark.row(42)
@pytest.mark.parametrize("text", NO_TEXT.values(), ids=NO_TEXT.keys())
async def test_a_used_text_that_is_not_utf8_costs_its_record(text: bytes) -> None:
    """Its neighbours are kept; its bytes are at hand and not in the error's text."""
    page = await page_of(among(b"name", text))
    assert ids(page.items) == [1, 3]
    (error,) = page.rejected
    assert (error.path, error.expected) == ("$.results[1]", "Expected UTF-8 text")
    assert text in error.raw
    require_discreet(error)
    error = await refusal(http(among(b"name", text)))
    assert isinstance(error, tp.DecodeFailed)
    assert error.path == "$.results[1]"


@pytest.mark.row(43)
@pytest.mark.parametrize("text", NO_TEXT.values(), ids=NO_TEXT.keys())
async def test_a_skipped_text_that_is_not_utf8_costs_nothing_unless_it_is_exported(text: bytes) -> None:
    """An unknown field is not looked at; whoever keeps the server's own bytes gets text or is told."""
    body = among(b"unknown", text)
    assert ids((await page_of(body)).items) == [1, 2, 3]
    page = await raw_page_of(body)
    assert [json.loads(bytes(row))["id"] for row in page.rows["attempts"]] == [1, 3]
    (error,) = page.rejected
    assert (error.path, error.record_id) == ("$.results[1]", 2)
    require_discreet(error)


@pytest.mark.row(49)
@pytest.mark.parametrize("text", HALF_PAIRS.values(), ids=HALF_PAIRS.keys())
@pytest.mark.parametrize("field", [b"name", b"unknown"])
async def test_half_a_surrogate_pair_costs_its_record(field: bytes, text: bytes) -> None:
    """An emoji cut in two by the server is no character: its record is told apart, the page is read."""
    body = among(field, text)
    page, raw = await page_of(body), await raw_page_of(body)
    assert ids(page.items) == [1, 3]
    assert [json.loads(bytes(row))["id"] for row in raw.rows["attempts"]] == [1, 3]
    for error in (*page.rejected, *raw.rejected):
        assert (error.path, error.record_id) == ("$.results[1]", 2)
        assert error.expected == "Expected text, got half a surrogate pair"
        assert b'"' + text + b'"' in error.raw
        require_discreet(error)
    assert len(page.rejected) == len(raw.rejected) == 1


@pytest.mark.row(49)
@pytest.mark.parametrize(
    "text", [r"\ud83d\ude00", r"\\ud83d", r"\\\\ud83d", r"\u0000", r"a\u0000b", r"\u2028"]
)
async def test_whole_pairs_escaped_backslashes_and_nul_are_text(text: str) -> None:
    """They come as they were meant, even beside a record that is broken."""
    body = raw_rows(b'{"id": 1, "name": "%s"}' % text.encode(), rb'{"id": 2, "name": "\ud83d"}')
    page = await page_of(body)
    (record,) = page.items
    assert record.name == json.loads(f'"{text}"')
    assert len(page.rejected) == 1


@pytest.mark.row(49)
async def test_half_a_pair_in_a_single_record_or_around_the_records_is_refused() -> None:
    """There is nothing to keep then; the error says what it is, not that the body is cut."""
    error = await refusal(http(rb'{"id": 1, "name": "\ud83d"}'), call=attempt)
    assert isinstance(error, tp.DecodeFailed)
    assert not isinstance(error, NotJSON)
    assert error.expected == "Expected text, got half a surrogate pair"


@pytest.mark.row(49)
async def test_half_a_pair_is_quarantined_by_an_export(tmp_path: Path) -> None:
    """The rest of the page lands."""
    async with sandbox() as (institute, client):
        institute.script(Fault(path=ATTEMPTS, status=200, body=among(b"name", rb"\ud83d"), times=None))
        report = await export(client, tmp_path, "attempts")
    assert report.quarantined == 1
    assert [json.loads(line)["id"] for line in (tmp_path / "attempts.jsonl").read_text().splitlines()] == [
        1,
        3,
    ]


@pytest.mark.row(44)
@pytest.mark.parametrize("framed", [True, False])
async def test_one_byte_order_mark_is_forgiven(framed: bool) -> None:
    """For a page and for a single record, whether their length is known or not."""
    length = -1 if framed else None
    async with opened(http(BOM + GOOD, length=length)) as (_, client):
        assert ids(await attempts(client)) == [1, 2]
    async with opened(http(BOM + b'{"id": 7}', length=length)) as (_, client):
        assert (await client.attempts.get(7)).id == 7


@pytest.mark.row(44)
@pytest.mark.parametrize(
    "body",
    [
        BOM + BOM + GOOD,
        *(GOOD.decode().encode(name) for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-32")),
    ],
    ids=["two marks", "utf-16", "utf-16-le", "utf-16-be", "utf-32"],
)
async def test_two_marks_and_other_encodings_are_refused(body: bytes) -> None:
    """JSON is UTF-8."""
    assert isinstance(await refusal(http(body)), NotJSON)


# --- numbers and nesting (45 to 47) ------------------------------------------------------------------


@pytest.mark.row(45)
@pytest.mark.parametrize("literal", [b"NaN", b"Infinity", b"-Infinity", b"nan", b"+1", b"01", b"0x1", b"1."])
@pytest.mark.parametrize("field", [b"score", b"unknown"])
async def test_numbers_that_json_does_not_have_are_refused(field: bytes, literal: bytes) -> None:
    """They are no JSON, so there is no page."""
    body = raw_rows(b'{"id": 1, "email": "%s", "%s": %s}' % (SECRET.encode(), field, literal))
    assert isinstance(await refusal(http(body)), NotJSON)


LARGE = {
    "1e400": b"1e400",
    "-1e400": b"-1e400",
    "5,000 digits": b"9" * 5_000,
    "200,000 digits": b"9" * 200_000,
}


@pytest.mark.row(45, 46)
@pytest.mark.parametrize(
    "number", [*LARGE.values(), b"9" * 30, b"9223372036854775808", b"-9223372036854775809"]
)
@pytest.mark.parametrize("field", [b"id", b"exam_id", b"user_id"])
async def test_an_id_beyond_64_bits_costs_its_record(field: bytes, number: bytes) -> None:
    """An id is what fits a column; the place is named."""
    bad = b'{"id": 5, "%s": %s}' % (field, number)  # of a key that comes twice the last one counts
    page = await page_of(raw_rows(b'{"id": 1}', bad))
    assert ids(page.items) == [1]
    (error,) = page.rejected
    assert error.path == f"$.results[1].{field.decode()}"
    require_discreet(error, number.decode())


@pytest.mark.row(46)
@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 2**31])
async def test_every_64_bit_id_is_taken(number: int) -> None:
    """Up to the last one."""
    assert ids((await page_of(rows({"id": number}))).items) == [number]


@pytest.mark.row(45, 46)
@pytest.mark.parametrize("number", LARGE.values(), ids=LARGE.keys())
async def test_a_number_beyond_all_bounds_is_rejected_where_it_is_read(number: bytes) -> None:
    """In a known field it costs the record, in an unknown one nothing; never a bare error of a parser."""
    for field in ("score", "correct_answers_count", "state", "phone"):
        page = await page_of(raw_rows(b'{"id": 1, "%s": %s}' % (field.encode(), number), b'{"id": 2}'))
        assert ids(page.items)[-1] == 2
        assert [error.path for error in page.rejected] in ([], [f"$.results[0].{field}"])
    page = await page_of(raw_rows(b'{"id": 1, "unknown": %s}' % number))
    assert ids(page.items) == [1]
    error = await refusal(http(b'{"count": %s, "results": []}' % number))
    assert isinstance(error, tp.DecodeFailed)
    assert error.path == "$.count"


@pytest.mark.row(47)
@pytest.mark.parametrize(
    ("opening", "depth"),
    [(b"[", 10_000), (b"[", 100_000), (b"[", 10_000_000), (b'{"a":', 10_000), (b'{"a":', 100_000)],
)
async def test_endless_nesting_is_refused_by_the_library(opening: bytes, depth: int) -> None:
    """Whether it is closed or not, and wherever it stands: a typed error, no crash and no RecursionError."""
    deep = opening * depth + b"1" + (b"]" if opening == b"[" else b"}") * depth
    scripts = [
        http(gzip.compress(body, 1), headers={"Content-Encoding": "gzip"})
        for body in (
            deep,
            deep + b"}",
            deep[: len(opening) * depth],
            raw_rows(b'{"id": 1, "x": ' + deep + b"}"),
        )
    ]
    async with opened(*scripts, *scripts, keep=True, max_body_bytes=1 << 30) as (server, client):
        for _ in scripts:
            with pytest.raises(tp.DecodeFailed):
                await attempts(client)
        for _ in scripts:
            with pytest.raises(tp.DecodeFailed):
                await attempt(client)
        assert len(server.heads) == 2 * len(scripts)


# --- keys (48) ---------------------------------------------------------------------------------------


@pytest.mark.row(48)
async def test_of_a_key_that_comes_twice_the_last_one_counts() -> None:
    """Documented, because every JSON library does it."""
    page = await page_of(
        b'{"count": 5, "count": 1, "results": [{"id": 1, "name": "a", "id": 2, "name": "b"}]}'
    )
    assert [(record.id, record.name) for record in page.items] == [(2, "b")]
    assert page.count == 1


TWICE = [
    b'{"results": [{"id": 1}], "results": []}',
    b'{"results": [], "next": null, "results": [{"id": 1}]}',
    b'{"results": [{"id": 1}], "results" : [{"id": "x"}]}',
]


@pytest.mark.row(48)
@pytest.mark.parametrize("body", TWICE)
async def test_two_lists_of_records_are_refused(body: bytes) -> None:
    """The parser would keep one of them, and lose the records of the other without a word."""
    error = await refusal(http(body))
    assert isinstance(error, tp.DecodeFailed)
    assert (error.path, error.expected) == ("$.results", "Expected one list of records, got 2 of that name")
    async with opened(http(body)) as (_, client):
        with pytest.raises(tp.DecodeFailed, match="one list"):
            await client.attempts.list().count()


@pytest.mark.row(48)
@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b'{"results": {"user_answers": [{"id": 1}], "user_answers": []}}', "$.results.user_answers"),
        (b'{"results": {"user_answers": [{"id": 1}]}, "results": {"user_answers": []}}', "$.results"),
    ],
)
async def test_two_tables_of_the_records_asked_for_are_refused(body: bytes, path: str) -> None:
    """The same where the records come in tables."""
    error = await refusal(http(body), call=lambda client: client.attempts.user_answers(1).collect())
    assert isinstance(error, tp.DecodeFailed)
    assert error.path == path


@pytest.mark.row(48)
@pytest.mark.parametrize(
    "inner", ['"results": [1]', '"a": {"results": []}', '"name": "\\"results\\":", "b": []']
)
async def test_the_same_word_within_a_record_is_no_second_list(inner: str) -> None:
    """Only the page's own key counts."""
    page = await page_of(raw_rows(b'{"id": 1, %s}' % inner.encode(), b'{"id": "2"}'))
    assert ids(page.items) == [1]
    assert len(page.rejected) == 1


# --- types and fields (50, 51) -----------------------------------------------------------------------

KNOWN = sorted(field.encode_name for field in msgspec.structs.fields(tp.Attempt))
TEXTS = {
    "email",
    "name",
    "phone",
    "score",
    "percentage",
    "time_taken",
    "remaining_time",
    "result",
    "state",
    "speed",
}
TEXTS |= {
    "exam_url",
    "user_url",
    "total_score",
    "total_bonus",
    "accuracy",
    "rank",
    "max_rank",
    "attempt_type",
}
TEXTS |= {"review_pdf", "review_pdf_url", "external_review_url"}


@pytest.mark.row(50)
@pytest.mark.parametrize("wrong", [{SECRET: SECRET}, [SECRET], SECRET], ids=["object", "list", "text"])
async def test_a_wrong_type_in_any_field_names_the_place_and_no_value(wrong: object) -> None:
    """A page with every field wrong once: as many rejections, each with its path; the good record is read."""
    fields = [field for field in KNOWN if not (wrong == SECRET and field in TEXTS)]
    records = [{"id": 100 + n, field: wrong} for n, field in enumerate(fields)]
    page = await page_of(rows({"id": 1}, *records))
    assert ids(page.items) == [1]
    assert [error.path for error in page.rejected] == [f"$.results[{n}].{f}" for n, f in enumerate(fields, 1)]
    for error, record in zip(page.rejected, records, strict=True):
        assert json.loads(error.raw) == record
        require_discreet(error)


@pytest.mark.row(50)
@pytest.mark.parametrize("wrong", ["7", 1.0, 7.5, True, False, None, "", {}, []])
async def test_an_id_is_a_whole_number(wrong: object) -> None:
    """Nothing else is read as one: two spellings of an id would make two records of one."""
    page = await page_of(rows({"id": wrong, "email": SECRET}, {"id": 1}))
    assert ids(page.items) == [1]
    (error,) = page.rejected
    assert (error.path, error.record_id) == ("$.results[0].id", None)
    require_discreet(error)


@pytest.mark.row(50)
async def test_numbers_and_texts_are_both_taken_where_the_server_mixes_them() -> None:
    """Lenient where it is declared: scores, durations and phone numbers come in either form."""
    page = await page_of(rows({"id": 1, "score": 5, "phone": 99}, {"id": 2, "score": "5.00", "phone": "99"}))
    assert [record.score for record in page.items] == [5, 5]
    assert page.rejected == ()


@pytest.mark.row(50)
async def test_an_error_raised_out_of_a_listing_names_request_place_and_record() -> None:
    """And nothing of what stands there."""
    error = await refusal(http(rows({"id": 41, "exam_id": SECRET, "name": SECRET})))
    assert str(error) == (
        "GET /api/v2.5/admin/attempts/: $.results[0].exam_id (record 41): Expected `int | null`, got `str`"
    )


@pytest.mark.row(51)
async def test_every_field_but_the_id_may_be_missing() -> None:
    """A record of an older or newer server is a record."""
    (record,) = (await page_of(rows({"id": 1}))).items
    assert record == tp.Attempt(id=1)


@pytest.mark.row(51)
async def test_every_field_but_the_id_may_be_null() -> None:
    """Null means nothing is known."""
    page = await page_of(rows(*({"id": n, field: None} for n, field in enumerate(KNOWN) if field != "id")))
    assert len(page.items) == len(KNOWN) - 1
    assert page.rejected == ()


@pytest.mark.row(51)
@pytest.mark.parametrize("record", [{}, {"ID": 1}, {"exam_id": 5, "email": SECRET}])
async def test_a_record_without_an_id_is_rejected(record: dict[str, object]) -> None:
    """It could be neither joined nor told apart from others."""
    page = await page_of(rows(record, {"id": 1}))
    assert ids(page.items) == [1]
    (error,) = page.rejected
    assert (error.path, error.expected) == ("$.results[0]", "Object missing required field `id`")
    require_discreet(error)


@pytest.mark.row(51)
@pytest.mark.parametrize("word", ["Frozen", "", "RUNNING ", "状態"])
async def test_an_unknown_word_is_kept(word: str) -> None:
    """A state that is newer than this library is still the state."""
    (record,) = (await page_of(rows({"id": 1, "state": word}))).items
    assert record.state is not None
    assert (record.state.value, record.state.is_known) == (word, False)


@pytest.mark.row(51)
async def test_unknown_fields_are_ignored_and_kept_in_the_servers_own_bytes() -> None:
    """Reading typed records goes on as before; an export has everything."""
    record = b'{"id": 1,  "brand_new": {"deep": [1, 2.50, null]}}'
    assert ids((await page_of(raw_rows(record))).items) == [1]
    assert [bytes(row) for row in (await raw_page_of(raw_rows(record))).rows["attempts"]] == [record]


# --- dates and counts (52, 53) -----------------------------------------------------------------------

DATES = [
    "2024-01-02T03:04:05",
    "0000-00-00",
    "2024-01-02T03:04:60Z",
    "",
    "2024-01-02T03:04:05+99:99",
    "tomorrow",
]


@pytest.mark.row(52)
@pytest.mark.parametrize("date", [*DATES, SECRET, 1_700_000_000])
async def test_an_odd_date_drops_no_row(date: object) -> None:
    """It is reported with its place and its whole bytes, and an export lands it as it came."""
    body = rows(
        {"id": 1, "date": date, "email": "a@b.c"}, {"id": 2, "date": "2024-01-02T03:04:05.123456+05:30"}
    )
    page = await page_of(body)
    assert ids(page.items) == [2]
    (error,) = page.rejected
    assert (error.path, error.record_id) == ("$.results[0].date", 1)
    assert json.loads(error.raw) == {"id": 1, "date": date, "email": "a@b.c"}
    require_discreet(error, "a@b.c")
    raw = await raw_page_of(body)
    assert [json.loads(bytes(row))["id"] for row in raw.rows["attempts"]] == [1, 2]
    assert raw.rejected == ()


@pytest.mark.row(52)
async def test_an_export_lands_rows_with_odd_dates(tmp_path: Path) -> None:
    """None of them is missing, none is changed."""
    records = [{"id": n, "date": date} for n, date in enumerate(DATES)]
    async with sandbox() as (institute, client):
        body = rows(*records, count=len(records))
        institute.script(Fault(path=ATTEMPTS, status=200, body=body, times=None))
        report = await export(client, tmp_path, "attempts")
    assert [json.loads(line) for line in (tmp_path / "attempts.jsonl").read_text().splitlines()] == records
    assert report.unproven == ()


@pytest.mark.row(53)
@pytest.mark.parametrize("count", [-5, -1, 2**63, 10**30, "7", 2.5, True, None, [], {}])
async def test_a_count_that_cannot_be_is_not_believed(count: object) -> None:
    """The page is read without one; who asks for the count itself gets an error."""
    page = await page_of(rows({"id": 1}, count=count, per_page=count))
    assert (page.count, page.per_page) == (None, None)
    assert ids(page.items) == [1]
    error = await refusal(
        http(rows({"id": 1}, count=count)), call=lambda client: client.attempts.list().count()
    )
    assert isinstance(error, tp.DecodeFailed)
    assert error.path == "$.count"


@pytest.mark.row(53)
@pytest.mark.parametrize("per_page", [0, -1, 10**30])
async def test_a_page_size_that_cannot_be_misleads_nobody(per_page: int) -> None:
    """However many pages are wanted at once, none is asked for that does not follow from `next`."""
    first = rows({"id": 1}, count=2, per_page=per_page, next="/?page=2")
    async with opened(http(first), http(rows({"id": 2}, count=2, per_page=per_page)), keep=True) as (
        server,
        client,
    ):
        assert ids([record async for record in client.attempts.list().prefetch(8)]) == [1, 2]
        assert len(server.heads) == 2


@pytest.mark.row(53, 64)
@pytest.mark.parametrize("count", [0, 1, 3, 400])
async def test_a_count_that_does_not_match_makes_an_export_unproven(tmp_path: Path, count: int) -> None:
    """A read that brought other records than counted is not taken for complete."""
    async with sandbox() as (institute, client):
        body = rows({"id": 1}, {"id": 2}, count=count)
        institute.script(Fault(path=ATTEMPTS, status=200, body=body, times=None))
        report = await export(client, tmp_path, "attempts")
    assert report.unproven == ("attempts",)


# --- the envelope (54, 55) ---------------------------------------------------------------------------

ENVELOPES = {
    "results are an object": (b'{"results": {"0": {"id": 1}}}', "$.results"),
    "results are null": (b'{"results": null}', "$.results"),
    "results are missing": (b'{"count": 0, "next": null}', "$"),
    "a list on top": (b'[{"id": 1}]', "$"),
    "an error under 200": (b'{"detail": "%s"}' % SECRET.encode(), "$"),
    "next is a number": (b'{"results": [], "next": 2}', "$.next"),
}


@pytest.mark.row(54)
@pytest.mark.parametrize(("body", "path"), ENVELOPES.values(), ids=ENVELOPES.keys())
async def test_a_wrong_envelope_is_refused_and_never_an_empty_list(body: bytes, path: str) -> None:
    """The error names what is wrong with it; it is the institute's answer, so it is not asked for again."""
    async with opened(http(body), retry=PATIENT) as (server, client):
        for read in (attempts, lambda client: client.attempts.list().count()):
            with pytest.raises(tp.DecodeFailed) as caught:
                await read(client)
            assert caught.value.path == path
            assert caught.value.raw == body
            require_discreet(caught.value)
        assert len(server.heads) == 2


@pytest.mark.row(55)
@pytest.mark.parametrize("tail", [GOOD, b" " + GOOD, b"{}", b"[]", b"ok", b"\0", b",", b"]", b"}", b"//"])
@pytest.mark.parametrize("framed", [True, False])
async def test_anything_behind_the_document_is_refused(tail: bytes, framed: bool) -> None:
    """Two answers in one, or the end of another one: there is no telling what it means."""
    error = await refusal(http(GOOD + tail, length=-1 if framed else None))
    assert isinstance(error, NotJSON)
    error = await refusal(http(b'{"id": 1}' + tail), call=attempt)
    assert isinstance(error, NotJSON)


@pytest.mark.row(55)
async def test_white_space_around_the_document_is_nothing() -> None:
    """Line ends before and after are legal."""
    async with opened(http(b"\r\n\t " + GOOD + b"\n\n")) as (_, client):
        assert ids(await attempts(client)) == [1, 2]
