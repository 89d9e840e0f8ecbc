"""One machine of the cluster: an etcd, a Patroni, and the PostgreSQL that Patroni runs."""

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2 as httpx

from app.embedded.cluster import free_port
from lab.cluster.tools import Tools
from lab.processes import children, is_alive, send

Configuration = dict[str, Any]

_POLL = 0.02


@dataclass(frozen=True)
class Ports:
    """Where a node listens, always on loopback."""

    postgresql: int = field(default_factory=free_port)
    rest: int = field(default_factory=free_port)
    etcd: int = field(default_factory=free_port)
    etcd_peer: int = field(default_factory=free_port)


class Node:
    """A machine that can crash, be lost, and freeze."""

    def __init__(self, name: str, folder: Path, tools: Tools) -> None:
        self.name = name
        self.folder = folder / name
        self.ports = Ports()
        self._tools = tools
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        # Node processes are on loopback: no proxy stands between.
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{self.ports.rest}", timeout=1, trust_env=False
        )
        self.folder.mkdir(mode=0o755)
        if tools.user:
            os.chown(self.folder, *tools.user)

    @property
    def data(self) -> Path:
        """The folder of PostgreSQL's data."""
        return self.folder / "data"

    def start_etcd(self, members: str) -> None:
        """Start the node's etcd; only from the main thread, see `detached`."""
        client = f"http://127.0.0.1:{self.ports.etcd}"
        peer = f"http://127.0.0.1:{self.ports.etcd_peer}"
        options = {
            "name": self.name,
            "data-dir": self.folder / "etcd",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": members,
            "initial-cluster-state": "new",
            # Longer than by default, because all nodes share one machine here.
            "heartbeat-interval": 200,
            "election-timeout": 2000,
        }
        arguments = [f"--{name}={value}" for name, value in options.items()]
        self._start("etcd", [str(self._tools.etcd()), *arguments], {})

    def start_patroni(self, configuration: Configuration) -> None:
        """Start Patroni, which makes or joins the cluster and runs PostgreSQL."""
        path = self.folder / "patroni.json"  # JSON is YAML, which Patroni reads.
        path.touch(mode=0o600)
        path.write_text(json.dumps(configuration, indent=1))
        if self._tools.user:
            os.chown(path, *self._tools.user)
        self.revive()

    def revive(self) -> None:
        """Start Patroni, also after it was killed."""
        command, environment = self._tools.patroni()
        arguments = [*command, str(self.folder / "patroni.json")]
        self._start("patroni", arguments, environment)

    def _start(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(  # noqa: S603
                command,
                env=environment,
                stdout=log,
                stderr=log,
                **self._tools.options(),
            )

    def leads(self) -> bool:
        """Return whether Patroni says that this node is the leader."""
        with suppress(httpx.HTTPError):
            return self._http.get("/primary").status_code == httpx.codes.OK
        return False

    def members(self) -> list[dict[str, Any]]:
        """Return what Patroni says of all members, or nothing if it does not answer."""
        with suppress(httpx.HTTPError, ValueError, KeyError):
            members: list[dict[str, Any]] = self._http.get("/cluster").json()["members"]
            return members
        return []

    def hand_over(self) -> None:
        """Ask Patroni for a planned change of the leader, which this node is."""
        order = {"leader": self.name}
        self._http.post("/switchover", json=order, timeout=60).raise_for_status()

    def crash(self) -> None:
        """Kill PostgreSQL, as the kernel does when memory is short."""
        send(signal.SIGKILL, *self._postgresql())

    def lose(self) -> None:
        """Kill PostgreSQL and Patroni, as if the machine were gone."""
        self._processes["patroni"].kill()
        self.crash()
        self._processes["patroni"].wait()

    def freeze(self) -> None:
        """Stop every process with SIGSTOP; the kernel still accepts connections."""
        send(signal.SIGSTOP, *self._all())

    def thaw(self) -> None:
        """Let a frozen node go on."""
        send(signal.SIGCONT, *self._all())

    def stop(self) -> None:
        """End all processes at once, without care for the data."""
        self._http.close()
        for process in self._processes.values():
            process.kill()
            process.wait()
        pids = self._postgresql()
        # Not SIGKILL at first: PostgreSQL gives its shared memory back.
        for number, patience in ((signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
            send(number, *pids)
            send(signal.SIGCONT, *pids)
            deadline = time.monotonic() + patience
            while any(map(is_alive, pids)) and time.monotonic() < deadline:
                time.sleep(_POLL)

    def _all(self) -> list[int]:
        """Return the pids of the node, those that start others first."""
        running = [process.pid for process in self._processes.values() if process.poll() is None]
        return [*running, *self._postgresql()]

    def _postgresql(self) -> list[int]:
        """Return the pids of PostgreSQL, the one that starts the others first."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return []
        return [pid, *children(pid)] if os.fsencode(self.data) in arguments else []
