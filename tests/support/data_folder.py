"""A folder for the data of PostgreSQL, and the processes that live on it."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PATIENCE = 20.0
POLL = 0.01


@contextmanager
def data_folder() -> Iterator[Path]:
    """Name a folder that PostgreSQL's user can make; no process of it may outlive its use."""
    with tempfile.TemporaryDirectory(prefix="tracker-data-") as name:
        parent = Path(name)
        parent.chmod(0o711)
        try:
            yield parent / "data"
            eventually(lambda: not processes(parent), lambda: f"orphans: {processes(parent)}")
        finally:
            for pid in processes(parent):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def processes(folder: Path, *words: str) -> dict[int, str]:
    """Return the living processes whose command line names this folder, and all the words."""
    wanted = (str(folder), *words)
    return {pid: command for pid, command in _commands() if all(w in command for w in wanted)}


def eventually(
    condition: Callable[[], object],
    otherwise: Callable[[], str] = lambda: "it did not happen in time",
) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(POLL)


def _commands() -> Iterator[tuple[int, str]]:
    if Path("/proc/self").exists():
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                yield int(entry.name), words.decode(errors="replace")
    else:
        rows = subprocess.check_output(["ps", "-axww", "-o", "pid=,command="], text=True)
        for row in rows.splitlines():
            pid, command = row.split(None, 1)
            yield int(pid), command
