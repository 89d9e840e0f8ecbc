"""The memory that PostgreSQL may use."""

import os
import resource
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def shared_buffers_option() -> str:
    """Return a quarter of the memory for PostgreSQL's own cache, as its manual advises.

    The cache uses memory as it fills; two gigabytes hold ten million records and their index.
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limits.append(soft)
    if (membership := Path("/proc/self/cgroup")).exists():
        limits += cgroup_limits(membership.read_text(), _CGROUPS)
    return f"--shared_buffers={min(*limits, 2**33) // 4 // 2**20}MB"


def cgroup_limits(membership: str, root: Path) -> list[int]:
    """Return the memory limits of control groups and of those above them, in bytes.

    `membership` is what Linux writes to /proc/self/cgroup (cgroups(7)): a line of version 2 names
    no controller. In a container its path may be that on the host, which does not exist here.
    """
    limits = []
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            top, name = root / "memory", "memory.limit_in_bytes"
        else:
            top, name = root, "memory.max"
        parts = Path(path).parts[1:]
        for depth in range(len(parts) + 1):
            limit = top.joinpath(*parts[:depth], name)
            if limit.exists() and (text := limit.read_text().strip()).isdigit():
                limits.append(int(text))
    return limits
