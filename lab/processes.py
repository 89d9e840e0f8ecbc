"""Processes as Linux shows them in /proc: which are alive, who started whom, what they use."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

KB_PER_MB = 1024


def stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on: state, parent and so on.

    A process that is gone has none.
    """
    with suppress(OSError):
        # pid (name) state parent …; the name may contain anything.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


def is_alive(pid: int) -> bool:
    """Return whether the process runs; one that has ended may still be in /proc as a zombie."""
    return stat(pid)[:1] not in ([], ["Z"], ["X"])


def children(parent: int) -> list[int]:
    """Return the living processes that this one started."""
    pids = (int(path.name) for path in Path("/proc").glob("[0-9]*"))
    return [pid for pid in pids if is_alive(pid) and stat(pid)[1:2] == [str(parent)]]


def tree(pid: int) -> set[int]:
    """Return a process and its descendants."""
    started: dict[str, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        for parent in stat(int(path.name))[1:2]:
            started.setdefault(parent, []).append(int(path.name))
    found, new = {pid}, [pid]
    while new:
        new = [child for parent in new for child in started.get(str(parent), [])]
        found.update(new)
    return found


def memory(pid: int, field: str = "VmRSS") -> float:
    """Return the resident memory of a process in MB (`VmHWM`: its peak); 0 if it is gone."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return sum(int(line.split()[1]) / KB_PER_MB for line in lines if line.startswith(field))
    return 0.0


def open_files(pid: int) -> int:
    """Return the number of file descriptors of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def send(number: signal.Signals, *pids: int) -> None:
    """Send a signal to those processes that still run."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@contextmanager
def frozen(parent: int) -> Iterator[None]:
    """Stop a process and its children with SIGSTOP while inside."""
    stopped: list[int] = []
    try:
        send(signal.SIGSTOP, parent)  # Before the others, or it would start more of them.
        stopped = [parent, *children(parent)]
        send(signal.SIGSTOP, *stopped)
        yield
    finally:
        send(signal.SIGCONT, *stopped)
