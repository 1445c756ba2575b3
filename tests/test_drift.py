"""Collections that change while they are harvested: nothing is lost or doubled in what is called certified.

The long share of these runs carries the marker `long`. A failing story is told again with
`tell(harvested(), SCENE, SEED, scale=SCALE)`.
"""

from __future__ import annotations

import random

import pytest

from tests.support.drift import BURST, CALM, HOT, NORMAL, SCENES, TIES, Scene, Story, forward, harvested, tell

SMALL = 0.05  # of 36,500 attempts; a page of 20 instead of 100


def stories(scene: Scene, seeds: range, *, scale: float = SMALL, **options: object) -> list[Story]:
    told: list[Story] = []
    for seed in seeds:
        story = tell(harvested(**options), scene, seed, scale=scale)
        assert story.silent == 0, f"tell(harvested(**{options}), {scene!r}, {seed}, scale={scale})"
        assert story.invented == 0
        told.append(story)
    return told


def proved(told: list[Story]) -> bool:
    """Whether most windows could be certified: a certificate that is never given proves nothing."""
    return sum(story.unverified for story in told) < sum(story.windows for story in told) / 2


@pytest.mark.row(65, 66, 67, 70, 72, 73, 74)
@pytest.mark.parametrize("scene", [CALM, NORMAL, HOT], ids=lambda scene: scene.name)
def test_certified_windows_hold_every_stable_record_once(scene: Scene):
    """Insertions, back-dated ones, deletions and edits while it is read: no record is lost or doubled."""
    told = stories(scene, range(3))
    assert proved(told)
    assert sum(story.lost for story in told) == 0 or scene is HOT


@pytest.mark.row(68)
def test_a_bulk_deletion_costs_no_other_record():
    """Neighbours deleted at once move all the rest; everything that stayed is there."""
    told = stories(BURST, range(3))
    assert proved(told)
    assert sum(story.lost for story in told) == 0


@pytest.mark.row(69)
def test_unstable_ties_are_never_called_complete():
    """Records of one instant that change places: what could be proved is whole, the rest is named."""
    stories(TIES, range(3))


def test_a_plain_walk_would_have_lost_records():
    """The same stories read the way everybody does lose records: these tests can fail."""
    assert sum(tell(forward, BURST, seed, scale=SMALL).lost for seed in range(6)) > 0


def test_strict_reads_are_certified_too():
    """Reading everything until it came twice the same costs twice as much and proves no less."""
    told = stories(NORMAL, range(3), strict=True)
    assert proved(told)
    assert 1.8 < sum(story.cost for story in told) / len(told) < 4


@pytest.mark.long
@pytest.mark.parametrize("seeds", [range(100, 150), None], ids=["fixed seeds", "fresh seeds"])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_a_hundred_stories_of_each_scene(scene: Scene, seeds: range | None):
    """Fifty fixed seeds and fifty fresh ones; a failure prints the story."""
    start = random.SystemRandom().randrange(10**9)
    stories(scene, seeds or range(start, start + 50))


@pytest.mark.long
@pytest.mark.parametrize(("scene", "at_most"), [(CALM, 1.2), (NORMAL, 1.2), (HOT, 1.7)], ids=str)
def test_the_proof_costs_few_requests(scene: Scene, at_most: float):
    """At full size, 36,500 attempts, beside one request for each page."""
    told = stories(scene, range(4), scale=1.0)
    cost = sum(story.cost for story in told) / len(told)
    assert cost <= at_most, f"{cost:.2f} requests a page"
