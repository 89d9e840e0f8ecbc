"""`python -m lab.bench.storage 1000000`: the disk space of a million records, and their speed.

It starts an embedded PostgreSQL, runs the migrations, fills both tables, and removes everything.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import psycopg

from lab.database import embedded, migrate

# Names of 9 and 16 characters, ids of GitHub's size and entity tags of its length. The keys are
# random, as the service makes them, and come in portions, as records do.
_FILL = """
    WITH made AS (
        SELECT gen_random_uuid() AS id, number, md5(number::text) AS digest
        FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS number
    ), repository AS (
        INSERT INTO repositories (id, owner, repo_name, stars)
        SELECT id, left(digest, 9), right(digest, 16), number %% 200000 FROM made
    )
    INSERT INTO github_links (repository_id, github_id, etag, checked_at)
    SELECT id, number * 618033989 %% 1000000007,
        'W/"' || digest || digest || '"', now()
    FROM made
"""
_SIZES = """
    SELECT relname, pg_relation_size(oid), pg_table_size(oid), relkind
    FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')
        AND relname NOT LIKE 'alembic%'
    ORDER BY relkind DESC, relname
"""
_PORTION = 10_000


def measure(url: str, count: int) -> None:
    """Fill the tables and print their sizes."""
    asyncio.run(migrate(url))
    with psycopg.connect(url, autocommit=True) as connection:
        started = time.monotonic()
        # The link's foreign key is checked when the statement ends, which both are part of.
        for first in range(0, count, _PORTION):
            last = min(first + _PORTION, count) - 1
            connection.execute(_FILL, {"first": first, "last": last})
        took = time.monotonic() - started
        connection.execute("VACUUM ANALYZE")
        total = 0
        for name, size, with_maps, kind in connection.execute(_SIZES):
            share = with_maps if kind == "r" else size
            total += share
            _say(f"{name:40} {share:>15,} bytes  {share / count:7.1f} a record")
        _say(f"{'all of it':40} {total:>15,} bytes  {total / count:7.1f} a record")
        _say(
            f"{count:,} records in {took:.0f} s, {count / took:,.0f} a second, "
            f"{_PORTION:,} a transaction"
        )


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main() -> None:
    """Measure, with as many records as the command line says."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory(prefix="tracker-storage-") as path:
        folder = Path(path)
        folder.chmod(0o711)
        with embedded(folder / "data") as url:
            measure(url, count)


if __name__ == "__main__":
    main()
