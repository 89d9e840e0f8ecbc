"""The set-up: what `make` does on a fresh machine, and the files that it goes by."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app import PROJECT_DIR
from tests.support.waiting import eventually

RUNTIME, DEV = "requirements.txt", "requirements-dev.txt"
SET_UP = ("sh", "scripts/setup.sh")
TOO_OLD = ("python3.10", "python3.9", "python3.8", "python3.7", "python3.6")

needs_make = pytest.mark.skipif(not shutil.which("make"), reason="there is no make")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The files that the set-up needs, in a fresh folder with a name that shells misread."""
    return copy_project(tmp_path)


def copy_project(folder: Path, name: str = "my $HOME, `ä`") -> Path:
    project = folder / name
    shutil.copytree(PROJECT_DIR / "scripts", project / "scripts")
    for file in ("Makefile", "pyproject.toml", RUNTIME, DEV):
        shutil.copy(PROJECT_DIR / file, project)
    return project


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheels of two versions of a package that only says which it is."""
    folder = tmp_path_factory.mktemp("index")
    for version in ("1.0", "2.0"):
        entry_points = f"tiny-{version}.dist-info/entry_points.txt"
        content = {
            "tiny.py": f"def main():\n    print({version!r})\n".encode(),
            entry_points: b"[console_scripts]\ntiny = tiny:main\n",
        }
        wheel(folder, "tiny", version, content)
    return folder


@pytest.fixture(scope="session")
def index_with_uv(index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with uv, packed again from this environment."""
    try:
        uv = metadata.distribution("uv")
    except metadata.PackageNotFoundError:
        pytest.skip("this environment was set up without uv")
    folder = shutil.copytree(index, tmp_path_factory.mktemp("with-uv") / "index")
    program = next(file for file in uv.files or () if file.name == "uv")
    content = {f"uv-{uv.version}.data/scripts/uv": program.read_binary()}
    wheel(folder, "uv", uv.version, content)
    return folder


@pytest.fixture(scope="session")
def first_set_up(index_with_uv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the lock for development installed, which tests only read."""
    project = copy_project(tmp_path_factory.mktemp("first"))
    lock_to(project, index_with_uv, "1.0")
    done = set_up(project, index_with_uv, DEV)
    assert done.returncode == 0, done.stderr
    return project


@pytest.fixture
def set_up_project(project: Path, first_set_up: Path) -> Path:
    """A copy of that project."""
    return shutil.copytree(first_set_up, project, symlinks=True, dirs_exist_ok=True)


def wheel(folder: Path, name: str, version: str, content: dict[str, bytes]) -> None:
    info = f"{name}-{version}.dist-info"
    files = {
        **content,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for file, data in {**files, f"{info}/RECORD": record.encode()}.items():
            entry = zipfile.ZipInfo(file)
            entry.external_attr = 0o100755 << 16
            archive.writestr(entry, data)


def lock_to(project: Path, index: Path, version: str) -> None:
    """Lock the project to a version of the package, and to the uv of the index or to none."""
    lines = {
        name: f"{name}=={path.name.split('-')[1]} --hash=sha256:{digest(path)}\n"
        for path in (*index.glob("uv-*"), index / f"tiny-{version}-py3-none-any.whl")
        for name in [path.name.split("-")[0]]
    }
    (project / RUNTIME).write_text(lines["tiny"])
    (project / DEV).write_text(lines["tiny"] + lines.get("uv", f"uv==0 --hash=sha256:{'0' * 64}\n"))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(project: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=project,
        env=environment(project, **variables),
        capture_output=True,
        text=True,
        check=False,
    )


def environment(project: Path, **variables: str) -> dict[str, str]:
    """Return an environment without the user's caches and without what tells pip, uv and Python."""
    told = ("PIP_", "UV_", "MAKE", "MFLAGS", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(told)}
    return {**kept, "XDG_CACHE_HOME": str(project.parent / "cache"), **variables}


def set_up_variables(project: Path, index: Path | None) -> dict[str, str]:
    """Return variables for a set-up to which pip's configuration allows one index or none."""
    configuration = project.parent / "pip.conf"
    configuration.write_text(f"[global]\nno-index = true\nfind-links = {index or ''}\n")
    return {"PYTHON": sys.executable, "PIP_CONFIG_FILE": str(configuration)}


def set_up(
    project: Path, index: Path | None, lock: str = RUNTIME
) -> subprocess.CompletedProcess[str]:
    return run(project, *SET_UP, lock, **set_up_variables(project, index))


def start_set_up(
    project: Path, index: Path, *, start_new_session: bool = False
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*SET_UP, RUNTIME],
        cwd=project,
        env=environment(project, **set_up_variables(project, index)),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=start_new_session,
    )


def installed(project: Path) -> str:
    """Return the version of the package in .venv and the program that installed it."""
    question = (
        "from importlib.metadata import distribution; tiny = distribution('tiny'); "
        "print(tiny.version, 'by', tiny.read_text('INSTALLER'))"
    )
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
    done = run(project, *SET_UP, RUNTIME, PATH=str(tools))
    (sentence,) = done.stderr.splitlines()
    assert "there is no python3 on the PATH" in sentence
    assert done.returncode == 1


def test_python_without_pip_gets_one_sentence(project: Path, tmp_path: Path) -> None:
    python = tmp_path / "bare-python"
    hide = "import sys; sys.modules.update(pip=None, ensurepip=None); exec(sys.argv[1])"
    python.write_text(f"#!/bin/sh\n[ $3 = -c ] && exec {sys.executable} -c '{hide}' \"$4\"\n")
    python.chmod(0o755)
    done = run(project, *SET_UP, RUNTIME, PYTHON=str(python))
    (sentence,) = done.stderr.splitlines()
    assert "has no venv module, or neither pip nor ensurepip: apt install python3" in sentence
    assert done.returncode == 1


def test_uv_installs_from_the_index_of_pip(first_set_up: Path) -> None:
    assert installed(first_set_up) == "1.0 by uv"


def test_programs_of_the_environment_run(first_set_up: Path) -> None:
    assert run(first_set_up, ".venv/bin/tiny").stdout == "1.0\n"


def test_pip_installs_if_uv_is_unavailable(project: Path, index: Path) -> None:
    lock_to(project, index, "1.0")
    done = set_up(project, index, DEV)
    assert done.returncode == 0, done.stderr
    assert "uv cannot install it, so pip does, which takes longer:" in done.stderr
    assert installed(project) == "1.0 by pip"


def test_set_up_that_failed_leaves_nothing(project: Path, index: Path) -> None:
    lock_to(project, index, "1.0")
    failed = set_up(project, None)
    assert failed.returncode == 1
    assert "requirements.txt cannot be installed." in failed.stderr
    assert "No matching distribution found for tiny==1.0" in failed.stderr
    assert not list(project.glob(".venv*"))


def test_set_up_that_was_interrupted_leaves_nothing(project: Path, index_with_uv: Path) -> None:
    lock_to(project, index_with_uv, "1.0")
    end_set_up(project, index_with_uv, signal.SIGINT)
    assert not list(project.glob(".venv*"))


def test_set_up_that_was_killed_is_done_anew(project: Path, index_with_uv: Path) -> None:
    lock_to(project, index_with_uv, "1.0")
    end_set_up(project, index_with_uv, signal.SIGKILL)
    assert not (project / ".venv").exists()

    assert set_up(project, index_with_uv).returncode == 0
    assert installed(project) == "1.0 by uv"
    assert list(project.glob(".venv*")) == [project / ".venv"]


def end_set_up(project: Path, index: Path, by: signal.Signals) -> None:
    """Send a signal to a set-up, and to what it runs, while it installs."""
    under_way = start_set_up(project, index, start_new_session=True)
    eventually((project / ".venv.new" / "lock.txt").exists)
    os.killpg(under_way.pid, by)
    under_way.communicate()


def test_set_up_that_is_done_says_nothing_until_the_lock_changes(
    set_up_project: Path, index_with_uv: Path
) -> None:
    again = set_up(set_up_project, None, DEV)
    assert (again.returncode, again.stderr) == (0, "")

    lock_to(set_up_project, index_with_uv, "2.0")
    assert set_up(set_up_project, index_with_uv).returncode == 0
    assert installed(set_up_project) == "2.0 by uv"


def test_lock_for_development_serves_for_the_other(first_set_up: Path) -> None:
    again = set_up(first_set_up, None, RUNTIME)
    assert (again.returncode, again.stderr) == (0, "")


def test_lock_that_cannot_be_installed_leaves_what_there_is(
    set_up_project: Path, index_with_uv: Path
) -> None:
    lock_to(set_up_project, index_with_uv, "2.0")
    assert set_up(set_up_project, None).returncode == 1
    lock_to(set_up_project, index_with_uv, "1.0")
    again = set_up(set_up_project, None)
    assert (again.returncode, again.stderr) == (0, "")
    assert installed(set_up_project) == "1.0 by uv"


def test_environment_whose_python_is_gone_is_made_anew(
    set_up_project: Path, index_with_uv: Path
) -> None:
    python = set_up_project / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nonexistent/python3")
    assert set_up(set_up_project, index_with_uv).returncode == 0
    assert installed(set_up_project) == "1.0 by uv"


def test_two_set_ups_at_once_do_not_disturb_each_other(project: Path, index_with_uv: Path) -> None:
    lock_to(project, index_with_uv, "1.0")
    both = [start_set_up(project, index_with_uv) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("Setting up .venv" in words for words in said) == 1
    assert installed(project) == "1.0 by uv"


@needs_make
def test_modules_from_elsewhere_do_not_come_before_those_of_the_project(
    set_up_project: Path, tmp_path: Path
) -> None:
    (set_up_project / "app").mkdir()
    (set_up_project / "app" / "__main__.py").write_text("import tiny\ntiny.main()\n")
    (tmp_path / "tiny.py").write_text("raise SystemExit('This is another module.')\n")
    elsewhere = {"PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"}
    done = run(set_up_project, "make", "run", **elsewhere)
    assert (done.stdout, done.stderr) == ("1.0\n", "")


def test_folder_whose_path_is_not_utf_8_gets_one_sentence(tmp_path: Path, index: Path) -> None:
    try:
        project = copy_project(tmp_path, os.fsdecode(b"caf\xe9"))
    except OSError:
        pytest.skip("this file system wants UTF-8")
    done = set_up(project, index)
    _, sentence = done.stderr.splitlines()
    assert sentence == "Python's venv module needs a path in UTF-8: rename the project's folder."
    assert not list(project.glob(".venv*"))


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
