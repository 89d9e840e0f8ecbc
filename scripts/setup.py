"""Installs a lock into .venv with pip; what was interrupted or failed is done anew next time.

`setup.py LOCK` installs; `setup.py --check LOCK` only tells by its status whether that is done.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

PROJECT = Path(__file__).resolve().parent.parent
VENV = PROJECT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCK_FILE = VENV / "setup.lock"
# Stands there while .venv is between two states that can be used.
UNFINISHED = VENV / "setup.unfinished"

# Each lock holds all of the ones after it, in the same versions.
LOCKS = ("requirements-dev.txt", "requirements.txt")


def main() -> int:
    """Install the lock named last, or only say whether it is installed."""
    lock = sys.argv[-1]
    if "--check" in sys.argv:
        return 0 if is_installed(lock) else 1
    try:
        VENV.mkdir(exist_ok=True)
        with LOCK_FILE.open("w") as held:
            wait_for(held.fileno())
            return 0 if is_installed(lock) else install(lock, held.fileno())
    except OSError as error:
        return fail(f"The set-up cannot use .venv: {error}. Remove that, or make it yours.")
    except KeyboardInterrupt:
        fail("The set-up was interrupted; the next one begins anew.")
        return 130


def stamp(lock: str) -> Path:
    """Return where a copy of an installed lock lies; each Python has packages of its own."""
    return VENV / f"{lock}.{sys.version_info[0]}.{sys.version_info[1]}"


def is_installed(lock: str) -> bool:
    """Tell whether .venv holds what the lock names now."""
    try:
        return not UNFINISHED.exists() and stamp(lock).read_bytes() == (PROJECT / lock).read_bytes()
    except FileNotFoundError:
        return False


def wait_for(held: int) -> None:
    """Take the lock; pip inherits it, so a killed set-up keeps it until its pip has ended."""
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("Waiting for another set-up that is under way.")
        fcntl.flock(held, fcntl.LOCK_EX)


def install(lock: str, held: int) -> int:
    """Make .venv if there is none that can be used, and let pip install the lock into it."""
    version = ".".join(map(str, sys.version_info[:3]))
    say(f"Setting up .venv with Python {version} from {lock}; this takes less than a minute.")
    if not is_usable():
        UNFINISHED.touch()
        clear()
        made = run(held, sys.executable, "-I", "-m", "venv", VENV)
        if made.returncode:
            return fail(f"Python {version} cannot make the virtual environment .venv:", made)
        UNFINISHED.unlink()
    content = {name: (PROJECT / name).read_bytes() for name in LOCKS[LOCKS.index(lock) :]}
    with TemporaryDirectory() as wheels:
        # All of it has arrived before anything is changed: without a network .venv stays good.
        pip = (PYTHON, "-I", "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check")
        what = ("--require-hashes", "--no-deps", "--requirement", lock)
        fetched = run(held, *pip, "download", "--only-binary=:all:", "--dest", wheels, *what)
        if fetched.returncode:
            return fail(
                f"pip cannot fetch what {lock} names; if it is the network, mend that, or tell pip "
                "of a proxy or an index by HTTPS_PROXY or PIP_INDEX_URL. It says:",
                fetched,
            )
        UNFINISHED.touch()
        for other in LOCKS:
            stamp(other).unlink(missing_ok=True)
        source = ("--no-index", "--find-links", wheels, "--no-compile", "--no-user")
        installed = run(held, *pip, "install", *source, *what)
        if installed.returncode:
            return fail(f"pip cannot install {lock}. It says:", installed)
    warm_up(held)
    for name, installed_lock in content.items():
        stamp(name).write_bytes(installed_lock)
    UNFINISHED.unlink()
    return 0


def is_usable() -> bool:
    """Tell whether .venv is complete and belongs to the Python that runs this."""
    version = sys.version_info[:2]
    question = f"import sys, pip; sys.exit(sys.version_info[:2] != {tuple(version)})"
    try:
        asked = subprocess.run([PYTHON, "-I", "-c", question], capture_output=True, check=False)
    except OSError:
        return False
    return asked.returncode == 0 and not UNFINISHED.exists()


def clear() -> None:
    """Empty .venv, but for the two files that say that it is being done."""
    for path in VENV.iterdir():
        if path in {LOCK_FILE, UNFINISHED}:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def warm_up(held: int) -> None:
    """Compile what the service imports, and no more; that makes every start quicker."""
    run(held, PYTHON, "-c", "import app.serving.server, app.main")


def run(held: int, *command: "str | Path") -> "subprocess.CompletedProcess[str]":
    """Run a command in the project's folder; its output is kept for the case that it fails."""
    environment = {name: os.environ[name] for name in os.environ if name not in UNWANTED}
    return subprocess.run(
        command,
        cwd=PROJECT,
        env=environment,
        pass_fds=[held],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )


# What would make pip install elsewhere, and Python not keep what it compiled.
UNWANTED = {"PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PYTHONDONTWRITEBYTECODE"}


def say(sentence: str) -> None:
    """Tell the person at the terminal; standard output belongs to the command that follows."""
    print(sentence, file=sys.stderr, flush=True)


def fail(sentence: str, command: "subprocess.CompletedProcess[str] | None" = None) -> int:
    """Say why it failed, with the last lines of the command that did."""
    lines = command.stdout.strip().splitlines() if command else []
    say("\n    ".join([sentence, *lines[-5:]]))
    return 1


if __name__ == "__main__":
    sys.exit(main())
