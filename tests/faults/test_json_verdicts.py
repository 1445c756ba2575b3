"""The verdicts of JSONTestSuite, over real sockets: what it calls JSON is read, all else is refused.

`json_verdicts.json` holds its files (MIT license, Copyright (c) 2016 Nicolas Seriot; the text is in the file)
but for two huge ones that are made here, and, for those it leaves to the implementation (`i_…`), what this
library does with them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

import testpress_async as tp
from testpress_async.errors import NotJSON
from tests.support.raw_server import http

from .institute import attempts, opened, raw_rows

Read = Callable[[tp.Client], Awaitable[object]]


class _Suite(msgspec.Struct):
    source: str
    license: list[str]
    cases: dict[str, str]
    verdicts: dict[str, dict[str, str]]


SUITE = msgspec.json.decode(
    Path(__file__).with_name("json_verdicts.json").read_bytes(), type=_Suite, strict=True
)
CASES = {name: base64.b64decode(text) for name, text in SUITE.cases.items()} | {
    "n_structure_100000_opening_arrays": b"[" * 100_000,
    "n_structure_open_array_object": b'[{"":' * 50_000 + b"\n",
}


def in_a_section(document: bytes) -> bytes:
    """An attempt with *document* in a field that is decoded."""
    return b'{"id": 1, "sections": [{"id": 2, "info": ' + document + b"}]}"


def in_an_unknown_field(document: bytes) -> bytes:
    """A page whose second record has *document* in a field nobody knows."""
    return raw_rows(b'{"id": 1}', b'{"id": 2, "unknown": ' + document + b"}")


async def read_section(client: tp.Client) -> object:
    """What the library makes of the field."""
    sections = (await client.attempts.get(1)).sections
    assert sections is not None
    return sections[0].info


async def read_rows(client: tp.Client) -> list[bytes]:
    """The records of the page in the server's own bytes; raises what was rejected."""
    async for page in client.attempts.list().raw_pages():
        if page.rejected:
            raise page.rejected[0]
        return [bytes(row) for row in page.rows["attempts"]]
    raise AssertionError("there is always a first page")


WRAPPINGS: dict[str, tuple[Callable[[bytes], bytes], Read]] = {
    "read": (in_a_section, read_section),
    "skipped": (in_an_unknown_field, attempts),
    "exported": (in_an_unknown_field, read_rows),
}


async def verdicts(wrap: Callable[[bytes], bytes], read: Read) -> dict[str, object]:
    """What *read* makes of every document: a value, or the error, which is always one of ours."""
    found: dict[str, object] = {}
    async with opened(*(http(wrap(document)) for document in CASES.values()), keep=True) as (server, client):
        for name in CASES:
            try:
                found[name] = await read(client)
            except tp.DecodeFailed as error:
                found[name] = error
        assert len(server.heads) == len(CASES)
    return found


def test_the_suite_is_whole() -> None:
    """318 files: 95 that are JSON, 188 that are not, 35 that may be either; each of these has a golden."""
    sizes = {kind: sum(name.startswith(kind) for name in CASES) for kind in ("y_", "n_", "i_")}
    assert sizes == {"y_": 95, "n_": 188, "i_": 35}
    for golden in SUITE.verdicts.values():
        assert golden.keys() == {name for name in CASES if name.startswith("i_")}


@pytest.mark.row(45, 46, 47, 49, 55)
@pytest.mark.parametrize("wrapping", WRAPPINGS)
async def test_the_verdicts_are_those_of_the_suite(wrapping: str) -> None:
    """Accepted, refused with DecodeFailed or its NotJSON, or as recorded; never a parser's bare error."""
    found = await verdicts(*WRAPPINGS[wrapping])
    names = {name: type(end).__name__ if isinstance(end, tp.Error) else "ok" for name, end in found.items()}
    assert [name for name, end in names.items() if name.startswith("y_") and end != "ok"] == []
    assert [name for name, end in names.items() if name.startswith("n_") and end == "ok"] == []
    assert {name: end for name, end in names.items() if name.startswith("i_")} == SUITE.verdicts[wrapping]


@pytest.mark.row(45, 46, 48, 49)
async def test_what_is_accepted_means_what_it_says() -> None:
    """Every value is the one that Python's own parser reads."""
    for name, value in (await verdicts(*WRAPPINGS["read"])).items():
        if not isinstance(value, tp.Error):
            assert value == json.loads(CASES[name].decode()), name


@pytest.mark.row(43, 49)
async def test_what_is_exported_is_json_to_everybody() -> None:
    """No row that is landed can trip the next reader; its bytes are the server's."""
    for name, found in (await verdicts(*WRAPPINGS["exported"])).items():
        if isinstance(found, list):
            assert found[1] == b'{"id": 2, "unknown": ' + CASES[name] + b"}"
            json.loads(found[1].decode())


@pytest.mark.row(45, 47, 54, 55)
async def test_no_document_of_the_suite_passes_for_a_page() -> None:
    """As the whole answer each is refused: as no JSON, or as no page."""
    found = await verdicts(lambda document: document, attempts)
    assert {name for name, end in found.items() if not isinstance(end, tp.DecodeFailed)} == set()
    objects = [name for name in CASES if name.startswith("y_") and CASES[name].strip()[:1] in (b"[", b"{")]
    assert [name for name in objects if isinstance(found[name], NotJSON)] == []
    no_json = {name for name, end in found.items() if isinstance(end, NotJSON)}
    assert [name for name in CASES if name.startswith("n_") and name not in no_json] == []
