"""What the judge found, ready to be shown: the one source of its table, page, picture and words.

A dict of plain values, so that all of them show the same numbers; loads no JAX.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxreg.study.analysis import error_shares, second_opinion, verdict
from jaxreg.study.analysis.judge import Outcome
from jaxreg.study.analysis.runs import Question
from jaxreg.study.report import judged_method as method
from jaxreg.study.report.forest import known
from jaxreg.study.report.judged_numbers import Amount, decimals, interval, number, p_value, signed

MOST_DOTS = 200
"""Runs of an arm that the page draws; of more, as many at equal steps of their rank."""

_SAME = (
    *("arm", "split", "difference", "ci95", "always_valid95"),
    *("p", "p_holm", "verdict", "by_margin"),
)
"""What is shown of a comparison as results.json has it."""

MOST_LISTED = 8
"""Arms that one line of the headline, or one warning, names."""

NO_GAIN = "no gain"
"""Of a negligible effect whose loss may matter: how the headline groups it."""

WORDS = {
    "superiority": {
        verdict.SUPPORTED: "Better (an effect of {margin} is not excluded)",
        verdict.OPPOSITE: "Worse (by {margin} is not excluded)",
        verdict.NEGLIGIBLE: "Too small to matter (a gain or a loss of {margin} is excluded)",
        NO_GAIN: "No gain of {margin} (it is excluded; a loss of {margin} is not)",
        verdict.INCONCLUSIVE: "Undecided with these runs",
        verdict.NOT_TESTABLE: "Not testable",
    },
    "non-inferiority": {
        verdict.SUPPORTED: "No worse (worse by {margin} is excluded)",
        verdict.OPPOSITE: "Worse, by more than the margin of {margin}",
        verdict.INCONCLUSIVE: "Undecided with these runs",
        verdict.NOT_TESTABLE: "Not testable",
    },
    "equivalence": {
        verdict.SUPPORTED: "The same (apart by {margin} is excluded)",
        verdict.OPPOSITE: "Different, by more than the margin of {margin}",
        verdict.INCONCLUSIVE: "Undecided with these runs",
        verdict.NOT_TESTABLE: "Not testable",
    },
}
"""Claim -> verdict -> how the headline says it, in the order in which it does."""


def content(
    outcome: Outcome,
    question: Question,
    understood: Sequence[str] = (),
    *,
    warnings: Sequence[str] = (),
    left_out: Sequence[str] = (),
    command: str = "",
) -> dict[str, Any]:
    """Everything that is shown of an outcome, as JSON-able data; the same input, the same data.

    Args:
      outcome: of `judge_runs`. question: what was asked of it.
      understood: lines that say how the input was read.
      warnings: what must be read before any number. left_out: those of them that a paragraph for
        a paper has to have, too: on runs that did not end well.
      command: what to type to do it again.
    """
    results = outcome.results
    views = _views(results, question)
    is_share = _is_accuracy(results, question)
    rows = [_row(row, results, question, is_share) for row in results["comparisons"]]
    shown: dict[str, Any] = {
        "title": f"{question.primary}: which arms differ from {question.baseline}?",
        "baseline": question.baseline,
        "primary": question.primary,
        "margin": question.margin,
        "alpha": question.alpha,
        "claim": question.claim,
        "better": "higher" if question.higher_is_better else "lower",
        "paired": results["pairing"]["paired"],
        "arms": _arms(results, question),
        "views": [{"name": view, "title": view} for view in views],
        "runs": _judged_runs(results, question),
        "left_out": [*left_out, *_without_score(results, question)],
        "table": _table(results, question),
        "comparisons": rows,
        "warnings": [*warnings, *_own_warnings(results, question)],
        "understood": list(understood),
        "command": command,
    }
    shown["headline"] = _headline(shown)
    shown["method"] = method.lines(results, question)
    shown["test"] = method.test(results, question)
    shown["interval"] = method.interval(results)
    shown["family"] = method.family(results, question)
    shown["sources"] = [source._asdict() for source in method.sources(results, question)]
    return shown


def seeds_of(results: Mapping[str, Any], arm: str) -> Sequence[Any]:
    """The seeds of an arm's runs, in the order of its scores."""
    return results["seeds_by_arm"][arm] if "seeds_by_arm" in results else results["seeds"]


def scores_by_seed(results: Mapping[str, Any], question: Question, arm: str) -> dict[Any, float]:
    """Seed -> score of an arm's runs on the primary view; runs that were left out are not there."""
    dropped = results.get("without_score", {}) if question.diverged == "drop" else {}
    lost = set(dropped.get(arm, ()))
    seeds = [seed for seed in seeds_of(results, arm) if seed not in lost]
    return dict(zip(seeds, results["arms"][arm][question.primary]["per_seed"], strict=True))


def _assumed(results: Mapping[str, Any], question: Question, arm: str) -> list[str]:
    """The seeds of an arm whose score is assumed; [] where there are none."""
    lost = {} if question.diverged == "drop" else results.get("without_score", {})
    return [str(seed) for seed in lost.get(arm, ())]


def primary_rows(shown: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The comparisons on the primary view."""
    return [row for row in shown["comparisons"] if row["split"] == shown["primary"]]


def margin_of(shown: Mapping[str, Any]) -> str:
    """The margin as it was given; "" without one."""
    return "" if shown["margin"] is None else f"{shown['margin']:g}"


def equal(p: Amount) -> str:
    """ "p = .031" or "p < .001", corrected; "" where nothing was tested."""
    text = p_value(p)
    return "" if p is None else f"p {text}" if text.startswith("<") else f"p = {text}"


def runs_of(cell: Mapping[str, Any], remark: str = " ({} assumed)") -> str:
    """ "8", or "8 (1 assumed)" where runs without a score are counted by an assumed one.

    Args:
      cell: of an arm, in the table. remark: follows the number of runs.
    """
    assumed = len(cell.get("assumed", ()))
    return f"{cell['runs']}{remark.format(assumed) if assumed else ''}"


def effect(row: Mapping[str, Any]) -> str:
    """ "−0.0121 [−0.0150, −0.0092]" of a comparison."""
    found = signed(row["difference"], row["digits"])
    return f"{found} {interval(row['ci95'], row['digits'])}".rstrip()


def _judged_runs(results: Mapping[str, Any], question: Question) -> dict[str, int]:
    """Arm -> how many of its runs were judged: those that were left out do not count."""
    return {arm: len(row[question.primary]["per_seed"]) for arm, row in results["arms"].items()}


def _without_score(results: Mapping[str, Any], question: Question) -> list[str]:
    """A line on the runs without a score on the primary view, [] where all have one."""
    lost = results.get("diverged")
    if not lost:
        return []
    counts = ", ".join(f"{arm} {n} of {len(seeds_of(results, arm))}" for arm, n in lost.items())
    how = {"drop": "left out", "worst": "counted as the worst score of any run"}
    told = how.get(str(question.diverged), f"counted as {question.diverged}")
    return [f"runs without a score on {question.primary} were {told}: {counts}"]


def _views(results: Mapping[str, Any], question: Question) -> list[str]:
    """All views, the primary one first."""
    views = dict.fromkeys(view for row in results["arms"].values() for view in row)
    return [question.primary, *(view for view in views if view != question.primary)]


def _arms(results: Mapping[str, Any], question: Question) -> list[dict[str, Any]]:
    return [
        {"name": arm, "title": arm, "kind": "aa" if arm == question.aa else "arm"}
        for arm in results["arms"]
    ]


def _table(results: Mapping[str, Any], question: Question) -> dict[str, dict[str, Any]]:
    """Arm -> view -> mean, interval, number of runs; the runs themselves on the primary view.

    There "assumed" names the seeds that have no score, and count as what the question says.
    """
    table: dict[str, dict[str, Any]] = {}
    for arm, row in results["arms"].items():
        table[arm] = {}
        for view, cell in row.items():
            table[arm][view] = {
                "mean": cell["mean"],
                "ci95": cell["ci95"],
                "runs": len(cell["per_seed"]),
                "digits": decimals(cell["ci95"], cell["per_seed"]),
            }
            if view == question.primary:
                table[arm][view]["dots"] = _dots(scores_by_seed(results, question, arm))
                assumed = _assumed(results, question, arm)
                table[arm][view] |= {"assumed": assumed} if assumed else {}
    return table


def _dots(scores: Mapping[Any, Amount]) -> list[tuple[str, Amount]]:
    """(seed, value) of at most `MOST_DOTS` runs, by equal steps of their rank."""
    names, values = list(scores), list(scores.values())
    kept = range(len(values))
    if len(values) > MOST_DOTS:
        ranked = sorted(kept, key=lambda place: values[place] or 0.0)
        step = (len(ranked) - 1) / (MOST_DOTS - 1)
        kept = sorted(ranked[round(step * rank)] for rank in range(MOST_DOTS))
    return [(str(names[place]), values[place]) for place in kept]


def _row(
    row: Mapping[str, Any], results: Mapping[str, Any], question: Question, is_share: bool
) -> dict[str, Any]:
    """A comparison with its digits; differences by seed and the reason on the primary view.

    Of accuracies also the change of the errors, in percent of the baseline's.
    """
    decides, errors, dots = row["split"] == question.primary, "", {}
    if decides and row["per_seed"]:
        pairs = _pairs(results, question, row["arm"])
        dots = dict(zip(pairs, row["per_seed"], strict=True))
        found = error_shares.change(*zip(*pairs.values(), strict=True)) if is_share else None
        errors = error_shares.words(found)
    return {
        **{key: row[key] for key in _SAME},
        "needs": _needs(row),
        "harm_excluded": row.get("harm_excluded"),
        **({"errors": errors} if errors else {}),
        "reason": row["reason"] if row["verdict"] else None,
        "dots": _dots(dots),
        "digits": decimals(row["ci95"], [row["difference"], *row["per_seed"]]),
    }


def _pairs(
    results: Mapping[str, Any], question: Question, arm: str
) -> dict[Any, tuple[float, float]]:
    """Seed -> (score of the arm, of the baseline), of the seeds that are compared."""
    own = scores_by_seed(results, question, arm)
    base = scores_by_seed(results, question, question.baseline)
    return {seed: (own[seed], base[seed]) for seed in base if seed in own}


def _is_accuracy(results: Mapping[str, Any], question: Question) -> bool:
    """Whether the primary scores are paired accuracies: so named, higher is better, 0 to 1."""
    scores = [
        value
        for row in results["arms"].values()
        if question.primary in row
        for value in row[question.primary]["per_seed"]
    ]
    return (
        "acc" in question.primary.lower()
        and question.higher_is_better
        and results["pairing"]["paired"]
        and "seeds_by_arm" not in results
        and all(known(value) and 0 <= value <= 1 for value in scores)
    )


def _needs(row: Mapping[str, Any]) -> str:
    """ "24 seeds" or "24 runs each" where an open question says so, else ""."""
    count = row["seeds_needed"]
    if count is None or (row["verdict"] or verdict.INCONCLUSIVE) != verdict.INCONCLUSIVE:
        return ""
    return f"{count} seeds" if row["pairing"] == "paired" else f"{count} runs each"


def _own_warnings(results: Mapping[str, Any], question: Question) -> list[str]:
    """What the numbers themselves warn of."""
    notes = [line for line in results["notes"] if line != results["pairing"]["why"]]
    found = _grouped(notes, results["arms"])
    found += [
        f"A check failed: {control['what']}: {control['detail']}."
        for control in results["controls"].values()
        if control["passed"] is False
    ]
    rows = [row for row in results["comparisons"] if row["arm"] != question.aa]
    lines = [second_opinion.line(row["arm"], row.get("robust"), 1.0, "") for row in rows]
    found += [line for line in lines if line is not None]
    if question.margin is None:
        found.append(
            "No margin was given, so there are intervals and p values and no verdicts: a verdict"
            " needs the smallest effect that matters, fixed before the runs are looked at."
        )
    return found


def _grouped(notes: Sequence[str], arms: Iterable[str]) -> list[str]:
    """The lines, with those that say the same of several arms as one."""
    said: dict[str, list[str]] = {}
    for note in notes:
        arm = next((arm for arm in arms if note.startswith(f"{arm}: ")), None)
        told = said.setdefault(note if arm is None else note[len(arm) + 2 :], [])
        told += [] if arm is None else [arm]
    return [f"{_some(told, ', ')}: {text}" if told else text for text, told in said.items()]


def _some(items: Sequence[str], between: str) -> str:
    """The first few, and how many more there are."""
    more = len(items) - MOST_LISTED
    return between.join([*items[:MOST_LISTED], *([f"and {more} more"] if more > 0 else [])])


def _headline(shown: Mapping[str, Any]) -> list[str]:
    """Sentences on the primary view, in both directions: what came out, and what stays open."""
    base = shown["table"][shown["baseline"]][shown["primary"]]
    name = shown["baseline"]
    called = "the baseline" if name.lower() == "baseline" else f"the baseline {name}"
    sentences = [
        f"On {shown['primary']} ({shown['better']} is better) {called}"
        f" has {number(base['mean'], base['digits'])} (mean of {base['runs']} runs)."
    ]
    kinds = {arm["name"]: arm["kind"] for arm in shown["arms"]}
    rows = [row for row in primary_rows(shown) if kinds[row["arm"]] == "arm"]
    for label, words in WORDS[shown["claim"]].items():
        found = [row for row in rows if _group(row) == label]
        if found:
            listed = _listed(found, shown["better"])
            sentences.append(f"{words.format(margin=margin_of(shown))}: {listed}.")
    open_rows = [row for row in rows if row["verdict"] is None]
    if open_rows:
        listed = _listed(open_rows, shown["better"])
        sentences.append(f"Differences, with 95% intervals: {listed}.")
    return sentences


def _group(row: Mapping[str, Any]) -> str | None:
    """The verdict, and `NO_GAIN` for a negligible effect of which only a gain is excluded."""
    return NO_GAIN if row["harm_excluded"] is False else row["verdict"]


def _listed(rows: Sequence[Mapping[str, Any]], better: str) -> str:
    return _some([_named(row) for row in _best_first(rows, better)], "; ")


def _named(row: Mapping[str, Any]) -> str:
    needs = row["needs"] and f"needs {row['needs']}"
    more = "more than the margin" if row["by_margin"] else ""
    told = [effect(row), equal(row["p_holm"]), more, needs]
    return f"{row['arm']} ({', '.join(text for text in told if text)})"


def _best_first(rows: Sequence[Mapping[str, Any]], better: str) -> list[Mapping[str, Any]]:
    """By size of the effect, the best first; those without one last."""
    sign = -1 if better == "higher" else 1
    last = math.inf
    return sorted(rows, key=lambda r: sign * r["difference"] if known(r["difference"]) else last)
