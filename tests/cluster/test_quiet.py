"""A failover that nobody noticed: connections that lie idle must not cost the next caller."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx2 as httpx
import pytest

from lab.cluster.group import Cluster
from lab.cluster.node import Node
from lab.service import Service
from tests.cluster.checks import commits
from tests.support.waiting import tell

Clients = Sequence[httpx.Client]

AT_ONCE = 8
RECOVERY = 3.5


@pytest.fixture
def clients(replicas: tuple[Service, ...]) -> Iterator[Clients]:
    """A client of each replica."""
    clients = [httpx.Client(base_url=r.url, timeout=10, trust_env=False) for r in replicas]
    yield clients
    for client in clients:
        client.close()


def _track(client: httpx.Client) -> httpx.Response:
    return client.post("/repos", json={"owner": "quiet", "repo_name": uuid4().hex})


def _at_once(clients: Clients, path: str, times: int) -> None:
    """Let every connection for reading be used, and several of those for writing."""
    barrier = threading.Barrier(AT_ONCE * len(clients))

    def call(client: httpx.Client) -> None:
        barrier.wait()
        for _ in range(times):
            assert client.get(path).status_code == 200
        assert _track(client).status_code == 201

    with ThreadPoolExecutor(barrier.parties) as threads:
        list(threads.map(call, list(clients) * AT_ONCE))


def _freeze_leader(cluster: Cluster) -> Node:
    old = cluster.leader()
    assert old is not None
    old.freeze()
    new = cluster.new_leader(old)
    cluster.wait_until(lambda: commits(cluster, new), 60, f"{new.name} takes no writes")
    return old


@pytest.fixture
def record(cluster: Cluster, clients: Clients) -> str:
    """The path of a record that every replica has read, on all of its connections."""
    record = str(_track(clients[0]).json()["id"])
    _at_once(clients, f"/repos/{record}", 20)
    return f"/repos/{record}"


@pytest.mark.timeout(200)
def test_the_first_callers_after_a_quiet_failover_are_served(
    cluster: Cluster, clients: Clients, record: str
) -> None:
    """The leader froze and another leads, while nobody called: the next callers are served."""
    old = _freeze_leader(cluster)
    try:
        started = time.monotonic()
        read = clients[0].get(record)
        written = _track(clients[1])
        took = time.monotonic() - started
    finally:
        old.thaw()
        cluster.wait_until(cluster.is_whole, 90, "the cluster did not recover")
    tell(f"a quiet failover: read {read.status_code}, write {written.status_code}, {took:.1f} s")
    assert (read.status_code, written.status_code) == (200, 201)
    assert took < 2 * RECOVERY


@pytest.mark.timeout(200)
def test_a_leader_that_thaws_is_not_asked(cluster: Cluster, clients: Clients, record: str) -> None:
    """For a moment it takes itself for the leader and does not know the latest records."""
    client = clients[0]
    old = _freeze_leader(cluster)
    try:
        while (tracked := _track(client)).status_code != 201:
            assert tracked.status_code == 503
    finally:
        old.thaw()
    thawed, read = time.monotonic(), set()
    while time.monotonic() < thawed + 2:
        read.add(client.get(f"/repos/{tracked.json()['id']}").status_code)
    cluster.wait_until(cluster.is_whole, 90, "the cluster did not recover")
    tell(f"a leader thaws: the record that the new one has is read with {read}")
    assert read == {200}
