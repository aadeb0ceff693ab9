"""Every planted fault is found by the checks that are named for it, and by no other; the sound
function passes them all.
"""

import pytest

from jaxreg.attention import conformance
from tests.helpers import faulty_attention as faulty

CHEAP = (
    "flax",
    "jit",
    "deterministic",
    "rate_0",
    "rate_1",
    "rate_nan",
    "rate_negative",
    "rate_above_1",
)
"""Run on every fault; all other checks have their turn in the slow tests."""

ALL_FAULTS = faulty.FAULTS | faulty.FAR_FAULTS


def failed(function, **options) -> set[str]:
    found = [result for result in conformance.run(function, **options) if result.status == "FAILED"]
    # An exception, be it the suite's own, counts as a failure of the function: none of these faults
    # is to be found that way.
    assert not [result for result in found if "Error: " in result.detail]
    return {result.check for result in found}


@pytest.mark.system
@pytest.mark.parametrize("name", faulty.FAULTS)
def test_a_planted_fault_fails_the_checks_that_are_named(name):
    function, expected = faulty.FAULTS[name]
    checks = [check for check in conformance.CHECKS if check in expected or check in CHEAP]
    assert failed(function, checks=checks, quick=True) == expected


@pytest.mark.system
@pytest.mark.parametrize("name", faulty.FAR_FAULTS)
def test_a_fault_far_from_the_start_needs_long_sequences(name):
    function, expected = faulty.FAR_FAULTS[name]
    assert failed(function, checks=sorted(expected)) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL_FAULTS)
def test_a_planted_fault_fails_no_other_check(name):
    function, expected = ALL_FAULTS[name]
    assert failed(function, quick=name in faulty.FAULTS) == expected


def test_every_check_has_a_fault_that_it_finds():
    assert set().union(*(expected for _, expected in ALL_FAULTS.values())) == set(
        conformance.CHECKS
    )


@pytest.mark.system
def test_the_sound_function_passes_everything():
    assert {
        result.check: result.status for result in conformance.run(faulty.SOUND)
    } == dict.fromkeys(conformance.CHECKS, "ok")
