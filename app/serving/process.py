"""What a serving process does to itself: it ends with its parent, and collects garbage less."""

import gc
import os
import signal
import threading
from multiprocessing import parent_process


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
