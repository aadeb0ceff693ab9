"""What is said beside a verdict: a value at an edge, arms at chance, a baseline that guesses."""

import pytest

from jaxreg.study.claims.cautions import cautions, edge_of
from jaxreg.study.claims.measurements import Gatherer, gather
from jaxreg.study.claims.probe_runner import Prober
from jaxreg.study.claims.tuning import TuningOutcome
from tests.helpers import made_up_claims as made_up


def said(design, planted, choices=None, losses=None):
    """The cautions of a claim whose members have these accuracies, {arm: {split: accuracy}}."""
    pool = made_up.Pool(design, lambda arm, index, run: planted(arm, index))
    for record in pool.records.values() if losses else ():
        record.arrays["scores"][..., 1] = losses
    prober = Prober(design.path.parent / "probes", pool.datasets)
    gatherer = Gatherer(pool.runs, pool.records.__getitem__, pool.datasets, prober)
    return cautions(design, gather(design, gatherer), gatherer, choices or {})


def learned(arm, index):
    high = 0.75 if arm == "drop" else 0.7
    return {"validation": 0.8 + 0.05 * (index % 2), "recombination": high}


@pytest.fixture
def design(tmp_path):
    return made_up.made_design(tmp_path)


def test_nothing_is_said_of_arms_that_learned_and_differ(design):
    assert said(design, learned) == []


def test_an_over_confident_baseline_is_better_than_a_guess_by_its_accuracy(design):
    assert said(design, learned, losses=9.0) == []


@pytest.mark.parametrize("values", [(0.5, 0.5, 0.5, 0.5), (0.5, 0.625, 0.5, 0.5), (0.25,) * 4])
def test_a_baseline_that_is_not_shown_to_beat_a_guess_is_named(design, values):
    [line] = said(design, lambda arm, index: learned(arm, 0) | {"validation": values[index]})
    assert line.startswith("none is not shown to be better than a guess: accuracy, validation")
    assert line.endswith("a guess 50 points")


def test_runs_that_diverged_are_guesses(design):
    lines = said(design, lambda arm, index: None if arm == "none" else learned(arm, index))
    assert [line for line in lines if line.startswith("none is not shown")]


def test_arms_that_are_all_at_chance_are_named(design):
    lines = said(design, lambda arm, index: learned(arm, index) | {"recombination": 0.5})
    assert len(lines) == 1 and "all arms at chance" in lines[0] and "gain" in lines[0]


def test_a_value_at_the_edge_of_its_candidates_is_named_with_its_arm(design):
    rates = [{"optim.learning_rate": rate} for rate in (0.001, 0.01, 0.1)]
    choices = {
        arm: TuningOutcome(tuple(rates), (0.5, 0.6, 0.7), chosen)
        for arm, chosen in (("none", 2), ("drop", 1))
    }
    [line] = said(design, learned, choices)
    assert "highest optim.learning_rate" in line and line.endswith(": none")
    assert edge_of(TuningOutcome(tuple(rates), (1.0, 0.0, 0.0), 0)) == {
        "optim.learning_rate": "lowest"
    }


@pytest.mark.parametrize(
    "options",
    [
        (
            {"optim.schedule": "cosine"},
            {"optim.schedule": "linear"},
            {"optim.schedule": "constant"},
        ),
        ({"optim.learning_rate": 0.1}, {"optim.learning_rate": 0.2}),
    ],
)
def test_words_and_two_numbers_have_no_edge(options):
    assert edge_of(TuningOutcome(options, (0.1,) * len(options), 0)) == {}
