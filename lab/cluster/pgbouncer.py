"""`python -m lab.cluster.pgbouncer`: run the tests through a PgBouncer that pools transactions.

It starts an embedded PostgreSQL with a PgBouncer before it, and passes its arguments to pytest.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from app.embedded.cluster import free_port
from lab.cluster.tools import PROJECT, Missing, Tools, debian_program, library_path
from lab.database import embedded

# Tests that have a PostgreSQL of their own, or none.
ELSEWHERE = (
    "tests/cluster",
    "tests/container",
    "tests/faults",
    "tests/lab",
    "tests/test_container.py",
    "tests/embedded",
    "tests/test_setup.py",
)

_PATIENCE = 10.0
_POLL = 0.05

_POOL = 20

# PgBouncer does not check it; tests assert that it is in no log.
_PASSWORD = "no-such-word-is-anywhere-else"  # noqa: S105


@contextmanager
def pgbouncer(server: str, folder: Path) -> Iterator[str]:
    """Run a PgBouncer before this server and yield its URL. Raises Missing."""
    tools, address = Tools(), urlsplit(server)
    program = debian_program("pgbouncer", "usr/sbin/pgbouncer", libraries=True)
    port = free_port()
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        f"""[databases]
* = host={address.hostname} port={address.port} user={address.username} password={address.password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {_POOL}
max_client_conn = 500
server_idle_timeout = 5
server_login_retry = 0.1
server_check_delay = 0
ignore_startup_parameters = extra_float_digits
"""
    )
    configuration.chmod(0o600)
    if tools.user:
        os.chown(configuration, *tools.user)
    with (folder / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603
            [program, configuration],
            env=library_path(program),
            stdout=log,
            stderr=log,
            **tools.options(),
        )
    try:
        url = f"postgresql://{address.username}:{_PASSWORD}@127.0.0.1:{port}{address.path}"
        _wait(process, url)
        yield url
    finally:
        process.terminate()
        process.wait()


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.Error as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"PgBouncer did not start: {error}") from error
            time.sleep(_POLL)
        else:
            return


def main() -> int:
    """Return the status of the tests."""
    folder = Path(tempfile.mkdtemp(prefix="tracker-pgbouncer-"))
    folder.chmod(0o711)
    try:
        with embedded(folder / "data") as server, pgbouncer(server, folder) as url:
            left_out = ["-m", "not direct", *(f"--ignore={path}" for path in ELSEWHERE)]
            plugin = ("-p", "lab.cluster.unprepared")
            command = [sys.executable, "-m", "pytest", *plugin, *left_out, *sys.argv[1:]]
            environment = os.environ | {"TEST_DATABASE_URL": url}
            return subprocess.run(command, cwd=PROJECT, env=environment, check=False).returncode  # noqa: S603
    except Missing as missing:
        sys.stderr.write(f"skipped: {missing}\n")
        return 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
