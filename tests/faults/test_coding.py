"""Rows 30 to 37 of the fault matrix: content codings and the size of answers, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import sys
import zlib
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest

import testpress_async as tp
from tests.support.raw_server import RawServer, Script, http

from .institute import attempts, ids, opened, refusal, rows

MIB = 1 << 20
GZIP = {"Content-Encoding": "gzip"}
PAGE = rows({"id": 1}, {"id": 2})
PACKED = gzip.compress(PAGE)
THRICE = tp.RetryPolicy(max_tries=3)

BROKEN = {
    "no gzip": PAGE,
    "garbage inside": PACKED[:12] + b"\xff" * 8 + PACKED[20:],
    "bad checksum": PACKED[:-8] + bytes(4) + PACKED[-4:],
    "bad length": PACKED[:-4] + bytes(4),
    "trailing junk": PACKED + b"junk",
    "a second member": PACKED + PACKED,
    "empty": b"",
    "cut before its trailer": PACKED[:-8],
    "cut in the middle": PACKED[: len(PACKED) // 2],
    "cut after the header": PACKED[:10],
}


@pytest.mark.row(30, 31)
@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
async def test_broken_gzip_is_asked_for_again(body: bytes) -> None:
    """A whole answer the second time is taken; nothing of the first one is."""
    broken, whole = http(body, headers=GZIP), http(PACKED, headers=GZIP)
    async with opened(broken, whole, retry=THRICE) as (server, client):
        assert ids(await attempts(client)) == [1, 2]
        assert len(server.heads) == 2


@pytest.mark.row(30, 31)
@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
async def test_gzip_that_stays_broken_is_a_lost_answer(body: bytes) -> None:
    """After the last try it is an error, never the part that could be unpacked."""
    error = await refusal(http(body, headers=GZIP), retry=THRICE)
    assert isinstance(error, tp.AnswerLost)
    assert error.tries == 3


@pytest.mark.row(31)
async def test_every_cut_of_a_packed_answer_is_noticed() -> None:
    """Wherever the stream ends early, its length being right for what came, there is no data."""
    scripts = [http(PACKED[:end], headers=GZIP) for end in range(len(PACKED))]
    async with opened(*scripts, keep=True) as (server, client):
        for _ in scripts:
            with pytest.raises(tp.AnswerLost):
                await attempts(client)
        assert len(server.heads) == len(scripts)


CODINGS = {
    "twice in one line": "gzip, gzip",
    "twice in two lines": "gzip\r\nContent-Encoding: gzip",
    "a thousand times": ", ".join(["gzip"] * 1000),
    "gzip and identity": "identity, gzip",
    "brotli": "br",
    "zstd": "zstd",
    "compress": "compress",
    "deflate": "deflate",
    "unknown": "x-own",
}


def coded(coding: str) -> bytes:
    """PAGE in the coding that the header names, as well as this machine can do it."""
    if coding == "deflate":
        return zlib.compress(PAGE, wbits=-zlib.MAX_WBITS)
    return gzip.compress(PACKED) if coding.count("gzip") == 2 else PACKED


@pytest.mark.row(33, 35, 36)
@pytest.mark.parametrize("coding", CODINGS.values(), ids=CODINGS.keys())
async def test_any_coding_but_one_gzip_is_refused(coding: str) -> None:
    """Only gzip was asked for, and only one layer of it: anything else is named, not passed on as data."""
    script = http(coded(coding), headers={"Content-Encoding": coding})
    async with opened(script) as (server, client):
        with pytest.raises((tp.AnswerLost, tp.NotJSON)):
            await attempts(client)
        assert b"\r\nAccept-Encoding: gzip\r\n" in server.heads[0]


@pytest.mark.row(33, 35, 36)
@pytest.mark.parametrize("coding", ["gzip, gzip", CODINGS["twice in two lines"], "br", "zstd", "deflate"])
async def test_a_coding_nobody_asked_for_is_not_asked_for_again(coding: str) -> None:
    """The server will not learn another coding by the next try."""
    script = http(coded(coding), headers={"Content-Encoding": coding})
    async with opened(script, retry=THRICE) as (server, client):
        with pytest.raises(tp.AnswerLost, match="only gzip was asked for"):
            await attempts(client)
        assert len(server.heads) == 1


@pytest.mark.row(33)
async def test_gzip_within_gzip_is_unpacked_once() -> None:
    """One layer was declared; what is inside is not JSON."""
    error = await refusal(http(gzip.compress(PACKED), headers=GZIP))
    assert isinstance(error, tp.NotJSON)


@contextlib.asynccontextmanager
async def turns() -> AsyncGenerator[list[None]]:
    """A list that grows with every turn another task gets meanwhile."""
    taken: list[None] = []

    async def take() -> None:
        while True:
            taken.append(None)
            await asyncio.sleep(0)

    task = asyncio.ensure_future(take())
    yield taken
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.row(34)
async def test_a_flood_of_gzip_members_does_not_hold_the_loop() -> None:
    """100,000 empty members are no answer; while they come in, others have their turns.

    Two megabytes take eight reads of the largest size there is, each of them a turn of the loop.
    """
    flood = gzip.compress(b"") * 100_000
    async with opened(http(flood, headers=GZIP)) as (_, client), turns() as taken:
        with pytest.raises(tp.AnswerLost, match="tail"):
            await attempts(client)
    assert len(taken) >= len(flood) // (256 * 1024)


# --- size --------------------------------------------------------------------------------------------


@pytest.mark.row(37)
async def test_a_page_of_a_hundred_times_the_usual_size_is_read() -> None:
    """What the server takes for a page is a page, as long as it is bearable."""
    async with opened(http(gzip.compress(rows(*({"id": n} for n in range(20_000))), 1), headers=GZIP)) as (
        _,
        client,
    ):
        assert ids(await attempts(client)) == list(range(20_000))


@pytest.mark.row(37)
@pytest.mark.parametrize("record", [b'{"id":1}', b'{"id":"x"}', b"1", b'""', b"[]"])
@pytest.mark.parametrize("times", [100_000, 600_000])
async def test_a_page_of_too_many_records_is_refused_as_a_whole(record: bytes, times: int) -> None:
    """Neither records nor complaints about records are made of it, however tiny each is."""
    body = b'{"results":[' + b",".join([record] * times) + b"]}"
    error = await refusal(http(gzip.compress(body, 1), headers=GZIP))
    assert isinstance(error, tp.DecodeFailed)
    assert "Expected at most" in error.expected
    assert error.path in ("$.results", "$")


@pytest.mark.row(37)
async def test_too_many_values_within_one_record_are_refused() -> None:
    """The bound holds for what a record holds, too, single records included."""
    inside = b'{"id":1,"sections":[{"id":1,"info":[' + b",".join([b"[]"] * 600_000) + b"]}]}"
    async with opened(http(gzip.compress(inside, 1), headers=GZIP)) as (_, client):
        with pytest.raises(tp.DecodeFailed, match="Expected at most 500000 values"):
            await client.attempts.get(1)


@pytest.mark.row(37)
async def test_commas_within_texts_are_no_values() -> None:
    """A drawing inside a question may have a million of them."""
    name = "1,2 " * 600_000 + '"\\'
    async with opened(http(gzip.compress(rows({"id": 1, "name": name}), 1), headers=GZIP)) as (_, client):
        (attempt,) = await attempts(client)
        assert attempt.name == name


@pytest.mark.row(37)
@pytest.mark.parametrize("packed", [False, True])
async def test_a_page_of_too_many_bytes_is_refused_once(packed: bool) -> None:
    """The bound counts decoded bytes; the same page would be as large the next time."""
    body = rows({"id": 1, "name": "x" * 100_000})
    script = http(gzip.compress(body), headers=GZIP) if packed else http(body)
    async with opened(script, retry=THRICE, max_body_bytes=50_000) as (server, client):
        with pytest.raises(tp.BodyTooLarge) as caught:
            await attempts(client)
        assert caught.value.limit_bytes == 50_000
        assert len(server.heads) == 1


# --- bombs -------------------------------------------------------------------------------------------


def bomb(size_mib: int) -> bytes:
    """Gzip of so many MiB of zeros, about a thousandth in size, checksum and all."""
    zeros = bytes(MIB)
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    first = packer.compress(zeros) + packer.flush(
        zlib.Z_FULL_FLUSH
    )  # repeatable: it refers to nothing before
    checksum = 0
    for _ in range(size_mib):
        checksum = zlib.crc32(zeros, checksum)
    length = (size_mib * MIB) & 0xFFFFFFFF
    trailer = checksum.to_bytes(4, "little") + length.to_bytes(4, "little")
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + first * size_mib + packer.flush() + trailer


def chunked(body: bytes, headers: dict[str, str]) -> bytes:
    """*body* as an answer of one chunk."""
    head = http(b"", length=None, headers={"Transfer-Encoding": "chunked", **headers})
    return head + f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"


Cases = dict[str, tuple[str, Script, str]]
HARMLESS: Cases = {"harmless": ("list", http(PACKED, headers=GZIP), "ok")}


def bombs() -> Cases:
    """Call, answer and expected end of each, by name."""
    big, deflated = bomb(512), zlib.compress(bytes(64 * MIB), 9)
    elsewhere = {**GZIP, "Location": "https://elsewhere.example/api/"}
    return {
        "512 MiB from 0.5 MB": ("list", http(big, headers=GZIP), "BodyTooLarge"),
        "in one chunk": ("list", chunked(big, GZIP), "BodyTooLarge"),
        "ended by its connection": ("list", http(big, headers=GZIP, length=None), "BodyTooLarge"),
        "a length of 100 GB": ("get", http(big, headers=GZIP, length=10**11), "BodyTooLarge"),
        "a length of 100 GB and nothing": ("get", http(b"{", length=10**11), "AnswerLost"),
        "a length of 20 kB": ("get", http(big, headers=GZIP, length=20_000), "AnswerLost"),
        "unpacked": ("get", http(bytes(64 * MIB)), "BodyTooLarge"),
        "512 members of 1 MiB": ("get", http(gzip.compress(bytes(MIB)) * 512, headers=GZIP), "AnswerLost"),
        "a bomb behind a harmless member": ("get", http(PACKED + big, headers=GZIP), "AnswerLost"),
        "a bomb behind an empty member": ("get", http(gzip.compress(b"") + big, headers=GZIP), "AnswerLost"),
        "deflate": ("get", http(deflated, headers={"Content-Encoding": "deflate"}), "AnswerLost"),
        "a bomb in gzip": ("get", http(gzip.compress(big), headers=GZIP), "NotJSON"),
        "gzip, gzip": (
            "get",
            http(gzip.compress(big), headers={"Content-Encoding": "gzip, gzip"}),
            "AnswerLost",
        ),
        "on a 500": ("get", http(big, headers=GZIP, status="500 Oops"), "ServerFault"),
        "on a 404": ("get", http(big, headers=GZIP, status="404 Not Found"), "NotFound"),
        "on a 401": ("get", http(big, headers=GZIP, status="401 Unauthorized"), "AuthenticationFailed"),
        "on a redirect": ("get", http(big, headers=elsewhere, status="302 Found"), "ForeignOrigin"),
        "unpacked on a 503": ("get", http(bytes(64 * MIB), status="503 Busy"), "ServerFault"),
        "on a login": ("login", http(big, headers=GZIP), "BodyTooLarge"),
        "on a refused login": (
            "login",
            http(big, headers=GZIP, status="400 Bad Request"),
            "AuthenticationFailed",
        ),
    }


def floods() -> Cases:
    """31 MiB of JSON from little on the wire, made of values that take far more than their text."""
    cases: Cases = {}
    for value in (b'{"id":1}', b'{"id":""}', b"1", b'""', b"[]", b"{}"):
        body = b'{"results":[' + b",".join([value] * (31 * MIB // (len(value) + 1))) + b"]}"
        cases[value.decode()] = "list", http(gzip.compress(body, 1), headers=GZIP), "DecodeFailed"
    return cases


MAX_GROWTH_KIB = 48 * 1024
# What glibc comes to by itself after large blocks were freed, sooner or later: blocks up to here are
# taken from its heap, where one that grows is copied as soon as anything lies behind it.
WORST_HEAP = {"GLIBC_TUNABLES": f"glibc.malloc.mmap_threshold={32 * MIB}"}


@pytest.mark.row(32)
@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the kernel's high-water mark is read from /proc"
)
@pytest.mark.parametrize("made", [bombs, floods])
async def test_no_bomb_takes_more_than_48_mib(made: Callable[[], Cases]) -> None:
    """Whatever a bomb pretends to be, it ends in a typed error, and the process stays small."""
    cases = HARMLESS | made()
    calls, scripts, ends = zip(*cases.values(), strict=True)
    async with RawServer(*scripts) as server:
        program = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.faults.hungry", server.origin, *calls),
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | WORST_HEAP,
        )
        output, _ = await program.communicate()
    told = [line.split() for line in output.decode().splitlines()]
    assert dict(zip(cases, (end for end, _ in told), strict=True)) == dict(zip(cases, ends, strict=True))
    grown = {name: int(kib) for name, (_, kib) in zip(cases, told, strict=True)}
    assert {name: kib for name, kib in grown.items() if kib > MAX_GROWTH_KIB} == {}
