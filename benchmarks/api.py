"""What everybody asks for. Imports nothing, as it is imported by all that are compared."""

PER_PAGE = 200
ATTEMPTS_PATH = "/api/v2.5/admin/attempts/"
ANSWERS_PATH = "/api/v3/admin/attempts/{}/user_answers/"
TOKEN = "a.b.c"
