"""The contract under fuzzing: Schemathesis turns the OpenAPI document against the real process."""

from pathlib import Path

import httpx2 as httpx
import pytest

from lab.github.process import GitHubProcess
from lab.service import Service
from tests.support.contract import OPERATIONS, accepted, assert_the_contract_held, schemathesis


@pytest.mark.timeout(300)
def test_fuzzing_finds_nothing_that_the_document_does_not_say(
    service: Service, generous_github: GitHubProcess, tmp_path: Path
) -> None:
    report = schemathesis(service, tmp_path, examples=60, seed=1)
    assert_the_contract_held(report)
    assert report["test_cases"]["generated"] >= 300
    assert {operation for operation, count in accepted(report).items() if count} == OPERATIONS
    assert generous_github.report()["violations"] == []
    assert httpx.get(f"{service.url}/docs").status_code == 200
