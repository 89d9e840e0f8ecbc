"""Linters of OpenAPI documents, by their default rules, find nothing in the one that is served."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from app.main import create_app
from app.settings import Settings
from app.web.openapi import describe

PACKAGES = ["@redocly/cli@2.77.0", "@stoplight/spectral-cli@6.16.3", "dredd@14.1.0"]
# Nobody but the operator of a service can name a person to write to.
SPECTRAL_RULES = 'extends: ["spectral:oas"]\nrules: {info-contact: off}\n'


def ran(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the document and the linters."""
    folder = tmp_path_factory.mktemp("linters")
    npm = shutil.which("npm") or pytest.skip("npm, which installs the linters, is missing")
    options = "--no-audit --no-fund --ignore-scripts --fetch-timeout=20000 --fetch-retries=1"
    installed = ran(npm, "install", *options.split(), *PACKAGES, folder=folder)
    if installed.returncode:
        pytest.skip(f"npm cannot install the linters: {installed.stdout[-500:]}")
    (folder / "rules.yaml").write_text(SPECTRAL_RULES)
    (folder / "openapi.json").write_text(json.dumps(describe(create_app(Settings()))))
    return folder


def linted(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    return ran(*f"node_modules/.bin/{command}".split(), folder=folder)


@pytest.mark.timeout(600)
def test_redocly_finds_no_error_and_no_warning(folder: Path) -> None:
    ended = linted(folder, "redocly lint openapi.json")
    assert ended.returncode == 0, ended.stdout
    assert "Your API description is valid" in ended.stdout
    assert "warning" not in ended.stdout.replace("Deprecation warning", "")


@pytest.mark.timeout(600)
def test_spectral_finds_no_error_and_no_warning(folder: Path) -> None:
    ended = linted(folder, "spectral lint --fail-severity=hint --ruleset rules.yaml openapi.json")
    assert ended.returncode == 0, ended.stdout


@pytest.mark.timeout(600)
def test_dredd_can_make_a_request_of_each_operation(folder: Path) -> None:
    """It warns of what it does not know of OpenAPI 3; of an example that is missing it must not."""
    ended = linted(folder, "dredd openapi.json http://127.0.0.1:9 --names")
    assert ended.returncode == 0, ended.stdout
    told = [line for line in ended.stdout.splitlines() if "description" in line]
    unknown_to_it = re.compile(r"not fully supported|contains (unsupported|invalid) key|only one")
    assert [line for line in told if not unknown_to_it.search(line)] == []
