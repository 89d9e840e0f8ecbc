"""What a serving process does to itself: its streams, its limits, its parent, its memory."""

import gc
import os
import signal
import threading
from contextlib import suppress
from multiprocessing import parent_process

STDOUT, STDERR = 1, 2
# Each connection is an open file.
MOST_FILES = 10_240


def open_standard_streams() -> None:
    """Connect each standard stream that is closed to the null device.

    Otherwise the next file or connection would get the number of that stream, and receive what
    libraries and child processes write to it.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        os.set_inheritable(number, True)  # noqa: FBT003  (It takes no keyword.)
    os.close(number)


def allow_many_connections() -> None:
    """Raise the soft limit on open files, 256 or 1,024 on most machines, as far as is allowed."""
    with suppress(ImportError, OSError, ValueError):
        import resource  # noqa: PLC0415  (Windows has none.)

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def end_with_parent() -> None:
    """Stop this worker when the process that started it is killed, so that it frees its port."""
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def freeze_imports_for_gc() -> None:
    """Keep what was imported out of every garbage collection, and collect less often.

    A trick for speed: requests make and drop thousands of objects a second, and each collection
    would look through all the modules too; that is a third of a request's cost. Only the first
    call in a process does it.
    """
    if gc.get_freeze_count():
        return
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
