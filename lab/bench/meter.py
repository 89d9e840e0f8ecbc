"""Processor time and memory of processes, as Linux counts them."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_TICKS = os.sysconf("SC_CLK_TCK")
_MIB = 1024


@dataclass(frozen=True)
class Time:
    """Processor time in seconds."""

    user: float
    system: float

    @property
    def total(self) -> float:
        """User and system together."""
        return self.user + self.system

    def __sub__(self, other: Self) -> "Time":
        return Time(self.user - other.user, self.system - other.system)

    def __add__(self, other: Self) -> "Time":
        return Time(self.user + other.user, self.system + other.system)


def time_of(pid: int) -> Time:
    """Return the time of a process, its descendants, and those of them that have ended.

    A parent inherits the time of a child that it has waited for, so the postmaster's accounts
    for the connections that are closed.
    """
    user = system = 0
    for fields in map(_stat, tree(pid)):
        if fields:
            user += int(fields[11]) + int(fields[13])
            system += int(fields[12]) + int(fields[14])
    return Time(user / _TICKS, system / _TICKS)


def tree(pid: int) -> set[int]:
    """Return a process and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, new = {pid}, [pid]
    while new:
        new = [child for parent in new for child in children.get(parent, [])]
        found.update(new)
    return found


def peak_memory(pid: int) -> float:
    """Return the largest resident size that the processes of a tree have had, in MiB."""
    return sum(_memory(tree(pid), "VmHWM:"))


def memory(pid: int) -> float:
    """Return the resident size of a tree of processes now, in MiB."""
    return sum(_memory(tree(pid), "VmRSS:"))


def _memory(pids: Iterable[int], field: str) -> Iterable[float]:
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue
        yield from (int(line.split()[1]) / _MIB for line in lines if line.startswith(field))


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on: the state, the parent and so on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
