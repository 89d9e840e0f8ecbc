"""A replica of the service on a PostgreSQL that only follows: reads for many, writes for nobody."""

import time
from pathlib import Path
from uuid import uuid4

import httpx2 as httpx
import pytest

from lab.cluster.group import Cluster
from lab.cluster.replica import Replica
from tests.cluster.checks import Tell
from tests.support.process import GitHubProcess

PATIENCE = 10.0


@pytest.mark.timeout(120)
def test_a_replica_on_a_standby_reads_and_takes_no_writes(
    cluster: Cluster,
    replicas: tuple[Replica, ...],
    github: GitHubProcess,
    tmp_path: Path,
    tell: Tell,
) -> None:
    """What the leader confirms arrives there a moment later; writes are 503."""
    leader = cluster.leader()
    standby = next(node for node in cluster.nodes if node is not leader)
    url = cluster.url(nodes=[standby]).replace("read-write", "any")
    settings = {"DATABASE_URL": url, "GITHUB_API_URL": github.url, "LOG_FORMAT": "json"}
    body = {"owner": "standby", "repo_name": uuid4().hex}
    with (
        Replica(tmp_path / "standby.log", settings) as follower,
        httpx.Client(trust_env=False, timeout=10) as client,
    ):
        tracked = client.post(f"{replicas[0].url}/repos", json=body)
        started, path = time.monotonic(), f"{follower.url}/repos/{tracked.json()['id']}"
        while (read := client.get(path)).status_code == 404:
            assert time.monotonic() < started + PATIENCE
        arrived = time.monotonic() - started
        writes = [
            client.put(path),
            client.delete(path),
            client.post(f"{follower.url}/repos", json={**body, "repo_name": uuid4().hex}),
        ]
    tell(f"a standby: a record arrives after {arrived * 1000:.0f} ms")
    assert read.json() == tracked.json()
    assert [write.status_code for write in writes] == [503] * 3
    assert {write.json()["type"] for write in writes} == {"/problems/database-unavailable"}
