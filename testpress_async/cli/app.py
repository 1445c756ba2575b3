"""The program: its commands, and one run of one of them.

cyclopts reads the arguments: unlike click-based libraries it takes `async def` commands, types and docstrings
as they are. Messages and progress go to stderr, data to stdout or into files.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Literal

from cyclopts import App, CycloptsError, Group, Parameter

from testpress_async._version import __version__
from testpress_async.cli import exits, teaching
from testpress_async.cli.output import Debug, complain, err, hush, out, wrote
from testpress_async.errors import ConfigError, Error

_PROGRAM = Group("This program", sort_key=4)
_COMMANDS = {
    Group("Fetch", sort_key=1): ("export.export", "stream.stream", "stream.get"),
    Group("Set up", sort_key=2): ("check.check", "config.config", "completion"),
    Group("Practise", sort_key=3): ("sandbox.sandbox", "stream.record"),
}


def program(*, overview: bool = False) -> App:
    """The commands; each is loaded when it is asked for. An *overview* lists them without loading any."""
    app = App(
        name="testpress",
        version=__version__,
        help=teaching.PROGRAM,
        help_epilogue=teaching.ENVIRONMENT_AND_CODES,
        help_format="markdown",
        default_parameter=Parameter(negative=(), show_default=teaching.worth_showing),
        console=out,
        error_console=err,
        error_formatter=teaching.misused,
    )
    for flag in (*app.help_flags, *app.version_flags):
        app[flag].group = _PROGRAM
    for group, commands in _COMMANDS.items():
        for place, where in enumerate(commands):
            module, _, name = where.rpartition(".")
            app.command(
                f"testpress_async.cli.{module}:{name}" if module else _completion_of(app),
                name=name,
                help=teaching.SUMMARIES[name] if overview else None,
                help_epilogue=teaching.examples(name),
                usage=teaching.usage(name),
                group=group,
                sort_key=place,
            )
    return app


def _completion_of(app: App) -> Callable[..., int]:
    """The command for *app*, which it has to know as a whole."""

    def completion(shell: Literal["bash", "zsh", "fish"], *, install: bool = False) -> int:
        """Print a script with which your shell completes commands and options.

        Parameters
        ----------
        shell
            Your shell.
        install
            Put the script where the shell looks for it, and load it in ~/.bashrc or ~/.zshrc.
        """
        if not install:
            wrote(app.generate_completion(shell=shell).encode())
            return exits.DONE
        try:
            path: Path = app.install_completion(shell=shell)
        except OSError as error:
            raise ConfigError("--install", f"{error.filename}: {error.strerror}") from None
        err.print(f"Installed: {path}. It works in new shells.")
        return exits.DONE

    return completion


app = program()


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit code."""
    debug = False
    try:
        asks = not arguments or arguments[0] in app.help_flags
        chosen = program(overview=True) if asks else app
        command, bound, _ = chosen.parse_args(list(arguments), exit_on_error=False, print_error=True)
        debug = any(isinstance(each, Debug) and each.debug for each in bound.arguments.values())
        outcome = command(*bound.args, **bound.kwargs)
        if asyncio.iscoroutine(outcome):
            return _finish(outcome, resumes=arguments[0] == "export")
        return outcome or exits.DONE
    except CycloptsError:
        return exits.USAGE
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except Error as error:
        complain(exits.sentence(error, arguments))
        _show_place(error, debug)
        return exits.code_of(error)
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # of a message or of the help
            hush(sys.stdout)
            complain(f"stdout: {error.strerror}")
            return exits.DISK
        complain(exits.crashed(error, arguments, os.environ))
        _show_place(error, debug)
        return exits.CRASHED


def _show_place(error: Exception, debug: bool) -> None:
    if debug:
        err.print(exits.whole(error, os.environ))


def _finish(work: Coroutine[Any, Any, int], *, resumes: bool) -> int:
    try:
        with asyncio.Runner(loop_factory=_fast_loop()) as runner:
            return runner.run(_until_told(work))
    except (KeyboardInterrupt, asyncio.CancelledError):
        kept = " What was committed stays; the same command goes on from there." if resumes else ""
        err.print(f"Stopped.{kept}")
        return exits.INTERRUPTED


async def _until_told(work: Coroutine[Any, Any, int]) -> int:
    """*work*, cancelled by SIGTERM as by Ctrl-C."""
    task = asyncio.current_task()
    if task is not None:
        with contextlib.suppress(NotImplementedError):  # Windows has no signals for loops
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
