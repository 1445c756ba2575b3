"""`testpress check`: one line per question, green or red, with a remedy."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console

from testpress_async.cli import exits
from testpress_async.cli.connect import Connection, client_for
from testpress_async.client import Client
from testpress_async.errors import Error, PermissionDenied
from testpress_async.http.message import Request, Response
from testpress_async.http.pipeline import Handler
from testpress_async.http.wire import http_date

MAX_SKEW_S = 60.0


class _Watch:
    """Middleware: remembers the last answer's `Date`, size and time."""

    def __init__(self) -> None:
        self.skew_s: float | None = None
        self.body_bytes = 0
        self.elapsed_s = 0.0

    async def __call__(self, request: Request, handler: Handler) -> Response:
        began_s = time.monotonic()
        response = await handler(request)
        self.elapsed_s, self.body_bytes = time.monotonic() - began_s, len(response.body)
        moment = http_date(response.headers.get("Date", ""))
        self.skew_s = None if moment is None else time.time() - moment.timestamp()
        return response


async def run_checks(options: Connection, environ: Mapping[str, str], console: Console) -> int:
    """Ask one question after the other; stops at the first that cannot be answered."""
    watch = _Watch()
    client = client_for(options, environ, middleware=(watch,))
    console.print(f"[bold]{client.base_url}[/bold]")
    async with client:
        try:
            await _pages(client.with_options(timeout_s=30), watch, console)
        except PermissionDenied as error:
            _bad(console, "admin", str(error), "Use an admin account: this one can log in but not read.")
            return exits.REFUSED
        except Error as error:
            _bad(
                console,
                type(error).__name__,
                str(error),
                exits.sentence(error).removeprefix(str(error)).lstrip(". "),
            )
            return exits.code_of(error)
    return exits.DONE


async def _pages(client: Client, watch: _Watch, console: Console) -> None:
    page = await client.attempts.list()
    _good(console, "reached, logged in", "the account may read attempts")
    if watch.skew_s is None:
        _good(console, "clock", "the server sends no date to compare with")
    elif abs(watch.skew_s) > MAX_SKEW_S:
        _bad(console, "clock", f"{watch.skew_s:+,.0f} s off the server's", "Set this machine's clock.")
    else:
        _good(console, "clock", f"within {MAX_SKEW_S:.0f} s of the server's")
    _good(
        console,
        "a page",
        f"{len(page.items):,} attempts, {watch.body_bytes / 1e3:,.0f} kB, {watch.elapsed_s * 1e3:,.0f} ms",
    )
    if page.count is not None and page.per_page:
        pages = -(-page.count // page.per_page)
        _good(console, "attempts", f"{page.count:,} on {pages:,} pages")
    contents = await client.content_attempts.list().count()
    _good(console, "content attempts", f"{contents:,}")


def _good(console: Console, what: str, fact: str) -> None:
    console.print(f"[green]✓[/green] {what}: {fact}")


def _bad(console: Console, what: str, fact: str, remedy: str) -> None:
    console.print(f"[red]✗[/red] {what}: ", end="")
    console.print(f"{fact}{remedy and ' '}{remedy}", markup=False)
