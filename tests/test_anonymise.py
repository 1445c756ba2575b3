"""What recordings show of an institute: nothing personal in any encoding, and all else as it was."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from testpress_async import models
from testpress_async.models import ATTEMPT_DETAIL, ATTEMPTS, CONTENT_ATTEMPTS, USER_ANSWERS
from testpress_async.sandbox import Settings
from testpress_async.sandbox.anonymise import RECORDS, Anonymiser
from testpress_async.sandbox.api import Api
from testpress_async.sandbox.book import Book
from testpress_async.sandbox.data import Institute
from tests.support.clock import ManualClock

LISTS = {
    "attempts": "/api/v2.5/admin/attempts/",
    "exams": "/api/v2.5/admin/exams/",
    "users": "/api/v2.5/admin/users/",
    "courses": "/api/v2.5/admin/courses/",
    "attendance": "/api/v3/admin/attempts/3/video-conference/",
    "user_answers": "/api/v3/admin/attempts/3/user_answers/",
    "content_attempts": "/api/v3/admin/chapter-content-attempts/",
}


def answers() -> Iterator[tuple[str, bytes]]:
    """Every list and many records of a sandbox institute, which has all that is known to be personal."""
    settings = Settings(attempts=90, users=40, exams=4, courses=3, conferences=4, rows_per_page=40)
    institute = Institute(settings)
    api = Api(institute, Book(institute, ManualClock()))
    details = [f"/api/v2.5/admin/attempts/{number}/" for number in range(1, 25)]
    written = [f"/api/v3/admin/attempts/{number}/user_answers/" for number in range(1, 12)]
    for path in (*LISTS.values(), *details, *written):
        yield path, api.get("http://127.0.0.1:1", path, {}).body


ANSWERS = list(answers())
FIELDS = {field for kind in RECORDS.values() for field in kind.__struct_encode_fields__}
PERSONAL = re.compile(
    r".*name|email|phone|photo|birth_date|address\d|city|zip|custom_fields|user_response|.*_text|files|image"
    r"|gap_fill_responses|join_url|password|access_token|stream_url|review_pdf_url|proctoring|title|description"
    r"|.*_html|slug|tags|subject|direction|conference_id"
)


def personal(value: object, *, within: bool = False) -> Iterator[str]:
    """All texts, and keys that are data, in fields whose name says that they are somebody's."""
    if isinstance(value, dict):
        for name, each in value.items():
            inside = within or PERSONAL.fullmatch(name) is not None
            yield from personal(each, within=inside)
            if within and not name.islower():
                yield name
    elif isinstance(value, list):
        for each in value:
            yield from personal(each, within=within)
    elif within and isinstance(value, str):
        yield value


def spellings(text: str) -> set[str]:
    """How a text could be hidden in a file."""
    data = text.encode()
    shifted = [base64.b64encode(b"\0" * shift + data).decode() for shift in range(3)]
    return {
        text,
        text.casefold(),
        json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
        quote(text),
        quote_plus(text),
        data.hex(),
        *(encoded[4 if shift else 0 : -4] for shift, encoded in enumerate(shifted) if len(encoded) > 16),
    }


def shape(value: object) -> object:
    """Types, lengths of lists, keys that are schema, and what is null, true or empty."""
    if isinstance(value, dict):
        return [(key if key in FIELDS else "", shape(each)) for key, each in value.items()]
    if isinstance(value, list):
        return [shape(each) for each in value]
    if isinstance(value, str):
        return value.strip() and str
    return value if value is None or isinstance(value, bool) else type(value)


def test_nothing_personal_is_shown_in_any_encoding() -> None:
    """No name, address, answer, title or token of the institute stands anywhere in what is recorded."""
    anonymiser = Anonymiser()
    shown = "".join(json.dumps(anonymiser.answer(*each)[0], ensure_ascii=False) for each in ANSWERS)
    found = {text for _, body in ANSWERS for text in personal(json.loads(body))}
    secrets = {text for text in found if re.search(r"[a-z]{3}|[^ -~]|\d{8}", text, re.IGNORECASE)}
    assert len(secrets) > 300
    for secret in secrets:
        for spelling in spellings(secret):
            assert spelling not in shown, (secret, spelling)


def test_everything_else_is_as_it_was() -> None:
    """Shapes, order, counts, ids, scores, times and known words stay; null, empty and true stay."""
    anonymiser = Anonymiser()
    for path, body in ANSWERS:
        sent = json.loads(body)
        after, _ = sent.pop("next", None), sent.pop("previous", None)
        shown, more = anonymiser.answer(path, body)
        assert more is bool(after)
        assert shape(shown) == shape(sent)


def test_records_still_mean_the_same() -> None:
    """Every record decodes; what is no text of people's is equal, value by value."""
    anonymiser = Anonymiser()
    for path, body in ANSWERS:
        shown = json.dumps(anonymiser.answer(path, body)[0]).encode()
        if path == LISTS["attempts"]:
            before, after = ATTEMPTS.read(body), ATTEMPTS.read(shown)
            for one, other in zip(before.items, after.items, strict=True):
                for name in ("id", "user_id", "date", "score", "percentage", "time_taken", "result", "state"):
                    assert getattr(one, name) == getattr(other, name)
        elif path == LISTS["content_attempts"]:
            old, new = CONTENT_ATTEMPTS.read(body), CONTENT_ATTEMPTS.read(shown)
            assert new.rejected == ()
            assert [each.content_type for each in new.items] == [each.content_type for each in old.items]
            assert [each.course is None for each in new.items] == [each.course is None for each in old.items]
        elif path.endswith("user_answers/"):
            asked, told = USER_ANSWERS.read(body), USER_ANSWERS.read(shown)
            assert told.rejected == ()
            assert [each.result for each in told.items] == [each.result for each in asked.items]
            assert [each.duration for each in told.items] == [each.duration for each in asked.items]
        elif "results" not in json.loads(body):
            detail, same = ATTEMPT_DETAIL.read(body), ATTEMPT_DETAIL.read(shown)
            levels = detail.difficulty_level_stats or {}, same.difficulty_level_stats or {}
            assert [*levels[0].values()] == [*levels[1].values()]
            assert levels[0].keys() & {"easy", "medium"} == levels[1].keys() & {"easy", "medium"}
            assert same.percentile == detail.percentile
            own, other = detail.institute_attempt_id, same.institute_attempt_id
            assert type(own) is type(other)
            assert own is None or own != other


def side_by_side(before: object, after: object) -> Iterator[tuple[str, str]]:
    """Texts of two values of one shape, in pairs."""
    if isinstance(before, dict) and isinstance(after, dict):
        for old, new in zip(before.values(), after.values(), strict=True):
            yield from side_by_side(old, new)
    elif isinstance(before, list) and isinstance(after, list):
        for old, new in zip(before, after, strict=True):
            yield from side_by_side(old, new)
    elif isinstance(before, str) and isinstance(after, str):
        yield before, after


def test_people_stay_joined() -> None:
    """One person has one e-mail, name and telephone in attempts, users, attendance and content attempts."""
    anonymiser, emails, phones = Anonymiser(), dict[str, set[str]](), dict[str, set[str]]()
    for path, body in ANSWERS:
        sent = json.loads(body)
        sent.pop("next", None), sent.pop("previous", None)
        for old, new in side_by_side(sent, anonymiser.answer(path, body)[0]):
            if "@" in old:
                emails.setdefault(old, set()).add(new)
            if re.fullmatch(r"(\+91 )?98\d{8}", old):
                phones.setdefault(old[-10:], set()).add(new[-10:])
    for found in (emails, phones):
        assert len(found) > 20
        assert all(len(new) == 1 for new in found.values())
        assert len(set.union(*found.values())) == len(found)


# --- anything that a server could send ---------------------------------------------------------------

SECRET = "Hidden"
"""Stands in every text that must not be shown."""

secret_texts = st.text(max_size=12).map(lambda text: f"{text}{SECRET}{text}")
harmless = st.none() | st.booleans() | st.integers(-9_999, 9_999) | st.just("")
values = st.recursive(
    secret_texts | harmless,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(secret_texts | st.just("id"), inner, max_size=3)
    ),
    max_leaves=8,
)
field_names = st.sampled_from(sorted(FIELDS)) | st.sampled_from(["whatsapp", "guardian", "Class teacher"])
rows = st.dictionaries(field_names | secret_texts.map("{} ".format), values, max_size=6)


@settings(max_examples=60)
@given(table=st.sampled_from(sorted(LISTS)), row=rows, rest=st.dictionaries(field_names, values, max_size=2))
@example(table="user_answers", row={"gap_fill_responses": [{"order": "Hidden", "answer": "Hidden"}]}, rest={})
@example(table="user_answers", row={"gap_fill_responses": [{"Hidden": 1}]}, rest={})
@example(table="attempts", row={"date": "2024-01-01T00:00:00 Hidden", "state": "Hidden"}, rest={})
@example(table="users", row={"state": "Hidden", "custom_fields": {"Hidden": {"Hidden": ["Hidden"]}}}, rest={})
def test_no_text_is_shown_whatever_the_field(
    table: str, row: dict[str, object], rest: dict[str, object]
) -> None:
    """A text that is no word of the API is replaced in every field of every table, at any depth."""
    for results in ([row], {table: [row], "exam_questions": [row], "new_table": [row]}, row, [[row]]):
        body = json.dumps(rest | {"results": results}).encode()
        shown, _ = Anonymiser().answer(LISTS[table], body)
        assert SECRET not in json.dumps(shown, ensure_ascii=False)
    shown, _ = Anonymiser().answer("/api/v2.5/admin/attempts/3/", json.dumps(row).encode())
    assert SECRET not in json.dumps(shown, ensure_ascii=False)


@given(number=st.integers(10**9, 10**12), name=st.sampled_from(["whatsapp", "phone", "username", "zip"]))
def test_long_numbers_are_replaced_where_they_may_be_personal(number: int, name: str) -> None:
    """As numbers, texts and fractions; the type stays."""
    row = {name: number, "other": str(number), "place": number + 0.5}
    shown, _ = Anonymiser().answer(LISTS["users"], json.dumps({"results": [row]}).encode())
    (after,) = shown["results"]  # type: ignore[misc]
    assert str(number) not in json.dumps(after)
    assert [type(each) for each in after.values()] == [int, str, float]
    assert after["other"] == str(after[name])


@given(st.lists(st.text() | st.emails() | st.from_regex(r"\+91 98\d{4,8}", fullmatch=True), max_size=40))
def test_the_same_becomes_the_same_and_nothing_else_does(texts: list[str]) -> None:
    """Within a recording texts are replaced one to one; blank ones stay, others never stay."""
    anonymiser = Anonymiser()
    first = {text: anonymiser.text(text) for text in texts}
    assert {text: anonymiser.text(text) for text in reversed(texts)} == first
    filled = {text for text in first if text.strip()}
    assert len({first[text] for text in filled}) == len(filled)
    assert all((first[text] != text) == (text in filled) for text in first)


def test_short_numbers_stay_different_too() -> None:
    """Numbers of two digits become ninety others, with a digit more where there are too few."""
    anonymiser = Anonymiser()
    found = {number: anonymiser.text(str(number)) for number in range(10, 100)}
    assert len(set(found.values())) == 90
    assert not any(str(number) == text for number, text in found.items())


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("user_answers", {"gap_fill_responses": [{"answer": 1947}, {"answer": "1947"}, {"answer": 1947.0}]}),
        ("user_answers", {"user_response": 1947}),
        ("users", {"state": 1947, "username": 1947, "zip": 1947, "custom_fields": {"1947": "1947"}}),
        ("attempts", {"phone": 1947}),
    ],
)
def test_short_numbers_are_replaced_where_they_are_somebodys(table: str, row: dict[str, object]) -> None:
    """An answer, a code of where somebody lives, a username that is a number."""
    shown, _ = Anonymiser().answer(LISTS[table], json.dumps({"results": {table: [row]}}).encode())
    assert "1947" not in json.dumps(shown)


def test_two_recordings_agree_on_nothing() -> None:
    """What stands for what cannot be looked up in another recording."""
    assert Anonymiser().text("Asha Kumar") != Anonymiser().text("Asha Kumar")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("asha@school.example", r"[a-z]{12}@people\.example"),
        ("+91 98000 00007", r"\+91 1\d{4} \d{5}"),
        ("16/08/1999", r"\d\d/\d\d/\d{4}"),
        ("2024-01-05T10:00:00Z", r"\d{4}-\d\d-\d\dT00:00:00Z"),
        ("https://a.testpress.in/media/x.pdf", r"https://institute\.example/[a-z]{12}\.pdf"),
        (
            "https://a.testpress.in/api/v2.5/admin/users/7/",
            r"https://institute\.example/api/v2\.5/admin/users/7/",
        ),
        ("https://a.testpress.in/api/v2.5/admin/users/asha/", r"https://institute\.example/[a-z]{12}"),
        ("<p>where is Paris ?</p>", r"<p>[a-z]{12} [a-z]{12}</p>"),
        ("தமிழ்ச்செல்வி", r"[α-ω]{12}"),
        ("N", r"[a-z]{12}"),
        ("x" * 1_300, r"([a-z]{12} ?){100}"),
    ],
)
def test_what_replaces_a_text_is_of_its_kind(text: str, kind: str) -> None:
    """Addresses stay addresses, and lengths about what they were."""
    assert re.fullmatch(kind, Anonymiser().text(text))


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"3", b'{"a": NaN}', b'{"results": [', b"\xff{}"])
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    """Nothing is recorded of what cannot be read."""
    with pytest.raises(ValueError):  # noqa: PT011 - the parser's, in many words
        Anonymiser().answer(LISTS["attempts"], body)


def test_every_model_is_known() -> None:
    """Every record that the library decodes has its rules, so that a new one is thought of here."""
    known = set(RECORDS.values()) | {models.AttemptDetail}
    asked = {reader.record_type for reader in vars(models).values() if isinstance(reader, models.PageReader)}
    assert asked <= known


def test_searches_are_replaced_as_in_records() -> None:
    """An address that was asked for is the one that stands in the records; other filters stay."""
    anonymiser = Anonymiser()
    email = anonymiser.text("asha@school.example")
    shown = anonymiser.filters("q=9800000012&page=3&exams=5%2C6&email=asha%40school.example&ordering=-date")
    assert dict(shown) == {
        "email": email,
        "exams": "5,6",
        "ordering": "-date",
        "q": anonymiser.text("9800000012"),
    }
    assert "9800000012" not in str(shown)
