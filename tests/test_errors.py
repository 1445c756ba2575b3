"""The tree of errors: facts survive copies and pickles, secrets do not."""

from __future__ import annotations

import copy
import pickle

import pytest

from testpress_async import errors
from testpress_async.errors import Error

AT = ("GET", "/api/v2.5/admin/attempts/?page=2")
STATUS_FACTS = {"detail": "No.", "error_code": "scheduled", "retry_after_s": 1.5}

EXAMPLES: dict[str, Error] = {
    "Error": errors.Error(),
    "ConfigError": errors.ConfigError("token", "is empty"),
    "ConnectionFailed": errors.ConnectionFailed(*AT, "refused", permanent=True),
    "AnswerLost": errors.AnswerLost(*AT, "cut", permanent=True),
    "TimedOut": errors.TimedOut(*AT, "try_s", 60.0, sent=False),
    "ForeignOrigin": errors.ForeignOrigin(*AT, "https://elsewhere:443", "Use it as base_url"),
    "BodyTooLarge": errors.BodyTooLarge(*AT, 1024),
    "StatusError": errors.StatusError(*AT, 418, **STATUS_FACTS),
    "BadRequest": errors.BadRequest(*AT, 400, **STATUS_FACTS),
    "AuthenticationFailed": errors.AuthenticationFailed(*AT, 401, **STATUS_FACTS),
    "PermissionDenied": errors.PermissionDenied(*AT, 403, **STATUS_FACTS),
    "NotFound": errors.NotFound(*AT, 404, **STATUS_FACTS),
    "RateLimited": errors.RateLimited(*AT, 429, **STATUS_FACTS, sent=False),
    "ServerFault": errors.ServerFault(*AT, 503, **STATUS_FACTS),
    "DecodeFailed": errors.DecodeFailed("$.results[3].date", "expected a date", record_id=7, source="GET /x"),
    "NotJSON": errors.NotJSON("$", "expected JSON, got an empty body"),
    "ListingChanged": errors.ListingChanged("/api/x/", 9, "the same page twice"),
    "DatasetError": errors.DatasetError("out/manifest", "is not readable", "Check its rights"),
}


def test_there_is_an_example_of_every_public_error() -> None:
    """A new class of error cannot be forgotten here."""
    assert sorted(EXAMPLES) == errors.__all__
    assert all(type(error).__name__ == name for name, error in EXAMPLES.items())


@pytest.mark.parametrize("name", errors.__all__)
@pytest.mark.parametrize(
    "twin_of",
    [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_copies_and_pickles_keep_every_fact(name: str, twin_of) -> None:
    """An error that crosses a process or is given to several waiters is the same error."""
    error = EXAMPLES[name]
    error.tries, error.resume_token = 3, "token-of-page-4"
    twin = twin_of(error)
    assert twin is not error
    assert type(twin) is type(error)
    assert twin.__dict__ == {k: v for k, v in error.__dict__.items() if k != "raw"}
    assert twin.tries == 3
    assert twin.resume_token == "token-of-page-4"
    assert str(twin) == str(error)
    assert repr(twin) == repr(error)


def test_raw_bytes_of_a_record_stay_in_the_process() -> None:
    """Bytes of a record can be personal: they are neither pickled nor shown."""
    error = errors.DecodeFailed("$.id", "expected int", raw=b'{"email": "asha@example.org"}')
    assert error.raw.startswith(b"{")
    pickled = pickle.dumps(error)
    assert b"asha" not in pickled
    assert pickle.loads(pickled).raw == b""
    assert "asha" not in str(error) + repr(error)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (errors.ConfigError("token", "is empty"), "token: is empty"),
        (errors.TimedOut("GET", "/a", "try_s", 60.0), "GET /a: try_s=60 ran out"),
        (errors.BodyTooLarge("GET", "/a", 9), "GET /a: the answer is larger than max_body_bytes=9"),
        (
            errors.StatusError("GET", "/a", 503, detail="Busy", error_code="x", retry_after_s=2.0),
            "GET /a answered 503 [x]: Busy (asks to wait 2 s)",
        ),
        (errors.NotFound("GET", "/a", 404), "GET /a answered 404"),
        (
            errors.DecodeFailed("$.a", "expected int", record_id=4, source="GET /a"),
            "GET /a: $.a (record 4): expected int",
        ),
        (errors.DecodeFailed("$.a", "expected int"), "$.a: expected int"),
        (errors.ListingChanged("/a", 3, "came twice"), "GET /a page 3: came twice"),
        (errors.DatasetError("p", "is cut", "Delete it"), "p: is cut. Delete it"),
        (errors.DatasetError("p", "is cut"), "p: is cut"),
        (
            errors.ForeignOrigin("GET", "/a", "https://b:443"),
            "GET /a: redirects to https://b:443, which is not the configured institute; not followed",
        ),
    ],
)
def test_sentences(error: Error, sentence: str) -> None:
    """The text of an error is built from its facts."""
    assert str(error) == sentence
    assert repr(error) == f"{type(error).__name__}({sentence!r})"


@pytest.mark.parametrize(
    ("tries", "ending"), [(0, "refused"), (1, "refused"), (3, "refused (after 3 tries)")]
)
def test_tries_are_told_when_there_was_more_than_one(tries: int, ending: str) -> None:
    """The number of tries is only news above one."""
    error = errors.ConnectionFailed("GET", "/a", "refused")
    error.tries = tries
    assert str(error).endswith(ending)


def test_defaults_of_facts() -> None:
    """Facts nobody gave have their documented defaults."""
    assert not errors.ConnectionFailed("GET", "/a", "x").permanent
    assert not errors.AnswerLost("GET", "/a", "x").permanent
    assert errors.TimedOut("GET", "/a", "try_s", 1).sent
    assert errors.RateLimited("GET", "/a", 429).sent
    assert errors.Error().tries == 0
    assert errors.Error().resume_token is None
