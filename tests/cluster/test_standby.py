"""A replica of the service on a PostgreSQL that only follows: reads for many, writes for nobody."""

import time
from uuid import uuid4

import httpx2 as httpx
import pytest

from lab.cluster.group import Cluster
from lab.github.process import GitHubProcess
from lab.service import Service, running
from tests.support.waiting import eventually, tell


@pytest.mark.timeout(120)
def test_a_replica_on_a_standby_reads_and_takes_no_writes(
    cluster: Cluster,
    replicas: tuple[Service, ...],
    github: GitHubProcess,
) -> None:
    """What the leader confirms arrives there a moment later; writes are 503."""
    leader = cluster.leader()
    standby = next(node for node in cluster.nodes if node is not leader)
    url = cluster.url(nodes=[standby]).replace("read-write", "any")
    body = {"owner": "standby", "repo_name": uuid4().hex}
    with (
        running(DATABASE_URL=url, GITHUB_API_URL=github.url) as follower,
        httpx.Client(trust_env=False, timeout=10) as client,
    ):
        tracked = client.post(f"{replicas[0].url}/repos", json=body)
        started, path = time.monotonic(), f"{follower.url}/repos/{tracked.json()['id']}"
        eventually(lambda: client.get(path).status_code != 404)
        arrived, read = time.monotonic() - started, client.get(path)
        writes = [
            client.put(path),
            client.delete(path),
            client.post(f"{follower.url}/repos", json={**body, "repo_name": uuid4().hex}),
        ]
    tell(f"a standby: a record arrives after {arrived * 1000:.0f} ms")
    assert read.json() == tracked.json()
    assert [write.status_code for write in writes] == [503] * 3
    assert {write.json()["type"] for write in writes} == {"/problems/database-unavailable"}
