"""The SELECT that turns lines of JSON into the columns of `schema`: SQL text for DuckDB, no I/O.

Every value is tried against its column. One that does not fit, not exactly, or not at all, leaves the nearest
value or null there, and itself in `_extra`; a row is never lost over a value.
"""

from __future__ import annotations

from typing import Final

import msgspec

from testpress_async.models.schema import EXTRA, Column, Kind, columns, known_fields

Views = tuple[tuple[str, frozenset[str], str], ...]

VIEWS: Final[Views] = (
    (
        "answers_with_questions",
        frozenset({"user_answers", "exam_questions", "attempts"}),
        """SELECT answer.* EXCLUDE (_extra),
            attempt.user_id, question.exam_id, question.question_id, question.section_id,
            question."order" AS question_order, question."type" AS question_type, question.question_html,
            question.answers AS question_choices, question.difficulty_level,
            question.marks AS question_marks, question.negative_marks AS question_negative_marks
        FROM user_answers AS answer
        LEFT JOIN exam_questions AS question ON question.id = answer.exam_question_id
        LEFT JOIN attempts AS attempt ON attempt.id = answer.attempt_id""",
    ),
    (
        "content_attempts_with_names",
        frozenset({"content_attempts", "users", "courses", "chapter_contents"}),
        """SELECT content_attempt.* EXCLUDE (_extra),
            "user".username, "user".email, course.title AS course_title, content.title AS content_title
        FROM content_attempts AS content_attempt
        LEFT JOIN users AS "user" ON "user".id = content_attempt.user_id
        LEFT JOIN courses AS course ON course.id = content_attempt.course_id
        LEFT JOIN chapter_contents AS content ON content.id = content_attempt.chapter_content_id""",
    ),
)
"""Ready-made joins: name, tables that must be there, and what it selects."""

_USUAL_LINE_BYTES: Final = 1 << 24  # DuckDB reserves twice as much for each of its threads
_FORMULA: Final = r"^[=+\-@\t\r]"
_NUMBER: Final = r"\s*[+-]?\d{1,30}(\.\d{0,30})?([eE][+-]?\d{1,3})?\s*"
_PLAIN: Final = r"\s*[+-]?\d{1,30}(\.\d{0,30})?\s*"
_WHOLE: Final = r"\s*[+-]?\d+(\.0*)?\s*"
_FOUR_PLACES: Final = r"\s*[+-]?\d{1,14}(\.\d{0,4}0*)?\s*"
_SURE_DIGITS: Final = 16  # a double keeps any 15 digits; a point or a sign comes on top
_MOMENT: Final = r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:?\d\d)"
_MICROSECONDS: Final = r".*:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:?\d\d)"
_FIRST_MOMENT, _LAST_MOMENT = "0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00"
_SLASHED_DAY: Final = r"\s*\d{1,2}/\d{1,2}/\d{4}\s*"
_DAY: Final = r"\s*\d{4}-\d\d-\d\d\s*"
_CLOCK: Final = (
    r"\s*(?:([+-]?\d{1,9})(?: days?,)? )?(-)?(\d{1,9}):([0-5]?\d):([0-5]?\d)(?:[.,](\d{1,12}))?\s*"
)
_CLOCK_PARTS: Final = "['d', 'sign', 'h', 'm', 's', 'f']"
_SECONDS: Final = r"\s*[+-]?\d{1,30}(\.\d*)?( seconds?)?\s*"
_MICROSECONDS_CUT: Final = r"[+-]?\d+(\.\d{1,6})?"


def quoted(text: str) -> str:
    """*text* as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def name(identifier: str) -> str:
    """*identifier* as an SQL name: `order` and `end` are columns of ours."""
    return '"' + identifier.replace('"', '""') + '"'


def typed(table: str, path: str, longest_line_bytes: int = 0) -> str:
    """Rows of *table* out of the JSON Lines file *path*, in its order.

    Read whole lines → take the fields apart, as texts → give each its type → gather what is left over.
    """
    found = columns(table)
    shape = {
        column.field: "JSON" if column.kind is Kind.NESTED else "VARCHAR" for column in found if column.field
    }
    values = ", ".join(f"{_value(column)} AS {name(column.name)}" for column in found if column.field)
    lines = (
        f"read_json_objects({quoted(_no_pattern(path))}, format = 'newline_delimited', "
        f"maximum_object_size = {max(longest_line_bytes + 1024, _USUAL_LINE_BYTES)})"
    )
    apart = f"SELECT json, json_transform(json, {quoted(_json(shape))}) AS r FROM {lines}"  # noqa: S608 - ours
    valued = f"SELECT json, r, {values} FROM ({apart})"  # noqa: S608
    kept = ", ".join(name(column.name) for column in found if column.field)
    return f"SELECT {kept}, {_extra(table)} AS {name(EXTRA)} FROM ({valued})"  # noqa: S608


def printable(table: str, rows: str, *, formula_guard: bool) -> str:
    """*rows* (a SELECT of `typed`) as texts for CSV: ISO 8601 in UTC, decimals without idle zeros.

    `formula_guard` puts an apostrophe before texts that a spreadsheet would run as a formula.
    """
    cells = ", ".join(f"{_cell(column, formula_guard)} AS {name(column.name)}" for column in columns(table))
    return f"SELECT {cells} FROM ({rows})"  # noqa: S608


def _cell(column: Column, formula_guard: bool) -> str:
    cell = name(column.name)
    match column.kind:
        case Kind.MOMENT:
            return f"strftime({cell}, '%Y-%m-%dT%H:%M:%S.%fZ')"
        case Kind.DAY:
            return f"strftime({cell}, '%Y-%m-%d')"
        case Kind.EXACT | Kind.SECONDS:
            return f"rtrim(rtrim({cell}::VARCHAR, '0'), '.')"
        case Kind.TEXT | Kind.NESTED if formula_guard:
            text = f"{cell}::VARCHAR"
            return f"CASE WHEN regexp_matches({text}, {quoted(_FORMULA)}) THEN '''' || {text} ELSE {text} END"
        case _:
            return cell


# --- one column --------------------------------------------------------------------------------------


def _text(column: Column) -> str:
    return f"r.{name(column.field or '')}"


def _value(column: Column) -> str:
    """The nearest value of the column's kind; null if there is none."""
    text = _text(column)
    match column.kind:
        case Kind.WHOLE:
            return f"CASE WHEN {_is(text, _WHOLE)} THEN TRY_CAST({text} AS BIGINT) END"
        case Kind.EXACT:
            plain, power = f"TRY_CAST({text} AS {Kind.EXACT})", f"TRY_CAST({_real(text)} AS {Kind.EXACT})"
            return f"CASE WHEN {_is(text, _PLAIN)} THEN {plain} WHEN {_is(text, _NUMBER)} THEN {power} END"
        case Kind.REAL:
            real = _real(text)
            return f"CASE WHEN {_is(text, _NUMBER)} AND isfinite({real}) THEN {real} END"
        case Kind.SECONDS:
            return _seconds(text)
        case Kind.MOMENT:
            moment = f"TRY_CAST(upper({text}) AS TIMESTAMPTZ)"
            years = f"{moment} BETWEEN TIMESTAMPTZ '{_FIRST_MOMENT}' AND TIMESTAMPTZ '{_LAST_MOMENT}'"
            return f"CASE WHEN {_is(text, _MOMENT)} AND {years} THEN {moment} END"
        case Kind.DAY:
            slashed = f"TRY_CAST(try_strptime(trim({text}), '%d/%m/%Y') AS DATE)"
            iso = f"CASE WHEN {_is(text, _DAY)} THEN TRY_CAST(trim({text}) AS DATE) END"
            day = f"CASE WHEN {_is(text, _SLASHED_DAY)} THEN {slashed} ELSE {iso} END"
            return f"CASE WHEN {day} >= DATE '0001-01-01' THEN {day} END"
        case Kind.TRUTH:
            return f"CASE {text} WHEN 'true' THEN true WHEN 'false' THEN false END"
        case Kind.TEXT | Kind.NESTED:
            return text


def _misfit(column: Column) -> str | None:
    """Whether the value stands in its column inexactly or not at all; None if every value fits."""
    text, value = _text(column), name(column.name)
    match column.kind:
        case Kind.TEXT | Kind.NESTED | Kind.SECONDS:  # durations keep their text in a column of their own
            return None
        case Kind.EXACT:
            fits = _is(text, _FOUR_PLACES)
        case (
            Kind.REAL
        ):  # numbers are doubles already, whatever their length; texts may hold more than one can
            same = f"(length({text}) <= {_SURE_DIGITS} OR to_json({value})::VARCHAR = {text})"
            fits = f"{value} IS NOT NULL AND {same}"
        case Kind.MOMENT:
            fits = f"{value} IS NOT NULL AND {_is(text, _MICROSECONDS)}"
        case _:
            fits = f"{value} IS NOT NULL"
    nothing = (
        "" if column.kind in (Kind.MOMENT, Kind.TRUTH) else f" AND upper(trim({text})) NOT IN ('', 'NA')"
    )
    return f"({text} IS NOT NULL AND NOT ({fits}){nothing})"


def _seconds(text: str) -> str:
    """The spellings of `models.scalars.duration`, exact to the microsecond."""
    part = f"regexp_extract({text}, {quoted(_CLOCK)}, {_CLOCK_PARTS})"

    def count(key: str) -> str:
        return f"coalesce(TRY_CAST({part}.{key} AS HUGEINT), 0)"

    fraction = f"CAST(rpad(left({part}.f, 6), 6, '0') AS HUGEINT)"
    of_day = f"(({count('h')} * 60 + {count('m')}) * 60 + {count('s')}) * 1000000 + {fraction}"
    signed = f"CASE WHEN {part}.sign = '-' THEN -1 ELSE 1 END * ({of_day})"
    clock_us = f"{count('d')} * 86400000000 + {signed}"
    clock = f"TRY_CAST(CAST({clock_us} AS DECIMAL(30,0)) * 0.000001 AS {Kind.SECONDS})"
    plain = f"TRY_CAST(regexp_extract({text}, {quoted(_MICROSECONDS_CUT)}) AS {Kind.SECONDS})"
    # Powers of ten, such as 1.5e-6. Of tiny ones DuckDB before 2.0 made the smallest decimal, not 0.
    digits = (
        f"regexp_extract(CAST(TRY_CAST({text} AS DECIMAL(38,25)) AS VARCHAR), {quoted(_MICROSECONDS_CUT)})"
    )
    power = f"CASE WHEN abs({_real(text)}) < 1e-6 THEN 0 ELSE TRY_CAST({digits} AS {Kind.SECONDS}) END"
    other = f"CASE WHEN {_is(text, _NUMBER)} THEN {power} END"
    return (
        f"CASE WHEN {text} IS NULL THEN NULL WHEN {_is(text, _CLOCK)} THEN {clock} "
        f"WHEN {_is(text, _SECONDS)} THEN {plain} ELSE {other} END"
    )


def _extra(table: str) -> str:
    """What the columns do not hold of a row, as JSON: the row without its fitting fields, null if empty.

    Merging a patch of nulls (RFC 7386) takes those fields out and touches nothing else.
    """
    misfits = {column.field: misfit for column in columns(table) if (misfit := _misfit(column))}
    sure = ", ".join(quoted(_null(field)) for field in sorted(known_fields(table) - misfits.keys()))
    rest = [
        f"CASE WHEN {misfit} THEN NULL ELSE {quoted(_null(field or ''))} END"
        for field, misfit in misfits.items()
    ]
    some = f"'{{' || concat_ws(',', {', '.join(filter(None, [sure, *rest]))}) || '}}'"
    every = quoted(_json(dict.fromkeys(sorted(known_fields(table)))))
    patch = f"CASE WHEN {' OR '.join(misfits.values())} THEN {some} ELSE {every} END"
    left = f"json_merge_patch(json, {patch})"
    return (
        f"CASE WHEN NOT starts_with(ltrim(json::VARCHAR), '{{') THEN json "
        f"WHEN {left}::VARCHAR <> '{{}}' THEN {left} END"
    )


def _real(text: str) -> str:
    return f"TRY_CAST({text} AS DOUBLE)"


def _is(text: str, pattern: str) -> str:
    return f"regexp_full_match({text}, {quoted(pattern)})"


def _null(field: str) -> str:
    return _json({field: None})[1:-1]


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _no_pattern(path: str) -> str:
    """*path* for functions of DuckDB that take patterns: `[`, `*` and `?` in it mean themselves."""
    return "".join(f"[{sign}]" if sign in "[*?" else sign for sign in path)
