"""Records of the API as frozen values, and the readers that make them out of an answer's bytes.

Nothing here knows the network. Start with `attempts.py`; `record.py` has what all records share.
"""

from __future__ import annotations

from .answers import AnswerChoice, AnswerFile, ExamQuestion, GapFillResponse, UserAnswer
from .attempts import Attempt, AttemptDetail, AttemptSection, DifficultyStats, SubjectStats
from .contents import (
    ChapterContent,
    ContentAttempt,
    Course,
    LiveStream,
    UserExam,
    UserLiveStream,
    UserVideo,
    UserVideoConference,
    VideoConference,
)
from .enums import (
    AnswerResult,
    AttemptResult,
    AttemptState,
    ChapterContentType,
    ContentAttemptState,
    ContentAttemptType,
    ContentType,
    OpenEnum,
)
from .exams import Exam
from .pages import (
    ATTEMPT_DETAIL,
    ATTEMPTS,
    ATTENDANCE,
    CONTENT_ATTEMPTS,
    COURSES,
    EXAMS,
    USER_ANSWERS,
    USERS,
    Head,
    PageReader,
    RawReading,
    Reading,
    RecordReader,
)
from .people import Attendance, User
from .record import JoinedRecord, Record, SideLoads

__all__ = [
    "ATTEMPTS",
    "ATTEMPT_DETAIL",
    "ATTENDANCE",
    "CONTENT_ATTEMPTS",
    "COURSES",
    "EXAMS",
    "USERS",
    "USER_ANSWERS",
    "AnswerChoice",
    "AnswerFile",
    "AnswerResult",
    "Attempt",
    "AttemptDetail",
    "AttemptResult",
    "AttemptSection",
    "AttemptState",
    "Attendance",
    "ChapterContent",
    "ChapterContentType",
    "ContentAttempt",
    "ContentAttemptState",
    "ContentAttemptType",
    "ContentType",
    "Course",
    "DifficultyStats",
    "Exam",
    "ExamQuestion",
    "GapFillResponse",
    "Head",
    "JoinedRecord",
    "LiveStream",
    "OpenEnum",
    "PageReader",
    "RawReading",
    "Reading",
    "Record",
    "RecordReader",
    "SideLoads",
    "SubjectStats",
    "User",
    "UserAnswer",
    "UserExam",
    "UserLiveStream",
    "UserVideo",
    "UserVideoConference",
    "VideoConference",
]
