"""Data folders: an empty one, one with a database, and one whose server no test stops."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.embedded import joined
from tests.embedded.support import stopped
from tests.support.data_folder import data_folder
from tests.support.waiting import eventually


@pytest.fixture
def empty_folder() -> Iterator[Path]:
    """A data folder that does not exist yet."""
    with data_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def template() -> Iterator[Path]:
    """A data folder with a database and without a server, to be copied."""
    with data_folder() as folder:
        with joined(folder):
            pass
        eventually(lambda: stopped(folder))
        connection = folder / "connection.json"
        connection.write_text(json.dumps(json.loads(connection.read_text()) | {"port": 0}))
        yield folder


@pytest.fixture
def folder(template: Path, empty_folder: Path) -> Path:
    """A data folder with a database, which costs a fifth of what initdb does."""
    _copy(template, empty_folder)
    return empty_folder


@pytest.fixture(scope="session")
def running(template: Path) -> Iterator[tuple[Path, str]]:
    """A server that no test stops, with owners that have a secret: its folder and its URL."""
    with pytest.MonkeyPatch.context() as patch, data_folder() as folder:
        patch.setenv("GITHUB_TOKEN", "very-secret")
        _copy(template, folder)
        with joined(folder) as url:
            yield folder, url


def _copy(template: Path, folder: Path) -> None:
    """Copy the files with their owners, which Python's `shutil` would lose."""
    subprocess.run(["cp", "-a", template, folder], check=True)
