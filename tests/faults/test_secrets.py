"""Ten thousand texts that leave the library, searched for secrets and for people.

Seeded calls over real sockets succeed and fail in every way the kit knows, against answers full of personal
values, also where none belong. Everything such a call lets out is kept: log lines of all libraries at DEBUG,
also of asyncio's debug mode, events, reprs, texts, tracebacks, pickles, attributes, resume tokens, the
manifest of a dataset. None of it may show a password, a token, or a person. What is data by contract is not
searched: records and pages themselves, `DecodeFailed.raw`, landed parts.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import logging
import pickle
import random
import re
import traceback
import urllib.parse
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import testpress_async as tp
from testpress_async.http.message import without_secrets
from testpress_async.sandbox import Fault, Sandbox
from tests.support.clock import AutoClock
from tests.support.raw_server import HOLD, RawServer, Script, http

SEED = 20_261_123
CALLS = 250
TEXTS = 10_000

PASSWORD = "Pa55-orchid!velvet"
USERNAME = "principal.varma"
TOKEN = "tok3n-of-marble.and-slate"
CLAIMS = base64.urlsafe_b64encode(b'{"user_id": 7, "username": "principal.varma"}').decode().rstrip("=")
JWT = f"eyJhbGciOiJIUzI1NiJ9.{CLAIMS}.c2lnbmF0dXJl-of-jade"
PROXY_PASSWORD = "pr0xy-copper"
EMAIL = "zebedee.quill@pupil.example"
PHONE = "+91 98115 40277"
NAME = "Zebedee Quillfeather"
HIDDEN = {
    "password": PASSWORD,
    "user name": USERNAME,
    "token": TOKEN,
    "JWT": JWT,
    "JWT's claims": CLAIMS,
    "JWT's signature": JWT.rpartition(".")[2],
    "proxy password": PROXY_PASSWORD,
    "e-mail": EMAIL,
    "phone": PHONE,
    "phone, packed": PHONE.replace(" ", ""),
    "name": NAME,
    "surname": NAME.split()[1],
}


def forms(secret: str) -> set[str]:
    """*secret* as it may look inside a text."""
    plain = secret.encode()
    return {
        secret,
        urllib.parse.quote(secret, safe=""),
        urllib.parse.quote_plus(secret),
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
        base64.b64encode(plain).decode().rstrip("="),
        base64.urlsafe_b64encode(plain).decode().rstrip("="),
        plain.hex(),
    }


SOUGHT = re.compile(
    "|".join(sorted({re.escape(f) for s in HIDDEN.values() for f in forms(s)})), re.IGNORECASE
)


class Net(logging.Handler):
    """Keeps every text, by kind. Also a log handler, and an observer of events."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.kinds: Counter[str] = Counter()
        self.leaks: list[str] = []
        self.sought = [SOUGHT]
        self.setFormatter(logging.Formatter("%(name)s %(threadName)s %(funcName)s %(message)s"))

    def keep(self, kind: str, text: str | bytes) -> None:
        shown = text if isinstance(text, str) else text.decode("latin-1")
        self.kinds[kind] += 1
        for found in filter(None, (pattern.search(shown) for pattern in self.sought)):
            around = shown[max(0, found.start() - 150) : found.end() + 60]
            self.leaks.append(f"{kind}: {found[0]!r} in {around!r}")

    def seek(self, more: set[str]) -> None:
        """Look for these too."""
        self.sought.append(re.compile("|".join(re.escape(each) for each in sorted(more))))

    def emit(self, record: logging.LogRecord) -> None:
        self.keep("log", self.format(record))
        self.keep("log record", repr(record.msg) + repr(record.args))

    def see(self, event: tp.Event) -> None:
        self.kinds["event"] += 1
        self.value("event", event)
        self.keep("event as JSON", msgspec.json.encode(event))
        self.keep("event, pickled", pickle.dumps(event))

    def value(self, kind: str, value: object) -> None:
        """The ways any value is printed."""
        self.keep(kind + ", repr", repr(value))
        self.keep(kind + ", str", f"{value} {value!s} {value:}")
        if hasattr(value, "__rich_repr__"):
            self.keep(kind + ", rich", repr(list(value.__rich_repr__())))
        if hasattr(value, "__dict__"):
            self.keep(kind + ", vars", repr(vars(value)))

    def error(self, error: BaseException) -> None:
        self.value("error", error)
        self.keep("traceback", "".join(traceback.format_exception(error)))
        self.keep("error, args", repr(error.args))
        self.keep("error, pickled", pickle.dumps(error))
        self.keep("error, copied", repr(vars(copy.copy(error))))
        if isinstance(error, tp.Error) and error.resume_token:
            self.token(error.resume_token)
        logging.getLogger("program").error("a call failed", exc_info=error)

    def token(self, token: str) -> None:
        self.keep("resume token", token)
        self.keep("resume token, decoded", base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> Iterator[Net]:
    """Catches what is logged anywhere."""
    net, root = Net(), logging.getLogger()
    level = root.level
    root.addHandler(net)
    root.setLevel(logging.DEBUG)
    yield net
    root.removeHandler(net)
    root.setLevel(level)


# --- answers full of people ---------------------------------------------------------------------------

PERSONAL = ("email", "username", "name", "phone", "display_name", "first_name", "last_name")
PERSON = {"email": EMAIL, "name": NAME, "phone": PHONE, "username": EMAIL, "display_name": NAME}
DICE = random.Random(SEED)


def rows(*odd: dict[str, Any]) -> bytes:
    """A page of two good records about a person, and *odd* ones."""
    return json.dumps(
        {
            "count": 2 + len(odd),
            "next": f"http://x/api/?page=2&q={urllib.parse.quote(EMAIL)}" if DICE.random() < 0.3 else None,
            "per_page": 2,
            "results": [{"id": 1, **PERSON}, {"id": 2, "state": NAME, **PERSON}, *odd],
        }
    ).encode()


def personal() -> str:
    return DICE.choice([EMAIL, PHONE, NAME])


def answers() -> dict[str, Callable[[], Script]]:
    """Kinds of answers; each call of one makes another."""
    head = {"X-Request": EMAIL, "Set-Cookie": f"who={urllib.parse.quote(NAME)}"}
    return {
        "good": lambda: http(rows(), headers=head),
        "bad field": lambda: http(rows({"id": 3, DICE.choice(["date", "exam_id", "email"]): [personal()]})),
        "bad id": lambda: http(rows({"id": personal()})),
        "odd keys": lambda: http(rows({personal(): {personal(): 1}, "id": [personal()]})),
        "no list": lambda: http(json.dumps({"results": personal()}).encode()),
        "no page": lambda: http(json.dumps(personal()).encode()),
        "not UTF-8": lambda: http(rows().replace(b"Quill", b"\xff\xfe")),
        "cut JSON": lambda: http(rows()[: DICE.randrange(40, 200)]),
        "two documents": lambda: http(rows() + json.dumps(personal()).encode()),
        "text": lambda: http(personal().encode()),
        "HTML": lambda: http(f"<html><body>{personal()}</body></html>".encode()),
        "cut body": lambda: http(rows(), length=9_999),
        "odd next": lambda: http(json.dumps({"next": f"http://{EMAIL}/?q={NAME}", "results": []}).encode()),
        "bad count": lambda: http(json.dumps({"count": personal(), "results": [{"id": 1}]}).encode()),
        "lone surrogate": lambda: http(b'{"results": [{"id": 1, "name": "\\ud800 %s"}]}' % NAME.encode()),
        "gone": lambda: http(b'{"detail": "Not found."}', status="404 Not Found", headers=head),
        "refused": lambda: http(b'{"detail": "No."}', status=DICE.choice(["403 F", "400 B", "418 T"])),
        "broken": lambda: http(b"<h1>oops</h1>", status=DICE.choice(["500 E", "502 E", "503 E", "504 E"])),
        "throttled": lambda: http(b"", status="429 Too Many", headers={"Retry-After": "1"}),
        "expired": lambda: http(b'{"detail": "Signature has expired."}', status="401 Unauthorized"),
        "elsewhere": lambda: http(
            b"",
            status="302 Found",
            headers={"Location": f"https://{DICE.choice(['evil.example', NAME[:7]])}/{EMAIL}?t={PASSWORD}"},
        ),
        "login page": lambda: http(
            b"", status="302 Found", headers={"Location": f"/login/?next={urllib.parse.quote(EMAIL)}"}
        ),
        "odd location": lambda: http(b"", status="301 M", headers={"Location": f"http://[{PHONE}"}),
        "no HTTP": lambda: f"220 {NAME} ESMTP {EMAIL}\r\n\r\n".encode(),
        "bad header": lambda: f"HTTP/1.1 200 OK\r\nX {EMAIL}\r\nContent-Length: 0\r\n\r\n".encode(),
        "bad length": lambda: http(rows(), length=None, headers={"Content-Length": f"7 {PHONE}"}),
        "coding": lambda: http(rows(), headers={"Content-Encoding": "br"}),
        "no gzip": lambda: http(rows(), headers={"Content-Encoding": "gzip"}),
        "hang up": lambda: b"",
        "silence": lambda: [http(rows(), length=9_999), HOLD],
    }


LOGINS: dict[str, Callable[[], Script]] = {
    "token": lambda: http(json.dumps({"token": JWT}).encode()),
    "no token": lambda: http(json.dumps({"user": EMAIL, "password": PASSWORD}).encode()),
    "odd token": lambda: http(json.dumps({"token": f"{JWT}\r\nX: {NAME}"}).encode()),
    "refused": lambda: http(b'{"non_field_errors": ["Unable to log in."]}', status="400 Bad Request"),
    "locked": lambda: http(b'{"error_code": "max_login_exceeded", "detail": "Too many."}', status="403 F"),
    "redirect": lambda: http(b"", status="307 T", headers={"Location": f"http://x/?p={PASSWORD}"}),
    "cut": lambda: http(json.dumps({"token": JWT}).encode()[:-9]),
    "hang up": lambda: b"",
}

ONE = {"id": 4, "sections": [{"id": 1, "name": NAME}], **PERSON}
ANSWERS = {"user_answers": [{"id": 1, "essay_text": NAME, "user": 3}], "exam_questions": [{"id": 2}]}

Work = Callable[[tp.Client, Net], Awaitable[object]]


async def get(client: tp.Client, net: Net) -> None:
    record = await client.attempts.get(DICE.randrange(1, 9))
    net.value("record", record)


async def listed(client: tp.Client, net: Net) -> None:
    resource = DICE.choice([client.attempts, client.exams, client.courses])
    listing: Any = resource.list()
    net.value("listing", listing)
    async for found in listing.pages(window=DICE.choice([1, 3])):
        net.keep("page, repr", repr(found) + str(found))
        net.token(found.token)
        for record in found.items:
            net.keep("record, repr", repr(record) + str(record))


async def searched(client: tp.Client, net: Net) -> None:
    listing = client.users.list(q=personal())
    net.value("listing", listing)
    skip: Any = DICE.choice([listing.prefetch(2), aiter(listing)])
    async for record in skip:
        net.keep("record, repr", repr(record) + str(record))


async def raw(client: tp.Client, net: Net) -> None:
    async for found in client.users.list(q=personal()).raw_pages(2):
        net.keep("raw page, repr", repr(found) + str(found))


async def counted(client: tp.Client, net: Net) -> None:
    await client.users.list(q=personal()).count()


async def fanned(client: tp.Client, net: Net) -> None:
    call = client.attempts.user_answers
    async with client.fan_out([1, 2, 3], call, concurrency=2, on_error="collect") as results:
        net.value("fan-out", results)
        async for pair in results:
            net.keep("record, repr", repr(pair))
    for _, error in results.errors:
        net.error(error)
    net.value("fan-out", results)


async def misused(client: tp.Client, net: Net) -> None:
    """Secrets given where they do not belong."""
    wrong: list[Callable[[], object]] = [
        lambda: tp.Client(f"https://{USERNAME}:{PASSWORD}@institute.test", token="t"),
        lambda: tp.Client(f"https://institute.test/?token={TOKEN}", token="t"),
        lambda: tp.Client("https://institute.test", token=f"{TOKEN}\r\n"),
        lambda: tp.Client("https://institute.test", token=f"{TOKEN} {NAME}"),
        lambda: tp.Client("https://institute.test", username=USERNAME),
        lambda: tp.Client("https://institute.test", password=PASSWORD),
        lambda: client.attempts.list(exams=[EMAIL]),  # type: ignore[list-item]
        lambda: client.attempts.list(ordering=EMAIL),  # type: ignore[arg-type]
        lambda: client.attempts.list(started_after=NAME),  # type: ignore[arg-type]
        lambda: client.attempts.user_answers(EMAIL),  # type: ignore[arg-type]
        lambda: client.attempts.list().resume(base64.b64encode(EMAIL.encode()).decode()),
        lambda: client.with_options(priority=NAME),  # type: ignore[arg-type]
    ]
    try:
        DICE.choice(wrong)()
    except tp.Error as error:
        net.error(error)


async def in_middleware(client: tp.Client, net: Net) -> None:
    """A program that prints what its middleware sees."""
    await client.users.list(q=personal())


WORKS: list[Work] = [get, listed, searched, raw, counted, fanned, misused, in_middleware]


def watching(net: Net) -> tp.Middleware:
    async def watch(request: tp.Request, handler: tp.Handler) -> tp.Response:
        net.value("request", request)
        try:
            response = await handler(request)
        except Exception as error:
            net.error(error)
            raise
        net.value("response", response)
        return response

    return watch


@asynccontextmanager
async def opened(net: Net, scripts: list[Script]) -> AsyncIterator[tp.Client]:
    """A client of an institute that answers with *scripts*; credentials of one of the kinds there are."""

    async def provide() -> str:
        return DICE.choice([JWT, TOKEN, f"{TOKEN}\n{NAME}"])

    kind = DICE.choice(["token", "login", "login", "both", "provider", "proxy"])
    given: dict[str, Any] = {
        "token": {"token": DICE.choice([TOKEN, JWT])},
        "login": {"username": USERNAME, "password": PASSWORD},
        "both": {"token": JWT, "username": USERNAME, "password": PASSWORD},
        "provider": {"token_provider": provide},
        "proxy": {"token": JWT},
    }[kind]
    if kind in ("login", "both"):
        choice = "token" if DICE.random() < 0.7 else DICE.choice(list(LOGINS))
        scripts.insert(0 if kind == "login" else 1, LOGINS[choice]())
    async with RawServer(*scripts, keep=DICE.random() < 0.5) as server:
        lent: aiohttp.ClientSession | None = None
        if kind == "proxy":
            lent = aiohttp.ClientSession(proxy=f"http://proxy-user:{PROXY_PASSWORD}@127.0.0.1:{server.port}")
        client = tp.Client(
            server.origin if lent is None else "http://institute.test",
            **given,
            session=lent,
            allow_http=True,
            clock=AutoClock(),
            timeouts=tp.Timeouts(read_idle_s=0.01),
            retry=tp.RetryPolicy(max_tries=DICE.choice([1, 3]), max_throttles=2),
            middleware=[watching(net)],
            on_event=net.see,
            max_body_bytes=DICE.choice([100, 1 << 20]),
        )
        net.value("client", client)
        try:
            async with client:
                net.value("client", client)
                yield client
        finally:
            if lent is not None:
                await lent.close()


async def one_call(net: Net) -> None:
    kinds, work = answers(), DICE.choice(WORKS)
    right = {get: ONE, fanned: {"count": 1, "results": ANSWERS}}.get(work)
    good = kinds["good"] if right is None else lambda: http(json.dumps(right).encode())
    scripts = [
        good() if DICE.random() < 0.5 else kinds[DICE.choice(list(kinds))]()
        for _ in range(DICE.randrange(1, 4))
    ]
    async with opened(net, scripts) as client:
        try:
            await work(client, net)
        except tp.Error as error:
            net.error(error)


async def test_ten_thousand_texts_hold_no_secret_and_no_person(
    net: Net, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing that leaves a call but its data shows a credential or anything personal."""
    loop = asyncio.get_running_loop()
    loop.set_debug(True)  # it logs tasks and slow callbacks
    DICE.seed(SEED)
    for _ in range(CALLS):
        await one_call(net)
    loop.set_debug(False)
    for text in capfd.readouterr():
        net.keep("output", text)
    assert net.kinds["event, pickled"] == net.kinds.pop("event"), "the observer broke"
    assert net.leaks == [], f"{len(net.leaks)} leaks, seed {SEED}"
    assert sum(net.kinds.values()) >= TEXTS
    assert min(net.kinds[kind] for kind in ("log", "event, repr", "traceback", "error, pickled")) >= 300


async def test_a_proxy_that_is_gone_or_refuses_keeps_its_password(net: Net) -> None:
    """Neither a refused connection to the proxy nor its own refusal shows how to log in to it."""
    refusal = http(b"<h1>Proxy</h1>", status="407 Proxy Authentication Required")
    async with RawServer(refusal) as proxy:
        port = proxy.port
        await through_proxy(net, port, "http")
        await through_proxy(net, port, "https")
        assert b"Proxy-Authorization: Basic" in proxy.heads[0]
    await through_proxy(net, port, "http")
    await through_proxy(net, port, "https")
    assert net.leaks == []


async def through_proxy(net: Net, port: int, scheme: str) -> None:
    address = f"http://proxy-user:{PROXY_PASSWORD}@127.0.0.1:{port}"
    async with (
        aiohttp.ClientSession(proxy=address) as session,
        tp.Client(
            f"{scheme}://institute.test", token=TOKEN, session=session, allow_http=True, clock=AutoClock()
        ) as client,
    ):
        with pytest.raises(tp.Error) as caught:
            await client.users.list(q=EMAIL).count()
    net.error(caught.value)


async def test_an_export_shows_nobody_outside_its_data(net: Net, tmp_path: Path) -> None:
    """Manifest, plan, report, events and log of an export, also of one that fails, name no one."""
    tables = ["attempts", "user_answers", "content_attempts"]
    async with Sandbox(
        attempts=40, users=20, exams=2, courses=2, per_page=10, username=USERNAME, password=PASSWORD
    ) as institute:
        known = [*institute.truth.records("users"), *institute.truth.records("attempts")]
        people = {str(row[key]) for row in known for key in PERSONAL if row.get(key)}
        people = {each for each in people if len(each) >= 4}  # shorter ones are found in any text
        net.seek(people)
        async with tp.Client(
            institute.url,
            username=USERNAME,
            password=PASSWORD,
            on_event=net.see,
            middleware=[watching(net)],
            retry=tp.RetryPolicy(max_tries=2, first_s=0.001),
        ) as client:
            plan = await tp.plan(client, tables, exams=[1])
            net.value("plan", plan)
            net.keep("plan as JSON", msgspec.json.encode(plan))
            for fault in (Fault(status=500, times=9), Fault(cut_after_bytes=99, times=9), None):
                institute.clear_faults()
                if fault is not None:
                    institute.script(fault)
                dataset = tp.Dataset(tmp_path / "out")
                try:
                    report = await tp.harvest(client, plan, into=dataset, on_event=net.see)
                except tp.Error as error:
                    net.error(error)
                else:
                    net.value("report", report)
                    net.keep("report as JSON", msgspec.json.encode(report))
                net.value("dataset", dataset)
            with pytest.raises(tp.DatasetError) as caught:
                await tp.harvest(client, plan, into=tp.Dataset(tmp_path), source="other")
            net.error(caught.value)
    files = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    for file in files:
        net.keep("file name", str(file.relative_to(tmp_path)))
        if file.suffix == ".json" or "manifest" in file.parts:
            net.keep("manifest", file.read_bytes())
    assert net.kinds["manifest"] >= 2
    assert net.leaks == []
    landed = b"".join(file.read_bytes() for file in files if file.suffix == ".jsonl")
    assert any(person.encode() in landed for person in people), "the data itself is full of people"


ECHOES: dict[str, Callable[[str], bytes]] = {
    "detail": lambda said: json.dumps({"detail": f"Invalid: {said}"}).encode(),
    "field": lambda said: json.dumps({"password": [f"{said} is wrong."], "q": [said]}).encode(),
    "debug page": lambda said: f"<html><body><pre>HTTP_AUTHORIZATION: JWT {said}</pre></body>".encode(),
    "title": lambda said: f"<title>{said}</title>".encode(),
    "cut": lambda said: json.dumps({"detail": "x" * 280 + said * 3}).encode(),
    "text": lambda said: said.encode(),
}


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("status", ["200 OK", "400 B", "401 U", "403 F", "404 N", "418 T", "429 T", "500 E"])
async def test_what_a_server_echoes_is_left_out(net: Net, echo: str, status: str) -> None:
    """Token, password, user name and search text that come back in an error's words go no further."""
    by_token, by_login = {"token": TOKEN}, {"username": USERNAME, "password": PASSWORD}
    for credentials in (by_token, by_login):
        carried = f"{TOKEN} {EMAIL} {NAME}" if credentials is by_token else f"{PASSWORD} {USERNAME} {EMAIL}"
        echoed = http(ECHOES[echo](carried), status=status, headers={"Retry-After": "1"})
        async with (
            RawServer(echoed) as server,
            tp.Client(
                server.origin,
                **credentials,  # type: ignore[arg-type]
                clock=AutoClock(),
                retry=tp.RetryPolicy(max_tries=1, max_throttles=1),
                on_event=net.see,
            ) as client,
        ):
            with pytest.raises(tp.Error) as caught:
                await client.users.list(q=f"{EMAIL} {NAME}").count()
        net.error(caught.value)
    assert net.leaks == []


WORDS = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=12)


@given(
    secret=WORDS.filter(lambda text: len(text) >= 4),
    around=st.lists(WORDS, min_size=2),
    cut=st.integers(0, 60),
)
def test_no_echo_survives_wherever_the_text_is_cut(secret: str, around: list[str], cut: int) -> None:
    """Neither a secret nor the beginning of one at the end of a text that was cut is left."""
    request = tp.Request(target="/api/", headers={"Authorization": f"JWT {secret}"})
    said = secret.join(around)
    whole, short = without_secrets(request, said), without_secrets(request, said[:cut] + "…")
    assert secret not in whole
    assert secret not in short
    assert not short.removesuffix("…").endswith(tuple(secret[:n] for n in range(4, len(secret))))


async def test_words_of_a_server_that_are_no_secret_are_kept() -> None:
    """Leaving out secrets leaves the rest of the sentence as it was."""
    refused = http(b'{"detail": "No page 3 for q=ab; see JWT docs."}', status="404 N")
    async with RawServer(refused) as server, tp.Client(server.origin, token=TOKEN) as client:
        with pytest.raises(tp.NotFound) as caught:
            await client.users.list(q="ab").count()
    assert caught.value.detail == "No page 3 for q=ab; see JWT docs."


async def test_the_net_catches_what_is_sought(net: Net) -> None:
    """Every hidden value is found in every form, so that an empty catch means something."""
    for secret in HIDDEN.values():
        for form in forms(secret):
            net.keep("probe", f"before {form} after")
    assert len(net.leaks) == net.kinds["probe"]
    logging.getLogger("aiohttp.client").debug("sent %s", f"Authorization: JWT {TOKEN}")
    net.see(tp.RateWaited(url=f"/api/?q={EMAIL}", waited_s=1.0))
    net.error(tp.NotFound("GET", "/api/", 404, detail=NAME))
    assert len(net.leaks) > net.kinds["probe"] + 8
