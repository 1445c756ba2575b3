"""What people see of numbers and tables: HTML for notebooks, in the colours of the page around it.

Everything that is displayed passes `escape`, whoever it came from; nothing here chooses what is displayed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

_LINE: Final = "1px solid rgba(127,127,127,.35)"  # to be seen on white and on black
_CELL: Final = "padding:.2em .8em;border:0;background:none;vertical-align:top;"
_HEAD: Final = f"{_CELL}border-bottom:{_LINE};font-weight:600;opacity:.75;"
_ASIDE: Final = "opacity:.7;font-size:.92em;max-width:46em;"
_TABLE: Final = "border-collapse:collapse;border:0;margin:.3em 0;font-variant-numeric:tabular-nums;"

Row = Mapping[str, object]


def html_table(title: str, about: str, rows: Sequence[Row], notes: Sequence[str] = ()) -> str:
    """A heading, a table and small print, as one piece of HTML.

    Columns are the keys of all rows, but for those in which nothing stands; numbers stand right, None is a
    dash.
    """
    aside = f' <span style="opacity:.7">{escape(about)}</span>' if about else ""
    small = "".join(f'<div style="{_ASIDE}">{escape(note)}</div>' for note in notes)
    return (
        f'<div style="color:inherit;margin:.3em 0"><div><b>{escape(title)}</b>{aside}</div>'
        f"{_grid(rows) if rows else ''}{small}</div>"
    )


def number(value: int | None, unknown: str = "?") -> str:
    """1,234; *unknown* for None."""
    return unknown if value is None else f"{value:,}"


def size(data_bytes: int) -> str:
    """Bytes for people: 1.5 MB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if data_bytes >= factor:
            return f"{data_bytes / factor:,.1f} {unit}"
    return f"{data_bytes} bytes"


def duration(seconds: float) -> str:
    """Time for people, in hours as soon as it is one."""
    if seconds >= 3600:
        return f"{seconds / 3600:,.1f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"


# --- inside ------------------------------------------------------------------------------------------


def _grid(rows: Sequence[Row]) -> str:
    names = dict.fromkeys(name for row in rows for name, value in row.items() if value != "")
    sides = {name: _side([row.get(name, "") for row in rows]) for name in names}
    head = "".join(f'<th style="{_HEAD}text-align:{sides[name]}">{escape(name)}</th>' for name in names)
    body = "".join(_line(row, sides) for row in rows)
    return f'<table style="{_TABLE}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _line(row: Row, sides: Mapping[str, str]) -> str:
    cells = (
        f'<td style="{_CELL}text-align:{side}">{_text(row.get(name, ""))}</td>'
        for name, side in sides.items()
    )
    return f"<tr>{''.join(cells)}</tr>"


def _side(values: Sequence[object]) -> str:
    """Where the cells of a column stand: numbers and their units right, everything else left."""
    texts = [value for value in values if isinstance(value, str) and value]
    return "right" if all(value[0].isdigit() for value in texts) else "left"


def _text(value: object) -> str:
    return '<span style="opacity:.5">–</span>' if value is None else escape(str(value))
