"""The institute on a socket: aiohttp outside, `Api` inside."""

from __future__ import annotations

import asyncio
import gzip
import math
import os
import shlex
import socket
import struct
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from random import Random
from typing import Any, NoReturn, Unpack, cast

import msgspec
from aiohttp import web

from testpress_async.sandbox.api import Api, Reply, json_reply
from testpress_async.sandbox.auth import Claims, Door, Refused, Throttle
from testpress_async.sandbox.book import Book, Change, LiveChanges
from testpress_async.sandbox.data import Institute
from testpress_async.sandbox.faults import KINDS, Fault, Script, Scripted
from testpress_async.sandbox.recording import Recording
from testpress_async.sandbox.settings import Clock, Options, Settings, SystemClock
from testpress_async.sandbox.truth import Truth

_LOGIN_PATHS = tuple(f"/api/v{version}/auth-token/" for version in ("2.5", "2.3", "2.2"))
_GZIP_FROM_BYTES = 200  # as Django's middleware
_HTML = {"Content-Type": "text/html; charset=utf-8"}
_RANDOM_FAULTS = tuple(KINDS[kind].fault for kind in ("500", "502", "503", "cut"))
_RESET = struct.pack("ii", 1, 0)  # of SO_LINGER: drop what is unsent and say so


@dataclass(frozen=True, slots=True)
class Seen:
    """A request the institute answered.

    Attributes:
        at_s: When it came, in monotonic seconds of the clock.
        query: Query string as it came.
        status: 0 if the connection was dropped.
        body_bytes: Bytes of the answer's body, compressed if it was.
    """

    at_s: float
    method: str
    path: str
    query: str
    status: int
    body_bytes: int


class Sandbox:
    """A Testpress institute on loopback.

        async with Sandbox(attempts=500) as institute:
            client = Client(institute.url, username=institute.username, password=institute.password)

    Args:
        settings: Everything at once; keyword arguments are laid over it.
        clock: Moved by hand in tests.
    """

    def __init__(
        self, settings: Settings | None = None, /, *, clock: Clock | None = None, **options: Unpack[Options]
    ):
        self.settings = replace(settings or Settings(), **options)
        self.clock: Clock = clock or SystemClock()
        institute = Institute(self.settings)
        self._book = Book(institute, self.clock)
        self._api = Api(institute, self._book)
        self._answers: Api | Recording = self._api
        self.truth = Truth(self._api)
        self.log: deque[Seen] = deque(maxlen=self.settings.log_size)
        self.requests = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self._door = Door(self.settings)
        self._throttle = Throttle(self.settings.limits)
        self._script = Script()
        self._dice = Random(self.settings.seed)
        self._fault_dice = Random(self.settings.seed)  # of their own: the others fall as they always did
        self._zipped: OrderedDict[bytes, bytes] = OrderedDict()
        self._live: LiveChanges | None = None
        self._runner: web.AppRunner | None = None

    @classmethod
    def from_recording(
        cls,
        path: str | os.PathLike[str],
        settings: Settings | None = None,
        /,
        *,
        clock: Clock | None = None,
        **options: Unpack[Options],
    ) -> Sandbox:
        """An institute that gives the answers `testpress record` wrote to *path*, and 404 for all else.

        Logins, limits and faults are as in the settings, and `username`, `password` and `token` work as ever.
        Its records cannot be changed.

        Raises:
            DatasetError: The file is missing, damaged, or of another version.
        """
        institute = cls(replace(settings or Settings(), attempts=0), clock=clock, **options)
        institute._answers = Recording(path)
        institute._book = institute._api = institute.truth = cast("Any", _Unchangeable())
        return institute

    async def __aenter__(self) -> Sandbox:
        if self.settings.live is not None and self._live is None:
            self._live = LiveChanges(self.settings.live, self._book, self.clock.now_s())
        server = web.Application(client_max_size=1 << 20)
        server.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(server, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.settings.port).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    # -- what a visitor needs ------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Address of the institute.

        Raises:
            RuntimeError: If it is not open.
        """
        if self._runner is None:
            raise RuntimeError("the sandbox is not open: use `async with Sandbox(...) as institute`")
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    @property
    def username(self) -> str:
        """The admin's name."""
        return self.settings.username

    @property
    def password(self) -> str:
        """The admin's password, and the student's."""
        return self.settings.password

    # -- what a rehearsal needs ----------------------------------------------------------------------

    @property
    def history(self) -> list[Change]:
        """Everything that happened to attempts, oldest first."""
        return self._book.history

    def token(self, username: str | None = None) -> str:
        """A valid token without a login."""
        return self._door.token(username or self.username, self.clock.wall_s())

    def revoke_tokens(self) -> None:
        """Let every token handed out so far be expired."""
        self._door.revoke()

    def script(self, *faults: Fault) -> list[Scripted]:
        """Put faults in force, after those already there; the answer counts what each does."""
        return [self._script.add(fault) for fault in faults]

    def clear_faults(self) -> None:
        """Put every scripted fault out of force."""
        self._script.rules.clear()

    def insert_attempts(self, count: int, at: datetime | None = None) -> list[int]:
        """Make attempts; their ids. Without *at* they start now and are the newest."""
        return self._book.insert(count, at)

    def delete_attempts(self, attempt_ids: Iterable[int]) -> None:
        """Let attempts vanish."""
        self._book.delete(attempt_ids)

    def edit_attempt(self, attempt_id: int, **changes: object) -> None:
        """Change fields by the names they are served under; `date` takes a datetime or None."""
        self._book.edit(attempt_id, changes)

    def insert_content_attempts(self, count: int) -> list[int]:
        """Make content attempts; their ids."""
        return [self._api.insert_content() for _ in range(count)]

    def complete_content_attempts(self, content_attempt_ids: Iterable[int]) -> None:
        """Let started content attempts be completed now."""
        for content_attempt_id in content_attempt_ids:
            self._api.complete_content(content_attempt_id, round(self.clock.wall_s() * 1_000_000))

    def delete_content_attempts(self, content_attempt_ids: Iterable[int]) -> None:
        """Let content attempts vanish."""
        for content_attempt_id in content_attempt_ids:
            self._api.delete_content(content_attempt_id)

    def finish_attempt(self, attempt_id: int) -> None:
        """Let a running attempt be handed in."""
        self._book.finish(attempt_id)

    def backdate_attempts(self, count: int, share: float = 0.5) -> list[int]:
        """Make attempts with an old start, *share* of the way from the first day to now; their ids."""
        return [self._book.backdate(share) for _ in range(count)]

    # -- a request -----------------------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        at_s = self.clock.now_s()
        self.requests += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        status, size = 0, 0
        try:
            if self.settings.latency_ms:
                await self.clock.sleep(self.settings.latency_ms / 1_000)
            fault = self._fault_for(request)
            if fault.hold is not None:
                await fault.hold.wait()
            if not fault.drop:
                reply = self._zip(_changed(await self._reply(request, fault), fault), request)
                status, size = reply.status, len(reply.body)
                return await _send(request, reply, fault, self.clock)
            _hang_up(request)
            return web.Response()
        finally:
            self.in_flight -= 1
            self.log.append(Seen(at_s, request.method, request.path, request.query_string, status, size))

    def _fault_for(self, request: web.Request) -> Fault:
        scripted = self._script.fault_for(request.method, request.path, request.query_string)
        if scripted is not None:
            return scripted
        if self._dice.random() < self.settings.fail_rate:
            return self._dice.choice(_RANDOM_FAULTS)
        return self._rehearsed(request)

    def _rehearsed(self, request: web.Request) -> Fault:
        """What `Settings.faults` does to this request."""
        if not self.settings.faults:
            return Fault()
        roll, is_login = self._fault_dice.random(), request.path in _LOGIN_PATHS
        for name, share in self.settings.faults.items():
            kind = KINDS[name]
            if kind.of_logins == is_login and (roll := roll - share) < 0:
                return kind.fault
        return Fault()

    async def _reply(self, request: web.Request, fault: Fault) -> Reply:
        if fault.expire_tokens:
            self._door.revoke()
        if fault.status is not None:
            return Reply(fault.status, fault.body, fault.headers)
        if self._live is not None:
            self._live.apply(self.clock.now_s())
        path = request.path
        if path in _LOGIN_PATHS:
            return await self._log_in(request)
        if self._answers.knows(path):
            return self._serve(request)
        if self._answers.knows(path + "/") or path + "/" in _LOGIN_PATHS:
            query = f"?{request.query_string}" if request.query_string else ""
            return Reply(301, b"", {**_HTML, "Location": f"{path}/{query}"})
        return json_reply(404, {"detail": "Not found."})

    def _serve(self, request: web.Request) -> Reply:
        """Who is it, may he, not too often, what did he ask: in the order the framework asks."""
        try:
            claims = self._door.look_at(request.headers.get("Authorization"), self.clock.wall_s())
        except Refused as exc:
            return json_reply(401, {"detail": str(exc)}, {"WWW-Authenticate": 'JWT realm="api"'})
        if not self._door.is_admin(claims):
            return json_reply(403, {"detail": "You do not have permission to perform this action."})
        return self._throttled(claims) or self._get(request)

    def _get(self, request: web.Request) -> Reply:
        if request.method not in ("GET", "HEAD"):
            return _not_allowed(request.method, "GET, HEAD")
        params = {name: request.query.getall(name) for name in request.query}
        return self._answers.get(f"{request.scheme}://{request.host}", request.path, params)

    def _throttled(self, claims: Claims | None) -> Reply | None:
        wait_s = self._throttle.wait_s("" if claims is None else claims.username, self.clock.now_s())
        if wait_s is None:
            return None
        seconds = math.ceil(wait_s)
        unit = "second" if seconds == 1 else "seconds"
        detail = f"Request was throttled. Expected available in {seconds} {unit}."
        return json_reply(429, {"detail": detail}, {"Retry-After": str(seconds)})

    async def _log_in(self, request: web.Request) -> Reply:
        if request.method != "POST":
            return _not_allowed(request.method, "POST, OPTIONS")
        throttled = self._throttled(None)
        if throttled is not None:
            return throttled
        fields = await _login_fields(request)
        if isinstance(fields, Reply):
            return fields
        answer = self._door.log_in(fields, self.clock.wall_s())
        return json_reply(answer.status, answer.body)

    def _zip(self, reply: Reply, request: web.Request) -> Reply:
        accepted = "gzip" in request.headers.get("Accept-Encoding", "")
        own = "Content-Encoding" in reply.headers or reply.status != 200
        if not (self.settings.gzip and accepted) or own or len(reply.body) < _GZIP_FROM_BYTES:
            return reply
        zipped = self._zipped.get(reply.body)
        if zipped is None:
            zipped = gzip.compress(reply.body, 1, mtime=0)
            self._zipped[reply.body] = zipped
            while len(self._zipped) > self.settings.cached_pages:
                self._zipped.popitem(last=False)
        return Reply(200, zipped, {**reply.headers, "Content-Encoding": "gzip", "Vary": "Accept-Encoding"})


class _Unchangeable:
    """In place of an invented institute's records."""

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(
            "a recording stays as it is: nothing in it can be counted, inserted, changed or deleted"
        )


async def serve(settings: Settings, announce: Callable[[str], None]) -> None:
    """Keep an institute open until cancelled.

    Args:
        announce: Told, line by line, the address, the credentials and a line to paste.
    """
    async with Sandbox(settings) as institute:
        announce(f"Sandbox institute at {institute.url}")
        announce(f"  {settings.attempts:,} attempts, {settings.exams:,} exams, {settings.users:,} users")
        announce(f"  username {settings.username}, password {settings.password}")
        if settings.faults:
            announce(
                "  faults: " + ", ".join(f"{share:.0%} {kind}" for kind, share in settings.faults.items())
            )
        announce("Paste into another terminal, for testpress and your programs there:")
        announce(
            f"  export TESTPRESS_BASE_URL={institute.url} "
            f"TESTPRESS_USERNAME={shlex.quote(settings.username)} "
            f"TESTPRESS_PASSWORD={shlex.quote(settings.password)}"
        )
        await asyncio.Event().wait()


async def _login_fields(request: web.Request) -> dict[str, str] | Reply:
    """Username and password out of JSON or a form; a reply if there is nothing to read."""
    if request.content_type == "application/json":
        try:
            sent = msgspec.json.decode(await request.read())
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            return json_reply(400, {"detail": f"JSON parse error - {exc}"})
        if not isinstance(sent, dict):
            return json_reply(400, {"non_field_errors": ["Invalid data. Expected a dictionary."]})
        return _texts(sent)  # pyright: ignore[reportUnknownArgumentType]
    if request.content_type in ("application/x-www-form-urlencoded", "multipart/form-data"):
        return _texts(await request.post())
    return json_reply(415, {"detail": f'Unsupported media type "{request.content_type}" in request.'})


def _texts(sent: Mapping[str, object]) -> dict[str, str]:
    return {name: str(sent[name]) for name in ("username", "password") if sent.get(name) is not None}


def _not_allowed(method: str, allowed: str) -> Reply:
    return json_reply(405, {"detail": f'Method "{method}" not allowed.'}, {"Allow": allowed})


def _changed(reply: Reply, fault: Fault) -> Reply:
    if fault.change is None or reply.status != 200:
        return reply
    return replace(reply, body=fault.change(reply.body))


async def _send(request: web.Request, reply: Reply, fault: Fault, clock: Clock) -> web.StreamResponse:
    own_type = any(name.lower() == "content-type" for name in reply.headers)
    headers = {**({} if own_type else {"Content-Type": "application/json"}), **reply.headers}
    if fault.cut_after_bytes is None and fault.drip_s is None:
        return web.Response(status=reply.status, body=reply.body, headers=headers)
    response = web.StreamResponse(status=reply.status, headers=headers)
    response.content_length = len(reply.body)
    await response.prepare(request)
    await _send_part(response, reply.body[: fault.cut_after_bytes], fault.drip_s, clock)
    if fault.cut_after_bytes is not None:
        await _end(request, fault.then)
    return response


async def _send_part(response: web.StreamResponse, body: bytes, drip_s: float | None, clock: Clock) -> None:
    if drip_s is None:
        return await response.write(body)
    for place in range(len(body)):
        await clock.sleep(drip_s)
        await response.write(body[place : place + 1])
    return None


async def _end(request: web.Request, how: str) -> None:
    """End the connection of an answer that was cut."""
    if how == "silence":
        await asyncio.Event().wait()  # cancelled when the client has had enough
    if request.transport is None:
        return
    if how == "reset":
        if (peer := request.transport.get_extra_info("socket")) is not None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        request.transport.abort()
    else:
        request.transport.close()


def _hang_up(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
