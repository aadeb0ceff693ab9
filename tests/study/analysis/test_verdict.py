"""Every rule of the verdict by a hand-made case, the order of the rules, and how often they err."""

import math

import numpy as np
import pytest

from jaxreg.study.analysis import statistics, verdict
from jaxreg.study.analysis.verdict import (
    INCONCLUSIVE,
    NEGLIGIBLE,
    NOT_TESTABLE,
    OPPOSITE,
    SUPPORTED,
    Comparison,
    judge,
)

MARGIN, ALPHA = 0.05, 0.05
WIGGLE = np.array([-1.0, 1.0, -0.5, 0.5, -0.2, 0.2, -0.8, 0.8, 0.1, -0.1])  # mean 0


def around(mean, spread=0.01):
    """Ten differences with this mean."""
    return mean + spread * WIGGLE


def said(differences, **changes):
    return judge(differences, **{"margin": MARGIN, "alpha": ALPHA, **changes})


def test_supported_is_significant_and_may_be_as_large_as_the_margin():
    assert said(around(0.08)).label == SUPPORTED
    # significant, right direction, the estimate below a margin that is not excluded
    below = said(around(0.045, 0.03))
    assert below.p_holm <= ALPHA and below.label == SUPPORTED and below.by_margin is False
    assert "neither excluded nor shown" in below.reason
    # large, right direction, but not significant
    noisy = said(around(0.08, 0.4))
    assert noisy.difference > MARGIN and noisy.p > ALPHA and noisy.label == INCONCLUSIVE
    # large and significant, but not after the correction
    assert said(around(0.08), p_holm=0.051).label == INCONCLUSIVE
    assert said(around(0.08), num_tests=30).label == INCONCLUSIVE  # 10 seeds cannot carry 30 tests
    # large, significant, other direction
    assert said(around(0.08), direction=-1).label == OPPOSITE


def test_an_estimate_that_is_the_margin_counts():
    exactly = np.full(8, 0.3 - 0.25)  # a float just below .05
    assert exactly.mean() < MARGIN
    assert said(exactly).label == SUPPORTED


def test_negligible_and_opposite_and_their_order():
    small = said(around(0.01))
    assert (
        small.label == NEGLIGIBLE and small.p_holm <= ALPHA
    )  # significant, and no effect of the margin
    assert said(around(0.0)).label == NEGLIGIBLE
    # a small harm mirrors a small gain: significant, and the margin is excluded either way
    harm = said(around(-0.01))
    assert harm.label == NEGLIGIBLE and harm.p_holm <= ALPHA and "against" in harm.reason
    assert verdict.refuting_p(Comparison(around(-0.01), MARGIN)) <= ALPHA
    assert said(around(-0.045, 0.03)).label == OPPOSITE
    assert said(around(-0.2)).label == OPPOSITE
    # not significantly harmful, but the margin is excluded
    assert said(around(-0.002, 0.02)).label == NEGLIGIBLE


def test_by_the_margin_is_a_test_against_it():
    for differences, label in ((around(0.08), SUPPORTED), (around(-0.08), OPPOSITE)):
        found = said(differences)
        below = statistics.sign_flip_test(
            np.abs(differences), alternative="greater", shift=MARGIN
        ).p
        assert (found.label, found.by_margin, found.p_margin_holm) == (label, True, below)
        assert verdict.words(found.label, found.by_margin) == f"{label}, by the margin"
    wide = said(around(0.055, 0.05))  # significant; the interval reaches below the margin
    assert (wide.label, wide.by_margin) == (SUPPORTED, False)
    assert wide.p_margin_holm > ALPHA >= wide.p_holm
    assert verdict.words(wide.label, wide.by_margin) == SUPPORTED
    # corrected in its own family: 1/1024 times 60
    many = verdict.judge_family([Comparison(around(0.08, 0.02), MARGIN)] * 25, alpha=ALPHA)
    assert {(each.label, each.by_margin) for each in many} == {(SUPPORTED, True)}
    lone = Comparison(around(0.08), MARGIN)
    mixed = verdict.judge_family([lone, Comparison(around(0.0), MARGIN)], alpha=ALPHA)
    assert mixed[0].p_margin_holm == 2 / 1024 and mixed[1].by_margin is None
    for kind in ("non-inferiority", "equivalence"):
        assert said(around(0.08), kind=kind).by_margin is None


def test_supported_and_opposite_are_mirror_images():
    """The claim and its reverse: what supports one is the opposite of the other."""
    mirror = {SUPPORTED: OPPOSITE, OPPOSITE: SUPPORTED}
    rng = np.random.default_rng(5)
    seen = set()
    for mean in (-0.09, -0.05, -0.03, -0.01, 0.0, 0.02, 0.045, 0.06, 0.1):
        for spread in (0.01, 0.04, 0.2):
            differences = mean + rng.normal(0.0, spread, 9)
            one, other = said(differences), said(differences, direction=-1)
            assert one.by_margin == other.by_margin and one.p == other.p
            if one.label in mirror:
                assert other.label == mirror[one.label]
            else:
                assert other.label not in mirror
            seen.add(one.label)
    assert seen == {SUPPORTED, OPPOSITE, NEGLIGIBLE, INCONCLUSIVE}


def test_direction_mirrors_everything():
    for differences in (around(0.08), around(0.01), around(-0.02), around(0.03, 0.1)):
        for kind in verdict.QUESTION_KINDS:
            one, other = said(differences, kind=kind), said(-differences, kind=kind, direction=-1)
            assert (
                one.label == other.label
                and one.p == other.p
                and one.seeds_needed == other.seeds_needed
            )
            assert one.difference == -other.difference
            assert one.ci95 == pytest.approx((-other.ci95[1], -other.ci95[0]))


def test_numbers_of_a_verdict():
    differences = around(0.08)
    found = said(differences, num_tests=3)
    assert found.p == statistics.sign_flip_test(differences).p == 2 / 1024
    assert found.p_holm == 6 / 1024
    assert found.difference == pytest.approx(0.08)
    assert found.ci95 == tuple(statistics.t_interval(differences, 0.05))
    assert found.seeds_needed is None
    assert said(differences, alpha=0.01).ci95 == found.ci95  # 95%, whatever the level


def test_non_inferiority():
    no_worse = said(around(-0.01), kind="non-inferiority")
    assert no_worse.label == SUPPORTED  # worse, but not by the margin
    assert no_worse.p == statistics.non_inferiority_test(around(-0.01), MARGIN).p
    assert said(around(0.2), kind="non-inferiority").label == SUPPORTED
    assert said(around(-0.08), kind="non-inferiority").label == OPPOSITE
    # worse by the margin as it is estimated, and not shown: open
    over = said(around(-0.055, 0.05), kind="non-inferiority")
    assert statistics.sign_flip_test(around(-0.055, 0.05)).p <= ALPHA
    assert over.label == INCONCLUSIVE
    # significantly worse, by less than the margin, and the margin is not excluded: open
    near = said(around(-0.045, 0.03), kind="non-inferiority")
    assert statistics.sign_flip_test(around(-0.045, 0.03)).p <= ALPHA and near.label == INCONCLUSIVE
    assert said(around(-0.08, 0.4), kind="non-inferiority").label == INCONCLUSIVE
    assert said(around(0.01), kind="non-inferiority", direction=-1).label == SUPPORTED
    assert said(around(0.08), kind="non-inferiority", direction=-1).label == OPPOSITE


def test_equivalence():
    same = said(around(0.01), kind="equivalence")
    assert same.label == SUPPORTED and same.p == statistics.equivalence_test(around(0.01), MARGIN).p
    for mean in (0.08, -0.08):
        assert said(around(mean), kind="equivalence").label == OPPOSITE
        one_side = Comparison(around(mean), MARGIN, kind="equivalence")
        assert verdict.refuting_p(one_side) == 2 / 1024  # either side could have been
    assert said(around(0.045, 0.03), kind="equivalence").label == INCONCLUSIVE
    assert said(around(0.0, 0.3), kind="equivalence").label == INCONCLUSIVE


def test_inconclusive_says_how_many_seeds():
    differences = around(0.03, 0.2)
    found = said(differences)
    spread = differences.std(ddof=1)
    assert found.label == INCONCLUSIVE
    assert found.seeds_needed == statistics.seeds_for_power(spread, MARGIN, alpha=ALPHA) > 10
    assert str(found.seeds_needed) in found.reason
    assert said(differences, num_tests=10).seeds_needed > found.seeds_needed
    one_sided = said(around(-0.03, 0.2), kind="non-inferiority").seeds_needed
    assert (
        one_sided
        == statistics.seeds_for_power(spread, MARGIN, alpha=ALPHA, sided=1)
        < found.seeds_needed
    )
    assert said(differences, kind="equivalence").seeds_needed > one_sided


def test_near_the_margin_more_seeds_are_needed_than_it_has():
    # ten seeds are enough to see worse by the margin, but .045 must be parted from .05
    differences = around(-0.045, 0.03)
    near = said(differences, kind="non-inferiority")
    spread = differences.std(ddof=1)
    assert statistics.seeds_for_power(spread, MARGIN, alpha=ALPHA) <= 10
    assert (
        near.seeds_needed
        == statistics.seeds_for_power(spread, MARGIN - 0.045, alpha=ALPHA, sided=1)
        > 10
    )
    nearer = said(around(-0.0499999, 0.03), kind="non-inferiority")
    assert (
        nearer.label == INCONCLUSIVE
        and nearer.seeds_needed is None
        and "more than" in nearer.reason
    )


def test_between_no_effect_and_the_margin_the_nearer_decision_is_planned():
    for mean, effect, sided, goal in (
        (0.032, 0.032, 2, "from 0"),
        (0.014, MARGIN - 0.014, 1, "from the margin"),
    ):
        differences = around(mean, 0.06)
        spread = differences.std(ddof=1)
        assert statistics.seeds_for_power(spread, MARGIN, alpha=ALPHA) <= 10
        found = said(differences, p_holm=0.06, p_refuting_holm=0.06)
        wanted = statistics.seeds_for_power(spread, effect, alpha=ALPHA, sided=sided)
        assert found.label == INCONCLUSIVE and found.seeds_needed == wanted
        assert goal in found.reason


def test_few_seeds():
    one = said([0.1])
    assert one.label == INCONCLUSIVE and one.p == 1.0 and one.seeds_needed is None
    assert all(math.isnan(end) for end in one.ci95)
    two = said([0.1, 0.1])
    assert two.label == INCONCLUSIVE and two.p == 0.5 and two.seeds_needed == 6


def test_not_testable_carries_the_reason_and_no_p():
    reason = "the baseline reaches 99% on validation: nothing over-fits"
    found = said(around(0.08), untestable=reason)
    assert (found.label, found.reason, found.p, found.p_holm) == (NOT_TESTABLE, reason, None, None)
    assert found.difference == pytest.approx(0.08) and found.ci95[0] < 0.08 < found.ci95[1]
    empty = said([], untestable="no measurement decides it")
    assert empty.label == NOT_TESTABLE and empty.difference is None and empty.ci95 is None


def test_family_is_holm_over_the_primary_tests():
    family = [
        Comparison(around(0.08), MARGIN),
        Comparison(around(0.08, 0.1), MARGIN),
        Comparison(around(0.0), MARGIN),
    ]
    found = verdict.judge_family(family, alpha=ALPHA)
    p = [statistics.sign_flip_test(c.differences).p for c in family]
    assert [v.p for v in found] == p
    assert [v.p_holm for v in found] == statistics.holm(p).tolist()
    assert found[0].label == SUPPORTED and found[2].label == NEGLIGIBLE
    assert verdict.judge_family([], alpha=ALPHA) == []


def test_the_family_can_take_a_verdict_away():
    # alone p = 2/1024; the smallest of 30 times 30 is .059
    assert said(around(0.08)).label == SUPPORTED
    found = verdict.judge_family([Comparison(around(0.08), MARGIN)] * 30, alpha=ALPHA)
    assert {v.label for v in found} == {INCONCLUSIVE}
    # the same holds for refuting as negligible: 1/1024 times 60
    found = verdict.judge_family([Comparison(around(0.0), MARGIN)] * 60, alpha=ALPHA)
    assert {v.label for v in found} == {INCONCLUSIVE}


def test_an_untestable_claim_keeps_its_place_in_the_family():
    found = verdict.judge_family(
        [Comparison(around(0.08), MARGIN), Comparison([], MARGIN, untestable="no data")],
        alpha=ALPHA,
    )
    assert found[0].p_holm == 2 * found[0].p
    assert found[1].label == NOT_TESTABLE and found[1].p_holm is None


def test_how_often_verdicts_err():
    """No effect is rarely supported or opposite; an effect of the margin is rarely negligible."""
    rng = np.random.default_rng(11)

    def share(labels, mean, spread, **changes):
        rows = rng.normal(mean, spread, (300, 9))
        return np.mean([said(row, **changes).label in labels for row in rows])

    most = 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)
    assert share((SUPPORTED, OPPOSITE), 0.0, 0.04) < most
    assert share((NEGLIGIBLE, OPPOSITE), MARGIN, 0.04) < most
    assert share((SUPPORTED,), -MARGIN, 0.04, kind="non-inferiority") < most
    assert share((SUPPORTED,), MARGIN, 0.02, kind="equivalence") < most
    assert share((SUPPORTED,), 2 * MARGIN, 0.04) > 0.8


@pytest.mark.parametrize(
    "change, name",
    [
        ({"margin": 0.0}, "margin"),
        ({"margin": math.nan}, "margin"),
        ({"direction": 0}, "direction"),
        ({"kind": "better"}, "kind"),
        ({"alpha": 1.0}, "alpha"),
        ({"num_tests": 0}, "num_tests"),
        ({"untestable": ""}, "untestable"),
    ],
)
def test_names_what_is_wrong(change, name):
    with pytest.raises(ValueError, match=name):
        said(around(0.08), **change)


def test_a_nan_never_passes():
    with pytest.raises(ValueError, match="differences"):
        said([0.1, math.nan])
    with pytest.raises(ValueError, match="differences"):
        said([])


def test_a_diverged_run_counts_as_chance():
    filled = verdict.fill_diverged([0.9, math.nan, None, math.inf, 0.7], 0.5)
    np.testing.assert_array_equal(filled, [0.9, 0.5, 0.5, 0.5, 0.7])
    known = verdict.fill_diverged([0.9, 0.0, 0.7], 0.5, diverged=[False, True, False])
    np.testing.assert_array_equal(known, [0.9, 0.5, 0.7])
    # it is counted, so it can undo a verdict
    arm, baseline = np.full(6, 0.8), np.full(6, 0.7)
    assert said(arm - baseline).label == SUPPORTED
    arm[0] = math.nan
    assert said(verdict.fill_diverged(arm, 0.5) - baseline).label == INCONCLUSIVE
    with pytest.raises(ValueError, match="diverged"):
        verdict.fill_diverged([0.9], 0.5, diverged=[True, False])
    with pytest.raises(ValueError, match="chance"):
        verdict.fill_diverged([0.9], math.nan)


def test_uninformative_splits():
    def tell(**arms):
        return verdict.informative(arms, chance=0.5)

    assert tell(none=[0.7, 0.8], dropout=[0.9, 0.8])
    ceiling = tell(none=[0.99, 1.0], dropout=[1.0, 1.0])
    assert not ceiling and "ceiling" in ceiling.detail
    guess = tell(none=[0.49, 0.53], dropout=[0.5, 0.48])
    assert not guess and "chance" in guess.detail
    assert tell(none=[0.5, 0.5], dropout=[1.0, 1.0])  # half at each: nothing is clearer
    assert tell(none=[0.3, 0.3], dropout=[0.32, 0.3])  # below chance is a bias, and says something
    assert tell(none=[1.0, 1.0], dropout=[0.9, 0.9])
    with pytest.raises(ValueError, match="no arm"):
        tell()
    with pytest.raises(ValueError, match="none"):
        tell(none=[math.nan])


def test_controls():
    quiet = around(0.0, 0.05)
    same = verdict.aa_control(said(quiet), quiet)
    assert (
        same
        and same.noise_floor == pytest.approx(quiet.std(ddof=1))
        and "noise floor" in same.detail
    )
    for mean in (0.08, -0.08):
        assert verdict.aa_control(said(around(mean)), around(mean)).passed is False
    assert verdict.positive_control(said(around(0.08)))
    for differences in (around(0.0), around(0.08, 0.4), around(-0.08)):
        assert verdict.positive_control(said(differences)).passed is False
    untestable = said(around(0.08), untestable="did not train")
    assert verdict.positive_control(untestable).passed is None and not verdict.positive_control(
        untestable
    )
    assert verdict.aa_control(untestable, around(0.08)).passed is None
