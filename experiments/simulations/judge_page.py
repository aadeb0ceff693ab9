"""docs/judge-simulations.md, made from the committed figures.

Command:  python experiments/simulations/judge_page.py > docs/judge-simulations.md
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FIGURES = Path(__file__).parents[1] / "results" / "simulations" / "judge.json"
RULES = FIGURES.with_name("rules.json")
SKEWED = FIGURES.with_name("skewed.json")

PROMISE = """\
# How often does `jaxreg judge` err?

Made by `python experiments/simulations/judge_page.py` from
`experiments/results/simulations/judge.json` (`python experiments/simulations/judge.py`,
{experiments} simulated experiments a row, seed committed). All shares are percent; the standard
error of a share of 5 is {standard_error_of_5_percent}.

*No effect*: both arms are alike; the share of significant differences, which would be "supported"
or "opposite". *Effect of the margin*: the share of "negligible" or "opposite" although the true
effect is the margin. Both are false verdicts, and 5 of each is promised at most. *Coverage* is
that of the 95% interval, promised are 92 to 98. *Power* is the share of significant differences in
the right direction, at an effect that the t test would see in 80% of normal experiments of this
size.

*Bootstrap* is the percentile interval that rliable reports (Agarwal et al. 2021, arXiv:2108.13264;
stratified over tasks, of which there is one here), called significant where it excludes 0. It was
made in the script; rliable's own resampling classes gave the same ends on samples of 5, 8 and 12
runs within the noise of the resampling. *Skewed* is exponential, *heavy tails* Student's t of 3
degrees of freedom, *discrete with ties* the right answers of 20 questions, *unequal variances* SDs
of 3 and 1. Paired runs of one seed correlate by {correlation_where_paired}.

In the two tables that follow the judge's false verdicts are {most:.1f} at most, which is 5 within
simulation error ({number} rows, two shares each). From five runs on its coverage is
{least_coverage:.1f} to {most_coverage:.1f}.
"""

BEYOND = """\
## Where no test of means holds its level

With skewed scores *and* spreads of 3 : 1 the judge errs more often than 5%, and coverage falls to
{coverage:.1f}. So does every other test of a difference of means that was tried: sign-flip test,
t test and the larger p of both where runs are paired; the four tests above where they are not.
The mean of so few skewed scores lies below the true one more often than not, and its spread is then
underestimated too. More runs help slowly. Judge the logarithm of such scores (of a loss, a time).
"""

RULE = """\
## Which rule

Three rules for "better by a margin", on the same differences of paired seeds (normal, SD the
margin; `python experiments/simulations/rules.py`, {questions} questions a row):

- *earlier*: supported if significant and the estimate is the margin or more; opposite if
  significantly worse, by any amount; negligible if an effect of the margin is excluded.
- *mirror*, the judge's: supported if significant and the margin is not excluded; opposite its
  mirror image; "by the margin" if significantly beyond it; negligible as above, or significantly
  worse by less than the margin.
- *end*: supported if significantly better than by the margin, opposite its mirror image.

Every question of a family has the same true effect. Each cell of a rule: supported (of these by the
margin) / opposite / negligible, in percent of the questions. *False*: share of families in which
the words of any verdict are false. (At exactly the margin two kinds of mistake are possible,
"negligible" and "by the margin", each at 5, together up to 11.) Where 8 seeds face 30 questions,
nothing can be shown.

The earlier rule's "by at least the margin" is false in every third question just below the margin,
and a chance of one half at it, for one question at 8, 12 and 20 seeds. The strict rule sees an
effect of the margin in 5% and one of 1.5 margins in 20 to 69% of the questions at 20 seeds.
"""

SYMMETRY = """\
## Differences that are not symmetric

"Exact" holds where paired differences are symmetric about their mean. Here they are exponential,
log-normal, or one run in ten collapses, by {depth:g} SDs
(`python experiments/simulations/skewed.py`, {experiments} experiments a row; the margin is one SD,
without the collapses). *Supported* and *opposite*: shares without an effect; *negligible*: with an
effect of the margin ("negligible" or "opposite"). *Coverage* of the t interval. *Warned*: the share
of experiments with the warning that the judge prints: a seed more than {far:g} robust spreads from
the median, or a skewness of more than {skew:g} standard errors.
With few seeds most skew is not seen, so no warning is no proof.

The second opinion is printed with the warning, stands in the JSON always, and changes no verdict:
the mean of the middle 60% with Yuen's interval, and Wilcoxon's signed rank test. Their columns are
the shares that find a difference where the *mean* is 0: of skewed differences the middle is not the
mean, so they answer another question ("does the usual run differ?"), and answer it differently
where a verdict hangs on a few runs.
"""

OF_TWO = """\
### Unpaired runs whose tails differ

The test of two samples is exact where arms differ by a shift only, and nearly so where both are
normal. Runs of one SD, {experiments} experiments a row; *better* and *worse*: significant
differences without an effect; *negligible*: an effect of one SD is excluded although it is there.
Tails that are alike fall out of a difference of equal numbers of runs, so they do little harm;
tails that differ, or of runs of another spread, do not. *Warned*: runs more than {far:g} robust
spreads from their arm's median, or a skewness of the difference of the means of more than {skew:g}
standard errors.

The second opinion of two samples is the difference of the means of the middle 60% of each with
Yuen's interval, and the test of Brunner and Munzel, whether a run of one arm is as likely above as
below one of the other. They too answer another question where the tails differ, and Brunner and
Munzel's test errs somewhat often with six runs.
"""

SHARED = """\
## Many arms, one baseline

{arms} arms that do nothing against one baseline's {seeds} runs, or each against its own; {families}
families. Differences that share a baseline correlate by .5. Holm's method holds under any
dependence: the share of families with a false verdict stays below 5. But false verdicts come
together: where there is one there are often more, and without the correction many families have
none and some have three or more. So verdicts of one experiment are not independent evidence, and a
baseline that was unlucky in its seeds makes several arms look good at once; only new seeds help.
"""

CHOICE = """\
## Two samples: which test

The false verdicts of the four candidates. The permutation test of means is exact where the arms
differ by a shift only; with unequal variances it is not, and worst where the smaller arm has more
spread. Welch's t as the statistic of the permutation test (Janssen 1997,
doi:10.1016/S0167-7152(97)00043-6; Chung & Romano 2013, doi:10.1214/13-AOS1090) repairs that only in
the limit of many runs. Welch's t test holds with unequal variances, and not with skewed scores
and unequal sizes. The judge takes the larger p of the last two. At equal sizes both permutation
tests are the same.
"""

AUTO = """\
## Pairing found by the judge

`--paired=auto` pairs where a one-sided test at 1% says that the runs of one seed correlate. To pair
wherever the correlation seen is above 0 errs too often where seeds mean nothing (correlation 0):
it picks the smaller error by luck. Where seeds are shared, say `--paired`: an unpaired judgement of
them is valid, and wide.
"""

LOOKS = """\
## Looking several times

The share of experiments with a false verdict at *any* of the looks, for one arm. Planned looks are
Holm over arms x looks, with p = 1 for the other looks (here each look is tested at 5% / {number}).
"Until significant" tests each look at 5%: the mistake that planned looks avoid.
"""


ALWAYS = """\
## Looking whenever one likes

The share of experiments of paired seeds in which an interval misses the true difference at any
number of seeds from {least} to {most}. The always-valid interval ("always_valid95" in the JSON;
Lindon et al. 2022, arXiv:2210.08589) is exact for normal differences; the t interval is made for
one look.
"""


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def points(value: float) -> str:
    """A share in percent, to a tenth."""
    return f"{value:.1f}"


def sizes(runs: Sequence[int]) -> str:
    """5 of each, or 5 and 10."""
    return str(runs[0]) if runs[0] == runs[1] else f"{runs[0]} and {runs[1]}"


def main_table(rows: Sequence[dict[str, Any]], t: str, ranks: str, unit: str) -> str:
    """False verdicts, coverage and power of the judge beside others."""
    head = [
        "scores",
        unit,
        "no effect: judge",
        t,
        ranks,
        "bootstrap",
        "effect of the margin: judge",
        "coverage: judge",
        "bootstrap",
        "power: judge",
        t,
        ranks,
        "bootstrap",
    ]
    return table(
        head,
        [
            [
                row["noise"],
                sizes(row["runs"]),
                *(
                    points(found["no_effect"])
                    for found in (row["judge"], row["ways"][t], row[ranks], row["bootstrap"])
                ),
                points(row["judge"]["effect_of_the_margin"]),
                points(row["judge"]["coverage"]),
                points(row["bootstrap"]["coverage"]),
                *(
                    points(found["power"])
                    for found in (row["judge"], row["ways"][t], row[ranks], row["bootstrap"])
                ),
            ]
            for row in rows
        ],
    )


def ways_table(rows: Sequence[dict[str, Any]], unit: str) -> str:
    """False verdicts of every way that was tried: without an effect / with one of the margin."""
    names = ["judge", *rows[0]["ways"]]
    return table(
        ["scores", unit, *names],
        [
            [
                row["noise"],
                sizes(row["runs"]),
                *(
                    f"{points(found['no_effect'])} / {points(found['effect_of_the_margin'])}"
                    for found in (row["judge"], *row["ways"].values())
                ),
            ]
            for row in rows
        ],
    )


def rule_table(cells: Sequence[dict[str, Any]]) -> str:
    """What each rule says at each true effect."""

    def shown(found: dict[str, float]) -> str:
        first, margin, opposite, negligible = (
            points(100 * found[name])
            for name in ("supported", "by the margin", "opposite", "negligible")
        )
        own = f" ({margin})" if found["by the margin"] else ""
        return f"{first}{own} / {opposite} / {negligible}"

    names = list(cells[0]["rules"])
    head = ["seeds", "questions", "true effect, margins", *names]
    return table(
        [*head, *(f"false: {name}" for name in names)],
        [
            [
                cell["seeds"],
                cell["family"],
                f"{cell['effect']:g}",
                *(shown(found) for found in cell["rules"].values()),
                *(
                    points(100 * found["families_with_a_false_verdict"])
                    for found in cell["rules"].values()
                ),
            ]
            for cell in sorted(cells, key=lambda c: (c["family"], c["seeds"], c["effect"]))
        ],
    )


def _extremes(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The largest share of false verdicts, and the coverage where there are verdicts."""
    judged = [row["judge"] for row in rows]
    errors = [each[name] for each in judged for name in ("no_effect", "effect_of_the_margin")]
    coverage = [row["judge"]["coverage"] for row in rows if row["runs"] != [3, 3]]
    return {
        "number": len(rows),
        "most": max(errors),
        "least_coverage": min(coverage),
        "most_coverage": max(coverage),
    }


def skew_table(rows: Sequence[dict[str, Any]]) -> str:
    """False verdicts and warnings of skewed differences."""
    names = ("supported", "opposite", "negligible", "covered", "warned", "trimmed", "wilcoxon")
    head = ["supported", "opposite", "negligible", "coverage", "warned", "trimmed mean", "Wilcoxon"]
    return table(
        ["differences", "seeds", *head],
        [
            [row["noise"], row["seeds"], *(points(100 * row[name]) for name in names)]
            for row in rows
        ],
    )


def two_table(rows: Sequence[dict[str, Any]]) -> str:
    """`skew_table` of two samples."""
    names = ("better", "worse", "negligible", "covered", "warned", "trimmed", "brunner_munzel")
    head = ["better", "worse", "negligible", "coverage", "warned", "trimmed means"]
    return table(
        ["runs are", "runs", *head, "Brunner-Munzel"],
        [
            [row["noise"], sizes(row["runs"]), *(points(100 * row[name]) for name in names)]
            for row in rows
        ],
    )


def shared_table(found: dict[str, dict[str, Any]]) -> str:
    """How false verdicts come in families with one baseline, and with one for each arm."""
    head = [
        "baseline",
        "families with a false verdict",
        "of these with two or more",
        "uncorrected: with none",
        "uncorrected: with three or more",
    ]
    return table(
        head,
        [
            [
                name,
                points(100 * each["families_with_a_false_verdict"]),
                points(100 * each["of_those_with_any_two_or_more"]),
                points(100 * each["uncorrected"]["none"]),
                points(100 * each["uncorrected"]["three_or_more"]),
            ]
            for name, each in found.items()
        ],
    )


def page(figures: dict[str, Any], rules: dict[str, Any], skewed: dict[str, Any]) -> str:
    """The whole page."""
    rows = figures["rows"]
    paired = [row for row in rows if row["paired"] and row["promised"]]
    unpaired = [row for row in rows if not row["paired"] and row["promised"]]
    beyond = [row for row in rows if not row["promised"]]
    auto = [
        [
            each["noise"],
            each["correlation"],
            each["runs"][0],
            *(
                f"{points(found['paired'])}: {points(found['no_effect'])} /"
                f" {points(found['effect_of_the_margin'])}, {points(found['coverage'])}"
                for found in each["rules"].values()
            ),
        ]
        for each in figures["auto"]
    ]
    looks = [
        [
            each["noise"],
            "paired" if each["paired"] else "unpaired",
            *(
                f"{points(each[rule]['no_effect'])} / {points(each[rule]['effect_of_the_margin'])}"
                for rule in ("planned", "until_significant")
            ),
        ]
        for each in figures["looks"]
    ]
    at = ", ".join(str(n) for n in figures["looks"][0]["looks"])
    return "\n".join(
        [
            PROMISE.format(**figures, **_extremes([*paired, *unpaired])),
            "## Paired by seed\n",
            "Three seeds get no verdict, five none of a difference: the smallest two-sided p is"
            " 2 / 32.\n",
            main_table(paired, "paired t", "Wilcoxon", "seeds"),
            "## Unpaired\n",
            "Fewer than four runs of an arm get no verdict.\n",
            main_table(unpaired, "Welch's t", "Mann-Whitney", "runs"),
            RULE.format(**rules),
            rule_table(rules["cells"]),
            SYMMETRY.format(**skewed),
            skew_table(skewed["rows"]),
            OF_TWO.format(**skewed),
            two_table(skewed["two"]),
            SHARED.format(**skewed["shared"]),
            shared_table(skewed["shared"]["found"]),
            CHOICE,
            ways_table(unpaired, "runs"),
            BEYOND.format(coverage=min(row["judge"]["coverage"] for row in beyond)),
            ways_table([row for row in beyond if row["paired"]], "seeds"),
            ways_table([row for row in beyond if not row["paired"]], "runs"),
            AUTO,
            "Each cell: share that was paired: false verdicts without an effect / with one of the"
            " margin, coverage.\n",
            table(["scores", "correlation", "runs", *figures["auto"][0]["rules"]], auto),
            LOOKS.format(number=len(figures["looks"][0]["looks"])),
            f"Looks at {at} runs of each arm: false verdicts without an effect / with one of the"
            " margin.\n",
            table(["scores", "runs are", "planned", "until significant"], looks),
            ALWAYS.format(
                least=figures["always_valid"][0]["seeds"][0],
                most=figures["always_valid"][0]["seeds"][1],
            ),
            table(
                ["scores", "always-valid interval", "t interval"],
                [
                    [each["noise"], points(each["always_valid"]), points(each["t_interval"])]
                    for each in figures["always_valid"]
                ],
            ),
        ]
    )


if __name__ == "__main__":
    print(page(*(json.loads(path.read_text()) for path in (FIGURES, RULES, SKEWED))), end="")
