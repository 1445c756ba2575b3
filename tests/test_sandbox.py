"""The sandbox institute over real sockets, read by a plain aiohttp client."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import aiohttp
import msgspec
import pytest

from testpress_async.sandbox import Fault, Live, RateLimit, Sandbox, Settings, serve
from tests.support.clock import ManualClock

ATTEMPTS = "/api/v2.5/admin/attempts/"
CONTENTS = "/api/v3/admin/chapter-content-attempts/"
LOGIN = "/api/v2.5/auth-token/"
KOLKATA = timezone(timedelta(minutes=330))


class Visitor:
    """Asks an institute with a valid token."""

    def __init__(self, institute: Sandbox, session: aiohttp.ClientSession) -> None:
        self.institute, self._session = institute, session
        self.headers = {"Authorization": f"JWT {institute.token()}"}

    async def ask(
        self, path: str, *, method: str = "GET", headers: dict[str, str] | None = None, **kwargs: Any
    ) -> tuple[int, Any, aiohttp.ClientResponse]:
        url = path if path.startswith("http") else self.institute.url + path
        sent = self.headers if headers is None else headers
        async with self._session.request(
            method, url, headers=sent, allow_redirects=False, **kwargs
        ) as response:
            body = await response.read()
            return response.status, msgspec.json.decode(body) if body[:1] in (b"{", b"[") else body, response

    async def pages(self, path: str) -> AsyncIterator[dict[str, Any]]:
        url: str | None = path
        while url is not None:
            status, page, _ = await self.ask(url)
            assert status == 200
            yield page
            url = page["next"]


@asynccontextmanager
async def visit(institute: Sandbox) -> AsyncIterator[Visitor]:
    async with institute, aiohttp.ClientSession() as session:
        yield Visitor(institute, session)


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop turn until something is so."""
    while not holds():  # noqa: ASYNC110 - a socket's turns cannot be counted; the test's own limit ends it
        await asyncio.sleep(0)


async def rows(visitor: Visitor, path: str, name: str | None = None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    async for page in visitor.pages(path):
        found += page["results"] if name is None else page["results"][name]
    return found


# -- pages ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "table", "parent", "name"),
    [
        (ATTEMPTS, "attempts", None, None),
        (CONTENTS, "content_attempts", None, "content_attempts"),
        ("/api/v2.5/admin/exams/", "exams", None, None),
        ("/api/v2.5/admin/users/", "users", None, None),
        ("/api/v2.5/admin/courses/", "courses", None, None),
        ("/api/v3/admin/attempts/17/user_answers/", "user_answers", 17, "user_answers"),
        ("/api/v3/admin/attempts/17/user_answers/", "exam_questions", 17, "exam_questions"),
        ("/api/v3/admin/attempts/6/video-conference/", "attendance", 6, None),
    ],
)
async def test_pages_hold_every_record_once(
    path: str, table: str, parent: int | None, name: str | None
) -> None:
    """Following `next` from the first page gives the institute's own truth, in order, nothing twice."""
    institute = Sandbox(
        attempts=130, exams=31, users=55, courses=12, per_page=7, answers_per_page=9, rows_per_page=6
    )
    async with visit(institute) as visitor:
        assert await rows(visitor, path, name) == list(institute.truth.records(table, parent=parent))


async def test_envelope_is_the_documented_one() -> None:
    """Count, page size and both links, which keep the filters and lead to this very server."""
    async with visit(Sandbox(attempts=30, per_page=10)) as visitor:
        _, page, _ = await visitor.ask(f"{ATTEMPTS}?page=2&ordering=-date")
        assert list(page) == ["count", "next", "previous", "per_page", "results"]
        assert (page["count"], page["per_page"], len(page["results"])) == (30, 10, 10)
        assert page["next"] == f"{visitor.institute.url}{ATTEMPTS}?ordering=-date&page=3"
        assert page["previous"] == f"{visitor.institute.url}{ATTEMPTS}?ordering=-date"
        _, last, _ = await visitor.ask(page["next"])
        assert last["next"] is None


async def test_links_can_drop_the_filters() -> None:
    """As in the documentation's samples, if asked for."""
    async with visit(Sandbox(attempts=30, per_page=10, next_keeps_filters=False)) as visitor:
        _, page, _ = await visitor.ask(f"{ATTEMPTS}?page=2&ordering=-date")
        assert page["next"] == f"{visitor.institute.url}{ATTEMPTS}?page=3"
        assert page["previous"] == f"{visitor.institute.url}{ATTEMPTS}"


@pytest.mark.parametrize("number", ["4", "0", "-1", "x", "last", "1.0", "٢", "9" * 30])
async def test_pages_that_are_not_there(number: str) -> None:
    """A page past the end, or no page at all, is a 404 with the framework's words."""
    async with visit(Sandbox(attempts=30, per_page=10)) as visitor:
        status, body, _ = await visitor.ask(f"{ATTEMPTS}?page={number}")
        assert (status, body) == (404, {"detail": "Invalid page."})


async def test_an_empty_list_has_a_first_page() -> None:
    """No records is no error."""
    async with visit(Sandbox(attempts=30)) as visitor:
        status, page, _ = await visitor.ask(f"{ATTEMPTS}?exams=99")
        assert (status, page["count"], page["results"], page["next"]) == (200, 0, [], None)
        _, page, _ = await visitor.ask(f"{CONTENTS}?user_ids=987654321")
        assert set(map(len, page["results"].values())) == {0}
        assert len(page["results"]) == 8


async def test_page_sizes_are_the_documented_ones() -> None:
    """200 attempts, 250 answers and content attempts, 20 users."""
    async with visit(Sandbox(attempts=700)) as visitor:
        sizes = [
            (await visitor.ask(path))[1]["per_page"]
            for path in (ATTEMPTS, CONTENTS, "/api/v2.5/admin/exams/", "/api/v2.5/admin/users/")
        ]
        assert sizes == [200, 250, 200, 20]


async def test_side_loads_come_again_on_each_page() -> None:
    """A page brings what its rows refer to, always the same; a course comes again with the next page."""
    institute = Sandbox(attempts=200, answers_per_page=10)
    async with visit(institute) as visitor:
        seen: dict[int, dict[str, Any]] = {}
        times = 0
        async for page in visitor.pages(CONTENTS):
            asked_for = {row["course_id"] for row in page["results"]["content_attempts"]}
            courses = {course["id"]: course for course in page["results"]["courses"]}
            assert set(courses) == asked_for - {5}
            assert all(seen.setdefault(number, course) == course for number, course in courses.items())
            times += len(courses)
        assert times > len(seen) * 2
        assert sorted(seen) == sorted(institute.truth.ids("content_attempts.courses"))


# -- filters -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [
        {"exams": "2"},
        {"exams": "1,3", "state": "1"},
        {"users": "1,2,3", "ordering": "-date"},
        {"state": "3"},
        {"date_0": "2024-01-01", "date_1": "2024-06-30", "ordering": "date"},
        {"date_0": "2024-06-30", "ordering": "-correct_answers_count"},
    ],
)
async def test_filters_give_what_the_truth_says(asked: dict[str, str]) -> None:
    """Filters choose, orders sort; every row is one the filter means."""
    institute = Sandbox(attempts=300, users=20, per_page=40)
    async with visit(institute) as visitor:
        found = await rows(
            visitor, f"{ATTEMPTS}?" + "&".join(f"{name}={value}" for name, value in asked.items())
        )
    assert found == list(institute.truth.records("attempts", **asked))
    assert 0 < len(found) < 300
    for row in found:
        assert str(row["exam_id"]) in asked.get("exams", str(row["exam_id"])).split(",")
        assert str(row["user_id"]) in asked.get("users", str(row["user_id"])).split(",")
        if "date_0" in asked:
            day = str(datetime.fromisoformat(row["date"]).astimezone(KOLKATA).date())
            assert asked["date_0"] <= day <= asked.get("date_1", day)
    if asked.get("ordering") in ("date", "-date"):
        dates = [datetime.fromisoformat(row["date"]) for row in found if row["date"]]
        assert dates == sorted(dates, reverse=asked["ordering"] == "-date")


async def test_several_ids_by_comma_or_repetition() -> None:
    """Both ways of giving several ids mean the same."""
    async with visit(Sandbox(attempts=100)) as visitor:
        by_comma = await rows(visitor, f"{ATTEMPTS}?exams=1,2")
        assert by_comma == await rows(visitor, f"{ATTEMPTS}?exams=1&exams=2")
        assert len(by_comma) > len(await rows(visitor, f"{ATTEMPTS}?exams=1")) > 0


async def test_attempts_without_a_start_come_last() -> None:
    """As PostgreSQL sorts NULL: behind everything, and first when read backwards."""
    async with visit(Sandbox(attempts=151)) as visitor:
        upwards = await rows(visitor, f"{ATTEMPTS}?ordering=date")
        assert [row["date"] is None for row in upwards] == [False] * 149 + [True] * 2
        assert await rows(visitor, f"{ATTEMPTS}?ordering=-date") == upwards[::-1]


async def test_bad_filters_are_400_by_field() -> None:
    """A value that means nothing is answered with the parameter and sentences."""
    async with visit(Sandbox(attempts=5)) as visitor:
        status, body, _ = await visitor.ask(f"{ATTEMPTS}?date_0=yesterday")
        assert (status, body) == (400, {"date_0": ["Enter a valid date."]})
        status, body, _ = await visitor.ask(f"{CONTENTS}?content_type=6")
        assert (status, list(body)) == (400, ["content_type"])


async def test_filters_can_be_ignored() -> None:
    """A server that does not know a filter can be rehearsed; it keeps them in no link."""
    async with visit(Sandbox(attempts=50, ignored_filters=frozenset({"exams"}))) as visitor:
        assert len(await rows(visitor, f"{ATTEMPTS}?exams=1")) == 50


async def test_people_exams_and_courses_can_be_searched() -> None:
    """`q` looks into names, `email` is exact, courses by title; exams can be turned round."""
    async with visit(Sandbox(attempts=5, users=120)) as visitor:
        found = await rows(visitor, "/api/v2.5/admin/users/?q=STUDENT11")
        assert [row["username"] for row in found] == ["student11", *(f"student11{n}" for n in range(10))]
        found = await rows(visitor, "/api/v2.5/admin/users/?email=student11@students.example")
        assert [row["username"] for row in found] == ["student11"]
        assert len(await rows(visitor, "/api/v2.5/admin/courses/?q=course%205")) == 1
        exams = await rows(visitor, "/api/v2.5/admin/exams/?ordering=-id")
        assert [exam["id"] for exam in exams] == [8, 7, 6, 5, 4, 3, 2, 1]


async def test_ties_can_be_unstable() -> None:
    """Then attempts of one instant change places between requests, and nothing else does."""
    async with visit(Sandbox(attempts=300, per_page=3, unstable_ties=True)) as visitor:
        stable = await rows(visitor, f"{ATTEMPTS}?ordering=id")
        orders = {
            tuple(row["id"] for row in await rows(visitor, f"{ATTEMPTS}?ordering=date")) for _ in range(3)
        }
        assert len(orders) == 3
        undated = "2099-01-01T00:00:00Z"
        start = {row["id"]: datetime.fromisoformat(row["date"] or undated) for row in stable}
        for order in orders:
            assert [start[one] for one in order] == sorted(start.values())
        # Where a tie lies on the edge of two pages, one of it is read twice and the other never.
        assert any(len(set(order)) < 300 for order in orders)


# -- single records ------------------------------------------------------------------------------------


async def test_single_records() -> None:
    """An attempt and an exam by id; what is not there is a 404."""
    institute = Sandbox(attempts=20)
    async with visit(institute) as visitor:
        _, attempt, _ = await visitor.ask(f"{ATTEMPTS}7/")
        assert attempt == list(institute.truth.records("attempt_details"))[6]
        _, exam, _ = await visitor.ask("/api/v2.5/admin/exams/3/")
        assert exam == list(institute.truth.records("exams"))[2]
        for path in (
            f"{ATTEMPTS}21/",
            f"{ATTEMPTS}0/",
            "/api/v3/admin/attempts/99/user_answers/",
            "/api/v3/admin/attempts/21/video-conference/",
            "/api/v2.5/admin/exams/9/",
            f"{ATTEMPTS}abc/",
            "/api/v2.5/admin/batches/",
        ):
            status, body, _ = await visitor.ask(path)
            assert (status, body) == (404, {"detail": "Not found."})


async def test_a_missing_slash_is_redirected() -> None:
    """301 to the path with the slash, the query kept, as Django does; login included."""
    async with visit(Sandbox(attempts=5)) as visitor:
        status, _, response = await visitor.ask(f"{ATTEMPTS[:-1]}?page=1")
        assert (status, response.headers["Location"]) == (301, f"{ATTEMPTS}?page=1")
        status, _, response = await visitor.ask(LOGIN[:-1], method="POST")
        assert (status, response.headers["Location"]) == (301, LOGIN)


async def test_other_methods_are_refused() -> None:
    """405 with the framework's words; HEAD is a GET without a body."""
    async with visit(Sandbox(attempts=5)) as visitor:
        status, body, response = await visitor.ask(ATTEMPTS, method="DELETE")
        assert (status, body) == (405, {"detail": 'Method "DELETE" not allowed.'})
        assert response.headers["Allow"] == "GET, HEAD"
        status, body, response = await visitor.ask(LOGIN)
        assert (status, response.headers["Allow"]) == (405, "POST, OPTIONS")
        status, body, response = await visitor.ask(ATTEMPTS, method="HEAD")
        assert (status, body) == (200, b"")


async def test_answers_are_compressed_for_who_accepts_it() -> None:
    """gzip if accepted, plain if not or if switched off; the same records either way."""
    async with visit(Sandbox(attempts=50, cached_pages=1)) as visitor:
        _, zipped, response = await visitor.ask(ATTEMPTS)
        assert response.headers["Content-Encoding"] == "gzip"
        await visitor.ask(f"{ATTEMPTS}?state=1")
        _, again, _ = await visitor.ask(ATTEMPTS)
        plain_headers = visitor.headers | {"Accept-Encoding": "identity"}
        _, plain, response = await visitor.ask(ATTEMPTS, headers=plain_headers)
        assert "Content-Encoding" not in response.headers
        assert zipped == plain == again
    async with visit(Sandbox(attempts=50, gzip=False)) as visitor:
        _, _, response = await visitor.ask(ATTEMPTS)
        assert "Content-Encoding" not in response.headers


# -- logins and tokens ---------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["2.5", "2.3", "2.2"])
@pytest.mark.parametrize("form", ["json", "data", "multipart"])
async def test_login_by_json_or_form(version: str, form: str) -> None:
    """Every published path takes JSON and forms, and hands out a token that opens the attempts."""
    fields = {"username": "admin", "password": "sandbox"}
    async with visit(Sandbox(attempts=5)) as visitor:
        multipart = aiohttp.FormData(fields, default_to_multipart=True)
        sent: dict[str, Any] = {
            "json": {"json": fields},
            "data": {"data": fields},
            "multipart": {"data": multipart},
        }
        status, body, _ = await visitor.ask(
            f"/api/v{version}/auth-token/", method="POST", headers={}, **sent[form]
        )
        assert status == 200
        status, _, _ = await visitor.ask(ATTEMPTS, headers={"Authorization": f"JWT {body['token']}"})
        assert status == 200


@pytest.mark.parametrize(
    ("sent", "status", "body"),
    [
        ({"json": {"username": "admin"}}, 400, {"password": ["This field is required."]}),
        ({"json": {"username": None, "password": "x"}}, 400, {"username": ["This field is required."]}),
        ({"json": []}, 400, {"non_field_errors": ["Invalid data. Expected a dictionary."]}),
        (
            {"json": {"username": "admin", "password": "no"}},
            400,
            {"non_field_errors": ["Unable to log in with provided credentials."]},
        ),
        ({"data": b"<a/>", "headers": {"Content-Type": "application/xml"}}, 415, None),
        ({"data": b"{", "headers": {"Content-Type": "application/json"}}, 400, None),
    ],
)
async def test_logins_that_fail(sent: dict[str, Any], status: int, body: dict[str, Any] | None) -> None:
    """Each kind of bad login has the framework's answer."""
    async with visit(Sandbox(attempts=5)) as visitor:
        found, answer, _ = await visitor.ask(LOGIN, method="POST", **{"headers": {}, **sent})
        assert found == status
        assert answer == body if body else "detail" in answer


async def test_who_is_no_admin_is_403() -> None:
    """A student logs in and is then not allowed; nobody at all is asked for a token."""
    institute = Sandbox(attempts=5)
    async with visit(institute) as visitor:
        student = {"Authorization": f"JWT {institute.token('student')}"}
        status, body, _ = await visitor.ask(ATTEMPTS, headers=student)
        assert (status, list(body)) == (403, ["detail"])
        status, body, response = await visitor.ask(ATTEMPTS, headers={})
        assert (status, response.headers["WWW-Authenticate"]) == (401, 'JWT realm="api"')


async def test_tokens_expire_by_the_clock_and_by_revocation() -> None:
    """401 with the framework's sentence once the time is over or the token revoked."""
    clock = ManualClock()
    institute = Sandbox(attempts=5, token_ttl_s=60.0, clock=clock)
    expired = (401, {"detail": "Signature has expired."})
    async with visit(institute) as visitor:
        assert (await visitor.ask(ATTEMPTS))[0] == 200
        await clock.advance(60.0)
        assert (await visitor.ask(ATTEMPTS))[:2] == expired
        visitor.headers = {"Authorization": f"JWT {institute.token()}"}
        assert (await visitor.ask(ATTEMPTS))[0] == 200
        institute.revoke_tokens()
        assert (await visitor.ask(ATTEMPTS))[:2] == expired


# -- limits and faults ---------------------------------------------------------------------------------


async def test_rate_limit_is_told_in_header_and_words() -> None:
    """The request too many gets 429, the seconds twice, and is not counted itself."""
    clock = ManualClock()
    async with visit(Sandbox(attempts=5, rate=RateLimit(2, 10.0), clock=clock)) as visitor:
        assert (await visitor.ask(ATTEMPTS))[0] == 200
        await clock.advance(3.5)
        assert (await visitor.ask(ATTEMPTS))[0] == 200
        for _ in range(2):
            status, body, response = await visitor.ask(ATTEMPTS)
            assert (status, response.headers["Retry-After"]) == (429, "7")
            assert body == {"detail": "Request was throttled. Expected available in 7 seconds."}
        await clock.advance(6.0)
        status, body, _ = await visitor.ask(ATTEMPTS)
        assert body == {"detail": "Request was throttled. Expected available in 1 second."}
        await clock.advance(0.5)
        assert (await visitor.ask(ATTEMPTS))[0] == 200


async def test_several_limits_and_logins_are_limited() -> None:
    """The longest wait is told; a login pays too, but not out of the admin's budget."""
    clock = ManualClock()
    institute = Sandbox(attempts=5, rate=(RateLimit(1, 1.0), RateLimit(1, 60.0)), clock=clock)
    async with visit(institute) as visitor:
        fields = {"username": institute.username, "password": institute.password}
        assert (await visitor.ask(LOGIN, method="POST", json=fields))[0] == 200
        assert (await visitor.ask(LOGIN, method="POST", json=fields))[0] == 429
        assert (await visitor.ask(ATTEMPTS))[0] == 200
        _, _, response = await visitor.ask(ATTEMPTS)
        assert response.headers["Retry-After"] == "60"


async def test_scripted_faults_hit_whom_they_name() -> None:
    """By path, query and method, after some, so often; then the institute answers again."""
    institute = Sandbox(attempts=50, per_page=10)
    async with visit(institute) as visitor:
        second, always = institute.script(
            Fault(query="page=2", skip=1, times=2, status=503, headers={"Retry-After": "9"}, body=b"busy"),
            Fault(path="/api/v2.5/admin/exams/", method="GET", times=None, status=200, body=b"<html>"),
        )
        statuses = [(await visitor.ask(f"{ATTEMPTS}?page=2"))[0] for _ in range(4)]
        assert statuses == [200, 503, 503, 200]
        assert (await visitor.ask(ATTEMPTS))[0] == 200
        assert (second.seen, second.hits, second.is_spent) == (3, 2, True)
        for _ in range(3):
            await visitor.ask("/api/v2.5/admin/exams/", method="POST")
            assert (await visitor.ask("/api/v2.5/admin/exams/"))[:2] == (200, b"<html>")
        assert (always.hits, always.is_spent) == (3, False)
        institute.clear_faults()
        assert (await visitor.ask("/api/v2.5/admin/exams/"))[0] == 200


async def test_a_fault_may_name_its_own_content_type() -> None:
    """An HTML page is sent as HTML, once."""
    institute = Sandbox(attempts=5)
    async with visit(institute) as visitor:
        institute.script(Fault(status=200, headers={"content-type": "text/html"}, body=b"<h1>hi</h1>"))
        _, body, response = await visitor.ask(ATTEMPTS)
        assert (body, response.headers.getall("Content-Type")) == (b"<h1>hi</h1>", ["text/html"])


async def test_a_body_can_be_cut() -> None:
    """The headers promise all of it, the connection ends before."""
    institute = Sandbox(attempts=50)
    async with visit(institute) as visitor:
        institute.script(Fault(cut_after_bytes=100))
        with pytest.raises(aiohttp.ClientPayloadError):
            await visitor.ask(ATTEMPTS)
        assert (await visitor.ask(ATTEMPTS))[0] == 200


async def test_a_connection_can_be_dropped() -> None:
    """No byte of an answer comes; the log says status 0."""
    institute = Sandbox(attempts=50)
    async with visit(institute) as visitor:
        institute.script(Fault(drop=True, times=None))
        with pytest.raises((aiohttp.ClientConnectionError, ConnectionError)):
            await visitor.ask(ATTEMPTS)
        institute.clear_faults()
        assert (await visitor.ask(ATTEMPTS))[0] == 200
    assert {seen.status for seen in list(institute.log)[:-1]} == {0}


async def test_an_answer_can_be_held_back() -> None:
    """It comes when the event is set; meanwhile others are served and both are counted in flight."""
    institute, release = Sandbox(attempts=50), asyncio.Event()
    async with visit(institute) as visitor:
        institute.script(Fault(path=f"{ATTEMPTS}7/", hold=release))
        held = asyncio.create_task(visitor.ask(f"{ATTEMPTS}7/"))
        await until(lambda: institute.in_flight == 1)
        assert (await visitor.ask(ATTEMPTS))[0] == 200
        assert not held.done()
        release.set()
        assert (await held)[0] == 200
        assert (institute.in_flight, institute.most_in_flight) == (0, 2)


async def test_closing_does_not_wait_for_held_answers() -> None:
    """An institute closes although an answer is still held back."""
    institute = Sandbox(attempts=5)
    async with aiohttp.ClientSession() as session:
        async with institute:
            institute.script(Fault(hold=asyncio.Event()))
            held = asyncio.create_task(session.get(institute.url + ATTEMPTS))
            await until(lambda: institute.in_flight == 1)
        with pytest.raises(aiohttp.ClientConnectionError):
            await held
    assert institute.in_flight == 0


async def test_a_share_of_requests_fails() -> None:
    """With a failure rate about that share fails, in all four ways, the same ones for the same seed."""

    async def outcomes() -> list[int]:
        found: list[int] = []
        async with visit(Sandbox(attempts=50, fail_rate=0.4)) as visitor:
            for _ in range(120):
                try:
                    found.append((await visitor.ask(ATTEMPTS))[0])
                except aiohttp.ClientPayloadError:
                    found.append(-1)
        return found

    first = await outcomes()
    assert set(first) == {200, 500, 502, 503, -1}
    assert 30 < sum(status != 200 for status in first) < 66
    assert await outcomes() == first


async def test_latency_is_waited_by_the_clock() -> None:
    """Every answer comes so many milliseconds later."""
    clock = ManualClock()
    institute = Sandbox(attempts=5, latency_ms=120.0, clock=clock)
    async with visit(institute) as visitor:
        asked = asyncio.create_task(visitor.ask(ATTEMPTS))
        await until(lambda: clock.sleepers == 1)
        await clock.advance(0.119)
        assert not asked.done()
        await clock.advance(0.001)
        assert (await asked)[0] == 200
    assert clock.slept_s == [0.12]


# -- changes -------------------------------------------------------------------------------------------


async def test_changes_show_on_the_next_page() -> None:
    """New, changed, finished, backdated and deleted attempts are there, or gone, at the next request."""
    institute = Sandbox(attempts=60, per_page=25)
    async with visit(institute) as visitor:
        before = await rows(visitor, f"{ATTEMPTS}?ordering=date")
        new = institute.insert_attempts(2, at=datetime(2024, 5, 5, 12, tzinfo=UTC))
        late = institute.insert_attempts(1)
        old = institute.backdate_attempts(1, share=0.0)
        institute.delete_attempts([1, 2])
        institute.edit_attempt(3, score="77.00", date=None)
        running = institute.truth.ids("attempts", state=0)[0]
        institute.finish_attempt(running)
        after = await rows(visitor, f"{ATTEMPTS}?ordering=date")
        ids = [row["id"] for row in after]
        assert set(ids) - {row["id"] for row in before} == {*new, *late, *old}
        assert {row["id"] for row in before} - set(ids) == {1, 2}
        assert ids[0] == old[0]
        assert ids[-3:-1] == [late[0], 3]
        by_id = {row["id"]: row for row in after}
        assert (by_id[3]["score"], by_id[3]["date"]) == ("77.00", None)
        assert by_id[running]["state"] == "Completed"
        assert by_id[new[0]]["date"].startswith("2024-05-05T")
        _, detail, _ = await visitor.ask(f"{ATTEMPTS}{running}/")
        assert (detail["state"], detail["result"]) == ("Completed", "Pass")
        assert (await visitor.ask(f"{ATTEMPTS}1/"))[0] == 404
        assert await rows(visitor, f"{ATTEMPTS}?state=0") == list(
            institute.truth.records("attempts", state=0)
        )
        assert [change.kind for change in institute.history[:4]] == ["insert", "insert", "insert", "backdate"]


async def test_content_attempts_come_and_go() -> None:
    """They can be made and deleted too, and bring their side-loads."""
    institute = Sandbox(attempts=40)
    async with visit(institute) as visitor:
        assert len(await rows(visitor, CONTENTS, "content_attempts")) == 20
        new = institute.insert_content_attempts(3)
        institute.delete_content_attempts([1, new[1]])
        found = await rows(visitor, CONTENTS, "content_attempts")
        assert [row["id"] for row in found] == [*range(2, 21), new[0], new[2]]
        with pytest.raises(LookupError):
            institute.delete_content_attempts([1])


async def test_live_institute_changes_between_requests() -> None:
    """Attempts come and go by the clock while pages are read, and the truth agrees."""
    clock = ManualClock(wall_s=1_800_000_000.0)
    live = Live(inserts_per_s=10, deletes_per_s=4, edits_per_s=2, backdated_per_s=1)
    institute = Sandbox(attempts=300, live=live, clock=clock)
    async with visit(institute) as visitor:
        counts: list[int] = []
        for _ in range(4):
            counts.append((await visitor.ask(ATTEMPTS))[1]["count"])
            await clock.advance(10.0)
        assert counts == [300, 370, 440, 510]
        found = await rows(visitor, f"{ATTEMPTS}?ordering=date")
        assert found == list(institute.truth.records("attempts", ordering="date"))
        assert len(found) == 580


# -- the rest ------------------------------------------------------------------------------------------


async def test_every_request_is_logged() -> None:
    """Method, path, query, status and bytes, the last so many of them; the counter goes on."""
    institute = Sandbox(attempts=50, log_size=2)
    async with visit(institute) as visitor:
        await visitor.ask(ATTEMPTS)
        await visitor.ask("/nowhere/?a=b", method="POST")
        _, _, response = await visitor.ask(
            ATTEMPTS, headers=visitor.headers | {"Accept-Encoding": "identity"}
        )
    assert institute.requests == 3
    last = institute.log[-1]
    assert (last.method, last.path, last.status) == ("GET", ATTEMPTS, 200)
    assert last.body_bytes == int(response.headers["Content-Length"])
    assert len(institute.log) == 2
    first = institute.log[0]
    assert (first.method, first.query, first.status) == ("POST", "a=b", 404)


async def test_ten_million_attempts_are_served_from_anywhere() -> None:
    """Pages 37,000 deep come without reading what lies before, and memory stays where it is."""
    async with visit(Sandbox(attempts=10_000_000, first_attempt_id=2**32)) as visitor:
        await visitor.ask(ATTEMPTS)
        before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for asked in ("", "&ordering=date", "&ordering=-date", "&date_0=2023-01-01"):
            _, page, _ = await visitor.ask(f"{ATTEMPTS}?page=37000{asked}")
            assert page["count"] >= 9_800_000
            assert len({row["id"] for row in page["results"]}) == 200
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 20_000


def test_address_needs_an_open_institute() -> None:
    """Before and after, there is no address, and the error says how to get one."""
    with pytest.raises(RuntimeError, match="async with Sandbox"):
        _ = Sandbox().url


async def test_institute_opens_again() -> None:
    """Closing twice is fine, and a closed institute can be opened once more with its changes."""
    institute = Sandbox(attempts=10, live=Live(inserts_per_s=1.0), clock=ManualClock())
    async with institute:
        institute.delete_attempts([1])
    await institute.__aexit__(None, None, None)
    async with visit(institute) as visitor:
        assert [row["id"] for row in await rows(visitor, ATTEMPTS)] == list(range(2, 11))


async def test_real_time_is_the_default(unused_tcp_port_factory: Callable[[], int]) -> None:
    """Without a clock of its own the institute waits and expires by the system's; the port can be chosen."""
    port = unused_tcp_port_factory()
    async with visit(Sandbox(attempts=3, latency_ms=1.0, port=port)) as visitor:
        assert visitor.institute.url == f"http://127.0.0.1:{port}"
        assert (await visitor.ask(ATTEMPTS))[0] == 200


async def test_serve_announces_and_stays_until_cancelled() -> None:
    """The command line tells address, credentials and a line to paste, then serves."""
    lines: list[str] = []
    server = asyncio.create_task(serve(Settings(attempts=1_234, password="open sesame"), lines.append))
    await until(lambda: len(lines) == 5)
    text = "\n".join(lines)
    url = lines[0].rsplit(" ", 1)[1]
    assert "1,234 attempts" in text
    account = "TESTPRESS_USERNAME=admin TESTPRESS_PASSWORD='open sesame'"
    assert lines[-1] == f"  export TESTPRESS_BASE_URL={url} {account}"
    async with aiohttp.ClientSession() as session, session.get(url + ATTEMPTS) as response:
        assert response.status == 401
    server.cancel()
    with pytest.raises(asyncio.CancelledError):
        await server
