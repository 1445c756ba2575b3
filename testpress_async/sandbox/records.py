"""The institute's records as served: dictionaries in the documented order of fields.

They show every oddity the real API is known for. Which record shows which is decided by bits of its id,
so that the same record always looks the same.

Source: https://developer.testpress.in/docs/server-api/admin-apis/attempts and its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TypeAlias

from testpress_async.sandbox import data
from testpress_async.sandbox.data import AttemptFacts, ContentFacts, Institute, mix, salt_of

Record: TypeAlias = dict[str, object]

HOST = "https://sandbox.testpress.in"
"""Where `exam_url` and `user_url` point to. Nobody follows them."""

SIDE_LOADS = (
    "user_videos",
    "user_exams",
    "courses",
    "chapter_contents",
    "user_video_conferences",
    "user_live_streams",
    "users",
)
"""Lists that come along with content attempts, in the order of the documentation."""

_CONTENT_WORDS = {  # kind: (in a content attempt, in a chapter content)
    data.EXAM: ("assessment", "Exam"),
    data.QUIZ: ("quiz", "Quiz"),
    data.VIDEO: ("video", "Video"),
    data.ATTACHMENT: ("attachment", "Attachment"),
    data.NOTES: ("notes", "Notes"),
    data.CONFERENCE: ("videoConference", "VideoConference"),
    data.LIVE_STREAM: ("live_stream", "Live Stream"),
    data.ASSIGNMENT: ("assignment", "Assignment"),
}
_QUESTION_TYPES = (
    "MCQ, Single Correct",
    "MCQ, Multiple Correct",
    "MCQ, Single Correct",
    "NAT, Numerical Answer Type",
    "MCQ, Single Correct",
    "Essay",
    "Gap Fill",
    "MCQ, Single Correct",
    "Short Answer",
    "File Upload",
    "Hotspot, since 2031",  # a type no client knows yet
)
_STYLE = "<style type='text/css'>\n \n</style>\n"
_WORD_OF_RANK = ("Correct", "Incorrect", "Unanswered")
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - the zone is appended as text

FIRST_NAMES = (
    "Asha",
    "विद्या",
    "தமிழ்ச்செல்வி",
    "José",
    "O'Brien 🎓",
    "Zoë",
    "Nguyễn",
    "علي",
    "Ravi",
    "李",
    "Anu",
    "Ben",
)
LAST_NAMES = ("Kumar", "शर्मा", "முருகன்", "d'Souza", "Müller", "", "Iyer", "Singh-Rathore", "N", "Das")
TITLES = (
    "UPSC Prelims Mock Test",
    "भौतिकी परीक्षा",
    "கணிதம் தேர்வு",
    "Why You Should Say “Hi”",
    "NEET <Grand> & Final",
    'Quotes "inside", commas, \\ and\ttabs',
    "Line\nbreak 🚀",
)


class Records:
    """Renders one institute."""

    def __init__(self, institute: Institute) -> None:
        self._institute = institute
        self._first_id = institute.settings.first_attempt_id
        self._person = lru_cache(4_096)(self._look_up)
        seed = institute.settings.seed
        self._salts = {
            name: salt_of(seed, name) for name in ("attempt", "answer", "question", "content", "seat")
        }

    # -- attempts ------------------------------------------------------------------------------------

    def attempt(self, index: int, facts: AttemptFacts) -> Record:
        bits = mix(self._salts["attempt"], index)
        person = self._person(facts.user_id)
        started = facts.at_us != data.NEVER
        done = started and facts.state != data.RUNNING
        taken_us = self._taken_us(bits) if started else 0
        share = facts.correct * 10_000 // max(1, facts.correct + facts.incorrect + facts.unanswered)
        date = moment(facts.at_us, bits & 4)
        known = bits & 3
        record: Record = {
            "id": self._first_id + index,
            "date": date,
            "exam_id": facts.exam_id,
            "user_id": facts.user_id,
            "email": person[0] if known else None,
            "name": person[1] if known > 1 else None,
            "phone": person[2] if known > 2 else None,
            "correct_answers_count": facts.correct,
            "incorrect_answers_count": facts.incorrect,
            "unanswered_count": facts.unanswered,
            "score": hundredths(100 * facts.correct - 25 * facts.incorrect),
            "percentage": _percentage(share, (bits >> 8) & 7),
            "time_taken": duration(taken_us, (bits >> 12) & 1),
            "remaining_time": None if done else "0:30:00" if not started else duration(-5_000_000, 0),
            "result": ("Pass" if share > 3_300 else "Fail") if done and (bits >> 16) & 7 else "Not taken",
            "state": data.ATTEMPT_STATES.get(facts.state, "Completed"),
            "last_started_time": date if bits & 0x10_0000 else None,
            "last_answer_updated_time": (
                moment(facts.at_us + taken_us, bits & 8) if done and bits & 0x20_0000 else None
            ),
            "speed": (bits >> 24) % 90,
            "exam_url": f"{HOST}/api/v2.5/admin/exams/{facts.exam_id}/",
            "user_url": person[3],
        }
        if (bits >> 32) & 15 == 0:  # fields of later versions, which no client knows
            record["review_pdf_url"] = None if bits & 1 else f"{HOST}/media/review/{index}.pdf"
            record["proctoring"] = {"warnings": bits & 7, "flags": ["tab-switch"] if bits & 8 else []}
        return record

    def attempt_detail(self, index: int, facts: AttemptFacts) -> Record:
        """A single attempt: the row, and what the list leaves out."""
        bits = mix(self._salts["attempt"], ~index)
        user = self._institute.user_number(facts.user_id)
        counts = (facts.correct, facts.incorrect, facts.unanswered)
        return {
            **self.attempt(index, facts),
            "percentile": (0, 83.64, 100.0, "80", None)[bits % 5],
            "username": f"student{user}",
            "sections": [] if bits & 0x700 == 0 else self._sections(facts, bits),
            "subject_stats": _subject_stats(counts, bits),
            "difficulty_level_stats": _difficulty_stats(counts, bits),
            "institute_attempt_id": (100_101 + index, f"A-{index}", None)[(bits >> 20) % 3],
        }

    def _sections(self, facts: AttemptFacts, bits: int) -> list[Record]:
        sections: list[Record] = []
        for order, (correct, incorrect, unanswered) in enumerate(_halves(facts)):
            sections.append(
                {
                    "id": (bits & 0xFFFF_FFFF) * 4 + order,
                    "order": order,
                    "section_id": facts.exam_id * 10 + order,
                    "time_taken": duration((bits >> 30) % 4_000_000_000, 0),
                    "correct_answers_count": correct,
                    "incorrect_answers_count": incorrect,
                    "unanswered_count": unanswered,
                    "score": hundredths(100 * correct - 25 * incorrect),
                }
            )
        if bits & 0x800:
            for section in sections:
                section |= {"section_name": "भाग अ", "state": "Completed", "remaining_time": None}
        return sections

    def _look_up(self, user_id: int) -> tuple[str, str, str, str]:
        """E-mail, name, phone and address of a user; kept for those seen lately."""
        user = self._institute.user_number(user_id)
        url = f"{HOST}/api/v2.5/admin/users/{user_id}/"
        return email_of(user), name_of(user), f"+91 98{user:08d}", url

    @staticmethod
    def _taken_us(bits: int) -> int:
        """Time taken in microseconds: mostly hours, sometimes days, often whole seconds."""
        taken_us = (bits >> 36) % 10_800_000_000
        if (bits >> 28) & 31 == 0:
            taken_us += (1 + bits % 30) * data.DAY_US
        return taken_us if (bits >> 13) & 1 else taken_us - taken_us % 1_000_000

    # -- answers -------------------------------------------------------------------------------------

    def answers(self, index: int, facts: AttemptFacts, start: int, stop: int) -> list[Record]:
        """The user answers *start* to *stop* of one attempt, in the order of the exam."""
        return [self._answer(index, facts, order) for order in range(start, stop)]

    def answer_count(self, facts: AttemptFacts) -> int:
        return 0 if facts.state == data.NOT_STARTED else facts.correct + facts.incorrect + facts.unanswered

    def question(self, exam_id: int, order: int) -> Record:
        """A question of an exam, the same whichever attempt it comes along with."""
        number = exam_id * 1_000 + order
        bits = mix(self._salts["question"], number)
        kind = _QUESTION_TYPES[order % len(_QUESTION_TYPES)]
        text = TITLES[bits % len(TITLES)]
        choices: list[Record] = [
            {"id": _answer_id(number, choice), "text_html": f"{_STYLE}<p>{text} {choice}</p>"}
            for choice in range(4)
        ]
        record: Record = {
            "id": number + 1,
            "question_id": 3_000_000_000 + number if bits & 3 == 0 else number + 7,
            "section_id": exam_id * 10 + order % 2,
            "question_html": f"{_STYLE}<p>{text}?</p>",
            "type": kind,
            "marks": "1.00" if bits & 4 else "4.0000",
            "negative_marks": "0.25" if bits & 4 else "-1.00",
            "partial_marks": "0.50" if "Multiple" in kind else None,
            "direction": "<p>Read the passage.</p>" if bits & 0x70 == 0 else None,
            "answers": choices if "MCQ" in kind else [] if bits & 8 else None,
            "difficulty_level": (None, "easy", "medium", "hard", 3)[(bits >> 8) % 5],
            "order": order,
            "is_bonus": (bits >> 16) & 31 == 0,
            "exam_id": exam_id,
        }
        if bits & 0x1_0000:
            record |= {"explanation_html": "<p>∑ x² ≥ 0</p>", "subject": "Physics", "translations": []}
        return record

    def _answer(self, index: int, facts: AttemptFacts, order: int) -> Record:
        number = facts.exam_id * 1_000 + order
        attempt_id = self._first_id + index
        bits = mix(self._salts["answer"], attempt_id * 512 + order)
        result = self._result(facts, order)
        kind = _QUESTION_TYPES[order % len(_QUESTION_TYPES)]
        record: Record = {
            "id": attempt_id * 512 + order,
            "exam_question_id": number + 1,
            "selected_answers": _selected(number, kind, result, bits),
            "result": result,
            "duration": (None, "NA", "0:01:05.500000")[bits >> 4 & 15]
            if bits >> 4 & 15 < 3
            else bits >> 8 & 127,
            "review": (None, False, True)[bits % 3],
            "guessed": (None, False, True, None)[(bits >> 2) & 3],
        }
        if "MCQ" not in kind and result != "Unanswered":
            record |= _written(kind, bits)
        return record

    def _result(self, facts: AttemptFacts, order: int) -> str:
        """Spread over the questions so that the counts of the attempt come out."""
        questions = facts.correct + facts.incorrect + facts.unanswered
        step = 7 if questions % 7 else 11 if questions % 11 else 13
        rank = order * step % questions
        return _WORD_OF_RANK[(rank >= facts.correct) + (rank >= facts.correct + facts.incorrect)]

    # -- content attempts ----------------------------------------------------------------------------

    def content_attempt(self, index: int, facts: ContentFacts) -> Record:
        bits = mix(self._salts["content"], index)
        own_id = index + 1
        kind = facts.kind
        scored = kind in (data.EXAM, data.QUIZ)
        record: Record = {
            "id": own_id,
            "user_id": facts.user_id,
            "course_id": facts.course_id,
            "chapter_id": facts.chapter_id,
            "chapter_content_id": facts.content_id,
            "content_type": _CONTENT_WORDS[kind][0],
            "state": data.CONTENT_STATES[facts.state],
            "remaining_time": ("0.00" if bits & 1 else "1171.627827") if scored else None,
            "assessment_id": own_id if scored else None,
            "user_video_conference_id": own_id if kind == data.CONFERENCE else None,
            "user_video_id": own_id if kind == data.VIDEO else None,
            "user_live_stream_id": own_id if kind == data.LIVE_STREAM else None,
            "user_content_id": own_id if kind == data.NOTES else None,
            "user_attachment_id": own_id if kind == data.ATTACHMENT else None,
        }
        if scored:
            record |= {"correct_answers_count": bits >> 8 & 15, "incorrect_answers_count": bits >> 12 & 7}
        if bits & 0x70 == 0:
            record |= {"trophies": "NA" if bits & 2 else 3, "coins": None}
        return record | {
            "created": moment(facts.created_us, bits & 4),
            "completed_on": moment(facts.at_us, bits & 8),
        }

    def side_loads(self, rows: Iterable[tuple[int, ContentFacts]]) -> dict[str, dict[int, Record]]:
        """What comes along with content attempts: list name → id → record, each once.

        Some references are left dangling, as on the real API: courses whose number divides by 5, user
        exams of some quizzes, and contents of assignments do not come along.
        """
        found: dict[str, dict[int, Record]] = {name: {} for name in SIDE_LOADS}
        for index, facts in rows:
            own_id, kind = index + 1, facts.kind
            if kind == data.VIDEO:
                found["user_videos"][own_id] = self._user_video(index, facts)
            elif kind == data.EXAM or (kind == data.QUIZ and index % 3):
                found["user_exams"][own_id] = self._user_exam(index, facts)
            elif kind == data.CONFERENCE:
                found["user_video_conferences"][own_id] = self._user_conference(index, facts)
            elif kind == data.LIVE_STREAM:
                found["user_live_streams"][own_id] = self._user_live_stream(index, facts)
            if facts.course_id % 5:
                found["courses"].setdefault(facts.course_id, self.course(facts.course_id))
            if kind != data.ASSIGNMENT and facts.content_id not in found["chapter_contents"]:
                found["chapter_contents"][facts.content_id] = self.chapter_content(facts)
            if facts.user_id not in found["users"]:
                found["users"][facts.user_id] = self.side_loaded_user(facts.user_id)
        return found

    def chapter_content(self, facts: ContentFacts) -> Record:
        bits = mix(self._salts["content"], -facts.content_id)
        kind, number = facts.kind, facts.content_id % 1_000_000
        return {
            "id": facts.content_id,
            "order": number - 1,
            "chapter_id": facts.chapter_id + (162 if kind == data.VIDEO else 0),
            "free_preview": bool(bits & 1),
            "title": f"{TITLES[bits % len(TITLES)]} {number}",
            "course_id": facts.course_id,
            "exam_id": number if kind == data.EXAM else None,
            "content_id": number if kind == data.NOTES else None,
            "video_id": number if kind == data.VIDEO else None,
            "attachment_id": number if kind == data.ATTACHMENT else None,
            "content_type": _CONTENT_WORDS[kind][1],
            "start": moment(1_687_000_000_000_000 + bits % 10_000_000_000_000, bits & 2),
            "end": None,
            "description": "" if bits & 4 else "विवरण <b>bold</b>",
            "average_rating": (None, "4.50")[bits >> 3 & 1],
        }

    def side_loaded_user(self, user_id: int) -> Record:
        number = self._institute.user_number(user_id)
        return {
            "id": user_id,
            "username": f"student{number}",
            "email": email_of(number) if number % 9 else None,
            "phone": f"98{number:08d}" if number % 4 else "",
        }

    def _user_video(self, index: int, facts: ContentFacts) -> Record:
        bits = mix(self._salts["content"], index * 8 + 1)
        return {
            "id": index + 1,
            "video_id": facts.content_id % 1_000_000,
            "created": moment(facts.created_us, bits & 1),
            "watched_percentage": (bits % 101, 83.5, None)[min(bits >> 8 & 7, 2)],
            "remaining_duration": ("593.0", None, "0.00")[bits % 3],
            "state": data.CONTENT_STATES[facts.state] if bits & 0x30 else 1,
            "is_live_class_recording": bits & 0x700 == 0,
        }

    def _user_exam(self, index: int, facts: ContentFacts) -> Record:
        bits = mix(self._salts["content"], index * 8 + 2)
        ranked = bits & 3
        return {
            "id": index + 1,
            "exam_id": facts.exam_id or facts.content_id % 1_000_000,
            "user_id": facts.user_id,
            "total_score": ("-2.00", "7.00", "15.0000", "720.00")[bits >> 2 & 3],
            "number_of_correct_answers": bits >> 4 & 7,
            "number_of_incorrect_answers": bits >> 7 & 3,
            "number_of_unanswered_questions": bits >> 9 & 3,
            "number_of_answered_questions": (bits >> 4 & 7) + (bits >> 7 & 3),
            "percentage": hundredths(bits % 10_001),
            "rank": bits % 165 + 1 if ranked else "NA",
            "max_rank": 165 if ranked else "NA",
            "result": ("NA", "Pass", "Fail")[min(ranked, 2)],
            "total_questions": (bits >> 4 & 7) + (bits >> 7 & 3) + (bits >> 9 & 3),
        }

    def _user_conference(self, index: int, facts: ContentFacts) -> Record:
        bits = mix(self._salts["content"], index * 8 + 3)
        attended = bits & 3
        join_us, leave_us = facts.created_us, facts.created_us + 60_000_000 * (bits >> 8 & 63)
        return {
            "id": index + 1,
            "user_id": facts.user_id,
            "duration": (leave_us - join_us) // 1_000_000 if attended else None,
            "join_time": moment(join_us, bits & 4) if attended else None,
            "leave_time": moment(leave_us, bits & 4) if attended else None,
            "video_conference": self._conference(facts.content_id % 1_000_000),
        }

    def _conference(self, conference_id: int) -> Record:
        bits = mix(self._salts["seat"], -conference_id)
        return {
            "id": conference_id,
            "title": f"{TITLES[bits % len(TITLES)]} – live",
            "conference_id": str(79_000_000_000 + bits % 1_000_000_000),
            "start": moment(1_729_055_721_000_000 + conference_id * data.DAY_US, bits & 1),
            "duration": 15 + bits % 120,
            "provider": ("Zoom", "Zoom", "Microsoft Teams", "Jitsi ∞")[bits >> 8 & 3],
            "join_url": f"{HOST}/embed/zoom-meeting/{conference_id}/?pwd=not-a-real-secret-{bits:x}",
            "password": f"pw-{bits:016x}",
            "access_token": f"token-not-a-real-secret-{bits:016x}",
            "show_recorded_video": (None, True, False)[bits % 3],
            "state": ("Initiated", "Completed", "Running")[bits >> 16 & 1],
            "has_recording_expired": bool(bits >> 20 & 1),
        }

    def _user_live_stream(self, index: int, facts: ContentFacts) -> Record:
        number = facts.content_id % 1_000_000
        bits = mix(self._salts["content"], -number * 8 - 4)
        return {
            "id": index + 1,
            "user_id": facts.user_id,
            "live_stream": {
                "id": number,
                "title": f"{TITLES[bits % len(TITLES)]} {number}",
                "stream_url": "" if bits & 1 else f"{HOST}/live/{number}.m3u8",
                "duration": None if bits & 6 == 0 else bits % 90,
                "show_recorded_video": bool(bits & 8),
                "status": ("Completed", "Not Started", "Running", "upcoming")[bits >> 8 & 3],
                "chat_embed_url": None,
            },
        }

    # -- attendance, exams, users, courses -----------------------------------------------------------

    def seat_count(self, conference_id: int) -> int:
        """How many rows of attendance a conference has: 0 to 60, none for an unknown one."""
        if not 1 <= conference_id <= self._institute.settings.conferences:
            return 0
        return mix(self._salts["seat"], conference_id) % 61

    def seat(self, conference_id: int, number: int) -> Record:
        """One row of attendance; who joins again has a row more."""
        bits = mix(self._salts["seat"], conference_id * 64 + number)
        user = bits % self._institute.settings.users
        join_us = 1_729_055_721_000_000 + conference_id * data.DAY_US + (bits >> 16) % 600_000_000
        join_us -= join_us % 1_000_000
        minutes = bits >> 8 & 127
        known = bits >> 24 & 15
        return {
            "name": name_of(user),
            "email": email_of(user) if bits >> 28 & 7 else None,
            "join_time" if bits >> 32 & 3 else "joined_time": moment(join_us, bits & 1) if known else None,
            "leave_time": moment(join_us + minutes * 60_000_000, bits & 1) if known > 1 else None,
            "duration": minutes * 60 if known > 1 else None,
        }

    def exam(self, exam_id: int) -> Record:
        bits = mix(self._salts["question"], -exam_id)
        start_us = 1_577_836_800_000_000 + bits % 94_608_000_000_000
        return {
            "id": exam_id,
            "title": f"{TITLES[bits % len(TITLES)]} {exam_id}",
            "slug": f"exam-{exam_id}",
            "description": "" if bits & 1 else "<p>नियम</p>",
            "start_date": moment(start_us - start_us % 1_000_000, bits & 2),
            "end_date": None if bits & 4 else moment(start_us + 900 * data.DAY_US, bits & 2),
            "duration": (None, "3:00:00", "17:15:12")[bits % 3],
            "number_of_questions": self._institute.question_count(exam_id),
            "mark_per_question": "1.00",
            "negative_marks": "0.25",
            "pass_percentage": 33.0 if bits & 8 else "33.00",
            "total_marks": hundredths(100 * self._institute.question_count(exam_id)),
            "enable_ranks": bool(bits & 16),
            "published": True,
            "show_score": True,
            "show_percentile": bool(bits & 32),
            "show_pass_or_fail": True,
            "created": moment(start_us, bits & 2),
            "modified": moment(start_us + 1_234_567, bits & 1),
        }

    def user(self, number: int) -> Record:
        user_id = self._institute.user_id(number)
        bits = mix(self._salts["seat"], ~number)
        return {
            "id": user_id,
            "url": f"{HOST}/api/v2.5/admin/users/{user_id}/",
            "username": f"student{number}",
            "first_name": FIRST_NAMES[number % len(FIRST_NAMES)],
            "last_name": LAST_NAMES[number % len(LAST_NAMES)],
            "display_name": name_of(number),
            "email": email_of(number) if number % 9 else None,
            "photo": f"{HOST}/static/img/default.png",
            "birth_date": None if bits & 1 else "16/08/1999",
            "address1": "" if bits & 2 else "12, காந்தி சாலை",
            "address2": None,
            "city": "Chennai",
            "zip": "600001" if bits & 4 else None,
            "state": None if bits & 8 else "Tamil Nadu",
            "phone": f"98{number:08d}" if number % 4 else "",
            "batches_url": f"{HOST}/api/v2.5/admin/users/{user_id}/batches/",
            "custom_fields": {} if bits & 16 else {"Roll No": number, "Father's name": "—"},
            "is_active": bool(bits & 0x700),
        }

    def course(self, course_id: int) -> Record:
        bits = mix(self._salts["content"], -course_id * 8 - 5)
        created_us = 1_697_624_493_887_124 + course_id * data.DAY_US
        return {
            "id": course_id,
            "title": f"{TITLES[bits % len(TITLES)]} – course {course_id}",
            "description": "",
            "image": f"{HOST}/static/courses/general/{course_id}.png" if bits & 1 else None,
            "created_by": 1,
            "created": moment(created_us, bits & 2),
            "modified": moment(created_us + 86_400_000_001, bits & 2),
            "slug": f"course-{course_id}",
            "chapters_count": 5,
            "contents_count": bits % 40,
            "exams_count": bits >> 8 & 7,
            "videos_count": 0,
            "attachments_count": 0,
            "html_contents_count": 0,
            "order": course_id,
            "max_allowed_views_per_video": None if bits & 4 else 3,
            "max_allowed_watch_minutes": None,
            "tags": ["neet", "हिंदी"] if bits & 8 else [],
        }


def name_of(user: int) -> str:
    """Twelve by ten of them, then they repeat."""
    return f"{FIRST_NAMES[user % len(FIRST_NAMES)]} {LAST_NAMES[user % len(LAST_NAMES)]}".rstrip()


def email_of(user: int) -> str:
    """In a domain that cannot exist."""
    return f"student{user}@students.example"


# -- spellings: every one the API is known to use, spread over the records ------------------------------


def moment(at_us: int, utc: int) -> str | None:
    """ISO 8601 with `Z` (*utc* true) or `+05:30`, and 0, 3 or 6 digits of fraction; None for NEVER."""
    if at_us == data.NEVER:
        return None
    text = (_EPOCH + timedelta(microseconds=at_us if utc else at_us + data.ZONE_OFFSET_US)).isoformat()
    if at_us % 1_000 == 0 and at_us % 1_000_000:
        text = text[:-3]
    return text + ("Z" if utc else "+05:30")


def duration(duration_us: int, spelling: int) -> str:
    """`2:47:53.076906`; from a day on `1 day, 2:47:53` or, with *spelling* 1, `1 02:47:53`."""
    if spelling != 1 or abs(duration_us) < 86_400_000_000:
        return str(timedelta(microseconds=duration_us))
    days, rest_us = divmod(duration_us, 86_400_000_000)
    clock, _, fraction = str(timedelta(microseconds=rest_us)).partition(".")
    return f"{days} {clock:0>8}" + (f".{fraction}" if fraction else "")


def hundredths(value: int) -> str:
    """*value* hundredths as a decimal with two places, such as `-2.00`."""
    return f"{value / 100:.2f}"


# -- parts of records --------------------------------------------------------------------------------


def _answer_id(number: int, choice: int) -> int:
    return number * 10 + choice


def _percentage(share: int, spelling: int) -> object:
    if spelling == 0:
        return hundredths(share)
    if spelling == 1:
        return str(share // 100)
    return share / 100 if spelling == 2 else share // 100


def _selected(number: int, kind: str, result: str, bits: int) -> list[int] | None:
    if result == "Unanswered" or "MCQ" not in kind:
        return [] if bits & 8 else None
    count = 2 if "Multiple" in kind else 1
    return [_answer_id(number, (bits + choice) % 4) for choice in range(count)]


def _written(kind: str, bits: int) -> Record:
    """What an answer holds that is not a choice."""
    if kind == "Gap Fill":
        return {"gap_fill_responses": [{"order": 1, "answer": "गंगा"}, {"order": "2", "answer": "Cauvery"}]}
    if kind == "File Upload":
        url = f"{HOST}/media/{bits:x}.pdf"
        return (
            {"files": [url]} if bits & 1 else {"files": [{"id": bits >> 32, "url": url, "path": "a/b.pdf"}]}
        )
    if kind == "Essay":
        return {"essay_text": "எழுதிய பதில் – “quoted”\nsecond line", "essay_topic": None}
    return {"user_response": str(bits % 1_000 / 8)}


def _halves(facts: AttemptFacts) -> Iterable[tuple[int, int, int]]:
    counts = (facts.correct, facts.incorrect, facts.unanswered)
    first = tuple(count // 2 for count in counts)
    yield first[0], first[1], first[2]
    yield counts[0] - first[0], counts[1] - first[1], counts[2] - first[2]


def _counts(counts: tuple[int, int, int]) -> Record:
    correct, incorrect, unanswered = counts
    return {
        "total_count": correct + incorrect + unanswered,
        "correct_answers_count": correct,
        "unanswered_count": unanswered,
        "incorrect_answers_count": incorrect,
    }


def _subject_stats(counts: tuple[int, int, int], bits: int) -> list[Record]:
    """A tree: adding up all rows counts twice."""
    leaf_id = None if bits & 6 == 0 else 2
    return [
        {
            "subject_id": subject_id,
            "subject_name": name,
            **_counts(counts),
            "parent_subject_id": parent_id,
            "is_leaf": parent_id is not None,
            "score": "0.00",
            "partial_correct_answers_count": 0 if bits & 1 else None,
        }
        for subject_id, name, parent_id in ((1, "Science", None), (leaf_id, "भूगोल", 1))
    ]


def _difficulty_stats(counts: tuple[int, int, int], bits: int) -> Record:
    if bits & 0x70 == 0:
        return {}
    level = ("easy", "medium", "uncategorized", "உயர்")[bits >> 4 & 3]
    return {level: _counts(counts) | {"partial_correct_answers_count": 0}}
