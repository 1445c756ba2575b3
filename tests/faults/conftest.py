"""Options of the simulation: `--seed 1234` tells one story again, `--seeds 10000` tells more of them."""

from __future__ import annotations

import pytest

BLOCKS = 20  # tests that share the seeds, so that one that fails is not all
SEEDS = 1_000


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="simulate this seed only, and print its requests")
    parser.addoption("--seeds", type=int, default=SEEDS, help="simulate so many seeds")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seeds" not in metafunc.fixturenames:
        return
    # not registered when the whole suite runs: then this file is read too late
    one: int | None = metafunc.config.getoption("--seed", default=None)
    many: int = metafunc.config.getoption("--seeds", default=None) or SEEDS
    if one is not None:
        blocks = [range(one, one + 1)]
    else:
        blocks = [range(number, many, BLOCKS) for number in range(min(BLOCKS, many))]
    metafunc.parametrize("seeds", blocks, ids=str)
