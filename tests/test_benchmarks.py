"""The benchmarks run and say what they measured. How fast anything is, is not tested here."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

import testpress_async as tp
from benchmarks import api, canned, servers
from benchmarks.__main__ import FIGURES
from benchmarks.figure import Figure, Target, table
from benchmarks.measure import Contender, Run, Runs, missing
from benchmarks.web_app import Work
from tests.support.markdown import ROOT


def runs(*wall_s: float) -> Runs:
    """Of a hundred records each, half the time computing."""
    return Runs(Contender("x", "x:y"), [Run(100, each, each / 2, 0.0, 40.0, 50.0) for each in wall_s])


def test_a_ratio_is_the_median_over_rounds_that_stood_side_by_side() -> None:
    """A machine that slows down for a whole round changes no ratio, though it changes the medians."""
    ours, theirs = runs(1.0, 10.0, 1.0), runs(3.0, 30.0, 3.0)
    assert ours.times(theirs) == ours.times(theirs, "cpu_s") == 3.0
    assert theirs.times(ours) == pytest.approx(1 / 3)
    assert (ours.per_s(), ours.cpu_us(), ours.cpu_us(10)) == (100.0, 5_000.0, 50_000.0)


def test_a_target_says_whether_it_is_met() -> None:
    """At least, or at most; the bound itself is enough."""
    assert Target("a", 0.90, 0.90).row == ["a", "0.90×", "", "", "≥ 0.9×", "met"]
    assert Target("a", 0.89, 0.90, by_cpu=1.0).row == ["a", "0.89×", "1.00×", "", "≥ 0.9×", "MISSED"]
    assert Target("a", 20, 20, at_most=True, unit=" ms").row == ["a", "20.00 ms", "", "", "≤ 20 ms", "met"]
    assert not Target("a", 20.1, 20, at_most=True).is_met


def test_a_table_lines_up() -> None:
    """Numbers to the right, and Markdown all the same."""
    assert table(("", "n"), [("long", "1"), ("x", "1,000")]) == "\n".join(
        ("|      |     n |", "| ---- | ----: |", "| long |     1 |", "| x    | 1,000 |")
    )


def test_what_is_not_installed_is_named() -> None:
    """With the name of what to install."""
    there, absent = Contender("a", "a:b"), Contender("theirs", "c:d", needs="no_such_package")
    assert there.is_installed
    assert missing((there, absent)) == ["SKIPPED, as it is not installed: theirs (no_such_package)."]


def test_every_figure_runs_in_ci() -> None:
    """`--quick` leaves none out: the names are those of the README there."""
    readme = (ROOT / "benchmarks" / "README.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", readme, re.MULTILINE)) == set(FIGURES)


def bench(*arguments: str) -> str:
    """What `python -m benchmarks --quick` prints."""
    command = [sys.executable, "-m", "benchmarks", "--quick", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=55).stdout


def test_a_quick_run_prints_machine_server_figures_and_targets() -> None:
    """A figure with a peer in its own process, and one without; every target has a verdict."""
    printed = bench("latency", "idle", "--pages", "3")
    machine, versions, server = printed.splitlines()[:3]
    assert f"Python {sys.version.split()[0]}" in machine
    assert "msgspec" in versions
    assert ("nginx" if servers.NGINX else "aiohttp") in server
    assert "## 3 pages of 200 attempts, each answer after 20 ms" in printed
    summary = printed.partition("## All targets")[2]
    assert len(re.findall(r"\| +(?:met|MISSED) \|$", summary, re.MULTILINE)) == 3


def test_an_unknown_figure_is_refused() -> None:
    """With the name, before anything is prepared."""
    with pytest.raises(subprocess.CalledProcessError) as caught:
        bench("streming")
    assert "no such figure: streming" in caught.value.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("canned")


@pytest.fixture(scope="module")
def canned_pages(folder: Path) -> int:
    """A port, and three canned pages whose links lead there."""
    port = servers.free_port()
    canned.write_all(folder / "files", f"http://127.0.0.1:{port}", 3, export=True)
    return port


async def read(url: str) -> list[int]:
    async with tp.Client(url, token=api.TOKEN) as client:
        ids = [attempt.id async for attempt in client.attempts.list().prefetch(2)]
        answers = await client.attempts.user_answers(427).collect() if len(ids) == 600 else []
        assert all(answer.question for answer in answers)
        return ids


@pytest.mark.parametrize("program", ["nginx", "aiohttp"])
def test_both_servers_give_the_same(
    program: str, folder: Path, canned_pages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages in order, answers with their questions, and all that an export asks for."""
    if program == "aiohttp":
        monkeypatch.setattr(servers, "NGINX", None)
    elif servers.NGINX is None:
        pytest.skip("nginx is not installed (Debian: apt-get install nginx-light)")
    from benchmarks.contenders import ours

    url = f"http://127.0.0.1:{canned_pages}"
    with servers.serving(folder, canned_pages):
        assert asyncio.run(read(url)) == list(range(1, 601))
        assert asyncio.run(ours.export(url, str(folder))) == 600
        size = len(urlopen(f"{url}{api.ANSWERS_PATH.format(9)}").read())
    assert 38_000 < size < 60_000


def test_a_list_of_any_length_has_every_id_once(folder: Path, canned_pages: int) -> None:
    """The pages come again and again, their ids and heads do not."""
    with servers.answering("pages", folder / "files", 7, 0) as url:
        assert asyncio.run(read(url)) == list(range(1, 1_401))
        last = json.loads(urlopen(f"{url}{api.ATTEMPTS_PATH}?page=7").read())
    assert (last["count"], last["next"]) == (1_400, None)


def test_plots_are_drawn(tmp_path: Path) -> None:
    """A bar with its label; nothing for a figure without bars."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra bench)")
    from benchmarks.plot import draw

    file = draw(Figure("one", "A title", ("",), bars={"ours & theirs": 12_345.0}), tmp_path)
    assert file is not None
    assert "12,345" in file.read_text()
    assert draw(Figure("none", "A title", ("",)), tmp_path) is None


async def test_a_web_application_that_hardly_had_a_turn_tells_its_lag():
    """Stopped before its first beat, as on a busy machine, it waits for two: else there are no quantiles."""
    work = Work()
    work.start("", 1)
    await work.stop()
    await work.stop()  # a second end finds nothing to wait for
    assert len(work.late_s) >= 2
