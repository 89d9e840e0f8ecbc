"""A folder for the data of PostgreSQL, and the processes that use it."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.waiting import eventually


@contextmanager
def data_folder() -> Iterator[Path]:
    """Yield a path for the data of PostgreSQL's user; fail if a process of it remains."""
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
