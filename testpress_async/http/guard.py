"""How many requests an overloaded server bears at once: AIMD on its latency and its own words.

Apart from any quota. A server that slows down far beyond its usual self, or answers 503, gets fewer requests
at a time; when it is well again the number grows back within seconds. Three things keep ordinary jitter from
counting: the medians of two whole rounds are judged, not single requests; slow means several times slower and
by a margin that people notice; and "usual" follows a lasting change, such as an export going on to a heavier
endpoint. For latency alone the number never falls below a quarter: only the server's own words bring it to 1.

Arithmetic only. Source: TCP congestion control (RFC 5681) for the shape, Netflix concurrency-limits
("Gradient2") for comparing with a slow-moving baseline.
"""

from __future__ import annotations

import math

SHORTEST_ROUND, LONGEST_ROUND = 8, 64  # answers judged together; in between as many as may be in flight
SLOW = 3.0  # times the usual latency
NOTICEABLE_S = 0.05  # beyond the usual latency; below it our own event loop makes the difference
CUT = 0.7  # of the limit, as in CUBIC
GROW = 0.25  # of the limit, after a good round
BELIEVE = 1.1  # factor by which "usual" grows with every slow round: a lasting change becomes usual
FOLLOW_UP, FOLLOW_DOWN = 0.05, 0.2  # share of the way that "usual" goes towards an ordinary round
FASTEST_S = 0.01  # "usual" is at least this: an answer out of some cache is no standard
COMPLAINTS = 0.2  # of the limit: so many 503s and timeouts in one round are overload; one alone is a mishap


class Guard:
    """`limit` is the number of requests that may be in flight, from 1 to *ceiling*."""

    __slots__ = (
        "_ceiling",
        "_complaints",
        "_cut_s",
        "_latencies_s",
        "_round",
        "_slow_rounds",
        "_usual_s",
        "limit",
    )

    def __init__(self, ceiling: int) -> None:
        self._ceiling = self.limit = ceiling
        self._usual_s: float | None = None
        self._slow_rounds = 0
        self._cut_s = -math.inf
        self._complaints = 0
        self._latencies_s: list[float] = []
        self._round = 0
        self._begin_round()

    def answered(self, latency_s: float, now_s: float) -> None:
        """A good answer took so long."""
        if now_s - latency_s <= self._cut_s:
            return  # sent before the last cut: tells nothing about the present limit
        latencies_s = self._latencies_s
        latencies_s.append(latency_s)
        if len(latencies_s) >= self._round:
            self._judge(now_s)

    def complained(self, entered_s: float, now_s: float) -> None:
        """503, 504 or no answer in time, for a request sent at *entered_s*."""
        if entered_s <= self._cut_s:
            return
        self._complaints += 1
        if self._complaints >= max(2.0, COMPLAINTS * self.limit):
            self._cut(now_s, 1)

    def _judge(self, now_s: float) -> None:
        median_s = max(FASTEST_S, sorted(self._latencies_s)[len(self._latencies_s) // 2])
        usual_s = median_s if self._usual_s is None else self._usual_s
        if median_s > max(SLOW * usual_s, usual_s + NOTICEABLE_S):
            self._slow_round(usual_s, now_s)
            return
        follow = FOLLOW_UP if median_s > usual_s else FOLLOW_DOWN
        self._usual_s = usual_s + follow * (median_s - usual_s)
        self._slow_rounds = 0
        self.limit = min(self._ceiling, self.limit + max(1, int(GROW * self.limit)))
        self._begin_round()

    def _slow_round(self, usual_s: float, now_s: float) -> None:
        self._slow_rounds += 1
        if self._slow_rounds == 1:  # may be chance
            self._begin_round()
            return
        self._usual_s = BELIEVE * usual_s
        self._cut(now_s, math.ceil(self._ceiling / 4))

    def _cut(self, now_s: float, lowest: int) -> None:
        self.limit = min(self.limit, max(lowest, int(CUT * self.limit)))
        self._cut_s = now_s
        self._begin_round()

    def _begin_round(self) -> None:
        self._latencies_s = []
        self._complaints = 0
        self._round = min(max(self.limit, SHORTEST_ROUND), LONGEST_ROUND)
