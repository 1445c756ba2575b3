"""Words for the log: `testpress_async.http`, `.auth`, `.listing`, `.harvest` and `.events`.

What a caller is told by an error is not logged as well. No handler is installed: the program that uses the
package decides. Texts hold no secret and nothing personal, like the errors and events they go with.
"""

from __future__ import annotations

import contextlib
import logging

logging.getLogger("testpress_async").addHandler(logging.NullHandler())

EVENTS = logging.getLogger("testpress_async.events")
HTTP = logging.getLogger("testpress_async.http")


def tell(log: logging.Logger, level: int, text: str, *args: object, exc_info: bool = False) -> None:
    """Log it. A handler or filter that raises must not end the request it is told of."""
    if not log.isEnabledFor(level):
        return
    with contextlib.suppress(Exception):
        log.log(level, text, *args, exc_info=exc_info, stacklevel=2)


def seconds(value_s: float | None, unknown: str = "unknown") -> str:
    """*value_s* for reading."""
    if value_s is None:
        return unknown
    return f"{value_s:,.0f} s" if value_s >= 10 else f"{value_s:.2g} s"
