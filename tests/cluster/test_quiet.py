"""A failover that nobody noticed, because all connections of the service were idle."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from uuid import uuid4

import httpx2 as httpx
import pytest

from lab.cluster.group import Cluster
from lab.cluster.node import Node
from lab.service import Service
from tests.cluster.checks import RECOVERY, commits
from tests.support.promises import PROMISED
from tests.support.waiting import tell

Clients = Sequence[httpx.Client]

AT_ONCE = 8


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


class _Answer(NamedTuple):
    status: int
    seconds: float


def _until_served(call: Callable[[], httpx.Response]) -> list[_Answer]:
    """Call again and again; return the answers, of which the last is the first that is no 503."""
    answers = []
    while True:
        started = time.monotonic()
        status = call().status_code
        answers.append(_Answer(status, round(time.monotonic() - started, 2)))
        if status != 503:
            assert status in {200, 201}
            return answers


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
def test_after_a_quiet_failover_one_caller_of_each_replica_is_refused(
    cluster: Cluster, clients: Clients, record: str
) -> None:
    """The leader froze and another one leads, and nobody called meanwhile."""
    old = _freeze_leader(cluster)
    try:
        with ThreadPoolExecutor() as threads:
            reads = threads.submit(_until_served, lambda: clients[0].get(record))
            writes = threads.submit(_until_served, lambda: _track(clients[1]))
    finally:
        old.thaw()
        cluster.wait_until(cluster.is_whole, 90, "the cluster did not recover")
    for kind, answers in (("reads", reads.result()), ("writes", writes.result())):
        tell(f"{kind} after a quiet failover: {answers}")
        assert [answer.status for answer in answers[:-1]] == [503]
        assert max(answer.seconds for answer in answers) < PROMISED
        assert sum(answer.seconds for answer in answers) < RECOVERY


@pytest.mark.timeout(200)
def test_a_leader_that_thaws_is_not_asked(cluster: Cluster, clients: Clients, record: str) -> None:
    """For a moment it believes that it leads, and does not know the latest records."""
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
