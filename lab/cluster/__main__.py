"""`python -m lab.cluster`: a cluster and two replicas of the service, to try what they survive."""

import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType

import httpx2 as httpx

from lab.cluster.group import Cluster
from lab.cluster.node import Node
from lab.cluster.replica import NOBODY, Replica
from lab.cluster.tools import Missing

PORTS = (8001, 8002)  # Or others, where these are taken.

_LOOK_EVERY = 0.5


class Console:
    """Obeys what is typed and tells what changes."""

    def __init__(self, cluster: Cluster, replicas: list[Replica]) -> None:
        self._cluster = cluster
        self._replicas = replicas
        self._struck: dict[Node, Callable[[], None]] = {}
        self._seen: dict[str, str] = {}
        self._input = sys.stdin if sys.stdin and not sys.stdin.closed else None

    def introduce(self) -> None:
        """Say what there is and what can be tried."""
        for replica in self._replicas:
            _say(f"API         {replica.url}/repos   (Swagger UI: {replica.url}/docs)")
        for node in self._cluster.nodes:
            _say(f"{node.name}       PostgreSQL {node.ports.postgresql}, Patroni {node.ports.rest}")
        _say(f"Logs        {self._cluster.folder}")
        _say(f"PostgreSQL  psql '{self._cluster.url()}'")
        _say(
            "\nCall either API, or watch one from another terminal:\n"
            "  while sleep 0.2; do curl -s -o /dev/null -w '%{http_code} ' \\\n"
            f"    {self._replicas[0].url}{NOBODY}; done      (404 is well, 503 is not)\n"
            "Type one of these, and Enter:\n"
            "  kill    kill -9 the leader's PostgreSQL\n"
            "  lose    kill -9 the leader's PostgreSQL and Patroni\n"
            "  freeze  stop every process of the leader where it is\n"
            "  switch  let another node lead, as for a planned restart\n"
            "  mend    bring back what was lost or frozen\n"
            "Ctrl-C stops all of it and removes the data.\n"
        )

    def run(self) -> None:
        """Go on until interrupted."""
        while True:
            self._tell_changes()
            if self._input is None:
                time.sleep(_LOOK_EVERY)
            elif select.select([self._input], [], [], _LOOK_EVERY)[0]:
                if line := self._input.readline():
                    self._obey(line.strip())
                else:
                    self._input = None

    def _tell_changes(self) -> None:
        leader = self._cluster.leader()
        now = {"leader": leader.name if leader else "nobody"}
        for replica in self._replicas:
            now[replica.url] = str(replica.status() or "no answer")
        for name, state in now.items():
            if self._seen.get(name) != state:
                _say(f"{time.strftime('%H:%M:%S')}  {name}: {state}")
        self._seen = now

    def _obey(self, order: str) -> None:
        if order == "mend":
            while self._struck:
                self._struck.popitem()[1]()
            return
        orders: dict[str, Callable[[Node], None]] = {
            "kill": Node.crash,
            "lose": self._lose,
            "freeze": self._freeze,
            "switch": Node.hand_over,
        }
        leader = self._cluster.leader()
        if order not in orders:
            _say(f"Type {', '.join(orders)} or mend.")
        elif leader is None:
            _say("Nobody leads at the moment.")
        else:
            _say(f"{time.strftime('%H:%M:%S')}  {order} {leader.name}")
            try:
                orders[order](leader)
            except httpx.HTTPError as error:
                _say(f"Patroni does not do it: {error}")

    def _lose(self, node: Node) -> None:
        node.lose()
        self._struck[node] = node.revive

    def _freeze(self, node: Node) -> None:
        node.freeze()
        self._struck[node] = node.thaw


def main() -> None:
    """Serve until Ctrl-C."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with ExitStack() as stack:
            _say("Starting three nodes; the first time, their programs are fetched into .cluster/")
            cluster = stack.enter_context(Cluster())
            _say("Starting two replicas of the service")
            replicas = [
                stack.enter_context(
                    Replica(cluster.folder / f"{port}.log", {"DATABASE_URL": cluster.url()}, port)
                )
                for port in PORTS
            ]
            console = Console(cluster, replicas)
            console.introduce()
            console.run()
    except (Missing, TimeoutError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        _say("\nStopped.")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
