"""`testpress check`: one line per question, stops at the first that cannot be answered."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO

import pytest
from rich.console import Console

from testpress_async.cli.check import run_checks
from testpress_async.cli.connect import Connection
from testpress_async.errors import ConfigError
from testpress_async.sandbox import Fault, Sandbox
from tests.support.exporting import ATTEMPTS, CONTENT_ATTEMPTS, SMALL


async def _check(
    institute: Sandbox, username: str | None = None, environ: Mapping[str, str] | None = None
) -> tuple[int, str]:
    file = StringIO()
    options = Connection(base_url=institute.url, username=username or institute.username)
    known = {"TESTPRESS_PASSWORD": institute.password} if environ is None else environ
    code = await run_checks(options, known, Console(file=file, soft_wrap=True, highlight=False))
    return code, file.getvalue()


async def test_a_usable_institute_is_green():
    """Everything that works has its green line with the facts."""
    async with Sandbox(**SMALL, per_page=25) as institute:
        code, text = await _check(institute)
        assert institute.url in text
    assert code == 0
    assert "✗" not in text
    assert "reached, logged in: the account may read attempts" in text
    assert "clock: within 60 s" in text
    assert "a page: 25 attempts, " in text
    assert "attempts: 60 on 3 pages" in text
    assert "content attempts: 30" in text


async def test_a_wrong_password_is_told_with_a_remedy():
    """A refused login is one red line that names it and what helps; nothing more is asked."""
    async with Sandbox(**SMALL) as institute:
        code, text = await _check(institute, environ={"TESTPRESS_PASSWORD": "wrong-one"})
        assert institute.requests == 1
    assert code == 3
    assert "✗ AuthenticationFailed: " in text
    assert "The account must be an admin" in text
    assert "wrong-one" not in text


async def test_an_account_that_is_no_admin_is_told_apart():
    """A student can log in, but not read: the line says that it takes an admin."""
    async with Sandbox(**SMALL) as institute:
        code, text = await _check(institute, username="student")
    assert code == 3
    assert "✗ admin: " in text
    assert "Use an admin account" in text


@pytest.mark.parametrize(
    ("date", "line"),
    [
        ({"Date": "Mon, 01 Jan 2001 00:00:00 GMT"}, "✗ clock: +"),
        ({"Date": "yesterday"}, "✓ clock: the server sends no date to compare with"),
    ],
)
async def test_a_clock_that_is_off_is_red(date: dict[str, str], line: str):
    """A server's date far from this machine's is told; the check goes on."""
    body = b'{"count":1,"next":null,"previous":null,"results":[]}'
    async with Sandbox(**SMALL) as institute:
        institute.script(Fault(path=ATTEMPTS, status=200, headers=date, body=body))
        code, text = await _check(institute)
    assert code == 0
    assert line in text
    assert "on 1 pages" not in text


async def test_a_later_question_can_fail_too():
    """Attempts are readable, content attempts are gone: green lines first, then a red one."""
    async with Sandbox(**SMALL) as institute:
        institute.script(Fault(path=CONTENT_ATTEMPTS, status=404, body=b"{}", times=None))
        code, text = await _check(institute)
    assert code == 4
    assert text.index("✓ attempts") < text.index("✗ NotFound: ")
    assert text.rstrip().endswith("answered 404 Check the id.")


async def test_a_missing_address_is_a_config_error():
    """Without an address there is nothing to ask."""
    with pytest.raises(ConfigError, match="--base-url"):
        await run_checks(Connection(), {}, Console(file=StringIO()))
