"""Every measure against a slow computation by hand on made-up members, and what a diverged one
counts as.
"""

import math

import numpy as np
import pytest

from jaxreg.study.claims import measures
from jaxreg.study.claims.measures import Probe
from jaxreg.study.engine import program
from tests.helpers import made_up_claims as made_up
from tests.helpers import tiny

VIEWS = {"train": 1.0, "validation": 0.75, "recombination": 0.625}
UP = [(0.2, 2.0), (0.6, 1.0), (0.9, 0.4)]
DOWN = [(0.1, 1.5), (0.5, 1.2), (0.7, 0.8)]


def by_hand(member, view: str, column: int) -> float:
    """Mean over the rows a view counts, one row at a time."""
    chosen = member.view(view)
    index = member.record.meta["passes"].index([chosen.split, list(chosen.cut)])
    rows = [
        member.record.arrays["scores"][index, row, column]
        for row, weight in enumerate(member.dataset.view_weights(chosen))
        if weight > 0
    ]
    return sum(map(float, rows)) / len(rows)


def test_accuracies_and_losses_are_means_over_the_rows_of_a_view():
    m = made_up.member(VIEWS)
    for view in ("train", "validation", "informative", "noun_cut", "template_two_adjectives"):
        assert measures.accuracy(view).value([m]) == pytest.approx(by_hand(m, view, 0))
        assert measures.loss(view).value([m]) == pytest.approx(by_hand(m, view, 1))
    assert measures.accuracy("recombination").value([m]) == 0.625
    assert measures.above_chance("recombination").value([m]) == 0.125
    assert measures.gap("train", "validation").value([m]) == 0.25
    assert measures.loss_gap("train", "validation").value([m]) == pytest.approx(
        by_hand(m, "train", 1) - by_hand(m, "validation", 1)
    )
    assert measures.worst("train", "validation", "recombination").value([m]) == 0.625


def test_errors_are_the_logarithm_of_the_share_of_wrong_answers():
    m = made_up.member(VIEWS)
    rows = int((m.dataset.view_weights(m.view("recombination")) > 0).sum())
    errors = measures.log_errors("recombination")
    assert errors.value([m]) == pytest.approx(math.log((0.375 * rows + 0.5) / (rows + 1)))
    assert math.isfinite(errors.value([made_up.member({"recombination": 1.0})])), "no errors"
    lost = made_up.member(VIEWS, diverged=True)
    assert errors.value([lost]) == pytest.approx(math.log((0.5 * rows + 0.5) / (rows + 1)))


def test_of_a_large_training_split_only_the_scored_rows_are_read(monkeypatch):
    monkeypatch.setattr(program, "SCORED_TRAINING_ROWS", 3)
    m = made_up.member(VIEWS)
    scores = m.record.arrays["scores"][m.record.meta["passes"].index(["train", []])]
    scores[:3], scores[3:] = [(1.0, 0.5), (0.0, 2.5), (1.0, 0.0)], np.nan
    assert measures.accuracy("train").value([m]) == pytest.approx(2 / 3)
    assert measures.loss("train").value([m]) == pytest.approx(1.0)


def test_kept_is_the_share_above_chance_that_is_left():
    m = made_up.member({"recombination": 1.0, "recombination/noun": 0.75})
    cut = by_hand(m, "noun_cut", 0)
    assert measures.kept("noun_cut", "informative").value([m]) == pytest.approx((cut - 0.5) / 0.5)
    nothing = made_up.member({"recombination": 0.0})
    assert measures.kept("noun_cut", "informative").value([nothing]) == 0.0


def test_steps_to_a_threshold_are_those_of_the_first_evaluation_there():
    m = made_up.member(VIEWS, curves={"validation": UP})
    assert measures.steps_to("validation", 0.6).value([m]) == pytest.approx(math.log(20))
    assert measures.steps_to("validation", 0.61).value([m]) == pytest.approx(math.log(30))
    assert measures.steps_to("validation", 0.95).value([m]) == pytest.approx(
        math.log(tiny.NUM_STEPS)
    )


def test_the_value_at_a_crossing():
    m = made_up.member(VIEWS, curves={"train": UP, "validation": DOWN})
    read = measures.at_crossing
    assert read("validation", "train", loss_below=1.5).value([m]) == 0.5
    assert read("validation", "train", accuracy=0.7).value([m]) == 0.7
    assert read("validation", "train", loss_below=0.1).value([m]) == 0.7, (
        "never there: the last evaluation"
    )
    assert read("train", "train", loss_below=1.5, minus="validation").value([m]) == pytest.approx(
        0.1
    )
    assert read("validation", "train", loss_below=1.5, of="loss").value([m]) == 1.2
    with pytest.raises(ValueError, match="one of the two"):
        read("validation", "train")
    with pytest.raises(ValueError, match="one of the two"):
        read("validation", "train", accuracy=0.5, loss_below=0.5)


def test_a_stopped_member_is_read_at_its_last_evaluation():
    stopped = [UP[0], UP[1], (math.nan, math.nan)]
    m = made_up.member(
        VIEWS, curves={"train": stopped, "validation": [DOWN[0], DOWN[1], (math.nan, math.nan)]}
    )
    assert measures.at_crossing("validation", "train", loss_below=0.1).value([m]) == 0.5
    assert measures.train_mode_loss().value([m]) == 0.5


def test_a_diverged_member_counts_as_a_guess():
    lost = made_up.member(VIEWS, diverged=True)
    outputs = len(lost.dataset.outputs)
    assert measures.accuracy("recombination").value([lost]) == 0.5
    assert measures.loss("recombination").value([lost]) == pytest.approx(math.log(outputs))
    assert (
        measures.above_chance("recombination").value([lost])
        == measures.gap("train", "validation").value([lost])
        == 0.0
    )
    assert measures.worst("train", "noun_cut").value([lost]) == 0.5
    assert measures.steps_to("validation", 0.1).value([lost]) == pytest.approx(
        math.log(tiny.NUM_STEPS)
    )
    assert (
        measures.diverged().value([lost]) == 1.0
        and measures.diverged().value([made_up.member(VIEWS)]) == 0.0
    )
    assert measures.trained_steps().value([lost]) == pytest.approx(math.log(tiny.NUM_STEPS))


def test_what_is_not_finite_counts_as_lost():
    m = made_up.member(VIEWS)
    m.record.arrays["scores"][:] = np.nan
    assert measures.accuracy("recombination").value([m]) == 0.5


def test_over_a_sweep():
    fates = [(1e-3, False), (2e-3, False), (4e-3, True), (8e-3, False)]
    swept = [made_up.member(VIEWS, at=rate, diverged=gone) for rate, gone in fates]
    assert measures.diverged_share().value(swept) == 0.25
    assert measures.largest_stable().value(swept) == pytest.approx(math.log2(2e-3)), (
        "what survives above a failure does not count"
    )
    none = [made_up.member(VIEWS, at=rate, diverged=True) for rate, _ in fates]
    assert measures.largest_stable().value(none) == pytest.approx(math.log2(5e-4)), (
        "one step below the grid"
    )
    with pytest.raises(ValueError, match="reads one member, not 4"):
        measures.accuracy("train").value(swept)


def test_a_sweep_may_count_what_learned_nothing_as_diverged():
    half = math.log(len(tiny.dataset(1).outputs)) / 2
    swept = [
        made_up.member(VIEWS, at=rate, diverged=rate == 8e-3) for rate in (1e-3, 2e-3, 4e-3, 8e-3)
    ]
    for member, loss in zip(swept, (half - 0.01, half - 0.01, half, 0.0), strict=True):
        member.record.arrays["scores"][..., 1] = loss
    assert (
        measures.diverged_share().value(swept) == 0.25
        and measures.diverged_share(on="train").value(swept) == 0.5
    )
    assert measures.largest_stable(on="train").value(swept) == pytest.approx(math.log2(2e-3))
    assert measures.largest_stable().value(swept) == pytest.approx(math.log2(4e-3))
    assert (
        measures.largest_stable(on="train").views == ("train",)
        and measures.diverged_share().views == ()
    )


def test_numbers_of_probes_and_traces():
    probe = Probe("mass", lambda *_: {}, rows=4)
    m = made_up.member(VIEWS, found={"mass": {"mass": np.asarray([0.25, 0.5])}})
    measure = measures.probed("mass on the noun", probe, lambda found: found["mass"][0], lost=0.125)
    assert measure.value([m]) == 0.25 and measure.probes == (probe,)
    lost = made_up.member(VIEWS, diverged=True)
    assert measure.value([lost]) == 0.125
    both = measures.probed_copies(
        "mean", probe, lambda all_found: float(np.mean([f["mass"] for f in all_found]))
    )
    other = made_up.member(VIEWS, found={"mass": {"mass": np.asarray([0.75, 1.0])}})
    assert both.value([m, other]) == 0.625
    assert both.value([m, lost]) == 0.375 and both.value([lost, lost]) == 0.0
    m.record.arrays["trace/norm"] = np.asarray([4.0, 2.0, 1.0])
    assert (
        measures.traced("norm", "gradients", "norm", lambda x: float(x[-1] / x[0])).value([m])
        == 0.25
    )


def test_an_ensemble_is_the_mean_of_probabilities_and_one_member_an_ensemble_of_one():
    asked = np.asarray([[True, True], [True, False]])

    def voter(probabilities, **options):
        votes = {"log_probability": np.log(np.asarray(probabilities)), "is_asked": asked}
        return made_up.member(VIEWS, found={"answers": votes}, **options)

    first, second = voter([[0.5, 0.25], [0.125, 0.9]]), voter([[0.5, 0.75], [0.375, 0.1]])
    together = measures.ensemble_loss("validation")
    by_answer = [0.5, 0.5, 0.25]  # what is not asked does not count
    assert together.value([first, second]) == pytest.approx(-np.mean(np.log(by_answer)))
    assert together.value([first]) == pytest.approx(-np.mean(np.log([0.5, 0.25, 0.125])))
    lost = made_up.member(VIEWS, diverged=True)
    assert together.value([first, lost]) == together.value([first])
    guess = math.log(len(lost.dataset.outputs))
    assert together.value([lost, lost]) == pytest.approx(guess)


def test_the_share_carried_by_position_is_what_is_lost_of_what_lies_above_chance():
    found = {
        "positions": {
            "intact": np.asarray(0.9),
            "moved": np.asarray(0.8),
            "shuffled": np.asarray(0.45),
        }
    }
    m = made_up.member(VIEWS, found=found)
    assert measures.position_share("moved").value([m]) == pytest.approx(0.1 / 0.4)
    assert measures.position_share("shuffled").value([m]) == pytest.approx(0.45 / 0.4), (
        "worse than a guess is more than all of it"
    )
    nothing = made_up.member(
        VIEWS, found={"positions": {"intact": np.asarray(0.5), "moved": np.asarray(0.4)}}
    )
    assert measures.position_share("moved").value([nothing]) == 0.0
    assert measures.position_share("moved").value([made_up.member(VIEWS, diverged=True)]) == 0.0
