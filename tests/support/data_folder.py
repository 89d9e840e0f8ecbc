"""A folder for the data of PostgreSQL, and the processes that live on it."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PATIENCE = 20.0
POLL = 0.02


@contextmanager
def data_folder() -> Iterator[Path]:
    """Name a folder that PostgreSQL's user can make; no process of it is left in the end."""
    with tempfile.TemporaryDirectory(prefix="tracker-data-") as name:
        parent = Path(name)
        parent.chmod(0o711)
        try:
            yield parent / "data"
            _wait_for_end(parent)
        finally:
            for pid in processes(parent):
                os.kill(pid, signal.SIGKILL)


def processes(folder: Path) -> dict[int, str]:
    """Return the living processes whose command line names this folder: supervisor, PostgreSQL."""
    return {pid: command for pid, command in _commands() if str(folder) in command}


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


def _wait_for_end(folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while left := processes(folder):
        assert time.monotonic() < deadline, f"orphans: {left}"
        time.sleep(POLL)
