"""A cluster, a stand-in for GitHub, and two replicas of the service between them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab.cluster.group import Cluster
from lab.cluster.replica import Replica
from lab.cluster.tools import Missing
from tests.support.process import GitHubProcess, github_process

REPLICAS = 2


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave these tests, which take minutes, to those who name their folder."""
    named = any("cluster" in argument for argument in config.args)
    return None if named else True


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three nodes; the tests take turns with them and leave all three well."""
    try:
        cluster = Cluster()
    except Missing as missing:
        pytest.skip(str(missing))
    with cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _well(cluster: Cluster) -> Iterator[None]:
    """Begin with a cluster that is whole, and leave none that is frozen, however a test ends."""
    cluster.wait_until(cluster.is_whole, 90, "the cluster did not recover")
    yield
    for node in cluster.nodes:
        node.thaw()


@pytest.fixture(scope="session")
def github() -> Iterator[GitHubProcess]:
    """A GitHub that makes up whatever it is asked for and has no limits."""
    with github_process("--generate") as github:
        yield github


@pytest.fixture
def replicas(
    cluster: Cluster, github: GitHubProcess, tmp_path: Path
) -> Iterator[tuple[Replica, ...]]:
    """The service, twice, each with all nodes in its DATABASE_URL, the leader first."""
    leader = cluster.leader()
    # Where the leader is frozen, every new connection waits for it in vain, if it stands first.
    nodes = sorted(cluster.nodes, key=lambda node: node is not leader)
    settings = {
        "DATABASE_URL": cluster.url(nodes=nodes),
        "GITHUB_API_URL": github.url,
        "GITHUB_TOKEN": "",
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "info",
    }
    with ExitStack() as stack:
        yield tuple(
            stack.enter_context(Replica(tmp_path / f"replica{number}.log", settings))
            for number in range(REPLICAS)
        )


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Show a line of figures, whether the test passes or not."""

    def tell(line: str) -> None:
        with capsys.disabled():
            print(f"\n    {line}", end="", flush=True)  # noqa: T201

    return tell
