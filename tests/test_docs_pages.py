"""The pages under `docs/` tell the truth: their code runs, their links lead somewhere, the site has them all.

How the code of a page is run stands at the top of `tests/support/markdown.py`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.markdown import ROOT, blocks_of, opened, own_test_of

DOCS = ROOT / "docs"
RUN = frozenset({"python", "sh"})
SHOWN_ONLY = frozenset({"text", "sql", "json", "toml", "yaml", "html", "csv"})


def texts(*files: Path) -> dict[str, str]:
    return {str(file.relative_to(ROOT)): file.read_text() for file in files}


PAGES = texts(*sorted(DOCS.rglob("*.md")))
ALL = PAGES | texts(*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("*/README.md")))
RUN_ELSEWHERE = {page: test for page, text in PAGES.items() if (test := own_test_of(text))}
BLOCKS = {page: blocks_of(text) for page, text in PAGES.items()}
RUN_HERE = {
    page: run
    for page, blocks in BLOCKS.items()
    if page not in RUN_ELSEWHERE
    and (run := [each for each in blocks if each.language in RUN and not each.not_run])
}


@pytest.mark.timeout(300)  # a page can be a dozen programs, one after the other
@pytest.mark.parametrize("page", RUN_HERE)
async def test_the_code_of_a_page_runs(page: str, tmp_path: Path) -> None:
    """Every block of Python and of commands runs, from top to bottom, and prints the text below it."""
    async with opened(tmp_path, page) as run:
        for block in RUN_HERE[page]:
            await run.run(block)


@pytest.mark.parametrize("page", RUN_ELSEWHERE)
def test_a_page_with_a_test_of_its_own_names_one_that_reads_it(page: str) -> None:
    """`<!-- tested by … -->` is no way around the tests."""
    assert Path(page).name in (ROOT / RUN_ELSEWHERE[page]).read_text()


@pytest.mark.parametrize("page", PAGES)
def test_the_language_of_a_block_is_one_we_know(page: str) -> None:
    """`bash`, `py` or `console` would not be run."""
    assert {block.language for block in BLOCKS[page]} <= RUN | SHOWN_ONLY


@pytest.mark.parametrize("page", RUN_HERE)
def test_a_block_with_a_file_name_is_used(page: str) -> None:
    """Something below it on the page names the file, or it is a test and pytest runs it."""
    for number, block in enumerate(BLOCKS[page]):
        if block.file and not Path(block.file).name.startswith("test_"):
            later = "".join(each.code for each in BLOCKS[page][number + 1 :])
            assert Path(block.file).stem in later, block.file


# --- links -------------------------------------------------------------------------------------------

_FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`[^`\n]+`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: str) -> set[str]:
    """What a link may point to within the text *page*, as GitHub and the site make it."""
    titles = re.findall(r"^#+ (.+)$", _FENCED.sub("", page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", ALL)
def test_links_lead_somewhere(page: str) -> None:
    """Every link to a file of ours, and to a place in it, has its target."""
    for target in _LINK.findall(_INLINE.sub("", _FENCED.sub("", ALL[page]))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (ROOT / page).parent / name if name else ROOT / page
        assert file.exists(), target
        assert not anchor or file.suffix != ".md" or anchor in anchors(file.read_text()), target
