"""The cluster of a data folder: created once, with a password and a port that it keeps."""

import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from app.embedded import EmbeddedPostgresError, joined
from app.embedded.cluster import free_port
from tests.embedded.support import OWNER, Owner, answers, assert_one_server, query, stopped
from tests.support.data_folder import processes
from tests.support.waiting import eventually


def test_database_is_utf8_durable_and_the_same_on_every_machine(running: tuple[Path, str]) -> None:
    _, url = running
    assert query(url, "SELECT lower('ÉÖ')") == "éö"
    for setting, value in {
        "server_encoding": "UTF8",
        "data_checksums": "on",
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
    }.items():
        assert query(url, f"SHOW {setting}") == value


def test_wrong_password_is_refused(running: tuple[Path, str]) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(running[1], password="wrong")  # noqa: S106


def test_lost_connection_file_gets_a_new_password(folder: Path) -> None:
    password = (folder / "connection.json").read_text()
    (folder / "connection.json").unlink()
    with joined(folder) as url:
        assert answers(url)
        assert password not in (folder / "connection.json").read_text()


@pytest.mark.parametrize("content", ["{", "{}"])
def test_damaged_connection_file_gives_a_sentence(folder: Path, content: str) -> None:
    (folder / "connection.json").write_text(content)
    with pytest.raises(EmbeddedPostgresError, match=r"connection.json is damaged. Remove it; "):
        joined(folder).__enter__()


def test_data_of_another_major_version_gives_a_sentence(folder: Path) -> None:
    (folder / "pgdata" / "PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedPostgresError, match=r"by PostgreSQL 16, and PostgreSQL 18 cannot"):
        joined(folder).__enter__()


def test_port_that_another_program_took_is_given_up(folder: Path) -> None:
    with joined(folder) as first:
        port = int(str(conninfo_to_dict(first)["port"]))
    eventually(lambda: stopped(folder))
    with socket.create_server(("127.0.0.1", port)), joined(folder) as second:
        assert second != first
        assert answers(second)


def test_port_that_is_released_a_moment_later_is_kept() -> None:
    with ThreadPoolExecutor() as executor:
        with socket.create_server(("127.0.0.1", 0)) as previous:
            port = previous.getsockname()[1]
            choice = executor.submit(free_port, port, patience=60)
            with pytest.raises(TimeoutError):
                choice.result(timeout=0.2)
        assert choice.result() == port


@pytest.mark.parametrize("whom", ["owner", "supervisor", "initdb"])
def test_sigkill_in_the_middle_of_the_first_start_is_made_good(
    empty_folder: Path, whom: str
) -> None:
    word = {"owner": OWNER, "supervisor": "-m app.embedded", "initdb": "/initdb"}[whom]
    one = Owner(empty_folder)
    started = empty_folder / "pgdata.tmp" / "base"
    eventually(lambda: processes(empty_folder, "/initdb") and started.exists())
    assert not (empty_folder / "pgdata").exists()
    for pid in processes(empty_folder, word):
        os.kill(pid, signal.SIGKILL)
    with joined(empty_folder) as url:
        assert answers(url)
        assert_one_server(empty_folder)
        assert not list(empty_folder.glob("*.tmp"))
    one.close()
