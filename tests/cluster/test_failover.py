"""What callers of the service notice when the cluster loses its leader: some 503, no loss."""

import time
from collections.abc import Callable

import pytest

from lab.cluster.group import Cluster
from lab.cluster.node import Node
from lab.github.process import GitHubProcess
from lab.service import Service
from tests.cluster.checks import RECOVERY, assert_kept, commits
from tests.support.load import Load
from tests.support.waiting import tell

# Requests of each kind after which a replica counts as recovered.
RECOVERED = 20

Event = tuple[Callable[[Node], None], Callable[[Node], None]]


def _nothing(_: Node) -> None:
    """The node comes back by itself."""


EVENTS: dict[str, Event] = {
    "PostgreSQL is killed": (Node.crash, _nothing),
    "PostgreSQL and Patroni are killed": (Node.lose, Node.revive),
    "the whole node freezes": (Node.freeze, Node.thaw),
    "the leader is changed as planned": (Node.hand_over, _nothing),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("event", EVENTS)
def test_no_promise_is_broken_when(
    event: str,
    cluster: Cluster,
    replicas: tuple[Service, ...],
    github: GitHubProcess,
) -> None:
    """Callers get what they ask for or a 503 in time, and find all that was confirmed."""
    disturb, restore = EVENTS[event]
    with Load([replica.url for replica in replicas], github.url) as load:
        old = cluster.leader()
        assert old is not None
        disturbed = time.monotonic()
        disturb(old)
        new = cluster.new_leader(old)
        led = time.monotonic()
        cluster.wait_until(lambda: commits(cluster, new), 60, f"{new.name} takes no writes")
        ready = time.monotonic()
        resumed = [
            _resumed(cluster, load, replica.url, led, writes=writes)
            for replica in replicas
            for writes in (True, False)
        ]
        # Callers may notice later what the first success does not show.
        cluster.wait_until(load.served(RECOVERED), 60, "a replica did not recover")
        restore(old)
        cluster.wait_until(cluster.is_whole, 90, f"{old.name} did not come back")
        whole = time.monotonic()
        cluster.wait_until(load.served(RECOVERED), 60, "a replica did not recover")

    tell(f"{event}: a new leader after {led - disturbed:.1f} s, commits at {ready - led:.1f}")
    tell(f"writes, reads of each replica at {', '.join(f'{s:.2f}' for s in resumed)} s")
    tell(f"last 503 at {load.recovery(led):.2f} s; whole {whole - disturbed:.1f} s")
    tell(load)
    assert_kept(cluster, replicas, load)
    assert max(resumed) < ready - led + RECOVERY
    # The node that comes back may cost a moment, but not the time between both recoveries.
    assert not [a for a in load.answers if a.status == 503 and ready + RECOVERY < a.ended < whole]


def _resumed(cluster: Cluster, load: Load, url: str, led: float, *, writes: bool) -> float:
    def succeeded() -> bool:
        return load.first_success(url, after=led, writes=writes) is not None

    cluster.wait_until(succeeded, 45, "a replica did not find the new leader")
    return load.first_success(url, after=led, writes=writes) or 0.0


@pytest.mark.timeout(300)
def test_reads_go_on_while_nobody_confirms_writes(
    cluster: Cluster, replicas: tuple[Service, ...], github: GitHubProcess
) -> None:
    """The node that has to confirm writes freezes: they are 503 until another one does."""
    with Load([replica.url for replica in replicas], github.url) as load:
        leader, node = cluster.leader(), cluster.confirming()
        assert leader is not None
        disturbed = time.monotonic()
        node.freeze()
        cluster.wait_until(load.refused(1), 30, "writes were not refused")
        cluster.wait_until(lambda: commits(cluster, leader), 60, "nobody confirms writes")
        ready = time.monotonic()
        cluster.wait_until(load.served(RECOVERED), 60, "a replica did not recover")
        node.thaw()
        cluster.wait_until(cluster.is_whole, 90, f"{node.name} did not come back")

    tell(f"the confirming node freezes: writes again after {ready - disturbed:.1f} s")
    tell(f"last 503 at {load.recovery(ready):.2f} s of that")
    tell(load)
    assert_kept(cluster, replicas, load)
    refused = [a for a in load.answers if a.status == 503]
    assert {a.method for a in refused} <= {"POST", "PUT", "DELETE"}
    assert not [a for a in refused if a.ended > ready + RECOVERY]
