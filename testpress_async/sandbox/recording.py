"""Answers of a real institute in a file, and the institute that gives them again.

The file is JSON Lines, gzipped if its name ends in .gz: a head with the version, one line an answer without
personal data, and an end with their number and hash. A list that was not recorded to its end is served as
if it ended there, so that whoever reads it meets a small institute and not a broken one.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from urllib.parse import parse_qsl, urlencode

import msgspec

from testpress_async.errors import DatasetError
from testpress_async.sandbox.anonymise import Anonymiser
from testpress_async.sandbox.api import Reply, json_reply, page_link

FORMAT: Final = "testpress-recording"
VERSION: Final = 1
SHOWN: Final = 8
_ID = re.compile(r"(?<=/)\d{1,19}(?=/)", re.ASCII)
_GZIP = b"\x1f\x8b"
_REMEDY = "Record it again with `testpress record`"


T = TypeVar("T")


class _Head(msgspec.Struct):
    format: str
    version: int


class _Line(msgspec.Struct):
    """An answer. `filters`: sorted, without the page; `more`: whether the server gave a `next`."""

    path: str
    filters: str
    page: int
    more: bool
    body: dict[str, object]


class _End(msgspec.Struct):
    answers: int
    blake2b: str


class Recorder:
    """Middleware that keeps the last good answer to every read, without what is personal in it."""

    def __init__(self) -> None:
        self._anonymiser = Anonymiser()
        self._lines: dict[tuple[str, str, int], bytes] = {}
        self._unread: dict[tuple[str, str, int], str] = {}

    def __len__(self) -> int:
        return len(self._lines)

    async def __call__(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        response = await handler(request)
        if request.method == "GET" and response.status == 200:
            self._note(request.target, response.body)
        return response

    def file(self, name: str | os.PathLike[str]) -> bytes:
        """The content of the file *name*: gzipped if that ends in .gz.

        Raises:
            DatasetError: An answer that was taken for good could not be read, or there is none.
        """
        for target, why in self._unread.items():
            raise DatasetError(target[0], f"an answer could not be recorded: {why}", "Record less, or later")
        if not self._lines:
            raise DatasetError("recording", "nothing was answered", "Ask for something that there is")
        data = b"".join(
            line + b"\n" for line in (msgspec.json.encode(_Head(FORMAT, VERSION)), *self._lines.values())
        )
        data += msgspec.json.encode(_End(len(self._lines), _hash(data))) + b"\n"
        return gzip.compress(data, mtime=0) if os.fspath(name).endswith(".gz") else data

    def _note(self, target: str, body: bytes) -> None:
        path, _, query = target.partition("?")
        filters = urlencode(self._anonymiser.filters(query))
        key = path, filters, _page(dict(parse_qsl(query)).get("page"))
        try:
            shown, more = self._anonymiser.answer(path, body)
            self._lines[key] = msgspec.json.encode(_Line(*key, more, shown))
            self._unread.pop(key, None)
        except (ValueError, OverflowError, RecursionError) as error:  # half an answer: it is asked for again
            if key not in self._lines:
                self._unread[key] = type(error).__name__


class Recording:
    """The answers in a file, by what was asked.

    Raises:
        DatasetError: The file is missing, damaged, or of another version.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._lists: dict[tuple[str, str], dict[int, _Line]] = {}
        for line in _read(Path(path)):
            self._lists.setdefault((line.path, line.filters), {})[line.page] = line
        self._paths = {path for path, _ in self._lists}

    def knows(self, path: str) -> bool:
        """Whether a GET of *path* gets a say of its own: all but what lacks the last slash."""
        return path.endswith("/")

    def get(self, origin: str, path: str, params: Mapping[str, Sequence[str]]) -> Reply:
        """The answer as it was recorded, its links as they are here; 404 says what there is instead."""
        filters = urlencode(
            sorted((name, value) for name, values in params.items() if name != "page" for value in values)
        )
        pages = self._lists.get((path, filters), {})
        number = _page((params.get("page") or ["1"])[-1])
        line, last = pages.get(number), pages.get(max(pages, default=0))
        if line is None or last is None:
            return json_reply(404, {"detail": f"Not in this recording. It has {self._there(path)}"})
        body = line.body
        if "results" in body:
            body = body | {
                "next": page_link(origin, path, filters, number + 1) if number + 1 in pages else None,
                "previous": page_link(origin, path, filters, number - 1) if number - 1 in pages else None,
            }
            if last.more and "count" in body:
                body["count"] = sum(map(_rows, pages.values()))
        return json_reply(200, body)

    def _there(self, path: str) -> str:
        """What was recorded that is closest to *path*."""
        lists = {
            filters or "no filters": len(self._lists[at, filters])
            for at, filters in self._lists
            if at == path
        }
        if lists:
            return "of this list pages with " + _some([f"{name} ({pages})" for name, pages in lists.items()])
        ids = sorted(int(_ID.findall(at)[-1]) for at in self._paths if _kind(at) == _kind(path))
        return (
            f"{len(ids)} of these: {_some(ids)}" if ids else ", ".join(sorted(set(map(_kind, self._paths))))
        )


def _some(things: Sequence[object]) -> str:
    return ", ".join(map(str, things[:SHOWN])) + (", …" if len(things) > SHOWN else "")


def _kind(path: str) -> str:
    return _ID.sub("…", path)


def _rows(line: _Line) -> int:
    """How many of the records asked for a page has; what comes along is not counted."""
    results = line.body["results"]
    if isinstance(results, dict):
        last = line.path.strip("/").rpartition("/")[2].replace("-", "_")
        tables = cast("dict[str, object]", results)
        results = next((rows for name, rows in tables.items() if last.endswith(name)), None)
    return len(cast("list[object]", results)) if isinstance(results, list) else 0


def _page(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else 1


def _read(path: Path) -> list[_Line]:
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data.startswith(_GZIP) else data
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise DatasetError(str(path), "is cut off or damaged", _REMEDY) from None
    except OSError as error:
        raise DatasetError(str(path), error.strerror or "cannot be read", _REMEDY) from None
    first, *lines = data.removesuffix(b"\n").split(b"\n")
    head, end = _decoded(first, _Head), _decoded(lines[-1] if lines else b"", _End)
    if head is None or head.format != FORMAT:
        raise DatasetError(str(path), "is no recording", _REMEDY)
    if head.version > VERSION:
        raise DatasetError(str(path), "was made by a newer version", "pip install --upgrade testpress-async")
    if end is None:
        raise DatasetError(str(path), "is cut off", _REMEDY)
    answers = [line for each in lines[:-1] if (line := _decoded(each, _Line))]
    if _hash(data[: data.rindex(lines[-1])]) != end.blake2b or len(answers) != end.answers:
        raise DatasetError(str(path), "has been changed since it was recorded", _REMEDY)
    return answers


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _decoded(line: bytes, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
