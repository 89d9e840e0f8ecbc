"""What callers of the service notice when the cluster loses its leader: some 503, no loss."""

import time
from collections.abc import Callable

import pytest

from lab.cluster.group import Cluster
from lab.cluster.node import Node
from lab.cluster.replica import Replica
from tests.cluster.checks import Tell, assert_kept, commits, figures
from tests.cluster.load import Load
from tests.support.process import GitHubProcess

# Seconds in which each replica has found a leader that takes writes.
RECOVERY = 3.0

WARM_UP = 60  # Records that there have to be before something happens.

Happening = tuple[Callable[[Node], None], Callable[[Node], None]]


def _nothing(_: Node) -> None:
    """The node comes back by itself."""


HAPPENINGS: dict[str, Happening] = {
    "PostgreSQL is killed": (Node.crash, _nothing),
    "PostgreSQL and Patroni are killed": (Node.lose, Node.revive),
    "the whole node freezes": (Node.freeze, Node.thaw),
    "the leader is changed as planned": (Node.hand_over, _nothing),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("happening", HAPPENINGS)
def test_no_promise_is_broken_when(
    happening: str,
    cluster: Cluster,
    replicas: tuple[Replica, ...],
    github: GitHubProcess,
    tell: Tell,
) -> None:
    """Callers get what they ask for or a 503 in time, and find all that was confirmed."""
    strike, mend = HAPPENINGS[happening]
    with Load([replica.url for replica in replicas], github) as load:
        cluster.wait_until(lambda: len(load.promises.stars) > WARM_UP, 30, "no load came about")
        old = cluster.leader()
        assert old is not None
        struck = time.monotonic()
        strike(old)
        new = cluster.new_leader(old)
        led = time.monotonic()
        cluster.wait_until(lambda: commits(cluster, new), 60, f"{new.name} takes no writes")
        ready = time.monotonic()
        resumed = [
            _resumed(cluster, load, number, led, writes=writes)
            for number in range(len(replicas))
            for writes in (True, False)
        ]
        # Long enough for callers to notice what the first success did not mend.
        cluster.wait_until(lambda: time.monotonic() > ready + 2 * RECOVERY, 10, "time stood still")
        mend(old)
        cluster.wait_until(cluster.is_whole, 90, f"{old.name} did not come back")
        whole = time.monotonic()
        settled = len(load.promises.stars)
        cluster.wait_until(lambda: len(load.promises.stars) > settled + WARM_UP, 30, "no load")

    tell(f"{happening}: a new leader after {led - struck:.1f} s, commits at {ready - led:.1f}")
    tell(f"writes, reads of each replica at {', '.join(f'{s:.2f}' for s in resumed)} s")
    tell(f"last 503 at {load.last_refusal(after=struck) - led:.2f} s; whole {whole - struck:.1f} s")
    tell(figures(load))
    assert_kept(cluster, replicas, load)
    assert max(resumed) < ready - led + RECOVERY
    # What comes back may cost a moment; the time between then and now must not.
    assert not [a for a in load.answers if a.status == 503 and ready + RECOVERY < a.ended < whole]


def _resumed(cluster: Cluster, load: Load, number: int, led: float, *, writes: bool) -> float:
    def succeeded() -> bool:
        return load.first(number, after=led, writes=writes) is not None

    cluster.wait_until(succeeded, 45, "a replica did not find the new leader")
    return load.first(number, after=led, writes=writes) or 0.0


@pytest.mark.timeout(300)
def test_reads_go_on_while_nobody_confirms_writes(
    cluster: Cluster, replicas: tuple[Replica, ...], github: GitHubProcess, tell: Tell
) -> None:
    """The node that has to confirm writes freezes: they are 503 until another one does."""
    with Load([replica.url for replica in replicas], github) as load:
        cluster.wait_until(lambda: len(load.promises.stars) > WARM_UP, 30, "no load came about")
        leader, node = cluster.leader(), cluster.confirming()
        assert leader is not None
        struck = time.monotonic()
        node.freeze()
        time.sleep(0.5)  # Writes that are under way may still be confirmed.
        cluster.wait_until(lambda: commits(cluster, leader), 60, "nobody confirms writes")
        ready = time.monotonic()
        settled = len(load.promises.stars)
        cluster.wait_until(lambda: len(load.promises.stars) > settled + WARM_UP, 30, "no load")
        node.thaw()
        cluster.wait_until(cluster.is_whole, 90, f"{node.name} did not come back")

    tell(f"the confirming node freezes: writes again after {ready - struck:.1f} s")
    tell(f"last 503 at {load.last_refusal(after=struck) - ready:.2f} s of that")
    tell(figures(load))
    assert_kept(cluster, replicas, load)
    refused = [a for a in load.answers if a.status == 503]
    assert {a.method for a in refused} <= {"POST", "PUT", "DELETE"}
    assert not [a for a in refused if a.ended > ready + RECOVERY]
