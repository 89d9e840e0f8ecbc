"""Private files (mode 0600), atomic writes, file locks, and the ends of logs."""

import fcntl
import os
from pathlib import Path


def open_private(path: Path, flags: int = 0) -> int:
    """Open or create a file of mode 0600, owned by the folder's owner also if root creates it."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | flags, 0o600)
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.fchown(file, owner.st_uid, owner.st_gid)
    return file


def write_private(path: Path, text: str) -> None:
    """Replace a file; a crash leaves the old one or the new one."""
    temporary = path.with_name(f"{path.name}.tmp")
    with os.fdopen(open_private(temporary, os.O_TRUNC), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync(path.parent)


def sync(folder: Path) -> None:
    """Make the renames in a folder survive a power cut."""
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def try_lock(file: int, kind: int) -> bool:
    """Take the lock, shared or exclusive; return False if another process has it."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def tail(log: Path) -> str:
    """Return the last lines of a log."""
    return last_lines(log.read_bytes()[-4096:]) if log.exists() else "(nothing)"


def last_lines(output: bytes) -> str:
    """Return the last lines of a program's output."""
    return "\n".join(output.decode(errors="replace").splitlines()[-5:])


def full_disk(folder: Path) -> str:
    """Return the sentence for a disk that is full."""
    return (
        f"The disk of {folder} is full. Make room for PostgreSQL's data there, or set DATA_DIR to "
        "a folder on another disk."
    )
