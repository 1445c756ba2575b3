"""The words of the server as open enumerations.

Open: a word this library does not know is kept, compares equal to its text and is readable; it is never an
error. `is_known` tells the two apart. The API has two vocabularies called `state` and three called
`content_type`; they are separate types here, joined by `.code` and `.kind`.

Source: https://developer.testpress.in/docs/server-api/admin-apis/attempts
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final, Self


class OpenEnum(StrEnum):
    """A text of the server: one of the members, or any other text, kept as it came."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        # Made anew each time and not registered: a server can send any number of different words.
        other = str.__new__(cls, value)
        other._name_ = other._value_ = str(value)
        return other

    @property
    def is_known(self) -> bool:
        """True if this library knows the word."""
        return self._value_ in type(self)._value2member_map_

    def __repr__(self) -> str:
        return super().__repr__() if self.is_known else f"<{type(self).__name__} other: {self._value_!r}>"


class ContentType(IntEnum):
    """What a chapter content is, as the number the `content_type` filter takes; other numbers are kept."""

    EXAM = 1
    QUIZ = 2
    VIDEO = 3
    ATTACHMENT = 4
    NOTES = 5
    VIDEO_CONFERENCE = 7
    LIVE_STREAM = 8

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, int):
            return None
        other = int.__new__(cls, value)
        other._name_, other._value_ = f"OTHER_{int(value)}", int(value)
        return other

    @property
    def is_known(self) -> bool:
        """True if the number is documented."""
        return self._value_ in type(self)._value2member_map_


class AttemptState(OpenEnum):
    """State of an exam attempt; its numbers (`.code`) are not those of `ContentAttemptState`."""

    RUNNING = "Running"
    COMPLETED = "Completed"
    NOT_STARTED = "Not Started"

    @property
    def code(self) -> int | None:
        """The number the `state` filter of attempts takes; None for a word without a documented number."""
        return _ATTEMPT_CODES.get(self)


class ContentAttemptState(OpenEnum):
    """State of a content attempt; its numbers (`.code`) are not those of `AttemptState`."""

    STARTED = "Started"
    COMPLETED = "Completed"
    PENDING_EVALUATION = "Pending Evaluation"
    EVALUATION_COMPLETED = "Evaluation Completed"

    @property
    def code(self) -> int | None:
        """The number the `state` filter of content attempts takes; None for a word without one."""
        return _CONTENT_ATTEMPT_CODES.get(self)


class ContentAttemptType(OpenEnum):
    """`content_type` of a content attempt. The documentation shows the first four; `.kind` maps them."""

    VIDEO = "video"
    ASSESSMENT = "assessment"
    VIDEO_CONFERENCE = "videoConference"
    LIVE_STREAM = "live_stream"

    @property
    def kind(self) -> ContentType | None:
        """The content type this stands for; None for a word not documented. Quizzes are assessments too."""
        return _CONTENT_ATTEMPT_KINDS.get(self)


class ChapterContentType(OpenEnum):
    """`content_type` of a chapter content; `.kind` maps it."""

    VIDEO = "Video"
    EXAM = "Exam"
    QUIZ = "Quiz"
    NOTES = "Notes"
    HTML = "Html"
    ATTACHMENT = "Attachment"
    VIDEO_CONFERENCE = "VideoConference"
    LIVE_STREAM = "Live Stream"

    @property
    def kind(self) -> ContentType | None:
        """The content type this stands for; None for a word not documented. `Html` is a kind of notes."""
        return _CHAPTER_CONTENT_KINDS.get(self)


class AttemptResult(OpenEnum):
    """Outcome of an attempt or user exam; `Not taken` also comes with completed attempts."""

    PASS = "Pass"  # noqa: S105 (a grade, not a password)
    FAIL = "Fail"
    NOT_TAKEN = "Not taken"
    NOT_AVAILABLE = "NA"


class AnswerResult(OpenEnum):
    """Outcome of one answer. The word for a partially correct one is not documented; it is kept as sent."""

    CORRECT = "Correct"
    INCORRECT = "Incorrect"
    UNANSWERED = "Unanswered"


# Keyed by text, so that a member and the same text are looked up alike.
_ATTEMPT_CODES: Final[dict[str, int]] = {
    AttemptState.RUNNING: 0,
    AttemptState.COMPLETED: 1,
    AttemptState.NOT_STARTED: 3,  # 2 is not documented
}
_CONTENT_ATTEMPT_CODES: Final[dict[str, int]] = {
    ContentAttemptState.STARTED: 0,
    ContentAttemptState.COMPLETED: 1,
    ContentAttemptState.PENDING_EVALUATION: 2,
    ContentAttemptState.EVALUATION_COMPLETED: 3,
}
_CONTENT_ATTEMPT_KINDS: Final[dict[str, ContentType]] = {
    ContentAttemptType.VIDEO: ContentType.VIDEO,
    ContentAttemptType.ASSESSMENT: ContentType.EXAM,
    ContentAttemptType.VIDEO_CONFERENCE: ContentType.VIDEO_CONFERENCE,
    ContentAttemptType.LIVE_STREAM: ContentType.LIVE_STREAM,
}
_CHAPTER_CONTENT_KINDS: Final[dict[str, ContentType]] = {
    ChapterContentType.VIDEO: ContentType.VIDEO,
    ChapterContentType.EXAM: ContentType.EXAM,
    ChapterContentType.QUIZ: ContentType.QUIZ,
    ChapterContentType.NOTES: ContentType.NOTES,
    ChapterContentType.HTML: ContentType.NOTES,
    ChapterContentType.ATTACHMENT: ContentType.ATTACHMENT,
    ChapterContentType.VIDEO_CONFERENCE: ContentType.VIDEO_CONFERENCE,
    ChapterContentType.LIVE_STREAM: ContentType.LIVE_STREAM,
}
