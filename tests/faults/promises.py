"""What the service promises whatever happens, held against what its callers saw and it stored."""

import json

import psycopg

from tests.faults.load import Load, Record
from tests.faults.support import tell
from tests.support.service import Service

# Seconds within which every request has its answer, whatever happens.
PROMISED = 5.5
# Caller and service share a machine that may be loaded: both may have to wait for a processor.
MARGIN = 1.0
# Seconds that the service has to notice that PostgreSQL is back.
RECOVERY = 3.0


def assert_promises_held(load: Load, url: str, *, ready: float) -> None:
    """Every answer was in time and right, the service recovered, and all is stored as it was told.

    `url` is that of the database, `ready` the time when that was well again.
    """
    recovery = load.recovery(ready)
    tell(f"{load}; last refusal {max(recovery, 0.0):.2f} s after PostgreSQL was ready")
    assert load.broken == []
    assert load.worst() < PROMISED + MARGIN
    assert recovery < RECOVERY
    assert_stored(load.records, url)


def assert_stored(records: list[Record], url: str) -> None:
    """Every record is in the database as its caller was told, whole, and nothing else is."""
    with psycopg.connect(url, connect_timeout=5) as connection:
        rows = connection.execute(
            "SELECT r.id::text, owner, repo_name, stars, l.repository_id::text "
            "FROM repositories r FULL JOIN github_links l ON l.repository_id = r.id"
        ).fetchall()
    halves = [row for row in rows if row[0] is None or row[4] is None]
    assert halves == []
    stored = {f"{owner}/{name}": (found, stars) for found, owner, name, stars, _ in rows}
    assert len(stored) == len(rows)
    told = {record.full_name: record for record in records}
    assert stored.keys() <= told.keys()
    lost = [
        (record, stored.get(name))
        for name, record in told.items()
        if stored.get(name, (None, None))[1] not in record.possible
        or (name in stored and stored[name][0] != (record.id or stored[name][0]))
    ]
    tell(f"{len(rows)} records stored, of {len(told)} asked for; {len(lost)} not as promised")
    assert lost == []


def assert_nothing_unforeseen(service: Service) -> None:
    """The service never met what it did not expect."""
    log = "".join(service.log)
    assert "unforeseen error" not in log
    assert "Traceback" not in log
    assert "Task exception was never retrieved" not in log


def assert_only_refusals(service: Service) -> None:
    """Nothing that came was worth an error to the service, and it serves on."""
    lines = [json.loads(line) for line in service.log if line.startswith("{")]
    assert [line for line in lines if line["level"] not in {"info", "warning"}] == []
    assert service.process.poll() is None
