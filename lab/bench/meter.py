"""Processor time and memory of processes, as Linux counts them."""

import os
from dataclasses import dataclass
from typing import Self

from lab import processes

_TICKS = os.sysconf("SC_CLK_TCK")


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
    for fields in map(processes.stat, processes.tree(pid)):
        if fields:
            user += int(fields[11]) + int(fields[13])
            system += int(fields[12]) + int(fields[14])
    return Time(user / _TICKS, system / _TICKS)


def peak_memory(pid: int) -> float:
    """Return the sum of the peaks of resident memory in a tree of processes, in MiB."""
    return sum(processes.memory(each, "VmHWM") for each in processes.tree(pid))


def memory(pid: int) -> float:
    """Return the resident memory of a tree of processes now, in MiB."""
    return sum(map(processes.memory, processes.tree(pid)))
