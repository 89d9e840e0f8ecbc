"""The files in a data folder."""

import stat
from pathlib import Path


def test_secrets_are_readable_by_their_owner_only(running: tuple[Path, str]) -> None:
    folder, _ = running
    for name in ("connection.json", "server.json", "postgres.log", "supervisor.log"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE((folder / "pgdata").stat().st_mode) == 0o700
    assert not stat.S_IMODE(folder.stat().st_mode) & 0o066
    assert not (folder / "pwfile.tmp").exists()
