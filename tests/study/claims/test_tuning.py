"""The equal-budget rule: the best mean validation accuracy, of equals the first, a diverged run at
chance.
"""

import pytest

from jaxreg.study.claims import tuning
from tests.helpers import made_up_claims as made_up
from tests.helpers import tiny
from tests.study.claims.test_design import TUNED


def chosen(tmp_path, accuracies):
    """The choice of arm "drop" whose candidates have these validation accuracies per seed; None is
    a diverged run.
    """
    design = made_up.made_design(tmp_path, TUNED)
    candidates = {
        name: design.candidates(name, lambda section, seed: "draw") for name in design.tunes()
    }
    records = {
        spec.hash: made_up.record(tiny.dataset(1), {"validation": 0.5})
        for option in candidates["none"]
        for spec in option
    }
    for option, values in zip(candidates["drop"], accuracies, strict=True):
        for spec, value in zip(option, values, strict=True):
            records[spec.hash] = made_up.record(
                tiny.dataset(1),
                {"validation": value or 0.0, "recombination": 1 - (value or 0)},
                diverged=value is None,
            )
    return tuning.choose(design, candidates, records.__getitem__, {"draw": tiny.dataset(1)})


def test_the_best_mean_is_taken_and_everything_recorded(tmp_path):
    choice = chosen(tmp_path, [(0.5, 0.75, 0.5), (0.75, 0.75, 0.5)])["drop"]
    assert choice.chosen == 1 and choice.scores == pytest.approx((7 / 12, 8 / 12))
    assert choice.entry()["options"] == [
        {"model.attention_dropout_rate": 0.1, "optim.weight_decay": 0},
        {"model.attention_dropout_rate": 0.3, "optim.weight_decay": 1.0},
    ]
    assert chosen(tmp_path, [(0.75, 0.75, 0.5), (0.5, 0.75, 0.5)])["drop"].chosen == 0


def test_of_equals_the_first(tmp_path):
    assert chosen(tmp_path, [(0.25, 0.75, 0.5), (0.5, 0.5, 0.5)])["drop"].chosen == 0


def test_a_diverged_run_guesses(tmp_path):
    choice = chosen(tmp_path, [(0.75, 0.75, None), (0.625, 0.75, 0.75)])["drop"]
    assert (
        choice.scores == pytest.approx(((0.75 + 0.75 + 0.5) / 3, (0.625 + 1.5) / 3))
        and choice.chosen == 1
    )
