"""What the service promises whatever happens, compared with what callers saw and it stored."""

import json
from collections.abc import Sequence
from typing import NamedTuple

import httpx2 as httpx
import psycopg

from lab.service import Service
from tests.support.load import Load, Record
from tests.support.waiting import PATIENCE, tell

# Seconds within which every request has its answer, whatever happens.
PROMISED = 5.5
# Seconds more, because callers and service share a machine that may be busy.
MARGIN = 1.0
# Seconds that the service has to notice that PostgreSQL is back.
RECOVERY = 3.0


class Row(NamedTuple):
    """A row of `repositories` joined with its link; the id or the link may be missing."""

    id: str | None
    owner: str | None
    name: str | None
    stars: int | None
    link: str | None


SELECT = (
    "SELECT r.id::text, owner, repo_name, stars, l.repository_id::text "
    "FROM repositories r FULL JOIN github_links l ON l.repository_id = r.id"
)


def rows_of(url: str) -> list[Row]:
    """Return all rows of a database."""
    with psycopg.connect(url, connect_timeout=5) as connection:
        return [Row(*row) for row in connection.execute(SELECT)]


def assert_promises_held(load: Load, url: str, *, ready: float) -> None:
    """Fail unless every answer was right and in time, and all is stored as callers were told.

    `url` is that of the database, `ready` the time when it was available again.
    """
    recovery = load.recovery(ready)
    tell(f"{load}; last refusal {recovery:.2f} s after PostgreSQL was ready")
    assert load.broken == []
    assert load.slowest() < PROMISED + MARGIN
    assert recovery < RECOVERY
    assert_stored(load.records, rows_of(url))


def assert_stored(records: Sequence[Record], rows: Sequence[Row]) -> None:
    """Fail unless every record is stored as its caller was told, and no other of its owner is."""
    assert [row for row in rows if row.id is None or row.link is None] == []
    owners = {record.owner for record in records}
    stored = {f"{row.owner}/{row.name}": row for row in rows if row.owner in owners}
    assert len(stored) == sum(row.owner in owners for row in rows)
    told = {record.full_name: record for record in records}
    assert stored.keys() <= told.keys()
    wrong = []
    for name, record in told.items():
        row = stored.get(name)
        stars, known = (row.stars, row.id) if row else (None, record.id)
        if stars not in record.possible or known != (record.id or known):
            wrong.append((record, row))
    tell(f"{len(stored)} records stored, of {len(told)} asked for; {len(wrong)} not as promised")
    assert wrong == []


def assert_readable(records: Sequence[Record], url: str) -> None:
    """Fail unless a service answers for each record as its caller was told."""
    with httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False) as client:
        for record in records:
            if record.id is None or not record.is_certain:
                continue
            (stars,), answer = record.possible, client.get(f"/repos/{record.id}")
            if stars is None:
                assert answer.status_code == 404
            else:
                assert answer.json() == record.body(stars)


def assert_nothing_unforeseen(service: Service) -> None:
    """Fail if the service met an error that it does not know."""
    log = "".join(service.log)
    assert "unforeseen error" not in log
    assert "Traceback" not in log
    assert "Task exception was never retrieved" not in log


def assert_only_refusals(service: Service) -> None:
    """Fail if the service has ended, or logged more than information and warnings."""
    lines = [json.loads(line) for line in service.log if line.startswith("{")]
    assert [line for line in lines if line["level"] not in {"info", "warning"}] == []
    assert service.process.poll() is None
