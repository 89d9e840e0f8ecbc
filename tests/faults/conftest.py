"""What the tests of faults share; they take minutes, so they run only where they are named."""

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave these tests out unless somebody asks for them: `make test-faults`."""
    return None if any("faults" in argument for argument in config.args) else True
