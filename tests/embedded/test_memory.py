"""The memory that PostgreSQL takes: a quarter of what it may use."""

import sys
from contextlib import closing
from pathlib import Path

import pytest

from app.embedded.memory import cgroup_limits
from tests.embedded.support import Owner, query


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


@pytest.mark.skipif(sys.platform != "linux", reason="macOS cannot limit it")
def test_limit_of_the_process_is_minded(folder: Path) -> None:
    with closing(Owner(folder, command=("sh", "-c", 'ulimit -v 1600000; exec "$@"', "sh"))) as one:
        assert query(one.line(), "SHOW shared_buffers") == "390MB"


def test_limits_of_a_control_group_and_those_above_are_found(tmp_path: Path) -> None:
    write(tmp_path / "memory.max", "max")
    write(tmp_path / "pod" / "memory.max", "400000000")
    write(tmp_path / "pod" / "container" / "memory.max", "900000000")
    assert cgroup_limits("0::/pod/container\n", tmp_path) == [400_000_000, 900_000_000]


def test_limits_of_control_groups_of_version_1_are_found(tmp_path: Path) -> None:
    write(tmp_path / "memory" / "memory.limit_in_bytes", "9223372036854771712")
    write(tmp_path / "memory" / "pod" / "memory.limit_in_bytes", "300000000")
    membership = "5:cpu,cpuacct:/pod\n4:memory:/pod\n0::/\n"
    assert cgroup_limits(membership, tmp_path) == [9_223_372_036_854_771_712, 300_000_000]


def test_limit_of_a_container_that_sees_the_path_of_its_host_is_found(tmp_path: Path) -> None:
    write(tmp_path / "memory" / "memory.limit_in_bytes", "300000000")
    assert cgroup_limits("4:memory:/docker/0123\n", tmp_path) == [300_000_000]
