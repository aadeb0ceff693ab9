"""How the judge came to its numbers: tests, intervals, corrections and what they assume, in words,
with sources.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxreg.study.analysis import statistics, two_samples
from jaxreg.study.analysis.runs import Question


class Publication(NamedTuple):
    """A publication: how a sentence cites it, and where it is."""

    short: str
    full: str


FISHER = Publication("Fisher 1935", "R. A. Fisher, The Design of Experiments, section 21, 1935")
JANSSEN = Publication(
    "Janssen 1997",
    "A. Janssen, Studentized permutation tests for non-i.i.d. hypotheses and the generalized"
    " Behrens-Fisher problem, 1997, doi:10.1016/S0167-7152(97)00043-6",
)
PHIPSON = Publication(
    "Phipson & Smyth 2010",
    "B. Phipson and G. K. Smyth, Permutation p-values should never be zero, 2010,"
    " doi:10.2202/1544-6115.1585",
)
STUDENT = Publication(
    "Student 1908", "Student, The probable error of a mean, 1908, doi:10.1093/biomet/6.1.1"
)
WELCH = Publication(
    "Welch 1947",
    "B. L. Welch, The generalization of 'Student's' problem when several different population"
    " variances are involved, 1947, doi:10.1093/biomet/34.1-2.28",
)
HOLM = Publication(
    "Holm 1979",
    "S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of"
    " Statistics 6(2), 65-70, 1979",
)
SCHUIRMANN = Publication(
    "Schuirmann 1987",
    "D. J. Schuirmann, A comparison of the two one-sided tests procedure and the power approach,"
    " 1987, doi:10.1007/BF01068419",
)

CLAIMS = {
    "superiority": "that it is better than the baseline",
    "non-inferiority": "that it is no worse than the baseline",
    "equivalence": "that it is the same as the baseline",
}


def _drawn(results: Mapping[str, Any]) -> list[int]:
    """How many sign patterns or splits were drawn, in order; [] where all were counted.

    An A/A arm that is compared in another way than the others is not asked.
    """
    paired = results["pairing"]["paired"]
    sizes = [
        row["runs"]
        for row in results["comparisons"]
        if row["p"] is not None and (row["pairing"] == "paired") == paired
    ]
    if paired:
        many = any(arm > statistics.MAX_EXACT_SEEDS for arm, _ in sizes)
        return [statistics.NUM_DRAWS] if many else []
    return sorted(
        {
            two_samples.drawn_splits(arm + base)
            for arm, base in sizes
            if math.comb(arm + base, arm) > two_samples.MAX_EXACT_SPLITS
        }
    )


def test_name(results: Mapping[str, Any]) -> str:
    """The test's name, as it stands in a sentence after "a two-sided"."""
    drawn = [f"{count:,}" for count in _drawn(results)]
    how = f"{' to '.join(dict.fromkeys((drawn[0], drawn[-1])))} drawn" if drawn else "all"
    if results["pairing"]["paired"]:
        return (
            "sign-flip permutation test on the differences between runs of one seed"
            f" ({how} sign patterns)"
        )
    return (
        f"permutation test of Welch's t ({how} splits of the runs; where its p is larger, Welch's"
        " t test)"
    )


def sources(results: Mapping[str, Any], question: Question) -> list[Publication]:
    """Of the test, the interval, and the corrections that were used."""
    paired = results["pairing"]["paired"]
    return [
        FISHER if paired else JANSSEN,
        *([PHIPSON] if _drawn(results) else []),
        STUDENT if paired else WELCH,
        HOLM,
        *([SCHUIRMANN] if question.claim == "equivalence" else []),
    ]


def test(results: Mapping[str, Any], question: Question) -> str:
    """What the p values are those of, as it stands after "by"."""
    if question.margin is None or question.claim == "superiority":
        return f"a two-sided {test_name(results)}"
    if question.claim == "non-inferiority":
        return f"a one-sided {test_name(results)}, against worse by the margin"
    return f"two one-sided tests against the margin, each a {test_name(results)}"


def interval(results: Mapping[str, Any]) -> str:
    """The name of the 95% interval."""
    return "Student's t" if results["pairing"]["paired"] else "Welch's t"


def family(results: Mapping[str, Any], question: Question) -> str:
    """What Holm's correction runs over."""
    tests = sum(arm not in (question.baseline, question.aa) for arm in results["arms"])
    arms = "1 arm" if tests == 1 else f"{tests} arms"
    return arms if question.looks == 1 else f"{arms} and {question.looks} planned looks"


def lines(results: Mapping[str, Any], question: Question) -> list[tuple[str, str]]:
    """(what, how) of everything that was assumed or chosen."""
    found = [
        ("claim", f"of each arm: {CLAIMS[question.claim]} on {question.primary}"),
        ("better", "higher" if question.higher_is_better else "lower"),
        ("margin", "none given" if question.margin is None else f"{question.margin:g}"),
        ("runs", "each run is one independent draw; items of one run were averaged before"),
        ("pairing", results["pairing"]["why"]),
        ("test", test(results, question)),
        ("correction", f"Holm's method over {family(results, question)}, at {question.alpha:g}"),
        ("interval", f"{interval(results)}, 95%, not corrected for the number of arms"),
    ]
    if results["pairing"]["paired"]:
        words = "of paired differences, 95%, however often one looks (Lindon et al. 2022"
        found.append(("at every number of seeds", f"{words}, arXiv:2210.08589)"))
    if question.looks > 1:
        found.append(("look", f"number {question.look} of {question.looks} planned beforehand"))
    return found + [
        ("check", f"{control['what']}: {control['detail']}")
        for control in results["controls"].values()
        if control["passed"]
    ]
