"""`testpress check`: the doctor. One line a question, green, yellow or red, and what helps."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from platform import python_version
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from testpress_async._version import __version__
from testpress_async.cli import exits
from testpress_async.cli.config import password_origin
from testpress_async.cli.connect import NOT_SET, Connection, Target, client_for, reached
from testpress_async.cli.output import CONNECT, SHOW, Debug, out, print_json
from testpress_async.cli.summary import duration, size, time_for
from testpress_async.client import Client
from testpress_async.errors import AuthenticationFailed, Error, PermissionDenied
from testpress_async.harvest.plan import MAX_PAGES
from testpress_async.harvest.shard import Shard
from testpress_async.harvest.survey import Surveyor, probe, today_of
from testpress_async.http.clock import Clock, SystemClock
from testpress_async.http.events import Event, LoggedIn, Throttled
from testpress_async.http.message import Request, Response
from testpress_async.http.pipeline import Handler
from testpress_async.http.policy import RetryPolicy
from testpress_async.http.wire import http_date
from testpress_async.listing.page import Page

CLOSE_S, FAR_S = 60.0, 600.0
"""A clock further off than the first is told, than the second wrong: tokens end by it, days begin by it."""

CONNECT_S, CALL_S = 10.0, 30.0
RENEW_DAYS = 14

Verdict = Literal["ok", "warning", "bad"]
MARKS: dict[Verdict, str] = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "bad": "[red]✗[/]"}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one question. `exit_code`: what a bad one ends the check with."""

    what: str
    verdict: Verdict
    fact: str
    remedy: str = ""
    exit_code: int = exits.DONE


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """All of them, as `--json` prints them."""

    base_url: str
    findings: list[Finding]
    exit_code: int


async def check(
    *,
    sandbox: Annotated[bool, Parameter(group=CONNECT)] = False,
    json: Annotated[bool, Parameter(group=SHOW)] = False,
    connection: Connection | None = None,
    debug: Debug | None = None,
) -> int:
    """Find out whether the institute can be reached and used, and what a page costs.

    Asks for a few pages and changes nothing. A red line comes with what helps, and ends the check with an
    exit code that is not 0; a yellow one is worth knowing.

    Parameters
    ----------
    sandbox
        Check an invented institute on this machine.
    json
        Print the findings as JSON on stdout.
    """
    async with reached(connection, sandbox=sandbox) as found:
        if not json:
            out.print(found.base_url or "", style="bold", markup=False)
        doctor = Doctor(found, None if json else partial(show, out))
        await doctor.examine()
    code = next((each.exit_code for each in doctor.findings if each.verdict == "bad"), exits.DONE)
    if json:
        print_json(Checked(base_url=found.base_url or "", findings=doctor.findings, exit_code=code))
    return code


def show(console: Console, finding: Finding) -> None:
    """On a terminal long facts are folded in their column; in a log a line is a line."""
    rows = [(MARKS[finding.verdict], finding.what, Text(finding.fact))]
    if finding.remedy:
        rows.append((" ", "", Text(f"→ {finding.remedy}", style="yellow")))
    if not console.is_terminal:
        for mark, what, text in rows:
            console.print(mark, f"{what:15}", text, soft_wrap=True)
        return
    grid = Table.grid(padding=(0, 1))
    for width in (1, 15):
        grid.add_column(width=width, no_wrap=True)
    for row in rows:
        grid.add_row(*row)
    console.print(grid)


class _Watch:
    """Middleware: remembers the last answer's `Date`, size and time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.skew_s: float | None = None
        self.body_bytes = 0
        self.elapsed_s = 0.0

    async def __call__(self, request: Request, handler: Handler) -> Response:
        began_s = self._clock.now_s()
        response = await handler(request)
        self.elapsed_s, self.body_bytes = self._clock.now_s() - began_s, len(response.body)
        moment = http_date(response.headers.get("Date", ""))
        self.skew_s = None if moment is None else self._clock.wall_s() - moment.timestamp()
        return response


class Doctor:
    """Asks one question after the other; those that depend on one that failed are not asked."""

    def __init__(self, found: Target, told: Callable[[Finding], object] | None = None) -> None:
        self._found, self._told, self._watch = found, told, _Watch(SystemClock())
        self._token_lives_s: float | None = None
        self._refusals = 0
        self.findings: list[Finding] = []

    async def examine(self) -> None:
        self._note("this machine", "ok", _machine())
        client = client_for(
            self._found, middleware=(self._watch,), on_event=self._listen, retry=RetryPolicy(max_tries=2)
        )
        self._note("settings", "ok", _settings(self._found))
        if not await self._asked("address", self._address(client.base_url)):
            return
        async with client:
            await self._questions(client.with_options(timeout_s=CALL_S))

    def _listen(self, event: Event) -> None:
        if isinstance(event, LoggedIn):
            self._token_lives_s = event.lifetime_s
        elif isinstance(event, Throttled):
            self._refusals += 1

    async def _questions(self, client: Client) -> None:
        try:
            page = await client.attempts.list()
        except PermissionDenied as error:
            self._note("login", "ok", "the account can log in")
            self._bad("admin", error, "Use an admin account: this one can log in but not read.")
            return
        except Error as error:
            self._bad("login" if isinstance(error, AuthenticationFailed) else "attempts", error)
            return
        lives = "" if self._token_lives_s is None else f"; the token lives {duration(self._token_lives_s)}"
        self._note("login", "ok", f"accepted{lives}")
        self._note("admin", "ok", "the account may read attempts")
        self._clock()
        self._note("a page", "ok", _cost(page, self._watch))
        await self._asked("date filters", self._filters(client, page))
        await self._asked("whole institute", self._whole(client, page))
        self._limit(client)

    async def _asked(self, what: str, question: Awaitable[Any]) -> bool:
        try:
            await question
        except Error as error:
            self._bad(what, error)
            return False
        return self.findings[-1].verdict != "bad"

    # --- the questions -----------------------------------------------------------------------------------

    async def _address(self, origin: str) -> None:
        """The name resolves, somebody answers, and shows a certificate we trust."""
        parts = urlsplit(origin)
        host, secure = parts.hostname or "", parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        try:
            async with asyncio.timeout(CONNECT_S):
                days = await _certificate_days(host, port, secure=secure)
        except (OSError, TimeoutError) as error:
            fact, remedy = _unreachable(error, host, port)
            self._note("address", "bad", fact, remedy, exits.UNREACHABLE)
            return
        if days is None:
            self._note("address", "ok", f"{host}:{port} answers, on plain http")
        elif days < RENEW_DAYS:
            remedy = "Ask the institute to renew it."
            self._note("address", "warning", f"the certificate of {host} ends in {days} days", remedy)
        else:
            self._note("address", "ok", f"{host} answers; its certificate is good for {days:,} days")

    def _clock(self) -> None:
        skew_s = self._watch.skew_s
        if skew_s is None:
            self._note("clock", "warning", "the server sends no date to compare with")
        elif abs(skew_s) <= CLOSE_S:
            self._note("clock", "ok", f"within {CLOSE_S:.0f} s of the server's")
        else:
            verdict: Verdict = "bad" if abs(skew_s) > FAR_S else "warning"
            fact = f"{duration(abs(skew_s))} {'ahead of' if skew_s > 0 else 'behind'} the server's"
            self._note("clock", verdict, fact, "Set this machine's clock, by NTP if it can.", exits.FAILED)

    async def _filters(self, client: Client, page: Page[Any]) -> None:
        """By asking for one day of the middle."""
        if not page.count:
            self._note("date filters", "ok", "no attempts to try them on")
            return
        shard = Shard(table="attempts")
        surveyor = Surveyor(client, max_pages=MAX_PAGES, today=today_of(client))
        if await surveyor.calibrated(shard, await probe(client, shard)) is None:
            fact = "the server ignores date_0 and date_1"
            remedy = "An export reads attempts as one list; leave out --started-after, --started-before."
            self._note("date filters", "warning", fact, remedy)
        else:
            self._note("date filters", "ok", "honoured: attempts are read in windows of days")

    async def _whole(self, client: Client, page: Page[Any]) -> None:
        """Pages of both lists, and two requests an attempt for details and answers."""
        contents = await client.content_attempts.list()
        attempts = page.count or 0
        requests = _pages(page) + 2 * attempts + _pages(contents)
        fact = (
            f"{attempts:,} attempts, {contents.count or 0:,} content attempts; "
            f"{requests:,} requests or more: {time_for(requests, client.requests_per_s)}"
        )
        self._note("whole institute", "ok", fact)

    def _limit(self, client: Client) -> None:
        rate = client.requests_per_s
        if self._found.rate is not None:
            self._note("request limit", "ok", f"{self._found.rate}, as given")
        elif rate is not None:
            remedy = "Others may be using it up; an export waits as long as it is asked to."
            fact = f"{self._refusals} × 429 just now: about {rate:.3g} requests a second"
            self._note("request limit", "warning", fact, remedy)
        else:
            self._note("request limit", "ok", f"none met in {client.requests_sent} requests")

    # --- answers -----------------------------------------------------------------------------------------

    def _note(self, what: str, verdict: Verdict, fact: str, remedy: str = "", code: int = 0) -> None:
        code = code if verdict == "bad" else exits.DONE
        finding = Finding(what=what, verdict=verdict, fact=fact, remedy=remedy, exit_code=code)
        self.findings.append(finding)
        if self._told is not None:
            self._told(finding)

    def _bad(self, what: str, error: Error, remedy: str | None = None) -> None:
        code = exits.code_of(error)
        self._note(what, "bad", str(error), exits.remedy(error) if remedy is None else remedy, code)


async def _certificate_days(host: str, port: int, *, secure: bool) -> int | None:
    """Connect; the days for which the certificate is still good, None on plain http."""
    context = ssl.create_default_context() if secure else None
    _, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        certificate: dict[str, str] = writer.get_extra_info("peercert") or {}
        if "notAfter" not in certificate:
            return None
        return int((ssl.cert_time_to_seconds(certificate["notAfter"]) - SystemClock().wall_s()) // 86_400)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _unreachable(error: OSError, host: str, port: int) -> tuple[str, str]:
    """What is wrong with an address, and what helps."""
    match error:
        case socket.gaierror():
            return f"{host} does not resolve", "Check the spelling, and this machine's DNS server."
        case ssl.SSLCertVerificationError():
            remedy = "For an own CA set SSL_CERT_FILE to its certificate; else tell the institute."
            return f"the certificate of {host} is refused: {error.verify_message}", remedy
        case ssl.SSLError():
            return f"{host}:{port} does not speak TLS", "Check the scheme and the port of the address."
        case TimeoutError():
            remedy = "A firewall may drop the packets; is a proxy or a VPN needed here?"
            return f"{host}:{port} does not answer within {CONNECT_S:.0f} s", remedy
        case _:
            why = os.strerror(error.errno) if error.errno else "refused"
            return f"{host}:{port} cannot be connected to: {why}", "Check the address, and the firewall."


def _machine() -> str:
    loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    return f"testpress-async {__version__}, Python {python_version()}, {loop}"


def _settings(found: Target) -> str:
    """Where to, as whom, and who says so."""
    named = f"institute {found.institute}: " if found.institute else ""
    origin = password_origin(found)
    if found.username is None or (origin == NOT_SET and found.token):
        return f"{named}address ({found.origins['base_url']}), token ({found.origins['token']})"
    account = f"{found.username} ({found.origins['username']})"
    return f"{named}address ({found.origins['base_url']}), {account}, password ({origin})"


def _cost(page: Page[Any], watch: _Watch) -> str:
    return f"{len(page.items):,} attempts, {size(watch.body_bytes)}, {watch.elapsed_s * 1e3:,.0f} ms"


def _pages(page: Page[Any]) -> int:
    return max(1, -(-(page.count or 0) // (page.per_page or len(page.items) or 1)))
