"""The table of mechanisms names code that exists."""

import pytest

from lab.bench.mechanisms import MECHANISMS, Mechanism


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda mechanism: mechanism.name)
def test_the_lines_of_a_mechanism_are_those_of_code_that_exists(mechanism: Mechanism) -> None:
    assert bool(mechanism.lines) is bool(mechanism.code)


def test_no_two_mechanisms_have_the_same_name() -> None:
    assert len({mechanism.name for mechanism in MECHANISMS}) == len(MECHANISMS)
