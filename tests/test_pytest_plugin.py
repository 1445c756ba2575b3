"""The pytest plugin, in runs of its own: with every plugin for async tests, and without any."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.support import whole as _  # noqa: F401

pytest_plugins = "pytester"

ROOT = Path(__file__).parent.parent
LOOP = "asyncio_default_fixture_loop_scope=function"

TEST_FILE = """
import urllib.error, urllib.request
import pytest
import testpress_async as tp
from testpress_async.testing import FastClock

{marks}

@{fixture}
async def newest(testpress_client):
    return await testpress_client.attempts.list(ordering="-date").collect(max_items=1)

@pytest.mark.testpress(attempts=260, faults={{"503": 0.3}})
async def test_client(testpress_client, testpress_institute, testpress_clock, newest):
    assert isinstance(testpress_client, tp.Client)
    assert isinstance(testpress_clock, FastClock)
    assert len([a async for a in testpress_client.attempts.list()]) == 260
    assert testpress_institute.settings.attempts == 260
    assert len(newest) == 1

@pytest.mark.testpress(attempts=7)
class TestNear:
    async def test_far(self, testpress_client):
        assert await testpress_client.attempts.list().count() == 7

    @pytest.mark.testpress(exams=2)
    async def test_laid_over(self, testpress_client, testpress_institute):
        assert (await testpress_client.attempts.list().count(), testpress_institute.settings.exams) == (7, 2)

async def test_institute_alone(testpress_institute):
    async with tp.Client(testpress_institute.url, token=testpress_institute.token()) as client:
        assert await client.attempts.list().count() == 2000
"""

PLAIN = """
import urllib.error, urllib.request
import pytest
from testpress_async.testing import Settings

@pytest.fixture
def testpress_settings():
    return Settings(attempts=5)

@pytest.mark.testpress(exams=1)
def test_plain(testpress_institute):
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(testpress_institute.url + "/api/v2.5/admin/attempts/")
    assert testpress_institute.log[-1].status == 401
    assert (testpress_institute.settings.attempts, testpress_institute.settings.exams) == (5, 1)

def test_client(testpress_client): ...
async def test_nobody(testpress_client): ...
async def test_no_loop(testpress_institute): ...
@pytest.mark.testpress(attempt=3)
def test_no_such_setting(testpress_institute): ...
@pytest.mark.testpress(60)
def test_no_keyword(testpress_institute): ...
@pytest.mark.testpress(faults={"504": 1.0})
def test_no_such_fault(testpress_institute): ...
"""

WRONG = {
    "test_client": "testpress_client: is for async tests; in others use `testpress_institute`",
    "test_nobody": "testpress_client: no plugin runs this async test. Mark it with @pytest.mark.anyio*",
    "test_no_loop": "testpress_institute: no plugin runs this async test. Mark it with @pytest.mark.anyio*",
    "test_no_such_setting": "testpress_institute: *unexpected keyword argument 'attempt'*",
    "test_no_keyword": "testpress_institute: the marker `testpress` takes keywords only, such as attempts=60",
    "test_no_such_fault": "testpress_institute: *faults: there is no '504'; there are hang-up, *",
}


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    """A run within this process, in which warnings are errors."""
    return pytester.runpytest_inprocess("-p", "pytest_testpress", "-p", "no:cacheprovider", *options)


@pytest.fixture(autouse=True)
def ini(pytester: pytest.Pytester) -> None:
    """What a careful project sets."""
    pytester.makepyprojecttoml(
        "[tool.pytest.ini_options]\nfilterwarnings = ['error']\naddopts = '--strict-markers'\n"
    )


def test_pytest_asyncio_in_auto_mode(pytester: pytest.Pytester) -> None:
    """Fixtures, own async fixtures over them, markers near and far, in any order."""
    pytester.makepyfile(TEST_FILE.format(marks="", fixture="pytest.fixture"))
    run(pytester, "-o", "asyncio_mode=auto", "-o", LOOP, "-p", "randomly").assert_outcomes(passed=4)


@pytest.mark.parametrize("scope", ["function", "module"])
def test_pytest_asyncio_in_strict_mode(pytester: pytest.Pytester, scope: str) -> None:
    """The same with marks, also in a loop that all tests of a module share."""
    mark = f"pytestmark = pytest.mark.asyncio(loop_scope='{scope}')\nimport pytest_asyncio"
    fixture = f"pytest_asyncio.fixture(loop_scope='{scope}')"
    pytester.makepyfile(TEST_FILE.format(marks=mark, fixture=fixture))
    run(pytester, "-o", "asyncio_default_fixture_loop_scope=session").assert_outcomes(passed=4)


@pytest.mark.parametrize(
    "other", [("-p", "no:asyncio"), ("-o", "asyncio_default_fixture_loop_scope=function")]
)
def test_anyio(pytester: pytest.Pytester, other: tuple[str, str]) -> None:
    """anyio's plugin, which is always there, runs them too, beside pytest-asyncio or alone."""
    pytester.makepyfile(TEST_FILE.format(marks="pytestmark = pytest.mark.anyio", fixture="pytest.fixture"))
    run(pytester, *other).assert_outcomes(passed=4)


def test_tests_that_are_not_async(pytester: pytest.Pytester) -> None:
    """They get an institute that answers from a thread; whatever cannot be is said in one line."""
    pytester.makepyfile(PLAIN)
    result = run(pytester, "-p", "no:asyncio")
    result.assert_outcomes(passed=1, errors=len(WRONG))
    for test, line in WRONG.items():
        result.stdout.fnmatch_lines([f"*ERROR at setup of {test} *", line], consecutive=True)


def test_two_plugins_that_claim_a_test(pytester: pytest.Pytester) -> None:
    """pytest-asyncio in auto mode takes tests that are marked for anyio as well: it says so."""
    pytester.makepyfile("import pytest\n@pytest.mark.anyio\nasync def test(testpress_client): ...")
    result = run(pytester, "-o", "asyncio_mode=auto", "-o", LOOP)
    result.stdout.fnmatch_lines(["testpress_client: pytest-asyncio and anyio both claim this test: *"])


def test_trio_is_refused(pytester: pytest.Pytester) -> None:
    """The client runs on asyncio."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def anyio_backend():
            return "trio", {}

        @pytest.mark.anyio
        async def test(testpress_client): ...
        """
    )
    result = run(pytester, "-p", "no:asyncio")
    result.stdout.fnmatch_lines(["testpress_client: runs on asyncio only: *"])


def test_who_asks_for_no_fixture_pays_nothing(pytester: pytest.Pytester) -> None:
    """Loading the plugin imports neither this package nor aiohttp, and it can be switched off."""
    pytester.makepyfile(
        """
        import sys

        def test(request):
            assert request.config.pluginmanager.hasplugin("pytest_testpress")
            assert not {"testpress_async", "aiohttp", "msgspec", "tenacity"} & set(sys.modules)
        """
    )
    options = "-W", "error", "-p", "pytest_testpress", "-p", "no:asyncio"
    pytester.runpytest_subprocess(*options).assert_outcomes(passed=1)


def test_the_plugin_is_an_entry_point_in_the_wheel() -> None:
    """Installing is enough; the entry point has the module's name, so that -p finds it either way."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["pytest11"] == {"pytest_testpress": "pytest_testpress"}
    targets = project["tool"]["hatch"]["build"]["targets"]
    assert "pytest_testpress.py" in targets["wheel"]["packages"]
    assert "pytest_testpress.py" in targets["sdist"]["include"]
