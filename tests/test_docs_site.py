"""The documentation's site: it has every page, builds without a warning, and needs no network to be read."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.support.markdown import ROOT

pytestmark = pytest.mark.timeout(300)  # whichever test comes first builds the site

CONFIG = "zensical.toml"
TARGET = re.compile(r'<(?P<tag>\w+)[^>]*? (?:href|src)="(?P<target>[^"]*)"')
EXTERNAL = re.compile(r"[a-z]+:|//")


def named(nav: object) -> Iterator[str]:
    """The files that a part of the navigation names, in its order."""
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, list):
        for each in nav:
            yield from named(each)
    elif isinstance(nav, dict):
        for each in nav.values():
            yield from named(each)


def test_the_navigation_names_every_page_once() -> None:
    """No page is forgotten, and none is named that is not there."""
    project = tomllib.loads((ROOT / CONFIG).read_text())["project"]
    pages = sorted(str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md"))
    assert sorted(named(project["nav"])) == pages


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The site, built where its sources are only looked at, and what the generator says."""
    room = tmp_path_factory.mktemp("site")
    for name in (CONFIG, "docs", "testpress_async", "examples", "benchmarks", "README.md"):
        (room / name).symlink_to(ROOT / name)
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "--clean"],
        cwd=room,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return (room / "site").resolve(), done.stdout


def test_nothing_is_odd_about_the_pages(built: tuple[Path, str]) -> None:
    """Docstrings are read without a complaint, which would not fail the build."""
    assert re.sub(r"\x1b\[[0-9;]*m", "", built[1]).splitlines()[:-1] == ["Build started", "No issues found"]


def targets(site: Path) -> Iterator[tuple[Path, str, str]]:
    """Every address in the site's pages: page, tag and address."""
    for page in sorted(site.rglob("*.html")):
        for found in TARGET.finditer(page.read_text()):
            yield page, found["tag"], found["target"]


def test_the_site_fetches_nothing_from_elsewhere(built: tuple[Path, str]) -> None:
    """No font, script, style or picture; only links that a reader follows."""
    site, _ = built
    fetched = {target for _, tag, target in targets(site) if tag != "a" and EXTERNAL.match(target)}
    styles = "".join(style.read_text() for style in site.rglob("*.css"))
    assert fetched == set()
    assert not re.search(r"url\(['\"]?(https?:)?//", styles)


def test_the_sites_links_lead_somewhere(built: tuple[Path, str]) -> None:
    """To files beside them, and to places in pages, those made from docstrings included."""
    site, _ = built
    places = {page: set(re.findall(r' id="([^"]+)"', page.read_text())) for page in site.rglob("*.html")}
    lost: set[str] = set()
    for page, _, target in targets(site):
        path, _, place = unquote(target).partition("#")
        if EXTERNAL.match(target) or page.name == "404.html":
            continue
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (place and file.suffix == ".html" and place not in places[file]):
            lost.add(f"{page.name}: {target}")
    assert lost == set()
