"""The committed record of planted faults and of clean models; all of it made again, slowly."""

import jax
import pytest

from jaxreg.audit import suite
from tests.audit import record

FOUND = record.read()


def test_every_fault_is_found_by_its_check_and_by_no_other():
    assert set(FOUND["faults"]) == set(record.FAULTS)
    assert set(record.FAULTS) == set(suite.chosen()) - set(suite.chosen(["attention"]))
    for name, failed in FOUND["faults"].items():
        assert failed == [name]


def test_every_faulty_attention_function_fails_the_checks_that_are_named_for_it():
    assert set(FOUND["attention"]) == set(record.ATTENTION)
    for name, failed in FOUND["attention"].items():
        assert set(failed) == record.ATTENTION[name][1], name


def test_clean_models_have_no_false_alarm_over_50_seeds():
    assert set(FOUND["clean"]) == set(record.CLEAN)
    for name, found in FOUND["clean"].items():
        assert found["seeds"] == record.SEEDS and found["alarms"] == {}, name
        assert found["checks"] == len(suite.chosen(record.CLEAN[name].families))
        # A model of the first families has no step, and one that is not causal is not asked for it.
        assert set(found["silent"]) <= {"steps_differ", "causal", "causal_in_training"}


def test_the_page_has_the_counts_of_the_record():
    page = record.PAGE.read_text(encoding="utf-8")
    assert page == record.with_counts(page)
    assert f"{len(FOUND['faults'])} of {len(record.FAULTS)} went through all checks" in page


@pytest.fixture
def few_mappings():
    """Forgets an audit's programs: Linux allows a process as many memory mappings as 16 audits."""
    yield
    jax.clear_caches()


@pytest.mark.slow(reason="46 whole audits: what the record has, made again")
@pytest.mark.parametrize("name", record.FAULTS)
def test_a_fault_is_found_by_its_check_and_no_other(name, few_mappings):
    assert record.failed(record.FAULTS[name](), suite.chosen()) == [name]


@pytest.mark.slow(reason="50 audits of each of six models: what the record has, made again")
@pytest.mark.parametrize("name", record.CLEAN)
def test_a_clean_model_has_no_alarm_at_50_seeds(name, few_mappings):
    *_, found = record.outcomes(name, {})
    assert found["seeds"] == record.SEEDS and found["alarms"] == {}
    of_causal = ["causal", "causal_in_training"] if name == "bidirectional" else []
    of_step = ["steps_differ"] if record.CLEAN[name].families == record.MODEL else []
    assert found["silent"] == sorted([*of_causal, *of_step])
