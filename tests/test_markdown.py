"""How the code on a page is found, run and compared (`tests/support/markdown.py`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.markdown import Block, blocks_of, is_shown, opened, own_test_of

PAGE = """# Page

`testpress sandbox --fault 503:0.5 --fault cut:1`

```python
print(1)
```

```text
1
```

Text between.

```text
not what anything prints
```

## Next

<!-- not run: it would take all night -->
```sh
testpress export
```

```python title="job.py"
# Not a heading
```
"""


def test_blocks_know_where_they_stand() -> None:
    """Section, line, faults, what is shown, a file's name and the reason not to be run."""
    first, loose, command, file = blocks_of(PAGE)
    assert first == Block(
        language="python",
        code="print(1)\n",
        line=5,
        section="Page",
        shown="1\n",
        faults={"503": 0.5, "cut": 1.0},
    )
    assert (loose.language, loose.shown) == ("text", None)
    assert (command.not_run, command.section, command.faults) == ("it would take all night", "Next", {})
    assert (file.file, file.section, file.not_run) == ("job.py", "Next", "")


def test_the_test_that_a_page_names_is_found() -> None:
    """In a comment on a line of its own."""
    assert own_test_of(f"{PAGE}\n<!-- tested by tests/test_x.py -->\n") == "tests/test_x.py"
    assert own_test_of(PAGE) is None


@pytest.mark.parametrize(
    ("shown", "real", "same"),
    [
        ("a\n", "a\n", True),
        ("a\n", "b\n", False),
        ("a … c\n", "a b c\n", True),
        ("a … c\n", "a\nb c\n", False),
        ("a\n…\nd\n", "a\nb\nc\nd\n", True),
        ("a\n…\nd\n", "a\nd\n", True),
        ("a\n…\nd\n", "a\nb\n", False),
        ("(a|b)\n", "a\n", False),
        ("", "a\n", False),
    ],
)
def test_an_ellipsis_stands_for_anything(shown: str, real: str, *, same: bool) -> None:
    """Within a line, or for any lines; nothing else is a pattern."""
    assert is_shown(shown, real) is same


GOOD = [
    Block(language="python", code="page = await client.attempts.list()\n", line=1),
    Block(language="python", code="print(page.count)\n", line=1, shown="60\n"),
    Block(language="python", code="import x\n", file="job.py", line=1),
    Block(language="python", code="def test_it():\n    pass\n", file="test_it.py", line=1),
    Block(language="sh", code="echo out; echo err >&2\n", line=1, shown="out\nerr\n"),
    Block(
        language="sh", code="testpress sandbox --attempts 7\n", line=1, shown="Sandbox institute at …\n…\n"
    ),
    Block(language="sh", code="testpress stream attempts | wc -l\n", line=1, shown="…7\n"),
]
BAD = [
    Block(language="python", code="1 / 0\n", line=1),
    Block(language="python", code="print(2)\n", line=1, shown="1\n"),
    Block(language="python", code="import asyncio\nasyncio.run(no_such)\n", line=1),
    Block(language="sh", code="false\ntrue\n", line=1),
    Block(language="sh", code="false | cat\n", line=1),
]


async def test_good_blocks_run(tmp_path: Path) -> None:
    """With shared names, files, standard error, and a sandbox of the page's own in the background."""
    async with opened(tmp_path, "page.md") as run:
        for block in GOOD:
            await run.run(block)
        assert (tmp_path / "job.py").read_text() == "import x\n"


@pytest.mark.parametrize("block", BAD, ids=lambda block: block.code.split("\n")[0])
async def test_bad_blocks_are_told(block: Block, tmp_path: Path) -> None:
    """Whatever fails, or prints something else, fails the test of its page."""
    async with opened(tmp_path, "page.md") as run:
        with pytest.raises((AssertionError, ZeroDivisionError)):
            await run.run(block)
