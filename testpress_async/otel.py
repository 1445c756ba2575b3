"""OpenTelemetry for a client: spans and metrics after the HTTP semantic conventions. Needs the extra `otel`.

    telemetry = Telemetry()
    async with tp.Client(..., on_event=telemetry, middleware=[telemetry.middleware]) as client: ...

A call is a span of the caller's trace. Its tries (logins and redirects, too) and its waits for the limiter
are its children. No attribute holds a token, a record's value or a personal filter.
Source: https://opentelemetry.io/docs/specs/semconv/http/ (HTTP spans, HTTP metrics).
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Generator
from contextvars import Token
from typing import NamedTuple

import msgspec

from testpress_async._version import __version__
from testpress_async.errors import ConfigError
from testpress_async.harvest.report import RecordQuarantined, ShardFinished
from testpress_async.http.clock import SystemClock
from testpress_async.http.events import (
    CallEvent,
    Event,
    LoggedIn,
    PageRead,
    RateWaited,
    RateWaiting,
    RequestFinished,
    RequestStarted,
    Throttled,
    TryFailed,
)
from testpress_async.http.logs import EVENTS, tell
from testpress_async.http.message import Request, Response
from testpress_async.http.pipeline import Handler
from testpress_async.http.redirects import origin_of

try:
    from opentelemetry import context, metrics, trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    raise ConfigError(
        "testpress_async.otel", "needs the extra: pip install 'testpress-async[otel]'"
    ) from None

Attributes = dict[str, str | int | float]

NAME, SCHEMA = "testpress_async", "https://opentelemetry.io/schemas/1.40.0"
TRY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""As the conventions recommend."""
WAIT_BUCKETS_S = (*TRY_BUCKETS_S, 30, 60, 120, 300)

_ID = re.compile(r"/\d+(?=/|$)")


class Telemetry:
    """An observer and a middleware that belong together; several clients may share one.

    Args:
        tracer_provider, meter_provider: Those that `opentelemetry` has for the process by default.
        propagate: Send `traceparent` and `tracestate` to the institute, which then sees your trace's ids and
            can join it. Baggage is never sent.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        *,
        propagate: bool = False,
    ) -> None:
        self._tracer = trace.get_tracer(NAME, __version__, tracer_provider, SCHEMA)
        self._meters = _Meters(metrics.get_meter(NAME, __version__, meter_provider, SCHEMA))
        self._propagator = TraceContextTextMapPropagator() if propagate else None
        self._clock = SystemClock()
        self._calls: dict[int, _Call] = {}
        self._key = context.create_key("testpress_async.call")

    def __call__(self, event: Event) -> None:
        """The observer: for `on_event` of a client, and of `harvest`."""
        if isinstance(event, RequestStarted):
            self._begin(event)
        call = self._calls.get(event.call) if isinstance(event, CallEvent) else None
        match event:
            case RateWaiting() if call:
                parent = trace.set_span_in_context(call.span)
                call.wait = self._tracer.start_span("testpress wait for the limiter", parent)
            case RateWaited() if call:
                call.waited_s += event.waited_s
                call.end_wait()
            case RequestFinished() if call:
                self._end(event, call)
            case _:
                pass
        self._meters.count(event, call.known if call else {})

    async def middleware(self, request: Request, handler: Handler) -> Response:
        """A CLIENT span and a duration for each try: for `middleware`, last, to see what is sent."""
        call = context.get_value(self._key)
        this_try = self._begin_try(request, call) if isinstance(call, _Call) else None
        if this_try is None:
            return await handler(request)
        try:
            with trace.use_span(this_try.span, record_exception=False, set_status_on_exception=False):
                response = await handler(self._marked(request))
        except BaseException as error:
            self._end_try(this_try, _outcome(None, type(error).__name__))
            raise
        status = response.status
        self._end_try(this_try, _outcome(status, str(status) if status >= 400 else None))
        return response

    def _begin_try(self, request: Request, call: _Call) -> _Try | None:
        with _harmless():
            known = call.of_try(request)
            name, kind = f"{request.method} {known['url.template']}", trace.SpanKind.CLIENT
            attributes = {**known, **call.of_span(request)}
            span = self._tracer.start_span(name, kind=kind, attributes=attributes)
            call.sent[request.signed] += 1
            return _Try(span, known, self._clock.now_s())
        return None

    def _end_try(self, this_try: _Try, outcome: Attributes) -> None:
        with _harmless():
            elapsed_s = self._clock.now_s() - this_try.began_s
            self._meters.try_s.record(elapsed_s, {**this_try.known, **outcome})
            _end(this_try.span, outcome)

    def _marked(self, request: Request) -> Request:
        if self._propagator is None:
            return request
        carrier = dict[str, str]()
        self._propagator.inject(carrier)
        return msgspec.structs.replace(request, headers={**request.headers, **carrier})

    def _begin(self, event: RequestStarted) -> None:
        call = self._calls[event.call] = _Call(event, self._tracer)
        current = trace.set_span_in_context(call.span)
        call.token = context.attach(context.set_value(self._key, call, current))

    def _end(self, event: RequestFinished, call: _Call) -> None:
        del self._calls[event.call]
        if call.token and context.get_value(self._key) is call:  # else thrown away, and ended elsewhere
            context.detach(call.token)
        call.end_wait()
        call.span.set_attribute("testpress.requests", sum(call.sent.values()))
        if call.waited_s:
            call.span.set_attribute("testpress.waited_s", call.waited_s)
        _end(call.span, _outcome(event.status, event.error))


class _Call:
    """A call that runs. A login belongs to the call that needed it first."""

    def __init__(self, event: RequestStarted, tracer: trace.Tracer) -> None:
        _, host, port = origin_of(event.origin) or ("", event.origin, 0)
        self.origin, path = event.origin, template(event.url)
        self.known: Attributes = {"server.address": host, "server.port": port, "url.template": path}
        attributes = {**self.known, "testpress.call": event.call}
        self.span = tracer.start_span(f"testpress {event.method} {path}", attributes=attributes)
        self.wait: trace.Span | None = None
        self.waited_s = 0.0
        self.sent = {True: 0, False: 0}  # signed requests and logins
        self.token: Token[context.Context] | None = None

    def of_try(self, request: Request) -> Attributes:
        """What span and metric of a try have in common."""
        path = template(request.target)  # a login's or a redirect's is another than the call's
        return {**self.known, "http.request.method": request.method, "url.template": path}

    def of_span(self, request: Request) -> Attributes:
        """What only the span of a try has."""
        attributes: Attributes = {"url.full": self.origin + request.shown.replace("=…", "=REDACTED")}
        if resent := self.sent[request.signed]:
            attributes["http.request.resend_count"] = resent
        return attributes

    def end_wait(self) -> None:
        if self.wait:
            self.wait.end()
            self.wait = None


class _Try(NamedTuple):
    span: trace.Span
    known: Attributes
    began_s: float


class _Meters:
    """Every instrument, and what each event adds to it."""

    def __init__(self, meter: metrics.Meter) -> None:
        def seconds(name: str, description: str, buckets: tuple[float, ...]) -> metrics.Histogram:
            return meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=buckets)

        count = meter.create_counter
        self.try_s = seconds("http.client.request.duration", "One try.", TRY_BUCKETS_S)
        self.call_s = seconds("testpress.call.duration", "A call: tries and waits.", WAIT_BUCKETS_S)
        self.wait_s = seconds("testpress.wait.duration", "A try's wait for the limiter.", WAIT_BUCKETS_S)
        self.failed = count("testpress.failed_tries", "{try}", "Tries that failed and are repeated.")
        self.throttled = count("testpress.throttled", "{response}", "Answers 429.")
        self.logins = count("testpress.logins", "{login}", "Logins that brought a token.")
        self.body = count("testpress.body.size", "By", "Bodies of good answers, decoded.")
        self.pages = count("testpress.pages", "{page}", "Pages read.")
        self.records = count("testpress.records", "{record}", "Good records on them.")
        self.rejected = count("testpress.rejected_records", "{record}", "Those that could not be decoded.")
        self.shards = count("testpress.harvest.shards", "{shard}", "Shards finished.")
        self.bad = count("testpress.harvest.quarantined_records", "{record}", "Records put away.")

    def count(self, event: Event, known: Attributes) -> None:
        """*known*: of the event's call."""
        match event:
            case TryFailed():
                self.failed.add(1, {**known, "error.type": event.error})
            case RateWaited():
                self.wait_s.record(event.waited_s, known)
            case Throttled():
                self.throttled.add(1, known)
            case LoggedIn():
                self.logins.add(1, known)
            case RequestFinished():
                self.body.add(event.body_bytes, known)
                self.call_s.record(event.elapsed_s, {**known, **_outcome(None, event.error)})
            case PageRead():
                of_list: Attributes = {"url.template": template(event.url)}
                self.pages.add(1, of_list)
                self.records.add(event.records, of_list)
                self.rejected.add(event.rejected, of_list)
            case ShardFinished():
                self.shards.add(1, {"testpress.table": event.table, "testpress.status": event.status})
            case RecordQuarantined():
                self.bad.add(1, {"testpress.table": event.table})
            case _:
                pass


def template(target: str) -> str:
    """The path of *target* with `{id}` for ids: few different ones, so that metrics stay small."""
    return _ID.sub("/{id}", target.partition("?")[0])


@contextlib.contextmanager
def _harmless() -> Generator[None]:
    """A sampler or processor that raises must not end the request. (Observers are guarded anyway.)"""
    try:
        yield
    except Exception:
        tell(EVENTS, logging.ERROR, "OpenTelemetry failed; the request goes on", exc_info=True)


def _outcome(status: int | None, error: str | None) -> Attributes:
    outcome: Attributes = {} if status is None else {"http.response.status_code": status}
    return outcome if error is None else {**outcome, "error.type": error}


def _end(span: trace.Span, outcome: Attributes) -> None:
    span.set_attributes(outcome)
    if "error.type" in outcome:
        span.set_status(trace.StatusCode.ERROR)
    span.end()
