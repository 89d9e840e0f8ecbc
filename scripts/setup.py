"""Install a lock into .venv, with uv if it can be had and with pip otherwise.

`setup.py LOCK` installs; `setup.py --check LOCK` only tells by its status whether that is done.
The environment is made beside .venv and replaces it when it is complete.
"""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from ast import literal_eval
from importlib.util import find_spec
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
VENV = PROJECT / ".venv"
# A copy of the lock that is installed; packages belong to one version of Python.
STAMP = "installed-{}.{}.txt".format(*sys.version_info)
# The set-up under way; the next one removes what a killed one left.
WORK = PROJECT / ".venv.new"
NEW = WORK / "venv"

# This lock pins uv, and holds the other lock in the same versions.
DEV_LOCK = "requirements-dev.txt"

# A lock is complete, and nothing is compiled from C or Rust.
AS_LOCKED = ("--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:")
# pip compiles Python by default, and looks at all indexes for a version.
UV_INSTALL = ("--compile-bytecode", "--index-strategy=unsafe-best-match")
# Whatever the user's configuration says about where pip installs.
PIP_INSTALL = ("--no-user", *AS_LOCKED)
PIP_VARIABLES = {"PIP_TARGET": "", "PIP_PREFIX": "", "PIP_ROOT": "", "PIP_REQUIRE_VIRTUALENV": "0"}
# uv does not read pip's configuration.
UV_VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_OFFLINE",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
}


def main() -> int:
    """Install the lock named last, or only say whether it is installed."""
    lock = sys.argv[-1]
    if "--check" in sys.argv:
        return 0 if is_installed(lock) else 1
    try:
        # The script itself is locked, because it is there before .venv is.
        with Path(__file__).open("r+") as script:
            wait_for(script.fileno())
            if not is_installed(lock):
                install(lock)
    except KeyboardInterrupt:
        say("The set-up was interrupted; the next one begins anew.")
        return 130
    except subprocess.CalledProcessError as error:
        say(
            f"{lock} cannot be installed. If the network is the reason, name a proxy or an index "
            "by HTTPS_PROXY or PIP_INDEX_URL. pip says:",
            *last_lines(error, 5),
        )
    except UnicodeEncodeError:
        say("Python's venv module needs a path in UTF-8: rename the project's folder.")
    except OSError as error:
        say(f"The set-up cannot replace .venv: {error}.")
    else:
        return 0
    return 1


def is_installed(lock: str) -> bool:
    """Return whether .venv holds what the lock names now."""
    try:
        installed = (VENV / STAMP).read_text()
    except FileNotFoundError:
        return False
    # The Python that .venv links to may have been removed.
    return (VENV / "bin" / "python").exists() and installed in map(read, (lock, DEV_LOCK))


def wait_for(lock: int) -> None:
    """Take the lock; programs inherit it, so that a killed set-up keeps it until they end."""
    os.set_inheritable(lock, True)  # noqa: FBT003 - It takes no keyword.
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("Waiting for another set-up that is under way.")
        fcntl.flock(lock, fcntl.LOCK_EX)


def install(lock: str) -> None:
    """Make a complete environment, then replace .venv by it."""
    version = ".".join(map(str, sys.version_info[:3]))
    say(f"Setting up .venv with Python {version} from {lock}; this takes less than a minute.")
    content = read(lock)
    shutil.rmtree(WORK, ignore_errors=True)
    try:
        install_packages(content)
        for script in (NEW / "bin").iterdir():
            if script.is_file() and not script.is_symlink():
                text = script.read_bytes()
                script.write_bytes(text.replace(b".venv.new/venv", b".venv"))
        (NEW / STAMP).write_text(content)
        with contextlib.suppress(FileNotFoundError):
            VENV.rename(WORK / "old")
        NEW.rename(VENV)
    finally:
        shutil.rmtree(WORK, ignore_errors=True)


def install_packages(content: str) -> None:
    """Install a lock with uv, which takes seconds, or with pip, which takes half a minute."""
    python = NEW / "bin" / "python"
    uv, lock, target = WORK / "uv.txt", WORK / "lock.txt", WORK / "uv"
    venv.create(NEW, symlinks=True, prompt=VENV.name)
    pinned = re.findall(r"^uv==(?:.*\\\n)*.*\n", read(DEV_LOCK), re.MULTILINE)[0]
    uv.write_text(pinned)
    lock.write_text(content)
    pip = find_pip()
    try:
        # One retry, because pip makes more below if the network is the reason.
        run(*pip, "install", "--target", target, "--retries=1", *PIP_INSTALL, "-r", uv)
        command = (target / "bin" / "uv", "pip", "install", *AS_LOCKED, *UV_INSTALL)
        run(*command, "--python", python, "-r", lock, **uv_variables(pip))
    except (OSError, subprocess.CalledProcessError) as error:
        say("uv cannot install it, so pip does, which takes longer:", *last_lines(error, 1))
        venv.create(NEW, symlinks=True, prompt=VENV.name, clear=True)
        # The lock for development holds uv too, which only renews the locks.
        lock.write_text(content.replace(pinned, ""))
        run(*pip, "--python", python, "install", *PIP_INSTALL, "-r", lock)


def find_pip() -> list[str | Path]:
    """Return the command of Python's pip; without one, of the wheel that ensurepip carries.

    The wheel is run as it is, because to install it takes seconds.
    """
    ours = Path(sysconfig.get_path("stdlib"), "ensurepip", "_bundled")
    wheels = Path(sysconfig.get_config_var("WHEEL_PKG_DIR") or ours).glob("pip-*.whl")
    pip = ["-m", "pip"] if find_spec("pip") else [wheel / "pip" for wheel in wheels]
    return [sys.executable, "-I", *pip, "--no-input", "--disable-pip-version-check"]


def uv_variables(pip: list[str | Path]) -> dict[str, str]:
    """Return what pip's configuration says of the network, as variables of uv."""
    listed = run(*pip, "config", "list").stdout
    variables = {}
    for section in ("global", "install", ":env:"):  # The later ones win.
        for name, value in re.findall(rf"^{section}\.(\S+)=(.+)$", listed, re.MULTILINE):
            if name in UV_VARIABLES:
                separator = "," if name == "find-links" else " "
                variables[UV_VARIABLES[name]] = separator.join(literal_eval(value).split())
    return variables


def run(*command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the project's folder; raise CalledProcessError if it fails."""
    return subprocess.run(
        command,
        cwd=PROJECT,
        env={**variables, **os.environ, **PIP_VARIABLES},
        close_fds=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=True,
    )


def last_lines(error: OSError | subprocess.CalledProcessError, count: int) -> list[str]:
    """Return the last lines of what a command wrote, or why it did not start."""
    written: str = error.stdout if isinstance(error, subprocess.CalledProcessError) else str(error)
    return written.strip().splitlines()[-count:]


def read(lock: str) -> str:
    """Return the content of a lock."""
    return (PROJECT / lock).read_text()


def say(*lines: str) -> None:
    """Tell the person at the terminal; standard output belongs to the command that follows."""
    print(*lines, sep="\n    ", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
