"""Child processes: the user they run as, their environment, and their end."""

import ctypes
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.embedded.errors import EmbeddedPostgresError


def unprivileged_user(folder: Path, pgdata: Path) -> tuple[int, int] | None:
    """Return who runs PostgreSQL if we are root: the owner of the data, else nobody (uid, gid).

    Let that user enter `folder`. Raises EmbeddedPostgresError if a folder above it is closed.
    """
    if os.geteuid() != 0:
        return None
    owner = (pgdata if pgdata.exists() else folder).stat()
    user = (owner.st_uid, owner.st_gid) if owner.st_uid else _nobody()
    enter = ("/bin/sh", "-c", 'cd "$0"', folder)
    if not succeeds_as(user, *enter):
        folder.chmod(folder.stat().st_mode | 0o001)
    if not succeeds_as(user, *enter):
        raise EmbeddedPostgresError(
            f"PostgreSQL refuses to run as root, and no other user can enter {folder}. "
            "Set DATA_DIR to a folder that other users can enter, such as "
            "/var/lib/github-repository-tracker, or start the service as an ordinary user."
        )
    return user


def _nobody() -> tuple[int, int]:
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:  # A container without a list of users; the kernel's own number for nobody.
        return 65534, 65534
    return nobody.pw_uid, nobody.pw_gid


def require_name(user: tuple[int, int] | None) -> None:
    """Raise EmbeddedPostgresError if the user, by default ours, has no name: initdb asks for it."""
    uid = user[0] if user else os.geteuid()
    try:
        pwd.getpwuid(uid)
    except KeyError:
        raise EmbeddedPostgresError(
            f"PostgreSQL's data cannot be created by user {uid}, who has no entry in /etc/passwd. "
            "Start the service as a user who has one, or set DATABASE_URL."
        ) from None


def succeeds_as(user: tuple[int, int], *command: str | Path) -> bool:
    """Return whether the command succeeds for this user: mode bits do not show what ACLs allow."""
    try:
        done = subprocess.run(
            command, cwd="/", env=environment(), capture_output=True, check=False, **as_user(user)
        )
    except OSError:
        return False
    return done.returncode == 0


def as_user(user: tuple[int, int] | None) -> dict[str, Any]:
    """Return the options of `subprocess` that start a child as this user (uid, gid)."""
    return {"user": user[0], "group": user[1], "extra_groups": []} if user else {}


def die_with_parent() -> Callable[[], None] | None:
    """Return what makes Linux interrupt a child when its parent thread ends; macOS has no way."""
    if sys.platform != "linux":
        return None
    prctl, parent, set_death_signal = ctypes.CDLL(None).prctl, os.getpid(), 1

    def in_child() -> None:
        prctl(set_death_signal, signal.SIGINT)
        if os.getppid() != parent:
            os._exit(1)

    return in_child


def environment() -> dict[str, str]:
    """Return the variables that children need; the others may be secrets."""
    names = ("PATH", "HOME", "TMPDIR", "TZ", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in names if name in os.environ}
