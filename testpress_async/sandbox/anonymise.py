"""Answers of an institute without what is personal or secret: names, addresses, answers, texts, tokens.

A text stays only where the models expect a number, a duration, a moment or a word of the API, and only if it
is one. Every other text is replaced by an invented one of its kind and about its length, whatever its field
is called; so is a number where a text may stand, and a long one where the models expect nothing. The same
text becomes the same everywhere, different ones stay different; what stands for what is drawn at random and
kept nowhere. Ids of records, counts, scores and times stay as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import cache
from itertools import count
from random import Random
from typing import Final, NamedTuple, NoReturn, cast, get_args, get_origin
from urllib.parse import parse_qsl

from msgspec.structs import fields

from testpress_async import models
from testpress_async.models import OpenEnum, Record, schema
from testpress_async.models.scalars import duration, exact

HOST: Final = "https://institute.example"
WORD_CHARS: Final = 12
LONG_DIGITS: Final = 5
MAX_WORDS: Final = 400
MAX_TRIES, MORE_DIGITS = 200, 20  # where there are too few: one digit more after 20 tries, twins after 200
_BOM = b"\xef\xbb\xbf"
_CONSONANTS = "bcdfghjklmnpqrstvwxz", "βγδζθκλμνξπρστφχψ"  # no name has no vowel

# By the last word of a list's path, or by the list's name in `results`.
RECORDS: Final = {name: kind for name, kind in schema.RECORDS.items() if name != "attempt_details"} | {
    "video-conference": models.Attendance
}
_WORD_FIELDS = {"type", "difficulty_level", "provider", "status", "state", "attempt_type", "order"}
_OTHER_WORDS = """did not finish|expired|initiated|upcoming|easy|medium|hard|uncategorized|zoom|
microsoft teams|mcq, single correct|mcq, multiple correct|nat, numerical answer type|essay|gap fill|
short answer|file upload"""
_WORDS = frozenset(
    [str(word.value).casefold() for enum in OpenEnum.__subclasses__() for word in enum]
    + [*_OTHER_WORDS.replace("\n", "").split("|"), *"abcdefghijklmnopqrstuvwxyz"]
)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?", re.ASCII)
_DAY = re.compile(r"\d{1,2}/\d{1,2}/\d{4}", re.ASCII)
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_PHONE = re.compile(r"[-+(]*\d[\d ().-]*", re.ASCII)
_URL = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?//\S+", re.IGNORECASE)
_API_URL = re.compile(
    r"https?://[^/\s]+(?P<path>/api/v[\d.]+/(?:admin/)?(?:attempts|exams|users|courses|chapters|contents)/\d+/"
    r"(?:(?:batches|chapters|contents|questions|user_answers)/)?)",
    re.ASCII,
)
_FILE_TYPE = re.compile(r"\.(?:pdf|png|jpe?g|m3u8|mp4|html)$")
_FIELD_NAME = re.compile(r"[A-Za-z_]\w{0,63}", re.ASCII)
_SEARCHES = frozenset({"q", "email"})
_PLAIN_FILTER = re.compile(r"[\d,:.TZ-]+", re.ASCII)


class _Rule(NamedTuple):
    """What a field may show. `record`: what it holds, or, if it `is_map`, what its values are.

    `is_inner`: whether that stands within a record, where a name nobody knows can be data.
    `keeps`: whether a text may stay; `digits`: numbers of so many or more are replaced, none if 0.
    """

    record: type[Record] | None = None
    is_map: bool = False
    is_inner: bool = False
    keeps: Callable[[str], object] = str.isspace
    digits: int = 1


_UNKNOWN = _Rule(digits=LONG_DIGITS)


def _is_number(text: str) -> bool:
    for read in (exact, duration):
        try:
            read(text)
        except ValueError:
            continue
        return True
    return False


def _is_harmless(name: str, value: str) -> bool:
    """Whether a filter tells nothing: ids, days, codes, an order."""
    plain = _PLAIN_FILTER.fullmatch(value) is not None or _is_word(value)
    return name == "ordering" or (plain and name not in _SEARCHES)


def _is_word(text: str) -> bool:
    return text.casefold() in _WORDS or (len(text) < LONG_DIGITS and text.isdecimal())


def _parts(annotation: object) -> Iterator[object]:
    yield get_origin(annotation) or annotation
    for part in get_args(annotation):
        yield from _parts(part)


@cache
def _rules(record: type[Record]) -> Mapping[str, _Rule]:
    """By field as it is sent."""
    words = _WORD_FIELDS - ({"state"} if record is models.User else set())  # there it is where he lives
    found: dict[str, _Rule] = {}
    for field in fields(record):
        kinds = {kind for kind in _parts(field.type) if isinstance(kind, type)}
        inner = next((kind for kind in kinds if issubclass(kind, Record)), None)
        name = field.encode_name
        if inner is not None:
            rule = _Rule(record=inner, is_map=dict in kinds, is_inner=True)
        elif name in words or any(issubclass(kind, OpenEnum) for kind in kinds):
            rule = _Rule(keeps=_is_word, digits=0)
        elif field.name.startswith("raw_") and float in kinds:
            rule = _Rule(keeps=_is_number, digits=0)
        elif datetime in kinds:
            rule = _Rule(keeps=_MOMENT.fullmatch, digits=0)
        else:
            rule = _Rule(digits=0 if int in kinds and str not in kinds else 1)
        found[name] = rule
    return found


@cache
def _known_names() -> frozenset[str]:
    return frozenset(name for record in RECORDS.values() for name in _rules(record)) | _WORDS


class Anonymiser:
    """Replaces for one recording: what it has replaced once, it replaces by the same again."""

    def __init__(self) -> None:
        self._dice = Random()
        self._made: dict[tuple[str, str], str] = {}
        self._taken: set[str] = set()

    def answer(self, path: str, body: bytes) -> tuple[dict[str, object], bool]:
        """A page or a record as it may be shown, without links, and whether it had a `next`.

        Raises:
            ValueError: *body* is no JSON object.
        """
        sent: object = json.loads(body.removeprefix(_BOM), parse_constant=_refuse)
        if not isinstance(sent, dict):
            raise ValueError("expected a JSON object")
        page = cast("dict[str, object]", sent)
        *_, before, last = ["", *path.strip("/").split("/")]
        if "results" not in page:
            record = models.AttemptDetail if before == "attempts" else RECORDS.get(before)
            return self._object(_Rule(record), page), False
        shown: dict[str, object] = {}
        for name, value in page.items():
            if name == "results" and isinstance(value, dict):
                tables = cast("dict[str, object]", value).items()
                shown[name] = {
                    self._name(at): self._value(_Rule(RECORDS.get(at)), rows) for at, rows in tables
                }
            elif name == "results":
                shown[name] = self._value(_Rule(RECORDS.get(last)), value)
            elif name in ("count", "per_page") and isinstance(value, int):
                shown[name] = value
            elif name not in ("next", "previous"):  # they repeat the filters
                shown[self._name(name)] = self._value(_UNKNOWN, value)
        return shown, bool(page.get("next"))

    def filters(self, query: str) -> list[tuple[str, str]]:
        """The filters of a query string as they may be shown, sorted; `page` is none of them."""
        return sorted(
            (name, value if _is_harmless(name, value) else self.text(value))
            for name, value in parse_qsl(query, keep_blank_values=True)
            if name != "page"
        )

    def text(self, text: str) -> str:
        """What stands for *text*; blank texts stay."""
        if not text.strip():
            return text
        if _PHONE.fullmatch(text) and not _MOMENT.fullmatch(text):
            return self._digits(text)
        return self._once("text", text, lambda _: self._invented(text))

    # --- inside ------------------------------------------------------------------------------------

    def _value(self, rule: _Rule, value: object) -> object:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return value if rule.keeps(value) else self.text(value)
        if isinstance(value, list):
            return [self._value(rule, each) for each in cast("list[object]", value)]
        if isinstance(value, dict):
            return self._object(rule, cast("dict[str, object]", value))
        shown = repr(value)
        if not rule.digits or sum(map(str.isdigit, shown)) < rule.digits:
            return value
        digits = self._digits(shown.partition(".")[0].lstrip("-"))
        return float(digits) if isinstance(value, float) else int(digits)

    def _object(self, rule: _Rule, value: Mapping[str, object]) -> dict[str, object]:
        if rule.is_map or rule.record is None:
            inner = _Rule(rule.record, is_inner=True) if rule.is_map else _UNKNOWN
            return {self._key(name): self._value(inner, each) for name, each in value.items()}
        rules, other = _rules(rule.record), self._key if rule.is_inner else self._name
        return {
            name if name in rules else other(name): self._value(rules.get(name, _UNKNOWN), each)
            for name, each in value.items()
        }

    def _name(self, name: str) -> str:
        """A field's name, which the server's program chose."""
        return name if _FIELD_NAME.fullmatch(name) else self.text(name)

    def _key(self, name: str) -> str:
        """A key that can be data."""
        return name if name in _known_names() else self.text(name)

    def _once(self, kind: str, text: str, make: Callable[[int], str]) -> str:
        made = self._made.get((kind, text))
        for tries in count() if made is None else ():
            made = make(tries)
            if made != text and (made not in self._taken or tries > MAX_TRIES):
                break
        self._taken.add(made or "")
        return self._made.setdefault((kind, text), made or "")

    def _digits(self, text: str) -> str:
        """Other digits in *text*; the last ten decide, so that a number with and without +91 stays one."""
        digits = re.sub(r"\D", "", text)
        core = digits[-10:]

        def made(tries: int) -> str:
            # No number of a telephone in India begins with 1.
            first = "1" if len(core) == 10 else self._dice.choice("123456789")
            return first + "".join(self._dice.choices("0123456789", k=len(core) - 1 + tries // MORE_DIGITS))

        others = digits[:-10] + self._once("digits", core, made)
        if len(others) != len(digits):
            return others
        left = iter(others)
        return re.sub(r"\d", lambda _: next(left), text, flags=re.ASCII)

    def _invented(self, text: str) -> str:
        if api := _API_URL.fullmatch(text):
            return HOST + api["path"]
        if _URL.fullmatch(text):
            ending = _FILE_TYPE.search(text)
            return f"{HOST}/{self._word()}{ending[0] if ending else ''}"
        if _EMAIL.fullmatch(text):
            return f"{self._word()}@people.example"
        year, month, day = map(self._dice.randint, (1950, 1, 1), (2010, 12, 28))
        if _DAY.fullmatch(text):
            return f"{day:02}/{month:02}/{year}"
        if moment := _MOMENT.fullmatch(text):
            return f"{year}-{month:02}-{day:02}" + ("T00:00:00Z" if moment[1] else "")
        words = max(1, min(MAX_WORDS, round(len(text) / (WORD_CHARS + 1))))
        invented = " ".join(self._word(is_ascii=text.isascii()) for _ in range(words))
        return f"<p>{invented}</p>" if text.lstrip().startswith("<") else invented

    def _word(self, *, is_ascii: bool = True) -> str:
        return "".join(self._dice.choices(_CONSONANTS[not is_ascii], k=WORD_CHARS))


def _refuse(constant: str) -> NoReturn:
    raise ValueError("expected JSON, which has no NaN")
