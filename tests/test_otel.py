"""OpenTelemetry: the conventions' names, right parents under concurrency, every span ended, no secrets."""

from __future__ import annotations

import asyncio
import contextvars
import re
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv.attributes import (
    error_attributes,
    http_attributes,
    server_attributes,
    url_attributes,
)
from opentelemetry.semconv.metrics import http_metrics
from opentelemetry.trace import SpanKind, StatusCode
from yarl import URL

import testpress_async as tp
from testpress_async.otel import TRY_BUCKETS_S, Telemetry, template
from testpress_async.sandbox import Fault, RateLimit, Sandbox
from tests.support.clock import settle
from tests.support.exporting import ATTEMPTS, EXAMS, export, opened
from tests.support.pages import Pages as Mocked
from tests.support.pages import book, page
from tests.support.virtual_time import in_virtual_time

OBSERVABILITY = (Path(__file__).parent.parent / "docs/observability.md").read_text()
LOGIN = "/api/v2.5/auth-token/"


class Seen:
    """What was exported, in memory."""

    def __init__(self, **options: Any) -> None:
        self._spans, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers, self.meters = TracerProvider(), MeterProvider([self._reader])
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.tracer = self.tracers.get_tracer("test")
        self.telemetry = Telemetry(self.tracers, self.meters, **options)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._spans.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    @property
    def tries(self) -> list[ReadableSpan]:
        return [span for span in self.spans if span.kind is SpanKind.CLIENT]

    @property
    def calls(self) -> list[ReadableSpan]:
        return [span for span in self.spans if "testpress.call" in (span.attributes or {})]

    def points(self) -> Iterator[tuple[str, dict[str, Any], Any]]:
        """(metric, attributes, point) of everything measured so far."""
        data = self._reader.get_metrics_data()
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        yield metric.name, dict(point.attributes or {}), point

    def totals(self) -> Counter[str]:
        """Sums of counters and numbers of measurements, over all attributes."""
        found = Counter[str]()
        for name, _, point in self.points():
            found[name] += getattr(point, "value", None) or getattr(point, "count", 0)
        return found

    def require_all_ended(self) -> None:
        """No call is held, and the caller's context is its own again."""
        assert self.telemetry._calls == {}
        assert trace.get_current_span() is trace.INVALID_SPAN
        assert context.get_value(self.telemetry._key) is None


@asynccontextmanager
async def watched(seen: Seen, institute: Sandbox, **options: Any) -> AsyncIterator[tp.Client]:
    """A client of *institute* that is seen."""
    account = {"username": institute.username, "password": institute.password}
    hooks = {"on_event": seen.telemetry, "middleware": [seen.telemetry.middleware]}
    async with tp.Client(institute.url, **(account | hooks | options)) as client:
        yield client
    seen.require_all_ended()


def quick(**options: Any) -> Sandbox:
    return Sandbox(attempts=240, per_page=20, **options)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


# --- spans -------------------------------------------------------------------------------------------


async def test_a_call_is_a_span_with_its_tries_below_it() -> None:
    """Kinds, names and attributes are the conventions'; a login is a try of the call that needs it."""
    seen = Seen()
    async with quick() as institute, watched(seen, institute) as client:
        await client.attempts.list(exams=[1])
        host, port = URL(institute.url).host, URL(institute.url).port
        url = institute.url
    login, get, call = seen.spans
    assert (login.name, get.name) == (f"POST {LOGIN}", f"GET {ATTEMPTS}")
    assert (login.kind, get.kind, call.kind) == (SpanKind.CLIENT, SpanKind.CLIENT, SpanKind.INTERNAL)
    assert parent_of(login) == parent_of(get) == id_of(call)
    assert parent_of(call) is None
    server = {server_attributes.SERVER_ADDRESS: host, server_attributes.SERVER_PORT: port}
    assert attributes(get) == {
        **server,
        http_attributes.HTTP_REQUEST_METHOD: "GET",
        http_attributes.HTTP_RESPONSE_STATUS_CODE: 200,
        url_attributes.URL_FULL: f"{url}{ATTEMPTS}?exams=1",
        "url.template": ATTEMPTS,
    }
    number = attributes(call)["testpress.call"]
    assert attributes(call) == {
        **server,
        http_attributes.HTTP_RESPONSE_STATUS_CODE: 200,
        "url.template": ATTEMPTS,
        "testpress.call": number,
        "testpress.requests": 2,
    }
    assert {span.status.status_code for span in seen.spans} == {StatusCode.UNSET}
    assert {span.instrumentation_scope.name for span in seen.spans if span.instrumentation_scope} == {
        "testpress_async"
    }


@in_virtual_time
async def test_repeated_tries_are_numbered_and_say_what_failed() -> None:
    """A status by its number, anything else by its class; the call itself went well."""
    seen = Seen()
    async with quick() as institute, watched(seen, institute) as client:
        institute.script(Fault(path=ATTEMPTS, status=503), Fault(path=ATTEMPTS, cut_after_bytes=9))
        await client.attempts.list()
    tries = seen.named(f"GET {ATTEMPTS}")
    resent = http_attributes.HTTP_REQUEST_RESEND_COUNT
    assert [attributes(each).get(resent) for each in tries] == [None, 1, 2]
    error, status = error_attributes.ERROR_TYPE, http_attributes.HTTP_RESPONSE_STATUS_CODE
    assert [attributes(each).get(error) for each in tries] == ["503", "AnswerLost", None]
    assert [attributes(each).get(status) for each in tries] == [503, None, 200]
    failed, good = StatusCode.ERROR, StatusCode.UNSET
    assert [each.status.status_code for each in tries] == [failed, failed, good]
    (call,) = seen.calls
    assert call.status.status_code is StatusCode.UNSET
    assert attributes(call)["testpress.requests"] == 4
    assert not any(span.events for span in seen.spans), "an error's text or traceback is not exported"


async def test_a_failed_call_says_why() -> None:
    """By the class of its error, with the status, and without the text."""
    seen = Seen()
    async with quick() as institute, watched(seen, institute) as client:
        with pytest.raises(tp.NotFound):
            await client.attempts.get(999_999_999)
    (call,) = seen.calls
    assert call.name == f"testpress GET {ATTEMPTS}{{id}}/"
    assert attributes(call)["error.type"] == "NotFound"
    assert attributes(call)["http.response.status_code"] == 404
    assert (call.status.status_code, call.status.description) == (StatusCode.ERROR, None)


@in_virtual_time
async def test_a_wait_is_a_span_between_the_tries() -> None:
    """Within its call, which has the sum. What our own limiter refuses has no status."""
    seen = Seen()
    async with quick() as institute:
        rate = tp.RatePolicy(requests=1, per_s=40)
        async with watched(seen, institute, rate=rate, token=institute.token()) as client:
            await client.exams.list()
            await client.exams.list()
            with pytest.raises(tp.RateLimited):
                await client.with_options(max_wait_s=1).exams.list()
    (wait,) = seen.named("testpress wait for the limiter")
    first, second, third = seen.calls
    assert parent_of(wait) == id_of(second)
    assert "testpress.waited_s" not in attributes(first)
    assert attributes(second)["testpress.waited_s"] == pytest.approx(40, rel=0.01)
    assert attributes(third)["error.type"] == "RateLimited"
    assert "http.response.status_code" not in attributes(third)
    assert attributes(third)["testpress.requests"] == 0


async def test_a_cancelled_call_ends_all_its_spans() -> None:
    """Call and try, and a wait that never came to an end, each by CancelledError or plainly."""
    seen, hold = Seen(), asyncio.Event()
    async with quick() as institute:
        institute.script(Fault(path=EXAMS, hold=hold, times=None))
        async with watched(seen, institute, max_connections=1, token=institute.token()) as client:
            calls = [asyncio.ensure_future(client.exams.list().count()) for _ in range(2)]
            while not institute.in_flight:  # noqa: ASYNC110 - the institute's own count
                await asyncio.sleep(0.001)
            await settle()
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
            hold.set()
    assert [attributes(call)["error.type"] for call in seen.calls] == ["CancelledError"] * 2
    (sent,) = seen.tries
    assert attributes(sent)["error.type"] == "CancelledError"
    assert len(seen.named("testpress wait for the limiter")) == 1
    assert len(seen.spans) == 4


@in_virtual_time
async def test_spans_of_tasks_at_once_have_the_right_parents() -> None:
    """Prefetching and fanning out under faults and a limit: a call is below the span of who asked for it."""
    seen = Seen()
    institute = quick(rate=RateLimit(9, 60.0), faults={"503": 0.1})
    async with institute, watched(seen, institute) as client:

        async def work(number: int) -> None:
            with seen.tracer.start_as_current_span(f"work {number}") as span:
                if number % 2:
                    await client.attempts.list(exams=[number]).collect(window=4)
                else:
                    async with client.fan_out([number], client.attempts.user_answers) as results:
                        assert [each async for each in results]
                assert trace.get_current_span() is span

        await asyncio.gather(*map(work, range(1, 7)))
    workers = {id_of(span): span for span in seen.spans if span.name.startswith("work")}
    calls = {id_of(call): call for call in seen.calls}
    for call in calls.values():
        worker = workers[parent_of(call) or 0]
        number = int(worker.name.split(" ")[1])
        urls = {attributes(span).get("url.full", "") for span in seen.spans if parent_of(span) == id_of(call)}
        urls = {url for url in urls if url and not url.endswith(LOGIN)}
        assert urls
        assert all(f"exams={number}" in url or f"/{number}/user_answers/" in url for url in urls)
    below = [span for span in seen.spans if id_of(span) not in {*workers, *calls}]
    assert {parent_of(span) for span in below} == set(calls)
    for span in seen.spans:
        assert span.context is not None
        root = span
        while parent_of(root) is not None:
            root = calls.get(parent_of(root) or 0) or workers[parent_of(root) or 0]
        assert root.context is not None
        assert span.context.trace_id == root.context.trace_id
    assert len({attributes(call)["testpress.call"] for call in calls.values()}) == len(calls) > len(workers)


async def test_a_shared_call_has_its_tries_below_who_asked_first() -> None:
    """The others have spans of their own, without tries; who asked first may leave."""
    seen, hold = Seen(), asyncio.Event()
    async with quick() as institute:
        institute.script(Fault(path=EXAMS, hold=hold))
        async with watched(seen, institute, coalesce=True, token=institute.token()) as client:
            first, *others = [asyncio.ensure_future(client.exams.list().count()) for _ in range(3)]
            while not institute.in_flight:  # noqa: ASYNC110 - the institute's own count
                await asyncio.sleep(0.001)
            first.cancel()
            await asyncio.wait([first])
            hold.set()
            await asyncio.gather(*others)
    (sent,) = seen.tries
    parents = {id_of(call): attributes(call).get("error.type") for call in seen.calls}
    assert parents[parent_of(sent) or 0] == "CancelledError"
    assert Counter(parents.values()) == {"CancelledError": 1, None: 2}


async def test_a_harvest_belongs_to_the_trace_of_its_caller(tmp_path: Path) -> None:
    """Whatever tasks it makes."""
    seen = Seen()
    async with quick() as institute, watched(seen, institute) as client:
        with seen.tracer.start_as_current_span("nightly") as root:
            plan = await tp.plan(client, ["attempts"])
            await tp.harvest(client, plan, into=tp.Dataset(tmp_path), on_event=seen.telemetry)
    assert {parent_of(call) for call in seen.calls} == {root.get_span_context().span_id}
    assert len(seen.calls) > 12


# --- metrics -----------------------------------------------------------------------------------------


@in_virtual_time
async def test_measurements_agree_with_the_institute(tmp_path: Path) -> None:
    """Tries, waits, 429s, logins, pages and records, after a harvest under a limit and faults."""
    seen = Seen()
    async with quick(rate=RateLimit(9, 60.0)) as institute:
        institute.script(Fault(path=ATTEMPTS, status=503, times=2))
        async with watched(seen, institute) as client:
            assert len(await client.attempts.list().collect(window=8)) == 240
            stats = client.stats()
        statuses = Counter(each.status for each in institute.log)
    totals = seen.totals()
    assert totals["http.client.request.duration"] == statuses.total() == stats.requests
    assert totals["testpress.call.duration"] == stats.calls == 12
    assert totals["testpress.failed_tries"] == stats.repeated_tries == 2 + statuses[429]
    assert totals["testpress.throttled"] == stats.throttled == statuses[429] > 0
    assert totals["testpress.wait.duration"] == stats.waits > 0
    assert totals["testpress.logins"] == stats.logins == 1
    assert totals["testpress.pages"] == 12
    assert totals["testpress.records"] == 240
    assert totals["testpress.body.size"] > stats.received_bytes
    for name, known, point in seen.points():
        if name == "http.client.request.duration":
            assert tuple(point.explicit_bounds) == TRY_BUCKETS_S
            assert "url.full" not in known
            assert known.get("error.type") == {503: "503", 429: "429"}.get(known["http.response.status_code"])
    assert http_metrics.HTTP_CLIENT_REQUEST_DURATION in totals


async def test_a_harvest_counts_shards_and_bad_records(tmp_path: Path) -> None:
    """By table, and by what was proved."""
    seen = Seen()
    async with opened() as (institute, client):
        body = page([1, {"a": 1}])
        institute.script(Fault(path=EXAMS, status=200, body=body, times=None))
        await export(client, tmp_path, "exams", on_event=[seen.telemetry])
    points = {name: (known, point.value) for name, known, point in seen.points()}
    of_exams = {"testpress.table": "exams"}
    assert points == {
        "testpress.harvest.shards": ({**of_exams, "testpress.status": "certified"}, 1),
        "testpress.harvest.quarantined_records": (of_exams, 1),
    }


async def test_few_different_metrics_however_many_records() -> None:
    """Ids in paths, and queries, make no time series of their own."""
    seen = Seen()
    async with quick() as institute, watched(seen, institute) as client:
        for attempt in (await client.attempts.list()).items[:9]:
            await client.attempts.get(attempt.id)
            await client.attempts.user_answers(attempt.id)
    templates = {known["url.template"] for _, known, _ in seen.points() if "url.template" in known}
    assert templates == {LOGIN, ATTEMPTS, f"{ATTEMPTS}{{id}}/", "/api/v3/admin/attempts/{id}/user_answers/"}


def test_the_page_names_every_metric_with_its_unit() -> None:
    """And no other."""
    shown = re.findall(r"^\| ((?:`[a-z_.]+`(?:, )?)+) \| (\S*) ?\|", OBSERVABILITY, re.MULTILINE)
    units = {name: unit for names, unit in shown for name in re.findall(r"`([a-z_]+\.[a-z_.]+)`", names)}
    made = {meter.name: meter.unit for meter in vars(Seen().telemetry._meters).values()}
    assert set(units) == set(made)
    assert {name: unit for name, unit in made.items() if units[name]} == {n: u for n, u in units.items() if u}


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/api/v2.5/admin/attempts/5/?page=2", "/api/v2.5/admin/attempts/{id}/"),
        ("/api/v3/admin/attempts/12/video-conference", "/api/v3/admin/attempts/{id}/video-conference"),
        ("/a/1/2", "/a/{id}/{id}"),
        ("/a?x=/1/", "/a"),
    ],
)
def test_templates(target: str, expected: str) -> None:
    """Numbers between slashes are ids; versions are not."""
    assert template(target) == expected


# --- discretion --------------------------------------------------------------------------------------


@in_virtual_time
async def test_nothing_secret_or_personal_is_exported() -> None:
    """Neither what was sent nor what a server echoes, on spans or metrics."""
    seen = Seen()
    async with quick() as institute:
        said = f"No asha-SECRET@x.org, password {institute.password}, JWT {institute.token()}"
        echo = msgspec.json.encode({"detail": said})
        institute.script(Fault(path="/api/v2.5/admin/users/", status=400, body=echo))
        institute.script(Fault(path="/api/v2.5/admin/courses/", status=500, body=echo, times=None))
        async with watched(seen, institute) as client:
            for listing in (client.users.list(q="asha-SECRET"), client.courses.list(q="asha-SECRET")):
                with pytest.raises(tp.StatusError):
                    await listing
            await client.users.list(email="asha-SECRET@x.org")
        secrets = ["asha", "SECRET", "%40", institute.password, "JWT", "eyJ"]
    exported = "".join(span.to_json() for span in seen.spans) + repr(list(seen.points()))
    assert [secret for secret in secrets if secret in exported.replace("testpress.sandbox", "")] == []
    assert "?email=REDACTED" in exported


async def test_the_institute_sees_no_trace_unless_asked() -> None:
    """`propagate` sends the try's ids, and never the baggage."""
    for propagate in (False, True):
        seen, sent = Seen(propagate=propagate), list[dict[str, str]]()

        async def spy(request: tp.Request, handler: tp.Handler, sent: Any = sent) -> tp.Response:
            sent.append({name.lower(): value for name, value in request.headers.items()})
            return await handler(request)

        attached = context.attach(baggage.set_baggage("user", "asha"))
        try:
            async with quick() as institute:
                account = {"username": institute.username, "password": institute.password}
                async with tp.Client(
                    institute.url,
                    **account,
                    on_event=seen.telemetry,
                    middleware=[seen.telemetry.middleware, spy],
                ) as client:
                    await client.exams.list()
        finally:
            context.detach(attached)
        assert len(sent) == len(seen.tries) == 2
        assert sent[1]["authorization"].startswith("JWT ")
        for headers, span in zip(sent, seen.tries, strict=True):
            at = span.context
            assert at is not None
            ids = f"00-{at.trace_id:032x}-{at.span_id:016x}-{at.trace_flags:02x}"
            assert headers.get("traceparent") == (ids if propagate else None)
            assert not {"baggage", "tracestate"} & set(headers)


# --- odd uses ----------------------------------------------------------------------------------------


async def test_half_of_it_does_half_and_no_harm() -> None:
    """Only the observer: calls without tries. Only the middleware: nothing. Without an SDK: nothing."""
    seen = Seen()
    async with Mocked(book([1])).client(on_event=seen.telemetry) as client:
        await client.attempts.list()
    assert [len(seen.calls), len(seen.tries)] == [1, 0]
    seen = Seen()
    async with quick() as institute:
        token = institute.token()
        async with tp.Client(institute.url, token=token, middleware=[seen.telemetry.middleware]) as client:
            await client.exams.list()
        assert seen.spans == []
        bare = Telemetry()
        async with tp.Client(
            institute.url, token=token, on_event=bare, middleware=[bare.middleware]
        ) as client:
            await client.exams.list()


async def test_a_call_that_is_thrown_away_ends_its_span() -> None:
    """A coroutine closed by hand, elsewhere than it ran: the context there stays as it is."""
    seen = Seen()
    async with Mocked(book([1])).client(on_event=seen.telemetry, retry=tp.RetryPolicy(max_tries=1)) as client:
        stuck = client._caller.get("/api/v2.5/admin/attempts/").__await__()
        contextvars.copy_context().run(next, stuck)
        with seen.tracer.start_as_current_span("elsewhere"):
            here = trace.get_current_span()
            stuck.close()
            assert trace.get_current_span() is here
    (call,) = seen.calls
    assert attributes(call)["error.type"] == "GeneratorExit"
    seen.require_all_ended()


async def test_a_processor_that_raises_costs_its_span_only(caplog: pytest.LogCaptureFixture) -> None:
    """Not the request, and not the caller's context."""

    class Broken(SpanProcessor):
        def on_start(self, span: Span, parent_context: context.Context | None = None) -> None:
            raise ZeroDivisionError

        def on_end(self, span: ReadableSpan) -> None:
            raise ZeroDivisionError

    class AtEnd(Broken):
        def on_start(self, span: Span, parent_context: context.Context | None = None) -> None:
            pass

    for processor in (Broken(), AtEnd()):
        seen = Seen()
        seen.tracers.add_span_processor(processor)
        async with quick() as institute, watched(seen, institute) as client:
            assert await client.exams.list().count() == 8
    assert "on_event failed on RequestStarted" in caplog.text
    assert "OpenTelemetry failed; the request goes on" in caplog.text


def test_without_the_extra_the_remedy_is_named() -> None:
    """An error of ours, and the rest of the package works."""
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "import testpress_async as tp\n"
        "try:\n    import testpress_async.otel\n"
        "except tp.ConfigError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "testpress_async.otel: needs the extra: pip install 'testpress-async[otel]'\n"
