"""The user, the environment and the reach of the processes that are started."""

import stat
from pathlib import Path

import pytest

from app.embedded import EmbeddedPostgresError, default_data_dir, joined
from app.embedded.children import require_name
from tests.embedded.support import answers, needs_root, server


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc")
def test_neither_supervisor_nor_server_inherits_secrets(running: tuple[Path, str]) -> None:
    for pid in server(running[0]).values():
        assert b"very-secret" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_user_without_a_name_gives_a_sentence() -> None:
    with pytest.raises(EmbeddedPostgresError, match="by user 2147483000, who has no entry"):
        require_name((2_147_483_000, 0))


@needs_root
def test_folder_that_the_server_cannot_reach_gives_a_sentence(empty_folder: Path) -> None:
    empty_folder.mkdir(mode=0o700)
    with pytest.raises(EmbeddedPostgresError, match="Set DATA_DIR to a folder that other users"):
        joined(empty_folder / "data").__enter__()
    assert stat.S_IMODE(empty_folder.stat().st_mode) == 0o700


@needs_root
def test_folder_of_root_can_be_entered_and_no_more(folder: Path) -> None:
    folder.chmod(0o700)
    with joined(folder) as url:
        assert answers(url)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o701


@needs_root
def test_default_folder_of_root_is_outside_of_a_private_home(empty_folder: Path) -> None:
    project = empty_folder / "project"
    project.mkdir(parents=True)
    empty_folder.chmod(0o700)
    assert default_data_dir(project) == Path("/var/lib/github-repository-tracker")


def test_default_folder_is_in_the_project(empty_folder: Path) -> None:
    assert default_data_dir(empty_folder) == empty_folder / ".data"
