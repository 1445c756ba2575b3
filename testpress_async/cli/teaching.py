"""What `--help` teaches beside the options: where to begin, examples, environment, exit codes."""

from __future__ import annotations

from cyclopts import CycloptsError, MissingArgumentError
from rich.text import Text

from testpress_async.cli import exits

PROGRAM = """\
Stream and export a Testpress institute: attempts, answers, content attempts, attendance.

**New here?**

- `testpress export --sandbox --out out`: an invented institute, on this machine
- `testpress config --example`: a file that names yours
- `testpress check`: whether all is well, and what helps
- `testpress export --out out`: everything; run again, it resumes or updates
"""

SUMMARIES = {
    "export": "Export an institute, or parts of it, to JSON Lines, CSV, Parquet or DuckDB.",
    "stream": "Print the server's own records as JSON Lines on stdout, for pipes.",
    "get": "Print one record as JSON.",
    "check": "Find out whether the institute can be reached and used, and what a page costs.",
    "record": (
        "Record answers of an institute into a file that tests replay, without what is personal in them."
    ),
    "sandbox": "Run an invented institute on this machine until Ctrl-C, on good days or on bad ones.",
    "config": "Show what is in effect and where each value comes from.",
    "completion": "Print a script with which your shell completes commands and options.",
}
"""What each command does, in the words its own help begins with."""

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "export": (
        ("Try it: an invented institute, into one DuckDB file", "export --sandbox --out out --format duckdb"),
        ("Everything; the same command again resumes or updates", "export --out out"),
        ("Only what it would cost: requests, hours, bytes", "export --out out --dry-run"),
        ("Attempts and answers of two exams", "export attempts user_answers --exams 5,6 --out exams"),
        ("One year, as Parquet", "export attempts --started-after 2024-01-01 --out y --format parquet"),
        ("At night, by cron: no bars, no questions", "export --out out --quiet --yes --rate 600/min"),
    ),
    "stream": (
        ("Five attempts, as the server sent them", "stream attempts | head -5"),
        ("Completed attempts of an exam, newest first", "stream attempts --exams 3 --ordering=-date"),
        ("Answers of some attempts", "stream user_answers --ids 7,8 > answers.jsonl"),
    ),
    "get": (("One attempt with sections and statistics", "get attempt 7"),),
    "check": (
        ("The institute of the environment, or the file's default", "check"),
        ("Another one of the file, for a program to read", "check --institute test --json"),
    ),
    "record": (
        ("All lists, two pages of each, for tests to replay", "record --out institute.jsonl.gz"),
        ("An exam with its answers", "record attempts user_answers --exams 5 --out exam.jsonl"),
    ),
    "config": (
        ("A file to begin with", "config --example"),
        ("What is in effect, and where each value comes from", "config"),
        ("Keep the password of an institute in this machine's keyring", "config --set-password main"),
    ),
    "sandbox": (
        ("An institute to play with", "sandbox"),
        ("A bad day: every fifth answer is 503, some break off", "sandbox --fault 503:0.2 --fault cut"),
    ),
    "completion": (
        ("For this shell only", 'eval "$(testpress completion bash)"'),
        ("For good: bash, zsh or fish", "completion zsh --install"),
    ),
}


USAGES = {
    "export": "export [TABLES...] --out DIRECTORY [OPTIONS]",
    "record": "record [TABLES...] --out FILE [OPTIONS]",
}
"""Of commands that take any number of tables, for which cyclopts has no name."""


def usage(command: str) -> str | None:
    """The first line of a command's help where it is not cyclopts' own."""
    return f"Usage: testpress {USAGES[command]}" if command in USAGES else None


def shown(example: str) -> str:
    """An example as it is typed."""
    return example if example.startswith("eval ") else f"testpress {example}"


def examples(command: str) -> str:
    """The examples of a command, as Markdown."""
    lines = (f"- {what}:  \n  `{shown(example)}`" for what, example in EXAMPLES[command])
    return "\n".join(["**Examples**", "", *lines, "", "`testpress --help`: environment, exit codes."])


VARIABLES: dict[str, str] = {
    "TESTPRESS_BASE_URL": "address of the institute",
    "TESTPRESS_USERNAME": "admin account",
    "TESTPRESS_PASSWORD": "its password",
    "TESTPRESS_TOKEN": "a token, in place of the account or beside it",
    "TESTPRESS_INSTITUTE": "name of an institute in the config file",
}

ENVIRONMENT_AND_CODES = "\n".join(
    [
        "A flag goes before the environment, the environment before `~/.config/testpress/config.toml`.",
        "",
        "| Environment | |",
        "|---|---|",
        *(f"| {name} | {meaning} |" for name, meaning in VARIABLES.items()),
        "",
        "| Exit code | |",
        "|---|---|",
        *(f"| {code} | {meaning} |" for code, meaning in exits.MEANINGS.items()),
    ]
)


def misused(error: CycloptsError) -> Text:
    """What is wrong with the arguments, and where it is said what they may be."""
    command = " ".join(["testpress", *(error.command_chain or ())])
    what = str(error).strip()
    if isinstance(error, MissingArgumentError) and (missing := error.argument) and not error.keyword:
        name = missing.name if missing.index is None else missing.name.lstrip("-").upper()
        what = f"{name} is missing."
    return Text(f"testpress: {what} See `{command} --help`.", style="red")


def worth_showing(default: object) -> str | None:
    """A default as the help shows it; that a switch is off goes without saying."""
    return None if default is None or isinstance(default, bool) or default == "" else f"{default}"
