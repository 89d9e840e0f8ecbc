"""The programs that a cluster and a pooler need: found, or fetched into .cluster/."""

import os
import shutil
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from app.embedded import EmbeddedPostgresError
from app.embedded.children import as_user, die_with_parent, succeeds_as, unprivileged_user
from app.embedded.programs import reachable_programs

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = PROJECT / ".cluster"

PATRONI = ("patroni[etcd3]==4.1.5", "psycopg[binary]==3.3.9")
# Seconds allowed for a command that asks the network.
PATIENCE = 300

_VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"


class Missing(Exception):
    """A program is missing and cannot be fetched; the message says how to get it."""


class Tools:
    """Where the programs are, and who may run them: PostgreSQL refuses to run as root."""

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise Missing("The cluster finds its processes in /proc: run it on Linux.")
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / ".gitignore").write_text("*\n")
        try:
            self.user = unprivileged_user(FOLDER, FOLDER / "none")
            self.postgresql = reachable_programs(FOLDER, self.user)
        except EmbeddedPostgresError:
            raise Missing(
                f"PostgreSQL does not run as root, and another user cannot pass to {FOLDER}: "
                "run the cluster as an ordinary user, or from a folder that all may enter."
            ) from None

    def options(self) -> dict[str, Any]:
        """Return what starts a program as that user."""
        return {"cwd": "/", **detached(), **as_user(self.user)}

    def etcd(self) -> Path:
        """Return etcd; raises Missing."""
        return debian_program("etcd-server", "usr/bin/etcd")

    def patroni(self) -> tuple[list[str], dict[str, str]]:
        """Return Patroni's command and environment; raises Missing."""
        python, version = self._python
        folder = FOLDER / f"patroni-{version}"
        if not folder.exists():
            self._install(python, folder)
        environment = {"PATH": os.defpath, "PYTHONPATH": str(folder), "LC_ALL": "C"}
        return [python, "-s", "-m", "patroni"], environment

    @cached_property
    def _python(self) -> tuple[str, str]:
        """Choose a Python that the user of PostgreSQL can run too; root's own may be private."""
        for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
            command = [python, "-c", _VERSION]
            if Path(python).exists() and (not self.user or succeeds_as(self.user, *command)):
                return python, _run(*command).strip()
        raise Missing(
            f"Only root can run {sys.executable}, and Patroni runs as another user: "
            "apt install python3, or run the cluster as an ordinary user."
        )

    def _install(self, python: str, folder: Path) -> None:
        temporary = folder.with_name(f"{folder.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        install = (sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python)
        try:
            _run(*install, "--target", str(temporary), *PATRONI)
        except subprocess.CalledProcessError as error:
            raise Missing(f"Patroni cannot be installed from PyPI: {_last(error)}") from error
        temporary.rename(folder)


def detached() -> dict[str, Any]:
    """Return what keeps Ctrl-C from a child, and ends the child with this process.

    Start it from the main thread: the child ends when the thread that started it ends.
    """
    return {
        "stdin": subprocess.DEVNULL,
        "start_new_session": True,
        "preexec_fn": die_with_parent(),
    }


def debian_program(package: str, program: str, *, libraries: bool = False) -> Path:
    """Return a program of this machine, or of Debian's package, unpacked and not installed."""
    name, folder = Path(program).name, FOLDER / package
    if found := shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        return Path(found)
    if (folder / program).exists():
        return folder / program
    if not all(map(shutil.which, ("apt-get", "apt-cache", "dpkg"))):
        raise Missing(
            f"{name} is missing, and there is no apt-get to fetch it with: "
            f"install it (Debian's package is {package}) so that it is on the PATH."
        )
    FOLDER.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=FOLDER) as scratch:
        try:
            if not _run("apt-cache", "madison", package):  # No lists of packages yet.
                _run("apt-get", "update")
            packages = [package, *(_libraries(package) if libraries else [])]
            _run("apt-get", "download", *packages, cwd=scratch)
        except subprocess.CalledProcessError as error:
            raise Missing(
                f"{name} is missing, and {' '.join(error.cmd)} says: {_last(error)}"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise Missing(f"{name} is missing, and {error.cmd} took over {PATIENCE} s") from error
        unpacked = Path(scratch, "unpacked")
        for archive in Path(scratch).glob("*.deb"):
            _run("dpkg", "-x", str(archive), str(unpacked))
        unpacked.chmod(0o755)
        unpacked.rename(folder)
    return folder / program


def library_path(program: Path) -> dict[str, str]:
    """Return the environment in which an unpacked program finds the libraries beside it."""
    folders = program.parent.parent.glob("lib/*-linux-*")
    return {"LD_LIBRARY_PATH": ":".join(map(str, folders))}


def _libraries(package: str) -> list[str]:
    """Return the libraries that the package needs, the C library excepted."""
    lines = _run("apt-cache", "depends", "--important", package).splitlines()
    names = [line.split()[-1] for line in lines if line.strip().startswith("Depends: lib")]
    return [name for name in names if name != "libc6"]


def _run(*command: str, cwd: str | None = None) -> str:
    done = subprocess.run(  # noqa: S603 - our own words
        command, cwd=cwd, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    return done.stdout


def _last(error: subprocess.CalledProcessError) -> str:
    lines = str(error.stderr).strip().splitlines()
    return lines[-1] if lines else f"status {error.returncode}"
