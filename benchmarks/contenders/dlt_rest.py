"""dlt: its RESTClient, and its extract step."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import Any

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"  # a benchmark calls nobody
os.environ["DATA_WRITER__DISABLE_COMPRESSION"] = "true"  # nor do we compress
import dlt
from dlt.sources.helpers.rest_client import RESTClient
from dlt.sources.helpers.rest_client.paginators import JSONLinkPaginator

from benchmarks.api import ATTEMPTS_PATH
from benchmarks.contenders import floor


def pages(url: str) -> Iterator[Any]:
    client = RESTClient(
        url, headers=floor.HEADERS, paginator=JSONLinkPaginator("next"), data_selector="results"
    )
    yield from client.paginate(ATTEMPTS_PATH)


def attempts(url: str) -> int:
    seen = 0
    for page in pages(url):
        for _ in page:
            seen += 1
    return seen


def export(url: str, folder: str) -> int:
    """The extract step alone: files of JSON Lines, not normalized and not loaded."""
    pipeline = dlt.pipeline("benchmark", pipelines_dir=tempfile.mkdtemp(dir=folder), destination="duckdb")
    resource: Any = dlt.resource(pages, name="attempts")(url)
    extracted: Any = pipeline.extract(resource)
    steps = [step for steps in extracted.metrics.values() for step in steps]
    return sum(
        step["table_metrics"]["attempts"].items_count for step in steps if "attempts" in step["table_metrics"]
    )
