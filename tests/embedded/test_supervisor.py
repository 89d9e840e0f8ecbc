"""The supervisor: what it survives, and what survives it."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import psycopg
import pytest

from app import PROJECT_DIR
from app.embedded import EmbeddedPostgresError, joined
from tests.embedded.support import (
    Owner,
    answers,
    assert_one_server,
    needs_root,
    owner,
    query,
    server,
    stopped,
)
from tests.support.data_folder import processes
from tests.support.waiting import eventually


def test_second_supervisor_exits_quietly(running: tuple[Path, str]) -> None:
    folder, url = running
    command = [sys.executable, "-m", "app.embedded", str(folder)]
    done = subprocess.run(command, cwd=PROJECT_DIR, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert answers(url)


def test_sigkill_of_owner_and_supervisor_and_server_loses_nothing(folder: Path) -> None:
    one = Owner(folder, "writing")
    while one.line() != "200":
        pass
    os.kill(one.process.pid, signal.SIGSTOP)  # It must not start another supervisor.
    for pid in server(folder).values():
        os.kill(pid, signal.SIGKILL)
    one.end(signal.SIGKILL)
    eventually(lambda: stopped(folder))
    with joined(folder) as url:
        count = query(url, "SELECT count(*) FROM written")
        assert isinstance(count, int)
        assert count > 200


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's parent-death signal")
def test_sigkill_of_owner_and_supervisor_leaves_nothing(folder: Path) -> None:
    one = Owner(folder)
    one.line()
    os.kill(one.process.pid, signal.SIGSTOP)  # It must not start another supervisor.
    os.kill(server(folder)["supervisor"], signal.SIGKILL)
    one.end(signal.SIGKILL)
    eventually(lambda: stopped(folder))


def test_killed_server_comes_back_on_the_same_url(folder: Path) -> None:
    with joined(folder) as url:
        query(url, "CREATE TABLE kept AS SELECT 42 AS n")
        before = server(folder)
        os.kill(before["postgres"], signal.SIGKILL)
        eventually(lambda: server(folder) not in ({}, before))
        assert query(url, "SELECT n FROM kept") == 42
        assert server(folder)["supervisor"] == before["supervisor"]


def test_url_that_cannot_be_written_is_published_as_soon_as_it_can(folder: Path) -> None:
    """As on a full disk; owners that know the URL are served meanwhile."""
    with joined(folder) as url:
        before = server(folder)
        obstacle = folder / "server.json.tmp"
        obstacle.mkdir()
        os.kill(before["postgres"], signal.SIGKILL)
        eventually(lambda: answers(url))
        obstacle.rmdir()
        eventually(lambda: server(folder) not in ({}, before))
        assert server(folder)["supervisor"] == before["supervisor"]


def test_killed_server_waits_for_its_busy_backend(folder: Path) -> None:
    with joined(folder) as url, psycopg.connect(url) as busy:
        loop = threading.Thread(
            target=run_into_the_end, args=[busy, "DO 'BEGIN LOOP END LOOP; END'"]
        )
        loop.start()
        eventually(lambda: query(url, "SELECT count(*) FROM pg_stat_activity WHERE query ^@ 'DO'"))
        before = server(folder)
        os.kill(before["postgres"], signal.SIGKILL)
        refused = "pre-existing shared memory block"
        eventually(lambda: (folder / "postgres.log").read_text().count(refused) > 12)
        os.kill(busy.info.backend_pid, signal.SIGKILL)
        loop.join()
        eventually(lambda: answers(url) and server(folder))
        assert server(folder)["supervisor"] == before["supervisor"]


def run_into_the_end(connection: psycopg.Connection, sql: str) -> None:
    with pytest.raises(psycopg.OperationalError):
        connection.execute(sql)


def test_killed_supervisor_is_replaced_by_one_on_the_same_url(folder: Path) -> None:
    with ExitStack() as stack:
        owners = [owner(stack, folder) for _ in range(3)]
        (url,) = {one.line() for one in owners}
        for _ in range(2):
            before = server(folder)
            os.kill(before["supervisor"], signal.SIGKILL)
            eventually(lambda: server(folder) not in ({}, before))  # noqa: B023
            assert query(url, "SELECT 1") == 1
            assert_one_server(folder)
        # The owner that started it has reaped it.
        assert before["supervisor"] not in processes(folder)


def test_terminated_supervisor_is_replaced_while_there_are_owners(folder: Path) -> None:
    with joined(folder) as url:
        before = server(folder)
        os.kill(before["supervisor"], signal.SIGTERM)
        eventually(lambda: server(folder) not in ({}, before))
        assert query(url, "SELECT 1") == 1


@needs_root
def test_full_disk_gives_a_sentence(folder: Path) -> None:
    disk = folder.with_name("disk")
    disk.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", "size=64m,mode=711", "tmpfs", disk)
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("nobody here may mount a file system, so no disk can be filled up")
    try:
        subprocess.run(["cp", "-a", folder, disk / "data"], check=True)
        with suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(1024))
        with pytest.raises(EmbeddedPostgresError, match=r"The disk of .*/disk/data is full"):
            joined(disk / "data").__enter__()
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
