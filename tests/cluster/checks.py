"""What must hold after every test of the cluster."""

from collections import Counter
from collections.abc import Callable, Sequence

import httpx2 as httpx
import psycopg

from lab.cluster.group import Cluster
from lab.cluster.node import Node
from lab.cluster.replica import Replica
from tests.cluster.load import Load

# Seconds within which every request has its answer, whatever happens.
PROMISED = 5.5

Tell = Callable[[str], None]


def commits(cluster: Cluster, node: Node) -> bool:
    """Whether the node itself confirms a write now, whatever the service makes of it."""
    try:
        url = cluster.url(nodes=[node])
        with psycopg.connect(url, autocommit=True, connect_timeout=2) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS probe ()")
            connection.execute("INSERT INTO probe DEFAULT VALUES")
    except psycopg.Error:
        return False
    return True


def figures(load: Load) -> str:
    """Return what was answered, as one line."""
    counts = Counter(answer.status for answer in load.answers)
    slowest = max(answer.ended - answer.started for answer in load.answers)
    kept, gone = len(load.promises.stars), len(load.promises.gone)
    return f"{dict(sorted(counts.items()))}, slowest {slowest:.2f} s, {kept} kept, {gone} deleted"


def assert_kept(cluster: Cluster, replicas: Sequence[Replica], load: Load) -> None:
    """Every answer was one of those foreseen, in time, and nothing confirmed is lost."""
    assert load.promises.broken == []
    failures = [a for a in load.answers if a.status >= 500 or not a.status]
    assert [answer for answer in failures if not answer.is_database_away] == []
    assert [a for a in load.answers if a.ended - a.started > PROMISED] == []
    with psycopg.connect(cluster.url()) as connection:
        rows = connection.execute("SELECT id::text, stars FROM repositories").fetchall()
    stored: dict[str, int] = dict(rows)
    promised = load.promises.stars
    lost = {key: stars for key, stars in promised.items() if stored.get(key) != stars}
    assert lost == {}
    assert load.promises.gone & stored.keys() == set()
    for replica in replicas:
        with httpx.Client(base_url=replica.url, timeout=10, trust_env=False) as client:
            for record, stars in promised.items():
                assert client.get(f"/repos/{record}").json()["stars"] == stars
            for record in load.promises.gone:
                assert client.get(f"/repos/{record}").status_code == 404
