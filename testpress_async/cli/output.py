"""Where things are shown: messages on stderr, data on stdout, options of the help in groups."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass
from typing import IO

import msgspec
from cyclopts import Group, Parameter
from rich.console import Console
from rich.theme import Theme

from testpress_async.errors import DatasetError

READ = Group("What to read", sort_key=1)
WRITE = Group("What to write", sort_key=2)
CONNECT = Group("How to connect", sort_key=3)
PACE = Group("How to read", sort_key=4)
SHOW = Group("What to show", sort_key=5)

_THEME = Theme({"markdown.code": "bold cyan"})  # its own background is black, on white screens too


class _Screen(Console):
    def on_broken_pipe(self) -> None:
        """Whoever read has gone: say nothing more, and let the work go on."""
        self.quiet = True
        hush(self.file)


def hush(stream: IO[str]) -> None:
    """Let *stream* lead nowhere, so that nothing is complained about at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


out = _Screen(theme=_THEME, highlight=False)
err = _Screen(stderr=True, soft_wrap=True, theme=_THEME, highlight=False, markup=False)


@Parameter(name="*", group=SHOW)
@dataclass(frozen=True)
class Debug:
    """What every command understands."""

    debug: bool = False
    """With an error, show where in the program it was raised."""


def wrote(data: bytes) -> bool:
    """Write to stdout; False if its reader has gone."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        hush(sys.stdout)
        return False
    except OSError as error:
        hush(sys.stdout)
        raise DatasetError("stdout", error.strerror or "cannot be written") from None
    return True


def print_json(value: msgspec.Struct) -> None:
    wrote(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


class _Warnings(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        err.print(f"testpress: {record.getMessage()}", style="yellow")


def show_warnings() -> None:
    """What the library warns of, above a bar if there is one; tries and 429s are counted there already."""
    logging.getLogger("testpress_async").addHandler(_Warnings(logging.WARNING))
    logging.getLogger("testpress_async.http").setLevel(logging.ERROR)


def complain(sentence: str) -> None:
    """One red sentence, as it is."""
    err.print(f"testpress: {sentence}", style="red")
