"""What a `Listing` can become: a table of Arrow, a frame of polars or pandas; all extras, imported when used.

Pages are taken as they come and made into columns every few pages, in another thread, so that memory holds
the columns and little else, and the loop goes on serving others.
"""

# polars and pandas are not there for everybody who checks types here, and pandas has no types of its own.
# pyright: reportMissingImports=false, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownParameterType=false, reportUnknownVariableType=false

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

from testpress_async.errors import DecodeFailed
from testpress_async.models.frames import ArrowBuilder, ArrowTable, imported
from testpress_async.models.record import Record

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

R = TypeVar("R", bound=Record)

BATCH_ROWS: Final = 1_000
"""Records that wait to become columns: about 25 ms of work, at 25 µs a record (CPython 3.11)."""


class Framed(Generic[R]):
    """The part of `Listing` that makes tables and frames."""

    async def to_arrow(self, max_items: int | None = None, *, window: int = 1) -> ArrowTable:
        """All records, or the first *max_items*, as a `pyarrow.Table` in memory; needs the extra `arrow`.

        The columns are named and typed as those of exports; only `_extra` is missing. A value that its
        column cannot hold exactly is raised, or null with `bad_records="skip"`.

        Args:
            window: Pages that may be on the way at once, as in `pages`.
        Raises:
            ConfigError: pyarrow is not installed; nothing was sent.
            DecodeFailed: A record cannot be decoded, or a value does not fit its column.
        """
        await _importing("to_arrow", "arrow", "pyarrow")
        builder = self._builder()
        made: list[object] = []
        waiting: list[R] = []
        async with contextlib.aclosing(self._batches(max_items, window)) as batches:
            async for records in batches:
                waiting += records
                if len(waiting) >= BATCH_ROWS:
                    made.append(await self._off_loop(builder, waiting))
                    waiting = []
        made.append(await self._off_loop(builder, waiting))
        return builder.table(made)

    async def to_polars(self, max_items: int | None = None, *, window: int = 1) -> pl.DataFrame:
        """The same as a `polars.DataFrame`; needs the extra `polars`."""
        polars = await _importing("to_polars", "polars", "polars", "pyarrow")
        table = await self.to_arrow(max_items, window=window)
        return cast("pl.DataFrame", await asyncio.to_thread(polars.from_arrow, table))

    async def to_pandas(self, max_items: int | None = None, *, window: int = 1) -> pd.DataFrame:
        """The same as a `pandas.DataFrame` with Arrow's types; needs the extra `pandas`.

        numpy's types, which pandas would choose, make floats of ids where some are missing.
        """
        pandas = await _importing("to_pandas", "pandas", "pandas", "pyarrow")
        table = cast("Any", await self.to_arrow(max_items, window=window))
        return await asyncio.to_thread(table.to_pandas, types_mapper=pandas.ArrowDtype)

    # --- inside ------------------------------------------------------------------------------------

    def _batches(self, max_items: int | None, window: int) -> AsyncGenerator[Sequence[R], None]:
        raise NotImplementedError

    def _builder(self) -> ArrowBuilder:
        raise NotImplementedError

    async def _off_loop(self, builder: ArrowBuilder, records: Sequence[R]) -> object:
        try:
            return await asyncio.to_thread(builder.batch, records)
        except DecodeFailed as error:
            error.source = repr(self)
            raise


async def _importing(purpose: str, extra: str, *modules: str) -> Any:
    """`imported` in a thread: the first time takes a second."""
    return await asyncio.to_thread(imported, purpose, extra, *modules)
