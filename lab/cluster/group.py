"""Three nodes that replicate one database."""

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from lab.cluster.node import Node
from lab.cluster.patroni import Passwords, configuration
from lab.cluster.tools import Tools

NODES = 3
_WELL = ("running", "streaming")
DATABASE = "tracker"

_POLL = 0.05


class Cluster:
    """Runs the nodes while inside. Raises tools.Missing if a program cannot be fetched."""

    def __init__(self) -> None:
        self._tools = Tools()
        self._tools.etcd()
        self._tools.patroni()
        self._passwords = Passwords()
        self.nodes: list[Node] = []

    def __enter__(self) -> Self:
        """Start the cluster and wait until all nodes replicate."""
        self.folder = Path(tempfile.mkdtemp(prefix="tracker-cluster-"))
        self.folder.chmod(0o711)
        names = [f"node{number}" for number in range(1, NODES + 1)]
        self.nodes = [Node(name, self.folder, self._tools) for name in names]
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """End every process and remove the data."""
        for node in self.nodes:
            node.stop()
        shutil.rmtree(self.folder)

    def _start(self) -> None:
        members = ",".join(f"{n.name}=http://127.0.0.1:{n.ports.etcd_peer}" for n in self.nodes)
        for node in self.nodes:
            node.start_etcd(members)
        programs = str(self._tools.postgresql)
        for node in self.nodes:
            node.start_patroni(configuration(node, self.nodes, self._passwords, programs))
        self.wait_until(self.is_whole, 60, "the cluster did not start")
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")

    def url(self, database: str = DATABASE, nodes: list[Node] | None = None) -> str:
        """Return the URL that names all nodes and asks for the one that accepts writes."""
        hosts = ",".join(f"127.0.0.1:{node.ports.postgresql}" for node in nodes or self.nodes)
        password = self._passwords.superuser
        return (
            f"postgresql://postgres:{password}@{hosts}/{database}?target_session_attrs=read-write"
        )

    def leader(self, *, other_than: Node | None = None) -> Node | None:
        """Return the node that reports that it leads."""
        return next((n for n in self.nodes if n is not other_than and n.leads()), None)

    def new_leader(self, old: Node, patience: float = 60) -> Node:
        """Wait until another node leads."""
        found: list[Node] = []

        def look() -> bool:
            found.extend(filter(None, [self.leader(other_than=old)]))
            return bool(found)

        self.wait_until(look, patience, f"nobody took the lead from {old.name}")
        return found[0]

    def is_whole(self) -> bool:
        """Return whether all nodes agree that one leads, one confirms and one follows.

        A node that has just come back reports what it knew before for a while.
        """
        said = [node.members() for node in self.nodes]
        roles = [
            {member["name"]: member["role"] for member in members if member.get("state") in _WELL}
            for members in said
        ]
        leaders = [node.name for node in self.nodes if node.leads()]
        return (
            all(role == roles[0] for role in roles)
            and sorted(roles[0].values()) == ["leader", "replica", "sync_standby"]
            and [name for name, role in roles[0].items() if role == "leader"] == leaders
        )

    def confirming(self) -> Node:
        """Return the node without which the leader confirms no write."""
        names = [m["name"] for n in self.nodes for m in n.members() if m["role"] == "sync_standby"]
        return next(node for node in self.nodes if node.name in names)

    def wait_until(self, condition: Callable[[], bool], patience: float, failure: str) -> None:
        """Wait for a condition; raises TimeoutError with the sentence and where the logs are."""
        deadline = time.monotonic() + patience
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"After {patience:.0f} s {failure}: see {self.folder}/*/*.log")
            time.sleep(_POLL)
