"""pytest plugin of testpress_async; what it offers is described in docs/testing.md.

pytest loads it in every run on a machine that has the package. So it stands beside the package, whose import
brings aiohttp, and imports it only when a test asks for a fixture. PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from testpress_async.client import Client
    from testpress_async.sandbox import Sandbox, Settings
    from testpress_async.sandbox.settings import Clock

_LOOP_SCOPES = ("function", "class", "module", "package", "session")
_MARKER = (
    "testpress(**settings): what the institute of `testpress_institute` is like: attempts=60, "
    'faults={"503": 0.3} and all else that `testpress_async.testing.Settings` has; or recording="FILE".'
)
_NO_RUNNER = (
    "no plugin runs this async test. Mark it with @pytest.mark.anyio, which needs nothing more; or install "
    'pytest-asyncio and mark it with @pytest.mark.asyncio, or set asyncio_mode = "auto".'
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARKER)
    _register(config, "anyio", pytest.fixture)
    if _has_pytest_asyncio(config):
        import pytest_asyncio

        for scope in _LOOP_SCOPES:
            _register(config, f"asyncio_{scope}", partial(pytest_asyncio.fixture, loop_scope=scope))


@pytest.fixture
def testpress_settings() -> Settings:
    """What the institutes of your tests are like; a marker is laid over it. Yours to override."""
    from testpress_async.sandbox import Settings

    return Settings()


@pytest.fixture
def testpress_clock() -> Clock:
    """The time of institute and client: real, but nobody waits. Yours to override."""
    from testpress_async.testing import FastClock

    return FastClock()


@pytest.fixture
def testpress_institute(request: pytest.FixtureRequest) -> Sandbox:
    """An institute on loopback: in the event loop of an async test, in a thread for any other."""
    runner = _runner(request) if _is_async(request) else "thread"
    return request.getfixturevalue(f"_testpress_institute_{runner}")


@pytest.fixture
def testpress_client(request: pytest.FixtureRequest) -> Client:
    """A `tp.Client` of that institute, open and with its credentials; for async tests."""
    return request.getfixturevalue(f"_testpress_client_{_runner(request)}")


@pytest.fixture
def _testpress_institute_thread(
    request: pytest.FixtureRequest, testpress_settings: Settings, testpress_clock: Clock
) -> Generator[Sandbox]:
    from anyio.from_thread import start_blocking_portal

    institute = _institute(request, testpress_settings, testpress_clock)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(institute) as opened:
        yield opened


def _register(config: pytest.Config, runner: str, fixture: Callable[..., Any]) -> None:
    """The async fixtures, once for each way to run them: a fixture cannot move to the loop of its test."""

    async def institute(
        request: pytest.FixtureRequest, testpress_settings: Settings, testpress_clock: Clock
    ) -> AsyncGenerator[Sandbox]:
        async with _institute(request, testpress_settings, testpress_clock) as opened:
            yield opened

    async def client(testpress_institute: Sandbox, testpress_clock: Clock) -> AsyncGenerator[Client]:
        from testpress_async.client import Client

        url, name, password = (getattr(testpress_institute, each) for each in ("url", "username", "password"))
        async with Client(url, username=name, password=password, clock=testpress_clock) as opened:
            yield opened

    fixtures = ModuleType(f"pytest_testpress_{runner}")
    vars(fixtures)["institute"] = fixture(name=f"_testpress_institute_{runner}")(institute)
    vars(fixtures)["client"] = fixture(name=f"_testpress_client_{runner}")(client)
    config.pluginmanager.register(fixtures)


def _runner(request: pytest.FixtureRequest) -> str:
    """Which plugin runs this test, and in which of its loops."""
    mark = request.node.get_closest_marker("asyncio")
    if not _is_async(request):
        raise _failed(request, "is for async tests; in others use `testpress_institute`")
    if mark is not None and _has_pytest_asyncio(request.config):
        if "anyio_backend" in request.fixturenames:
            raise _failed(
                request,
                "pytest-asyncio and anyio both claim this test: use one of their marks, or "
                'asyncio_mode = "strict"',
            )
        scope = mark.kwargs.get("loop_scope") or request.config.getini("asyncio_default_test_loop_scope")
        return f"asyncio_{scope}"
    if "anyio_backend" not in request.fixturenames:
        raise _failed(request, _NO_RUNNER)
    backend: str | tuple[str, object] = request.getfixturevalue("anyio_backend")
    if "asyncio" not in (backend, backend[0]):
        raise _failed(request, 'runs on asyncio only: let the fixture `anyio_backend` return "asyncio"')
    return "anyio"


def _is_async(request: pytest.FixtureRequest) -> bool:
    return inspect.iscoroutinefunction(inspect.unwrap(request.function))


def _has_pytest_asyncio(config: pytest.Config) -> bool:
    names = ("asyncio", "pytest_asyncio", "pytest_asyncio.plugin")  # the last two: named with -p
    return any(map(config.pluginmanager.hasplugin, names))


def _institute(request: pytest.FixtureRequest, settings: Settings, clock: Clock) -> Sandbox:
    """The institute as settings and markers say, the nearest marker last."""
    from testpress_async.errors import DatasetError
    from testpress_async.sandbox import Sandbox

    options: dict[str, Any] = {}
    for mark in reversed(list(request.node.iter_markers("testpress"))):
        if mark.args:
            raise _failed(request, "the marker `testpress` takes keywords only, such as attempts=60")
        options |= mark.kwargs
    recording: str | None = options.pop("recording", None)
    try:
        if recording is None:
            return Sandbox(settings, clock=clock, **options)
        return Sandbox.from_recording(request.path.parent / recording, settings, clock=clock, **options)
    except (TypeError, ValueError, DatasetError) as error:
        raise _failed(
            request, f"the marker `testpress` or the fixture `testpress_settings`: {error}"
        ) from None


def _failed(request: pytest.FixtureRequest, why: str) -> BaseException:
    what = "testpress_client" if "client" in str(request.fixturename) else "testpress_institute"
    return pytest.fail.Exception(f"{what}: {why}", pytrace=False)
