"""A `next` that points away from the institute: it is never followed, and the log says so."""

from __future__ import annotations

import logging
import re
from urllib.parse import urljoin

from testpress_async.http.logs import tell
from testpress_async.http.redirects import UNUSABLE, origin_of
from testpress_async.http.session import Session

log = logging.getLogger("testpress_async.listing")

MAX_TOLD = 64  # for one client; a server that names another host on each page would fill the log
_PRINTABLE_HOST = re.compile(r"[A-Za-z0-9._:-]{1,253}")  # the log ends up in terminals


def warn_of_foreign_next(session: Session, listing: str, link: str | None) -> None:
    """Log a warning if *link* has another origin than the institute's.

    Said once per client, list and origin: an institute behind a proxy that hides its address does it on every
    page of thousands of lists. Only the page number of a link is ever used, so nothing else follows from it.

    Args:
        listing: Name of the list, such as "attempts".
    """
    if link is None or link.startswith(f"{session.origin}/"):
        return
    origin = foreign_origin(session.origin, link)
    if origin is None or (listing, origin) in session.told or len(session.told) >= MAX_TOLD:
        return
    session.told.add((listing, origin))
    text = "`next` of %s points to %s, not to the institute; only its page number is used"
    tell(log, logging.WARNING, text, listing, origin)


def foreign_origin(home: str, link: str) -> str | None:
    """Scheme, host and port of *link* if they are not those of *home*; else None. Nothing else of it."""
    address = link.partition("?")[0].partition("#")[0]
    try:
        there = origin_of(urljoin(f"{home}/", address))
    except ValueError:  # half an IPv6 address
        there = None
    if there is not None and there == origin_of(home):
        return None
    if there is None or not _PRINTABLE_HOST.fullmatch(there[1]):
        return UNUSABLE
    scheme, host, port = there
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
