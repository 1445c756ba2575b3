"""What is known of an export that is running: facts in, one small state out."""

from collections import Counter

import msgspec

import testpress_async as tp


class Table(msgspec.Struct):
    """One bar: so many of so many records or, where the server does not count them, reads."""

    records_total: int | None
    reads_total: int | None
    records: int = 0
    reads: Counter[str] = msgspec.field(default_factory=Counter[str])  # by what was proved of them
    ended: bool = False


class Board(msgspec.Struct):
    """What is known of an export. A browser gets all of it each time, so it may come late, or again."""

    phase: str = "planning"
    error: str | None = None
    tables: dict[str, Table] = {}
    requests: int = 0
    requests_planned: int = 0
    waited_s: float = 0.0
    throttled: int = 0
    failed_tries: int = 0
    stored_records: int = 0
    stored_bytes: int = 0

    def note(self, event: tp.Event) -> None:
        match event:
            case tp.TableStarted(table=name):
                self.tables[name] = Table(event.records, event.requests)
            case tp.RowsRead(table=name):
                self.tables[name].records += event.records
            case tp.ShardFinished(table=name):
                self.tables[name].reads[event.status] += 1
            case tp.TableFinished(table=name):
                self.tables[name].ended = True
            case tp.PartsCommitted():
                self.stored_records += event.records
                self.stored_bytes += event.data_bytes
            case tp.RequestFinished():
                self.requests += 1
            case tp.RateWaited():
                self.waited_s += event.waited_s
            case tp.Throttled():
                self.throttled += 1
            case tp.TryFailed():
                self.failed_tries += 1
            case _:
                pass

    async def run(self, client: tp.Client, dataset: tp.Dataset) -> None:
        try:
            plan = await tp.plan(client, into=dataset)
            self.tables = {cost.table: Table(cost.records, cost.requests) for cost in plan.costs}
            self.phase, self.requests_planned = "reading", self.requests + plan.requests
            await tp.harvest(client, plan, into=dataset, on_event=self.note)
            self.phase = "done"
        except tp.Error as error:
            self.phase, self.error = "failed", str(error)
