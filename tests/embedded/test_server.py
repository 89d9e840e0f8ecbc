"""The server process: its log, and what an earlier server has left behind."""

import os
import subprocess
from pathlib import Path

import pytest

from app.embedded import EmbeddedPostgresError, joined
from app.embedded.cluster import free_port
from tests.embedded.support import as_owner_of, package, query
from tests.support.waiting import eventually


def test_log_does_not_grow_without_end(folder: Path) -> None:
    os.truncate(folder / "postgres.log", 5 * 1024 * 1024)
    with joined(folder):
        assert (folder / "postgres.log").stat().st_size < 10_000


def test_server_that_does_not_stay_up_gives_the_end_of_its_log(folder: Path) -> None:
    with (folder / "pgdata" / "postgresql.conf").open("a") as settings:
        settings.write("nonsense = 1\n")
    with pytest.raises(
        EmbeddedPostgresError, match=r'postgres.log ends with:\n(.*\n)*.*"nonsense"'
    ):
        joined(folder).__enter__()


def test_server_that_a_killed_supervisor_left_is_stopped(folder: Path) -> None:
    pgdata = folder / "pgdata"
    network = (f"--port={free_port()}", "--unix_socket_directories=")
    orphan = subprocess.Popen(
        [package() / "pginstall/bin/postgres", "-D", pgdata, *network],
        stderr=subprocess.DEVNULL,
        **as_owner_of(pgdata),
    )
    pid_file = pgdata / "postmaster.pid"
    eventually(lambda: pid_file.exists() and "ready" in pid_file.read_text())
    with joined(folder) as url:
        assert orphan.wait() == 0
        assert query(url, "SELECT 1") == 1


def test_stale_pid_that_now_belongs_to_another_process_is_no_obstacle(folder: Path) -> None:
    pgdata = folder / "pgdata"
    bystander = subprocess.Popen(["sleep", "60"], **as_owner_of(pgdata))
    lines = (bystander.pid, pgdata, 1_700_000_000, 5432, "", "127.0.0.1", " 1  1", "ready   ")
    try:
        (pgdata / "postmaster.pid").write_text("".join(f"{line}\n" for line in lines))
        with joined(folder) as url:
            assert query(url, "SELECT 1") == 1
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
