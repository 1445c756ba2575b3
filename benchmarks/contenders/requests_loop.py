"""The sample of the API's documentation, made to page."""

from __future__ import annotations

import requests

from benchmarks.api import ATTEMPTS_PATH, TOKEN


def attempts(url: str) -> int:
    headers = {"authorization": f"JWT {TOKEN}", "cache-control": "no-cache"}
    seen, following = 0, url + ATTEMPTS_PATH
    while following:
        response = requests.request("GET", following, headers=headers)
        page = response.json()
        for _ in page["results"]:
            seen += 1
        following = page["next"]
    return seen
