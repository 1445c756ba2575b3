"""`docs/command-line.md` tells of the program as it is; its pictures are ours; examples of the help work."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from testpress_async.cli import exits, teaching
from testpress_async.cli.app import app, run
from testpress_async.cli.settings import Institute
from testpress_async.client import ENVIRONMENT

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "command-line.md").read_text()
COMMANDS = [name for name in app if not name.startswith("-")]
IMAGES = sorted((DOCS / "images").glob("cli-*.svg"))
LONGEST = 80


def table(head: str) -> dict[str, str]:
    """Rows of the table whose first column is headed *head*, without backticks in the first."""
    found = re.search(rf"^\| {re.escape(head)} \|.*\n\|---\|---\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert found, head
    rows = [re.split(r" *\| *", line.strip("| ")) for line in found[1].splitlines()]
    return {first.replace("`", ""): rest for first, rest in rows}


def options_shown() -> set[str]:
    """Options in the first column of any table of options."""
    heads = re.findall(r"^\| ((?:Option|Which records).*?) \|", PAGE, re.MULTILINE)
    return {name for head in heads for row in table(head) for name in re.findall(r"--?[a-z][\w-]*", row)}


def options_of(command: str) -> set[str]:
    with app.app_stack([command]):
        found = app[command].assemble_argument_collection()
    return {name for argument in found for name in argument.names if name.startswith("-")}


# --- the page --------------------------------------------------------------------------------------------


def test_the_page_has_every_option_and_no_other() -> None:
    """Of all commands, short forms too."""
    assert options_shown() == {option for command in COMMANDS for option in options_of(command)}


def test_the_page_has_a_section_for_every_command() -> None:
    """Or it is named in the heading of one."""
    titles = " ".join(re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)).lower().split()
    assert [name for name in COMMANDS if name not in {*titles, "config"}] == []
    assert "the config file" in PAGE.lower()


def test_the_page_has_every_exit_code() -> None:
    """With the meaning that `--help` gives it."""
    assert table("Exit code") == {str(code): meaning for code, meaning in exits.MEANINGS.items()}


def test_the_page_has_every_variable() -> None:
    """Those of the help, which are those of the client and one more."""
    assert table("Variable") == teaching.VARIABLES
    assert {*ENVIRONMENT, "TESTPRESS_INSTITUTE"} == set(teaching.VARIABLES)


def test_the_page_has_every_key_of_the_config_file() -> None:
    """Named as in the file."""
    assert set(table("Key of `[institutes.NAME]`")) == set(Institute.__struct_fields__)


# --- pictures ---------------------------------------------------------------------------------------------


def test_every_picture_is_shown_and_every_shown_one_is_there() -> None:
    """None is left over, none is missing."""
    assert set(re.findall(r"\]\(images/(cli-\S+\.svg)\)", PAGE)) == {image.name for image in IMAGES}


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.stem)
def test_a_picture_is_small_and_needs_nothing_from_elsewhere(image: Path) -> None:
    """No font from the web, no folder of the machine that made it."""
    svg = image.read_text().replace("&#160;", " ")
    assert len(svg) < 64_000
    assert set(re.findall(r"https?://[^\s\"<)│]+", svg)) <= {
        "http://www.w3.org/2000/svg",
        *re.findall(r"http://127\.0\.0\.1:\d+|https://\S*?(?:testpress\.in|invalid)\b[./]?", svg),
    }
    assert not re.search(r"/tmp|/home|/root|@font-face|url\((?!#)", svg)


# --- the help ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=" ".join)
def test_help_fits_a_terminal_and_shows_examples(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """80 columns; every example of the command stands there whole, to be copied."""
    monkeypatch.setenv("COLUMNS", str(LONGEST))
    assert run([*command, "--help"]) == exits.DONE
    told = capfd.readouterr().out
    assert max(map(len, told.splitlines())) <= LONGEST
    examples = teaching.EXAMPLES[command[0]] if command else ()
    for _, example in examples:
        assert f"\n   {teaching.shown(example)}" in told
    assert bool(examples) == bool(command)


@pytest.mark.parametrize(
    "example",
    [example for examples in teaching.EXAMPLES.values() for _, example in examples if "eval" not in example],
)
def test_an_example_is_understood(example: str) -> None:
    """The program accepts its options; what a shell does with the rest is not its business."""
    words = shlex.split(re.split(r" [|>] ", example)[0])
    command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    assert command.__name__ == words[0]
    assert bound is not None


def test_every_command_has_examples() -> None:
    """And there are none of a command that is gone."""
    assert set(teaching.EXAMPLES) == set(COMMANDS)
