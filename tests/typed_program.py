"""Uses every public name as a user would, with the types he may rely on.

`tests/test_typed_program.py` has pyright and mypy read it in their strict modes, and runs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import assert_type

import testpress_async as tp

# --- settings and what stands in the way of a request ------------------------------------------------

TIMEOUTS = tp.Timeouts(total_s=60, try_s=10)
RETRY = tp.RetryPolicy(max_tries=3, first_s=0.01)
RATE = tp.RatePolicy(limits=((1_000, 1.0), (50_000, 60.0)))

assert_type(TIMEOUTS.total_s, float)
assert_type(RETRY.max_tries, int)
assert_type(RATE.known, tuple[tp.Limit, ...])
assert_type(tp.__version__, str)


async def traced(request: tp.Request, handler: tp.Handler) -> tp.Response:
    """A middleware of the user's own."""
    assert_type(request.target, str)
    response = await handler(request)
    assert_type(response, tp.Response)
    assert_type(response.status, int)
    assert_type(response.headers, Mapping[str, str])
    return response


MIDDLEWARE: tp.Middleware = traced


def observe(event: tp.Event) -> str:
    """Every kind of fact."""
    match event:
        case tp.RequestStarted():
            return event.method
        case tp.RequestFinished():
            assert_type(event.status, int | None)
            return event.url
        case tp.TryFailed():
            assert_type(event.wait_s, float)
            return event.error
        case tp.RateWaiting() | tp.RateWaited() | tp.Throttled() | tp.LoggedIn():
            return type(event).__name__
        case tp.PageRead():
            assert_type(event.count, int | None)
            return f"{event.records} records"
        case tp.TableStarted() | tp.RowsRead() | tp.ShardFinished() | tp.TableFinished():
            return assert_type(event.table, str)
        case tp.RecordQuarantined():
            return event.table
        case tp.FileStarted():
            return event.name
        case tp.PartsCommitted():
            return str(assert_type(event.records, int))
        case _:
            return "new in a later version"


# --- records -----------------------------------------------------------------------------------------


def read_attempt(attempt: tp.Attempt) -> Decimal:
    assert_type(attempt.id, int)
    assert_type(attempt.date, datetime | None)
    assert_type(attempt.score, Decimal | None)
    assert_type(attempt.raw_score, int | float | str | None)
    assert_type(attempt.time_taken, timedelta | None)
    assert_type(attempt.state, tp.AttemptState | None)
    assert_type(attempt.result, tp.AttemptResult | None)
    assert_type(attempt.rank, int | None)
    if attempt.state is not None and not attempt.state.is_known:
        assert_type(attempt.state.code, int | None)
    completed = attempt.completed_on
    assert_type(completed, datetime | tp.UnsetType | None)
    if completed is tp.UNSET:
        return Decimal(0)
    return attempt.score or Decimal(0)


def read_detail(detail: tp.AttemptDetail) -> list[str | None]:
    first: tp.Attempt = detail
    assert_type(detail.sections, tuple[tp.AttemptSection, ...] | None)
    assert_type(detail.subject_stats, tuple[tp.SubjectStats, ...] | None)
    assert_type(detail.difficulty_level_stats, dict[str, tp.DifficultyStats] | None)
    assert_type(detail.percentile, Decimal | None)
    read_attempt(first)
    return [stats.subject_name for stats in detail.subject_stats or ()]


def read_answer(answer: tp.UserAnswer) -> bool:
    assert_type(answer.result, tp.AnswerResult | None)
    assert_type(answer.duration, timedelta | None)
    assert_type(answer.files, tuple[str | tp.AnswerFile, ...] | tp.UnsetType | None)
    assert_type(answer.gap_fill_responses, tuple[tp.GapFillResponse, ...] | tp.UnsetType | None)
    question = answer.question
    assert_type(question, tp.ExamQuestion | None)
    if question is not None:
        assert_type(question.answers, tuple[tp.AnswerChoice, ...] | None)
        assert_type(question.marks, Decimal | None)
    return answer.result == tp.AnswerResult.CORRECT


def read_content_attempt(attempt: tp.ContentAttempt) -> str:
    assert_type(attempt.state, tp.ContentAttemptState | None)
    assert_type(attempt.content_type, tp.ContentAttemptType | None)
    assert_type(attempt.user, tp.User | None)
    assert_type(attempt.course, tp.Course | None)
    assert_type(attempt.user_exam, tp.UserExam | None)
    assert_type(attempt.user_video, tp.UserVideo | None)
    conference = attempt.user_video_conference
    assert_type(conference, tp.UserVideoConference | None)
    if conference is not None:
        assert_type(conference.video_conference, tp.VideoConference | None)
    stream = attempt.user_live_stream
    assert_type(stream, tp.UserLiveStream | None)
    if stream is not None:
        assert_type(stream.live_stream, tp.LiveStream | None)
    content = attempt.chapter_content
    assert_type(content, tp.ChapterContent | None)
    if content is not None and content.content_type is not None:
        assert_type(content.content_type, tp.ChapterContentType)
        assert_type(content.content_type.kind, tp.ContentType | None)
    return repr(attempt)


def first_id(records: Sequence[tp.Record]) -> object:
    return getattr(records[0], "id", None) if records else None


# --- lists, fan-out, errors --------------------------------------------------------------------------


async def read_lists(client: tp.Client) -> None:
    attempts = client.attempts.list(
        state=tp.AttemptState.COMPLETED, started_after=date(2020, 1, 1), ordering=tp.AttemptOrder.NEWEST_FIRST
    )
    assert_type(attempts, tp.Listing[tp.Attempt])
    page = await attempts
    assert_type(page, tp.Page[tp.Attempt])
    assert_type(page.items, Sequence[tp.Attempt])
    assert_type(page.rejected, tuple[tp.DecodeFailed, ...])
    assert_type(await attempts.count(), int)
    assert_type(await attempts.collect(max_items=3), list[tp.Attempt])
    async for attempt in attempts.prefetch(4):
        assert_type(attempt, tp.Attempt)
        read_attempt(attempt)
    async for later in attempts.resume(page.token).pages(window=2):
        assert_type(later, tp.Page[tp.Attempt])
    async for raw in attempts.raw_pages():
        assert_type(raw, tp.RawPage)
        break
    read_detail(await client.attempts.get(page.items[0].id))
    async for content in client.content_attempts.list(content_type=tp.ContentType.VIDEO):
        read_content_attempt(content)
    async for row in client.video_conferences.attendees(1):
        assert_type(row, tp.Attendance)
        assert_type(row.join_time, datetime | None)
    assert_type(await client.exams.list(), tp.Page[tp.Exam])
    assert_type(await client.users.list(), tp.Page[tp.User])
    assert_type(await client.courses.list(), tp.Page[tp.Course])
    assert_type(client.stats(), tp.Stats)


async def read_answers(client: tp.Client, ids: list[int]) -> int:
    fan_out = client.fan_out(ids, client.attempts.user_answers, on_error="collect")
    assert_type(fan_out, tp.FanOut[int, tp.UserAnswer])
    right, found = 0, list[tp.UserAnswer]()
    async with fan_out as answers:
        async for attempt_id, answer in answers:
            assert_type(attempt_id, int)
            right += read_answer(answer)
            found.append(answer)
    assert_type(fan_out.errors, list[tuple[int, tp.Error]])
    assert tp.to_arrow(found, tp.UserAnswer).num_rows == len(found)
    return right


def advice(error: tp.Error) -> str | float | None:
    """What each error tells beyond its text."""
    match error:
        case tp.RateLimited():
            return assert_type(error.retry_after_s, float | None)
        case tp.AuthenticationFailed() | tp.PermissionDenied() | tp.BadRequest() | tp.NotFound():
            return assert_type(error.detail, str)
        case tp.ServerFault() | tp.StatusError():
            return assert_type(error.status, int)
        case tp.NotJSON() | tp.DecodeFailed():
            assert_type(error.raw, bytes)
            return error.path
        case tp.TimedOut():
            return f"{error.limit} {assert_type(error.sent, bool)}"
        case tp.ConnectionFailed() | tp.AnswerLost():
            return f"{error.reason} {assert_type(error.permanent, bool)}"
        case tp.ForeignOrigin():
            return error.location
        case tp.BodyTooLarge():
            return assert_type(error.limit_bytes, int)
        case tp.ListingChanged():
            return assert_type(error.page, int)
        case tp.DatasetError():
            return error.remedy
        case tp.ConfigError():
            return error.parameter
        case _:
            return assert_type(error.resume_token, str | None)


# --- exports -----------------------------------------------------------------------------------------


async def export(client: tp.Client, place: Path) -> int:
    dataset = tp.Dataset(place)
    plan = await tp.plan(client, ["attempts", "user_answers"], exams=[1], into=dataset)
    assert_type(plan, tp.Plan)
    assert_type(plan.costs, tuple[tp.TablePlan, ...])
    report = await tp.harvest(client, plan, into=dataset, on_event=observe)
    assert_type(report, tp.Report)
    for table in report.tables:
        assert_type(table, tp.TableReport)
        assert_type(table.changes, tp.Changes | None)
    assert_type(report.unknown_fields, tuple[tp.UnknownField, ...])
    assert_type(dataset.report(), tp.Report | None)
    return report.records


async def hand_on(client: tp.Client) -> int:
    rows = 0
    plan = await tp.plan(client, ["attempts"], exams=[1])
    stream = tp.harvest_stream(client, plan, concurrency=2)
    assert_type(stream, tp.HarvestStream)
    async with stream as shards:
        async for read in shards:
            assert_type(read, tp.ReadShard)
            assert_type(read.shard, tp.Shard)
            assert_type(read.bad, tuple[tp.BadRecord, ...])
            assert_type(read.records(tp.Attempt), list[tp.Attempt])
            rows += len(read.records())
            first_id(read.records())
    return rows


async def main(place: Path) -> None:
    async with tp.Client.from_env(
        timeouts=TIMEOUTS, retry=RETRY, rate=RATE, middleware=[MIDDLEWARE], on_event=observe
    ) as client:
        assert_type(client, tp.Client)
        quick = client.with_options(timeout_s=30, priority="interactive")
        await read_lists(quick)
        print(await read_answers(client, [1, 2, 3]) >= 0)
        print(await export(client, place) > 0, await hand_on(client) > 0)
        try:
            await client.attempts.get(10**12)
        except tp.Error as error:
            print(advice(error))


if __name__ == "__main__":
    asyncio.run(main(Path("typed-out")))
