"""Files that are nobody else's business, and locks on them."""

import fcntl
import os
from pathlib import Path


def open_private(path: Path, flags: int = 0) -> int:
    """Open or make a file of 0600 that belongs to whom the folder belongs, even to a guest root."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | flags, 0o600)
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.fchown(file, owner.st_uid, owner.st_gid)
    return file


def write_private(path: Path, text: str) -> None:
    """Write a file so that a crash leaves the old or the new one."""
    temporary = path.with_name(f"{path.name}.tmp")
    with os.fdopen(open_private(temporary, os.O_TRUNC), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync(path.parent)


def sync(folder: Path) -> None:
    """Make renames in a folder survive a power cut."""
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def try_lock(file: int, kind: int) -> bool:
    """Take the lock, shared or exclusive, unless somebody else has it."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def tail(log: Path) -> str:
    """Return the end of a log."""
    return last_lines(log.read_bytes()[-4096:]) if log.exists() else "(nothing)"


def last_lines(output: bytes) -> str:
    """Return the end of what a program wrote."""
    return "\n".join(output.decode(errors="replace").splitlines()[-5:])
