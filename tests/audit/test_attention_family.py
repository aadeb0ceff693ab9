"""The audit's family "attention": the conformance suite, on the attention function of a subject."""

import dataclasses

import jax.numpy as jnp
import pytest
from flax import linen

from jaxreg import attention_fn
from jaxreg.attention.conformance import CHECKS as SUITE
from jaxreg.attention.conformance.suite import LONG_ONLY
from jaxreg.audit import suite
from jaxreg.audit.checks import attention
from jaxreg.audit.subject import Subject
from tests.helpers import faulty_attention as faulty

SUBJECT = Subject(
    init=lambda key: {"w": jnp.ones(3)},
    loss=lambda state, batch, key, train: batch @ state["w"],
    batch=lambda seed, size: jnp.ones((size, 3)),
)
CHEAP = ("attention_rates", "attention_evaluation", "attention_transforms")


def audited(function, *checks: str) -> dict[str, tuple[str, str]]:
    subject = dataclasses.replace(SUBJECT, attention=function)
    found = suite.run(subject, checks or ["attention"])
    return {finding.check: (finding.status, finding.detail) for finding in found}


def test_every_check_of_the_suite_but_the_long_one_is_part_of_one_check():
    parts = [part for each in attention.PARTS.values() for part in each]
    assert sorted(parts) == sorted(set(SUITE) - set(LONG_ONLY))
    assert list(attention.PARTS) == list(attention.CHECKS)


def test_without_a_function_it_is_not_applicable():
    for status, detail in audited(None).values():
        assert (status, detail) == ("not applicable", "needs `attention` of the subject")


def test_what_is_no_attention_function_is_said():
    status, detail = audited(lambda x: x, "attention_rates")["attention_rates"]
    assert status == "FAILED"
    assert detail.startswith("`attention` is no attention function: it takes 1 positional argument")


@pytest.mark.system
def test_the_rates_that_flax_takes_in_silence_are_listed():
    found = audited(linen.dot_product_attention, *CHEAP)
    assert [check for check, (status, _) in found.items() if status == "FAILED"] == [
        "attention_rates"
    ]
    assert (
        "rate_1: the output is NaN, in silence; rate_nan: nothing is dropped"
        in (found["attention_rates"][1])
    )


def test_a_sound_function_passes():
    assert {status for status, _ in audited(faulty.SOUND, *CHEAP).values()} == {"ok"}


@pytest.mark.system
def test_ours_passes_all():
    found = audited(attention_fn())
    assert {status for status, _ in found.values()} == {"ok"} and len(found) == len(attention.PARTS)


def failing(expected: set[str]) -> set[str]:
    """The checks of the audit in which these checks of the suite are."""
    return {name for name, parts in attention.PARTS.items() if expected & set(parts)}


def test_every_check_has_a_planted_fault():
    assert set().union(*(failing(found) for _, found in faulty.FAULTS.values())) == set(
        attention.CHECKS
    )


@pytest.mark.system
@pytest.mark.parametrize("name", faulty.FAULTS)
def test_a_planted_fault_is_found_by_its_checks_and_no_cheap_other(name):
    function, expected = faulty.FAULTS[name]
    checks = [each for each in attention.CHECKS if each in failing(expected) or each in CHEAP]
    found = audited(function, *checks)
    failed = {check for check, (status, _) in found.items() if status == "FAILED"}
    assert failed == failing(expected)
