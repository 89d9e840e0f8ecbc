"""Ten thousand cases of the contract, by as many seeds as that takes."""

from collections import Counter
from pathlib import Path

import httpx2 as httpx
import pytest

from lab.github.process import GitHubProcess
from lab.service import Service
from tests.support.contract import OPERATIONS, accepted, assert_the_contract_held, schemathesis

CASES = 10_000
MOST_SEEDS = 40


@pytest.mark.timeout(1800)
def test_ten_thousand_cases_find_nothing_that_the_document_does_not_say(
    service: Service, generous_github: GitHubProcess, tmp_path: Path
) -> None:
    cases, carried_out = 0, Counter[str]()
    for seed in range(1, MOST_SEEDS + 1):
        report = schemathesis(service, tmp_path, examples=250, seed=seed)
        assert_the_contract_held(report)
        cases += report["test_cases"]["generated"]
        carried_out.update(accepted(report))
        if cases >= CASES:
            break
    assert cases >= CASES
    assert {operation for operation, count in carried_out.items() if count} == OPERATIONS
    assert generous_github.report()["violations"] == []
    assert service.process.poll() is None
    assert httpx.get(f"{service.url}/docs").status_code == 200
    assert not service.said("unforeseen error")
