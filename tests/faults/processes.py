"""Processes as the kernel sees them: who they are, what they hold, and how they are stopped."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Worker:
    """The process that serves, as the kernel sees it."""

    pid: int

    @property
    def memory(self) -> float:
        """Its resident memory in MB."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    @property
    def files(self) -> int:
        """How many file descriptors it has."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended may still wait for its parent's notice."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def children(parent: int) -> list[int]:
    """Return the processes that this one started and that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # pid (name) state parent …; the name may hold anything.
            state, mother = path.read_text().rpartition(")")[2].split()[:2]
            if int(mother) == parent and state not in "ZX":
                found.append(int(path.parent.name))
    return found


@contextmanager
def frozen(parent: int) -> Iterator[None]:
    """Stop a process, and those that it started, where they are while inside."""
    stopped: list[int] = []
    try:
        send(signal.SIGSTOP, parent)  # Before the others, or it would start more of them.
        stopped = [parent, *children(parent)]
        send(signal.SIGSTOP, *stopped)
        yield
    finally:
        send(signal.SIGCONT, *stopped)


def send(number: signal.Signals, *pids: int) -> None:
    """Send a signal to those that still run."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
