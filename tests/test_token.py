"""Resume tokens: where an iteration stands, as text."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testpress_async.errors import ConfigError
from testpress_async.listing.token import Position, fingerprint, read_token, write_token

NAME = fingerprint("/a/?exams=5")


@given(page=st.integers(1, 2**40), offset=st.integers(0, 10_000))
def test_a_token_gives_back_its_position(page: int, offset: int) -> None:
    """Page and offset survive, as text that is safe in URLs, shells and JSON."""
    token = write_token(Position(NAME, page, offset))
    assert re.fullmatch(r"[A-Za-z0-9_-]+", token)
    assert read_token(token, NAME) == Position(NAME, page, offset)


def test_a_fingerprint_shows_nothing_of_the_filters() -> None:
    """A search text can be a person's name."""
    token = write_token(Position(fingerprint("/users/?q=asha"), 3))
    assert b"asha" not in base64.urlsafe_b64decode(token + "==")


@given(st.text(max_size=80) | st.binary(max_size=60).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_any_other_text_is_refused(text: str) -> None:
    """Nothing but a token of this listing is ever taken for one."""
    with pytest.raises(ConfigError) as caught:
        read_token(text, NAME)
    assert caught.value.parameter == "token"


@given(st.data())
def test_a_cut_token_is_refused(data: st.DataObject) -> None:
    """Half a token must not resume somewhere else."""
    token = write_token(Position(NAME, 12, 3))
    with pytest.raises(ConfigError):
        read_token(token[: data.draw(st.integers(0, len(token) - 2))], NAME)


@pytest.mark.parametrize(
    "position", [Position(NAME, 0), Position(NAME, 1, -1), Position(NAME, 1, 0, 2), Position(NAME, -3)]
)
def test_positions_that_cannot_be_are_refused(position: Position) -> None:
    """Page 0, a negative offset or another version are not understood, so they are not guessed."""
    with pytest.raises(ConfigError, match="another version"):
        read_token(write_token(position), NAME)


def test_a_token_of_another_listing_is_refused() -> None:
    """Other filters number their pages differently."""
    with pytest.raises(ConfigError, match="another listing"):
        read_token(write_token(Position(fingerprint("/a/?exams=6"), 2)), NAME)
