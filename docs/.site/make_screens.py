"""Make the pictures of the command line under `docs/images`: `python docs/.site/make_screens.py [NAME ...]`.

Runs the real commands in a terminal of 80 columns, against the built-in sandbox, and draws what stands on the
screen. Look at them afterwards:
`rsvg-convert -z 2 docs/images/cli-check.svg -o check.png`.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.text import Text

IMAGES = Path(__file__).parents[1] / "images"
COLUMNS, ROWS = 80, 100
CHARACTER = 12.2  # its width in rich's pictures

_MOVES = re.compile(r"\x1b\[(\d*)([AK])|\x1b\[\?\d+[hl]|(\r\n|\n)|(\r)|((?:\x1b\[[\d;]*m|[^\x1b\r\n])+)")

SVG = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font: bold 18px system-ui, "DejaVu Sans", sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""  # rich's own, without the font it fetches from elsewhere


class Screen:
    """What a terminal shows: rich moves up, clears lines and writes; nothing else is understood.

    `whole` is the last picture that was complete: what stood there before it began to be drawn anew.
    """

    def __init__(self) -> None:
        self.lines = [""]
        self.whole = ""
        self._row = 0

    def feed(self, text: str) -> None:
        for move in _MOVES.finditer(text):
            count, letter, newline, back, words = move.groups()
            if letter == "A":
                self._row = max(0, self._row - int(count or 1))
            elif back:
                self.whole = str(self)
            elif letter:
                self.lines[self._row] = ""
            elif newline:
                self._row += 1
                if self._row == len(self.lines):
                    self.lines.append("")
            elif words:
                self.lines[self._row] += words

    def __str__(self) -> str:
        return "\n".join(self.lines).rstrip()


def output(arguments: list[str], room: Path, settings: dict[str, str]) -> Iterator[str]:
    """What the command writes to a terminal, piece by piece."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    outer = {name: value for name, value in os.environ.items() if not name.startswith("TESTPRESS_")}
    known = {"TERM": "xterm-256color", "COLORTERM": "", "HOME": "/home/anna", "XDG_CONFIG_HOME": str(room)}
    process = subprocess.Popen(
        [sys.executable, "-m", "testpress_async", *arguments],
        cwd=room,
        env=outer | known | settings,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    waiting = b""
    with contextlib.suppress(OSError):  # Linux's way to say that the other end is closed
        while data := os.read(ours, 65_536):
            whole, end, waiting = (waiting + data).rpartition(b"\n")
            yield (whole + end).decode(errors="replace")
    yield waiting.decode(errors="replace")
    os.close(ours)
    process.wait()


def shot(arguments: list[str], room: Path, settings: dict[str, str], until: str = "") -> str:
    """The screen at the end, or as soon as it shows *until*."""
    screen = Screen()
    for piece in output(arguments, room, settings):
        screen.feed(piece)
        if until and re.search(until, Text.from_ansi(screen.whole).plain):
            return screen.whole
    return str(screen)


def draw(name: str, title: str, screens: list[tuple[str, str]]) -> None:
    """Write `cli-NAME.svg` with every command and what it showed."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, highlight=False)
    for number, (typed, shown) in enumerate(screens):
        if number:
            console.print()
        console.print(Text.assemble(("$ ", "green"), (typed, "bold")))
        console.print(Text.from_ansi(shown))
    console.print()  # rich cuts the last line a little short
    svg = console.export_svg(title=title, code_format=SVG, unique_id=name)
    (IMAGES / f"cli-{name}.svg").write_text(
        _INDENTED.sub(_moved, re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE))
    )


_INDENTED = re.compile(r'x="([\d.]+)" (y="[\d.]+") textLength="([\d.]+)"([^>]*)>((?:&#160;)+)')


def _moved(text: re.Match[str]) -> str:
    """A text that begins with blanks, placed after them: some programs that draw SVG swallow them."""
    blank = CHARACTER * text[5].count("&")
    x, length = float(text[1]) + blank, float(text[3]) - blank
    return f'x="{x:g}" {text[2]} textLength="{length:g}"{text[4]}>'


@dataclass(frozen=True)
class Picture:
    """Commands, one below the other. `until`: when the last one is caught in the act."""

    commands: tuple[str, ...]
    until: str = ""
    settings: dict[str, str] = field(default_factory=dict[str, str])
    prepare: Callable[[Path], object] = lambda room: None


CONFIG = """\
default = "main"
[institutes.main]
base_url = "https://institute.testpress.in"
username = "anna"
rate = "600/min"
[institutes.practice]
base_url = "https://practice.example"
"""


def with_config(room: Path) -> None:
    (room / "testpress").mkdir()
    (room / "testpress" / "config.toml").write_text(CONFIG)


PICTURES = {
    "help": Picture(("testpress --help",)),
    "help-export": Picture(("testpress export --help",)),
    "dry-run": Picture(("testpress export --sandbox --out out --dry-run",)),
    "progress": Picture(
        ("testpress export --sandbox --out out --format duckdb",), until=r"user_answers .*\b1,[2-9]\d\d/2,000"
    ),
    "files": Picture(
        ("testpress export --sandbox --out out --format duckdb",), until=r"writing files +\S+ +\b1[5-9]/"
    ),
    "summary": Picture(("testpress export --sandbox --out out --format duckdb",)),
    "check": Picture(("testpress check --sandbox",)),
    "check-bad": Picture(
        ("testpress check --base-url https://no.such.invalid",), settings={"TESTPRESS_TOKEN": "a.b.c"}
    ),
    "config": Picture(
        ("testpress config",),
        prepare=with_config,
        settings={"TESTPRESS_PASSWORD": "x", "TESTPRESS_USERNAME": "bob"},
    ),
    "error": Picture(
        (
            "testpress export attemps --out out",
            "testpress get attempt 999999 --sandbox",
            "testpress stream attempts",
        )
    ),
}


def taken(typed: str, room: Path, picture: Picture) -> str:
    return shot(typed.split()[1:], room, picture.settings, picture.until)


def main() -> None:
    for name in sys.argv[1:] or PICTURES:
        picture = PICTURES[name]
        with tempfile.TemporaryDirectory() as folder:
            room = Path(folder)
            picture.prepare(room)
            screens = [
                (
                    typed,
                    shot(typed.split()[1:], room, picture.settings, picture.until).replace(
                        folder, "~/.config"
                    ),
                )
                for typed in picture.commands
            ]
        draw(name, picture.commands[-1] if len(picture.commands) == 1 else "testpress", screens)
        print(f"cli-{name}.svg")


if __name__ == "__main__":
    main()
