"""The set-up: what `make` does on a fresh machine, and the files that it goes by."""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app import PROJECT_DIR

RUNTIME, DEV = "requirements.txt", "requirements-dev.txt"
TOO_OLD = ("python3.10", "python3.9", "python3.8", "python3.7", "python3.6")

needs_make = pytest.mark.skipif(not shutil.which("make"), reason="there is no make")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What the set-up needs of the project, in a fresh folder whose name is not a plain one."""
    project = tmp_path / "my project, ä"
    shutil.copytree(PROJECT_DIR / "scripts", project / "scripts")
    for name in ("Makefile", "pyproject.toml", RUNTIME, DEV):
        shutil.copy(PROJECT_DIR / name, project)
    return project


@pytest.fixture
def with_venv(project: Path) -> Path:
    """The same with a .venv that holds nothing yet; to give it a pip of its own takes seconds."""
    venv = ("venv", "--without-pip", "--system-site-packages", ".venv")
    assert run(project, sys.executable, "-m", *venv).returncode == 0
    return project


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A folder with the wheels of a package that holds nothing, in two versions."""
    index = tmp_path / "index"
    index.mkdir()
    for version in ("1.0", "2.0"):
        info = f"nothing-{version}.dist-info"
        files = {
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: nothing\nVersion: {version}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{name},sha256={_record_hash(text)},\n" for name, text in files.items())
        with zipfile.ZipFile(index / f"nothing-{version}-py3-none-any.whl", "w") as wheel:
            for name, text in {**files, f"{info}/RECORD": record}.items():
                wheel.writestr(name, text)
    return index


def _record_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def lock_to(project: Path, index: Path, version: str) -> None:
    wheel = index / f"nothing-{version}-py3-none-any.whl"
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (project / RUNTIME).write_text(f"nothing=={version} --hash=sha256:{digest}\n")


def run(project: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=project,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
    )


def environment(**variables: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_", "MAKE", "MFLAGS", "PYTHON"))
    }
    return {**kept, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", **variables}


def set_up(project: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return run(project, "sh", "scripts/setup.sh", RUNTIME, PYTHON=sys.executable, **variables)


def installed_version(project: Path) -> str:
    question = "from importlib.metadata import version; print(version('nothing'))"
    return run(project, ".venv/bin/python", "-c", question).stdout.strip()


@needs_make
@pytest.mark.parametrize("command", [["make"], ["make", "help"]])
def test_make_help_lists_every_target(project: Path, command: list[str]) -> None:
    targets = re.findall(r"^([a-z]+):", (project / "Makefile").read_text(), re.MULTILINE)
    listed = re.findall(r"^make ([a-z]+) +\S", run(project, *command).stdout, re.MULTILINE)
    assert listed == targets
    assert {"run", "test", "lint", "format", "lock", "clean", "help"} <= set(targets)


@needs_make
@pytest.mark.parametrize("target", ["run", "test"])
def test_python_that_is_too_old_gets_one_sentence(project: Path, target: str) -> None:
    # The Python at hand becomes too old by raising what the project asks for.
    pyproject = project / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace('">=3.11"', '">=3.99"'))
    done = run(project, "make", target)
    sentence, of_make = done.stderr.splitlines()
    assert re.fullmatch(
        r"This project needs Python 3\.99 or newer, and python3\S* is 3\.\d+: install one "
        r"\(with its venv module\), or name one that you have, as in make run PYTHON=python3\.12\.",
        sentence,
    )
    assert of_make.startswith("make: ***")
    assert done.returncode == 2
    assert not (project / ".venv").exists()


def test_old_python_is_told_apart(project: Path) -> None:
    found = [python for python in TOO_OLD if shutil.which(python)]
    # A version manager may have a name on the PATH, but refuse to run what is behind it.
    python = next((name for name in found if not run(project, name, "-c", "").returncode), None)
    if python is None:
        pytest.skip("there is no Python that is too old")
    done = run(project, "sh", "scripts/find-python.sh", PYTHON=python)
    assert f"{python} is {python.removeprefix('python')}: install" in done.stderr
    assert done.returncode == 1


def test_python_that_is_missing_gets_one_sentence(project: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "sed", "dirname"):
        (tools / name).symlink_to(str(shutil.which(name)))
    done = run(project, "sh", "scripts/setup.sh", RUNTIME, PATH=str(tools))
    (sentence,) = done.stderr.splitlines()
    assert "there is no python3 on the PATH" in sentence
    assert done.returncode == 1


def test_set_up_that_failed_is_done_anew(project: Path, index: Path) -> None:
    lock_to(project, index, "1.0")
    failed = set_up(project)
    assert failed.returncode == 1
    assert "pip cannot fetch what requirements.txt names" in failed.stderr
    assert "No matching distribution found for nothing==1.0" in failed.stderr

    done = set_up(project, PIP_FIND_LINKS=str(index))
    assert done.returncode == 0, done.stderr
    assert installed_version(project) == "1.0"


def test_set_up_that_is_done_says_nothing_until_the_lock_changes(
    with_venv: Path, index: Path
) -> None:
    lock_to(with_venv, index, "1.0")
    assert set_up(with_venv, PIP_FIND_LINKS=str(index)).returncode == 0
    again = set_up(with_venv)
    assert (again.returncode, again.stderr) == (0, "")

    lock_to(with_venv, index, "2.0")
    assert set_up(with_venv, PIP_FIND_LINKS=str(index)).returncode == 0
    assert installed_version(with_venv) == "2.0"


def test_lock_that_cannot_be_had_leaves_what_there_is(with_venv: Path, index: Path) -> None:
    lock_to(with_venv, index, "1.0")
    assert set_up(with_venv, PIP_FIND_LINKS=str(index)).returncode == 0
    lock_to(with_venv, index, "2.0")
    assert set_up(with_venv).returncode == 1
    lock_to(with_venv, index, "1.0")
    again = set_up(with_venv)
    assert (again.returncode, again.stderr) == (0, "")
    assert installed_version(with_venv) == "1.0"


def test_two_set_ups_at_once_do_not_disturb_each_other(with_venv: Path, index: Path) -> None:
    lock_to(with_venv, index, "1.0")
    command = ["sh", "scripts/setup.sh", RUNTIME]
    variables = environment(PYTHON=sys.executable, PIP_FIND_LINKS=str(index))
    both = [
        subprocess.Popen(command, cwd=with_venv, env=variables, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("Setting up .venv" in words for words in said) == 1
    assert installed_version(with_venv) == "1.0"


def requirements(name: str) -> dict[str, str]:
    """The packages of a lock with their versions, after a look at its form."""
    lock = (PROJECT_DIR / name).read_text()
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=\S)", lock.strip()):
        pinned, *hashes = [part.strip() for part in entry.split(" \\\n")]
        match = re.fullmatch(r"([a-z0-9-]+)==(\S+)( ; .+)?", pinned)
        assert match, f"{pinned} is not pinned"
        assert hashes, f"{pinned} has no hash"
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in hashes), entry
        found[match[1]] = match[2]
    return found


@pytest.mark.parametrize("name", [RUNTIME, DEV])
def test_lock_is_pinned_and_hashed_and_names_no_index(name: str) -> None:
    assert requirements(name)
    assert not re.search(
        r"://|--(extra-)?index-url|--find-links|--trusted-host", (PROJECT_DIR / name).read_text()
    )


def test_locks_hold_what_the_project_names() -> None:
    pyproject = tomllib.loads((PROJECT_DIR / "pyproject.toml").read_text())
    for lock, named in (
        (RUNTIME, pyproject["project"]["dependencies"]),
        (DEV, pyproject["dependency-groups"]["dev"]),
    ):
        pinned = requirements(lock)
        for requirement in map(Requirement, named):
            version = pinned.get(canonicalize_name(requirement.name))
            assert version, f"{requirement.name} is not in {lock}: make lock"
            assert version in requirement.specifier


def test_dev_lock_holds_the_runtime_lock() -> None:
    assert requirements(RUNTIME).items() <= requirements(DEV).items()
