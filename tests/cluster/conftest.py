"""A cluster, a stand-in for GitHub, and two replicas of the service between them."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab.cluster.group import Cluster
from lab.cluster.tools import Missing
from lab.github.process import GitHubProcess, github_process
from lab.service import Service, running

REPLICAS = 2


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave these tests, which take minutes, out unless their folder is named."""
    named = any("cluster" in argument for argument in config.args)
    return None if named else True


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three nodes, which each test leaves running."""
    try:
        cluster = Cluster()
    except Missing as missing:
        pytest.skip(str(missing))
    with cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _well(cluster: Cluster) -> Iterator[None]:
    """Begin with a cluster that is whole, and leave no node frozen, however a test ends."""
    cluster.wait_until(cluster.is_whole, 90, "the cluster did not recover")
    yield
    for node in cluster.nodes:
        node.thaw()


@pytest.fixture(scope="session")
def github() -> Iterator[GitHubProcess]:
    """A GitHub that has every repository, and no limits."""
    with github_process("--generate") as github:
        yield github


@pytest.fixture
def replicas(cluster: Cluster, github: GitHubProcess) -> Iterator[tuple[Service, ...]]:
    """The service, twice, each with all nodes in its DATABASE_URL, the leader first."""
    leader = cluster.leader()
    # If the leader stands first and freezes, every new connection waits for it before the others.
    nodes = sorted(cluster.nodes, key=lambda node: node is not leader)
    settings = {"DATABASE_URL": cluster.url(nodes=nodes), "GITHUB_API_URL": github.url}
    with ExitStack() as stack:
        yield tuple(stack.enter_context(running(**settings)) for _ in range(REPLICAS))
