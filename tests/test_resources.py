"""Every resource asks the documented path with the documented parameters; as users would test their code."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest

import testpress_async as tp
from tests.support.aioresponses import Mocked

URL = "https://institute.test"
LOGIN = f"{URL}/api/v2.5/auth-token/"
V25, V3 = f"{URL}/api/v2.5/admin", f"{URL}/api/v3/admin"


@pytest.fixture
def mocked() -> Iterator[Mocked]:
    with Mocked() as opened:
        yield opened


@pytest.fixture
async def mocked_client(mocked: Mocked) -> AsyncIterator[tp.Client]:
    async with tp.Client(URL, token="t", retry=tp.RetryPolicy(max_tries=1)) as opened:
        yield opened


def listed(results: object) -> dict[str, object]:
    return {"count": 1, "next": None, "previous": None, "per_page": 20, "results": results}


CALLS: list[tuple[str, Callable[[tp.Client], tp.Listing[Any]], str, object]] = [
    ("attempts", lambda c: c.attempts.list(), f"{V25}/attempts/", [{"id": 1}]),
    (
        "attempts with every filter",
        lambda c: c.attempts.list(
            exams=[5, 6],
            users=7,
            state=tp.AttemptState.NOT_STARTED,
            started_after=date(2024, 1, 1),
            started_before="2024-01-31",
            ordering=tp.AttemptOrder.NEWEST_FIRST,
        ),
        f"{V25}/attempts/?exams=5,6&users=7&state=3&date_0=2024-01-01&date_1=2024-01-31&ordering=-date",
        [{"id": 1}],
    ),
    (
        "user answers",
        lambda c: c.attempts.user_answers(423),
        f"{V3}/attempts/423/user_answers/",
        {"user_answers": [{"id": 1}], "exam_questions": []},
    ),
    (
        "content attempts",
        lambda c: c.content_attempts.list(),
        f"{V3}/chapter-content-attempts/",
        {"content_attempts": [{"id": 1}]},
    ),
    (
        "content attempts with every filter",
        lambda c: c.content_attempts.list(
            user_ids=1,
            course_ids=(2, 3),
            chapter_ids=4,
            chapter_content_ids={5},
            exam_id=6,
            content_type=tp.ContentType.LIVE_STREAM,
            state=tp.ContentAttemptState.PENDING_EVALUATION,
            completed_date=datetime(2024, 2, 1, 23, 0, tzinfo=UTC),
            completed_before="2024-02-02",
            completed_after=date(2024, 1, 31),
        ),
        f"{V3}/chapter-content-attempts/?user_ids=1&course_ids=2,3&chapter_ids=4&chapter_content_ids=5"
        "&exam_id=6&content_type=8&state=2&completed_date=2024-02-01&completed_before=2024-02-02"
        "&completed_after=2024-01-31",
        {"content_attempts": [{"id": 1}]},
    ),
    (
        "attendees",
        lambda c: c.video_conferences.attendees(12),
        f"{V3}/attempts/12/video-conference/",
        [{"name": "Asha"}],
    ),
    ("exams", lambda c: c.exams.list(), f"{V25}/exams/", [{"id": 1}]),
    (
        "exams with every filter",
        lambda c: c.exams.list(
            status="running",
            start_date="2024-01-01",
            end_date=date(2024, 2, 1),
            subject="maths",
            batch="A 1",
            exam_type="mock",
            ordering="-id",
        ),
        f"{V25}/exams/?status=running&start_date=2024-01-01&end_date=2024-02-01&subject=maths&batch=A%201"
        "&exam_type=mock&ordering=-id",
        [{"id": 1}],
    ),
    (
        "users",
        lambda c: c.users.list(q="Zoë & José", email="a+b@x.in"),
        f"{V25}/users/?q=Zo%C3%AB%20%26%20Jos%C3%A9&email=a%2Bb%40x.in",
        [{"id": 1}],
    ),
    ("courses", lambda c: c.courses.list(q="physics"), f"{V25}/courses/?q=physics", [{"id": 1}]),
]


@pytest.mark.parametrize(("call", "url", "results"), [case[1:] for case in CALLS], ids=[c[0] for c in CALLS])
async def test_a_list_asks_its_documented_address(
    mocked: Mocked,
    mocked_client: tp.Client,
    call: Callable[[tp.Client], tp.Listing[Any]],
    url: str,
    results: object,
) -> None:
    """Path and parameter names are those of the documentation."""
    mocked.get(url, payload=listed(results))
    assert len(await call(mocked_client).collect()) == 1
    mocked.assert_called_once()


async def test_one_attempt_asks_its_documented_address(mocked: Mocked, mocked_client: tp.Client) -> None:
    """The answer is one record."""
    mocked.get(f"{V25}/attempts/125894/", payload={"id": 125894, "sections": []})
    detail = await mocked_client.attempts.get(125894)
    assert isinstance(detail, tp.AttemptDetail)
    assert detail.id == 125894


async def test_an_attempt_that_is_not_there_is_not_found(mocked: Mocked, mocked_client: tp.Client) -> None:
    """With the server's own words."""
    mocked.get(f"{V25}/attempts/5/", status=404, payload={"detail": "Not found."})
    with pytest.raises(tp.NotFound) as caught:
        await mocked_client.attempts.get(5)
    assert caught.value.detail == "Not found."


async def test_pages_follow_each_other(mocked: Mocked, mocked_client: tp.Client) -> None:
    """The second page is asked for with the filters of the first."""
    url = f"{V25}/attempts/?exams=5"
    mocked.get(url, payload={**listed([{"id": 1}]), "next": f"{V25}/attempts/?page=2"})
    mocked.get(f"{url}&page=2", payload=listed([{"id": 2}]))
    assert [attempt.id async for attempt in mocked_client.attempts.list(exams=5)] == [1, 2]


async def test_an_answer_knows_its_question(mocked: Mocked, mocked_client: tp.Client) -> None:
    """Side-loads are joined."""
    url = f"{V3}/attempts/5/user_answers/"
    rows = {"user_answers": [{"id": 1, "exam_question_id": 9}], "exam_questions": [{"id": 9}]}
    mocked.get(url, payload=listed(rows))
    (answer,) = await mocked_client.attempts.user_answers(5).collect()
    assert answer.question is not None
    assert answer.question.id == 9


async def test_a_login_sends_the_password_once_and_the_token_after(mocked: Mocked) -> None:
    """As the documentation says: JSON in, `Authorization: JWT …` on everything else."""
    mocked.post(LOGIN, payload={"token": "a.b.c"})
    mocked.get(f"{V25}/courses/", payload=listed([{"id": 1}]), repeat=True)
    async with tp.Client(URL, username="admin", password="s3cret") as client:
        await client.courses.list().collect()
        await client.courses.list().collect()
    sent = {(method, url.path): calls for (method, url), calls in mocked.requests.items()}
    (login,) = sent["POST", "/api/v2.5/auth-token/"]
    assert login.kwargs["data"] == b'{"username":"admin","password":"s3cret"}'
    calls = sent["GET", "/api/v2.5/admin/courses/"]
    assert [call.kwargs["headers"]["Authorization"] for call in calls] == ["JWT a.b.c"] * 2
    assert all(call.kwargs["allow_redirects"] is False for call in calls)
