"""What must hold after every test of the cluster."""

import asyncio
from collections.abc import Sequence

import psycopg

from lab.cluster.group import Cluster
from lab.cluster.node import Node
from lab.service import Service
from tests.support.load import Load
from tests.support.promises import PROMISED, assert_readable, assert_stored, rows_of

# Seconds from the election of another leader, or the first call after it, until each replica serves
# reads and writes. Each connection to a frozen host costs two, and a write may need two of them.
RECOVERY = 10.0
# Seconds for a write that only shows whether writes are confirmed.
CONFIRMATION = 5


def commits(cluster: Cluster, node: Node) -> bool:
    """Return whether the node itself confirms a write now.

    A commit that no second node confirms waits without an end, and no setting limits that.
    """
    try:
        asyncio.run(_confirm_a_write(cluster.url(nodes=[node])))
    except (psycopg.Error, TimeoutError):
        return False
    return True


async def _confirm_a_write(url: str) -> None:
    async with (
        asyncio.timeout(CONFIRMATION),
        await psycopg.AsyncConnection.connect(
            url, autocommit=True, connect_timeout=2
        ) as connection,
    ):
        await connection.execute("CREATE TABLE IF NOT EXISTS probe ()")
        await connection.execute("INSERT INTO probe DEFAULT VALUES")


def assert_kept(cluster: Cluster, replicas: Sequence[Service], load: Load) -> None:
    """Fail unless all answers were right and in time, and everything confirmed can be read."""
    assert load.broken == []
    assert load.slowest() < PROMISED
    assert_stored(load.records, rows_of(cluster.url()))
    for replica in replicas:
        assert_readable(load.records, replica.url)
