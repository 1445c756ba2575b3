"""Words of the server: known ones are members, unknown ones are kept."""

from __future__ import annotations

import copy
import pickle

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testpress_async.models import (
    AnswerResult,
    AttemptResult,
    AttemptState,
    ChapterContentType,
    ContentAttemptState,
    ContentAttemptType,
    ContentType,
    OpenEnum,
)

OPEN: list[type[OpenEnum]] = [
    AttemptState,
    ContentAttemptState,
    ContentAttemptType,
    ChapterContentType,
    AttemptResult,
    AnswerResult,
]
NO_WORD = "Évaluée à demi"


@pytest.mark.parametrize("enum", OPEN)
def test_an_unknown_word_is_kept_and_works_like_its_text(enum: type[OpenEnum]) -> None:
    """It decodes, equals and hashes as its text, prints as it, and encodes to it."""
    other = msgspec.json.decode(msgspec.json.encode(NO_WORD), type=enum)
    assert isinstance(other, enum)
    assert not other.is_known
    assert other == NO_WORD == other.value == other.name == str(other) == f"{other}"
    assert {NO_WORD: 1}[other] == 1
    assert enum(NO_WORD) == other
    assert repr(other) == f"<{enum.__name__} other: {NO_WORD!r}>"
    assert msgspec.json.decode(msgspec.json.encode(other)) == NO_WORD


@pytest.mark.parametrize("enum", OPEN)
def test_words_survive_pickle_and_copy(enum: type[OpenEnum]) -> None:
    """Known members stay the same object, unknown words stay themselves."""
    for word in (*enum, enum(NO_WORD)):
        for again in (pickle.loads(pickle.dumps(word)), copy.copy(word), copy.deepcopy(word)):
            assert again == word
            assert type(again) is enum
            assert again.is_known is word.is_known
            assert again is word or not word.is_known


@pytest.mark.parametrize("enum", OPEN)
def test_known_words_are_members(enum: type[OpenEnum]) -> None:
    """Every member decodes to itself, and says that it is known."""
    for member in enum:
        assert msgspec.json.decode(msgspec.json.encode(member.value), type=enum) is member
        assert member.is_known
        assert str(member) == member.value
        assert member.name in repr(member)


@pytest.mark.parametrize("enum", OPEN)
def test_unknown_words_are_not_collected(enum: type[OpenEnum]) -> None:
    """However many words a server invents, the enumeration stays as it is."""
    before = list(enum), len(enum._value2member_map_)
    for number in range(100):
        enum(f"word {number}")
    assert (list(enum), len(enum._value2member_map_)) == before


@pytest.mark.parametrize("enum", OPEN)
def test_a_number_is_no_word(enum: type[OpenEnum]) -> None:
    """Only text is kept."""
    with pytest.raises(ValueError, match="is not a valid"):
        enum(5)


def test_the_two_vocabularies_of_state_have_their_own_numbers() -> None:
    """3 is "not started" for attempts and "evaluation completed" for content attempts."""
    assert {state.value: state.code for state in AttemptState} == {
        "Running": 0,
        "Completed": 1,
        "Not Started": 3,
    }
    assert {state.value: state.code for state in ContentAttemptState} == {
        "Started": 0,
        "Completed": 1,
        "Pending Evaluation": 2,
        "Evaluation Completed": 3,
    }
    assert AttemptState(NO_WORD).code is None
    assert ContentAttemptState(NO_WORD).code is None


def test_the_three_vocabularies_of_content_type_meet_in_the_filters_numbers() -> None:
    """`kind` maps both texts to the documented number; a word without one has none."""
    assert {word.value: word.kind for word in ContentAttemptType} == {
        "video": 3,
        "assessment": 1,
        "videoConference": 7,
        "live_stream": 8,
    }
    assert {word.value: word.kind for word in ChapterContentType} == {
        "Video": 3,
        "Exam": 1,
        "Quiz": 2,
        "Notes": 5,
        "Html": 5,
        "Attachment": 4,
        "VideoConference": 7,
        "Live Stream": 8,
    }
    assert ContentAttemptType(NO_WORD).kind is None
    assert ChapterContentType(NO_WORD).kind is None


@given(st.integers().filter(lambda code: code not in list(ContentType)))
def test_an_unknown_content_type_number_is_kept(code: int) -> None:
    """A number the documentation does not list works like that number."""
    other = ContentType(code)
    assert (other, int(other), other.value, other.name) == (code, code, code, f"OTHER_{code}")
    assert not other.is_known
    assert pickle.loads(pickle.dumps(other)) == code


def test_content_type_numbers_are_members() -> None:
    """Documented numbers are members; text is not a number."""
    assert ContentType(3) is ContentType.VIDEO
    assert ContentType.VIDEO.is_known
    with pytest.raises(ValueError, match="is not a valid"):
        ContentType("3")
