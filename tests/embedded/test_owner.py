"""Owners: they share one server, wait until it is ready, and the last of them stops it."""

import fcntl
import json
import os
import signal
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.embedded import EmbeddedPostgresError, joined
from app.embedded.cluster import free_port
from tests.embedded.support import (
    Owner,
    answers,
    assert_one_server,
    owner,
    query,
    server,
    stopped,
)
from tests.support.data_folder import processes
from tests.support.waiting import eventually


def test_joining_a_running_server_takes_no_time(running: tuple[Path, str]) -> None:
    folder, url = running
    took = []
    for _ in range(5):
        started = time.monotonic()
        with joined(folder) as same:
            assert same == url
        took.append(time.monotonic() - started)
    # The machine may be busy with something else, but not each time.
    assert min(took) < 0.5


def test_two_owners_share_one_server_and_the_last_stops_it(folder: Path) -> None:
    with ExitStack() as stack:
        first, second = owner(stack, folder), owner(stack, folder)
        assert first.line() == (url := second.line())
        assert_one_server(folder)
        before = server(folder)
        first.close()
        assert answers(url)
        assert server(folder) == before
        second.close()
        eventually(lambda: stopped(folder))
        assert not (folder / "server.json").exists()


def test_ten_owners_at_once_on_an_empty_folder_get_one_server(empty_folder: Path) -> None:
    with ExitStack() as stack:
        owners = [owner(stack, empty_folder) for _ in range(10)]
        assert len({one.line() for one in owners}) == 1
        assert_one_server(empty_folder)


def test_leaving_ends_the_watching_thread(folder: Path) -> None:
    before = set(threading.enumerate())
    with ExitStack() as stack:
        url = owner(stack, folder).line()
        with joined(folder) as same:
            assert same == url
        assert answers(url)
    eventually(lambda: set(threading.enumerate()) <= before)


def test_rows_and_url_survive_leaving_and_joining_again(folder: Path) -> None:
    with joined(folder) as url:
        query(url, "CREATE TABLE kept AS SELECT 42 AS n")
    for _ in range(3):
        with joined(folder) as again:
            assert again == url
            assert query(url, "SELECT n FROM kept") == 42
    eventually(lambda: stopped(folder))
    with joined(folder) as at_last:
        assert at_last == url


def test_owner_that_arrives_while_the_server_stops_gets_a_new_one(folder: Path) -> None:
    with ExitStack() as stack:
        first = owner(stack, folder)
        url, before = first.line(), server(folder)
        os.kill(before["postgres"], signal.SIGSTOP)
        first.close()
        eventually(lambda: not server(folder))  # The shutdown has begun and cannot go on.
        second = owner(stack, folder)
        eventually(lambda: "owners.lock" in names_open_by(second.process.pid, folder))
        assert before["postgres"] in processes(folder)
        os.kill(before["postgres"], signal.SIGCONT)
        assert second.line() == url
        assert answers(url)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_that_ends_the_owner_leaves_nothing(folder: Path, number: signal.Signals) -> None:
    one = Owner(folder)
    one.line()
    one.end(number)
    eventually(lambda: stopped(folder))
    assert not (folder / "pgdata" / "postmaster.pid").exists()


def test_sigkill_of_the_writing_owner_loses_no_acknowledged_row(folder: Path) -> None:
    one = Owner(folder, "writing")
    while one.line() != "200":
        pass
    acknowledged = [200, *map(int, one.end(signal.SIGKILL).splitlines()[:-1])][-1]
    eventually(lambda: stopped(folder))
    with joined(folder) as url:
        count = query(url, "SELECT count(*) FROM written")
        assert isinstance(count, int)
        assert count > acknowledged


@pytest.mark.parametrize("supervisor", ["was killed", "is being killed"])
def test_url_without_a_server_is_not_believed(empty_folder: Path, supervisor: str) -> None:
    """The lock of a supervisor that is being killed can outlive the server."""
    empty_folder.mkdir()
    published = empty_folder / "server.json"
    published.write_text(json.dumps({"url": f"postgresql://127.0.0.1:{free_port()}/gone"}))
    with published.open() as file, (empty_folder / "supervisor.lock").open("w") as starting:
        if supervisor == "is being killed":
            fcntl.flock(file, fcntl.LOCK_EX)
        fcntl.flock(starting, fcntl.LOCK_EX)
        with pytest.raises(EmbeddedPostgresError, match="not ready after 0 s"):
            joined(empty_folder, patience=0.1).__enter__()


def test_folder_that_cannot_be_made_gives_a_sentence(empty_folder: Path) -> None:
    empty_folder.write_text("a file")
    with pytest.raises(EmbeddedPostgresError, match=r"cannot be used .* Set DATA_DIR"):
        joined(empty_folder / "data").__enter__()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_is_not_writable_gives_a_sentence(empty_folder: Path) -> None:
    empty_folder.mkdir(mode=0o500)
    with pytest.raises(EmbeddedPostgresError, match=r"cannot be used .* Set DATA_DIR"):
        joined(empty_folder).__enter__()


def names_open_by(pid: int, folder: Path) -> set[str]:
    """Return which files of the folder a process has open (Linux; elsewhere those that matter)."""
    if not Path("/proc/self").exists():
        return {"owners.lock"}
    try:
        links = [link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir()]
    except FileNotFoundError:
        return set()
    return {link.name for link in links if link.parent == folder}
