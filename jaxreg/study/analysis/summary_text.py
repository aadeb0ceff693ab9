"""The words around the numbers: what is asked, what was found, and what to type to do it again."""

import dataclasses
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxreg.data import Dataset
from jaxreg.data.dataset import PAD
from jaxreg.data.tokens import spelling
from jaxreg.store.paths import shown
from jaxreg.study.analysis import power, second_opinion, verdict
from jaxreg.study.analysis.judge import ALL_DIVERGED, DesignLike
from jaxreg.study.analysis.metric import ACCURACY, METRICS, Metric


def view_examples(dataset: Dataset) -> list[tuple[str, str, str]]:
    """(title, a training sentence with answer, a held-out one with the question) per view."""
    if dataset.answers == "every_position":
        return _passages(dataset)
    train = dataset.splits["train"]
    rows = []
    for view in dataset.views:
        row = int(np.flatnonzero(dataset.view_weights(view))[0])
        part = dataset.splits[view.split]
        # The nearest trained sentence: the same frame and verb where there is one, so that what is
        # new stands out.
        same = np.flatnonzero(
            (train.label == part.label[row]) & (train.template == part.template[row])
        )
        near = (
            int(same[0])
            if same.size
            else int(np.flatnonzero(train.label == part.label[row])[:1].sum())
        )
        cut = f" (cut: {', '.join(view.cut)})" if view.cut else ""
        trained = f"{sentence(dataset, 'train', near)} -> {dataset.outputs[train.label[near]]}"
        rows.append((view.title, trained, f"{sentence(dataset, view.split, row)} -> ?{cut}"))
    return rows


MOST_CHARACTERS = 60
"""Of a passage that is shown."""


def _passages(dataset: Dataset) -> list[tuple[str, str, str]]:
    """`view_examples` of rows that are asked for the next token: the start of one each."""

    def start(split: str, row: int) -> str:
        text = " ".join(sentence(dataset, split, row).split())
        return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}..."

    first = f"{start('train', 0)} -> each next token"
    return [
        (view.title, first, start(view.split, int(np.flatnonzero(dataset.view_weights(view))[0])))
        for view in dataset.views
    ]


def sentence(dataset: Dataset, split: str, row: int) -> str:
    """A row for people: bytes as their text, other tokens with blanks between them."""
    if not spelling.are_bytes(dataset.tokens):
        return dataset.sentence(split, row)
    return spelling.spelled(words(dataset, split, row))


def words(dataset: Dataset, split: str, row: int) -> list[str]:
    """The tokens of a row without padding, one by one."""
    tokens = dataset.splits[split].tokens[row]
    return [dataset.tokens[token] for token in tokens if token != PAD]


def command(argv: Sequence[str]) -> str:
    """What to type to run it again; a password in a URL is not shown."""
    return " ".join(["jaxreg", *(shlex.quote(shown(word)) for word in argv[1:])])


def diverged(experiment: DesignLike, results: Mapping[str, Any]) -> list[str]:
    """One line that counts the diverged runs by arm, [] where there are none: it goes first."""
    if "diverged" not in results:
        return []
    total = len(results["seeds"])
    counts = ", ".join(f"{arm} {count} of {total}" for arm, count in results["diverged"].items())
    line = f"Diverged, and counted as a guess: {counts}."
    if _all_diverged(experiment, results["diverged"], total):
        return [
            f"Every run diverged: there is nothing to compare. {line} More seeds will not help;"
            " lower the learning rate, or clip gradients."
        ]
    return [line]


def _all_diverged(experiment: DesignLike, diverged: Mapping[str, int], runs: int) -> bool:
    return all(diverged.get(arm) == runs for arm in experiment.arms)


def changed(results: Mapping[str, Any]) -> list[str]:
    """One line per value that was changed after members had been trained, [] where none was."""
    return [
        f"Changed after training began: {each['field']} is {each['now']!r}, declared was"
        f" {each['declared']!r}."
        for each in results.get("changed_after_training", ())
    ]


def warnings(experiment: DesignLike, results: Mapping[str, Any]) -> list[str]:
    """What must be read before any number.

    Diverged runs, too few seeds, failed controls, later changes, arms that changed nothing, skewed
    differences.
    """
    compared = bool(results["comparisons"])
    few = too_few_seeds(experiment, len(results["seeds"])) if compared else None
    return [
        *diverged(experiment, results),
        *([f"No verdict is possible: {few}."] if few else []),
        *failed_controls(results),
        *changed(results),
        *unchanged(experiment, results),
        *asymmetric(experiment, results),
    ]


def num_tests(experiment: DesignLike) -> int:
    """How many arms get a verdict: all but the baseline and the controls."""
    others = [arm for name, arm in experiment.arms.items() if name != experiment.baseline]
    return sum(arm.kind == "arm" for arm in others)


def too_few_seeds(experiment: DesignLike, num_seeds: int) -> str | None:
    """One line where so many seeds allow no verdict, None where they do or none is asked for."""
    tests = num_tests(experiment)
    return power.no_verdict_possible(num_seeds, tests, experiment.alpha) if tests else None


def failed_controls(results: Mapping[str, Any]) -> list[str]:
    """One line per control that failed, but for the one that leaves no verdict, which says so."""
    return [
        f"A control failed. What must hold: {control['what']}. Found: {control['detail']}."
        for name, control in results["controls"].items()
        if control["passed"] is False and name != "beats_unigram"
    ]


def unchanged(experiment: DesignLike, results: Mapping[str, Any]) -> list[str]:
    """One line on arms whose every run has the baseline's numbers on every view."""
    differences: dict[str, list[float]] = {}
    for row in results["comparisons"]:
        differences.setdefault(row["arm"], []).extend(row["per_seed"])
    same = [
        f"'{arm}'"
        for arm, found in differences.items()
        if experiment.arms[arm].kind == "arm" and found and not any(found)
    ]
    if not same:
        return []
    return [f"Every run of {' and '.join(same)} has exactly the baseline's numbers."]


def asymmetric(experiment: DesignLike, results: Mapping[str, Any]) -> list[str]:
    """One line per arm with skewed differences or a run far off, and a second opinion on it."""
    metric = METRICS[results.get("metric", ACCURACY.name)]
    lines = [
        second_opinion.line(row["arm"], row.get("robust"), metric.scale, metric.unit)
        for row in results["comparisons"]
        if experiment.arms[row["arm"]].kind == "arm"
    ]
    return [line for line in lines if line is not None]


def headline(
    experiment: DesignLike,
    verdicts: Mapping[str, verdict.Verdict],
    table: Mapping[str, Mapping],
    chance: float = 0.5,
    metric: Metric = ACCURACY,
    title: str = "",
) -> list[str]:
    """The answer in two sentences: where the baseline is, and how many arms came out how.

    Args:
      chance: what a guess scores on the primary view.
      metric: what the numbers are. title: of the primary view, where it says more than its name.
    """
    if why := _not_comparable(experiment, verdicts):
        return [f"No arm can be compared with the baseline: {why}."]
    mean = table[experiment.baseline][experiment.primary]["mean"]
    return [
        f"On {view_words(experiment.primary, title)} the baseline '{experiment.baseline}'"
        f" {level_in_words(mean, chance, metric)}.",
        *_counts(experiment, verdicts, metric),
    ]


def view_words(name: str, title: str) -> str:
    """A view's name, with its title where that says more: recombination (unseen pairs)."""
    same = title.replace(" ", "_") in ("", name)
    return name if same else f"{name} ({title})"


def _counts(
    experiment: DesignLike, verdicts: Mapping[str, verdict.Verdict], metric: Metric
) -> list[str]:
    found = _by_verdict(experiment, verdicts, metric)
    total = sum(map(len, found.values()))
    if total < 2:
        return details(experiment, verdicts, {}, metric=metric)[:1]
    words = {
        verdict.SUPPORTED: "helped",
        verdict.OPPOSITE: "hurt",
        verdict.NEGLIGIBLE: "too small to matter",
        verdict.INCONCLUSIVE: "undecided at this number of seeds",
        verdict.NOT_TESTABLE: "not testable",
    }
    parts = []
    for label, own in found.items():
        most = {verdict.SUPPORTED: own[:1], verdict.OPPOSITE: own[-1:]}.get(label, [])
        parts.append(f"{len(own)} {words[label]}" + "".join(f", most {each}" for each in most))
    if verdict.SUPPORTED not in found:
        parts.insert(0, "no arm was shown to help")
    return [f"Of {total} arms beside it: {'; '.join(parts)}."]


def _arms(
    experiment: DesignLike, verdicts: Mapping[str, verdict.Verdict]
) -> dict[str, verdict.Verdict]:
    return {name: v for name, v in verdicts.items() if experiment.arms[name].kind == "arm"}


def _not_comparable(experiment: DesignLike, verdicts: Mapping[str, verdict.Verdict]) -> str | None:
    """Why no arm can be compared; None where one can."""
    arms = _arms(experiment, verdicts)
    if not arms or any(v.label != verdict.NOT_TESTABLE for v in arms.values()):
        return None
    reasons = {v.reason for v in arms.values()} - {ALL_DIVERGED}
    return reasons.pop() if reasons else "every run of both diverged"


def _by_verdict(
    experiment: DesignLike, verdicts: Mapping[str, verdict.Verdict], metric: Metric
) -> dict[str, list[str]]:
    """Verdict -> its arms with their effects, the best first; verdicts that no arm has are out."""
    labels = (
        verdict.SUPPORTED,
        verdict.OPPOSITE,
        verdict.NEGLIGIBLE,
        verdict.INCONCLUSIVE,
        verdict.NOT_TESTABLE,
    )
    arms = _arms(experiment, verdicts)
    made = {}
    for label in labels:
        found = [
            (judged.difference, judged.ci95, experiment.arms[name].title, judged.by_margin)
            for name, judged in arms.items()
            if judged.label == label and judged.difference is not None and judged.ci95 is not None
        ]
        made[label] = [
            f"{title} ({metric.change(difference)} {metric.unit}, {_interval(ci95, metric)}"
            f"{', more than the margin' if by_margin else ''})"
            for difference, ci95, title, by_margin in sorted(
                found, key=lambda each: -metric.direction * each[0]
            )
        ]
    return {label: own for label, own in made.items() if own}


def details(
    experiment: DesignLike,
    verdicts: Mapping[str, verdict.Verdict],
    table: Mapping[str, Mapping],
    cut: Sequence[str] = ("noun", "determiner"),
    metric: Metric = ACCURACY,
) -> list[str]:
    """Every arm's effect, in both directions: what helped, what did not, what stays open.

    Args:
      table: views by arm; empty leaves the secondary views out. cut: the cues that the view
        both_cut cuts, where there is one.
      metric: what the numbers are.
    """
    if _not_comparable(experiment, verdicts):
        return []
    margin = metric.margin(experiment.margin)
    words = {
        verdict.SUPPORTED: "Helped",
        verdict.OPPOSITE: "Hurt",
        verdict.NEGLIGIBLE: f"Too small to matter (an effect of {margin} is excluded)",
        verdict.INCONCLUSIVE: "Undecided at this number of seeds",
        verdict.NOT_TESTABLE: "Not testable, since every run of both arms diverged",
    }
    found = _by_verdict(experiment, verdicts, metric)
    sentences = [f"{words[label]}: {', '.join(own)}." for label, own in found.items()]
    if verdict.SUPPORTED not in found:
        sentences.append("No arm was shown to help.")
    return sentences + (_contrasts(experiment, table, cut) if metric == ACCURACY else [])


def level_in_words(mean: float, chance: float, metric: Metric) -> str:
    """Such as "is right in 72.1% (chance 50%)", or "has a loss of 1.234 nats (perplexity 3.43)"."""
    if metric == ACCURACY:
        return f"is right in {100 * mean:.1f}% (chance {100 * chance:.3g}%)"
    return (
        f"has a {metric.title} of {metric.number(mean)} nats (perplexity {perplexity(mean)}; a"
        f" guess {metric.number(chance)})"
    )


def perplexity(loss: float) -> str:
    """exp(loss) to three digits."""
    return f"{math.exp(min(loss, 700.0)):.3g}"


def _contrasts(
    experiment: DesignLike, table: Mapping[str, Mapping], cut: Sequence[str]
) -> list[str]:
    """The effects on the secondary views, without verdicts."""
    sentences = []
    if "both_cut" in table.get(experiment.baseline, {}):
        cells = {
            arm: row["both_cut"]["mean"]
            for arm, row in table.items()
            if experiment.arms[arm].kind == "arm"
        }
        highest = max(cells, key=lambda arm: cells[arm])
        sentences.append(
            f"With the {'verb' if 'noun' in cut else 'query'} cut from {' and '.join(cut)} both,"
            f" accuracy is {100 * cells[experiment.baseline]:.1f}% for the baseline and"
            f" {100 * cells[highest]:.1f}% at most ({experiment.arms[highest].title}); what lies"
            " above 50% came round through other words."
        )
    return sentences


def underpowered(
    experiment: DesignLike,
    comparisons: Sequence[Mapping[str, Any]],
    diverged: Mapping[str, int] | None = None,
    metric: Metric = ACCURACY,
) -> str:
    """One line: how many differences beside the primary view are open for want of seeds.

    Those whose interval leaves out 0 are not.

    Args:
      comparisons, diverged: of results.json.
    """
    runs = max((len(row["per_seed"]) for row in comparisons), default=0)
    if _all_diverged(experiment, diverged or {}, runs):
        return "Every run diverged: no number of seeds would show an effect."
    secondary = [
        row
        for row in comparisons
        if row["split"] != experiment.primary and experiment.arms[row["arm"]].kind == "arm"
    ]
    needed = [
        row["seeds_needed"]
        for row in secondary
        if row["seeds_needed"] is not None and row["ci95"][0] <= 0 <= row["ci95"][1]
    ]
    margin = metric.margin(experiment.margin)
    if any(len(row["per_seed"]) < 2 for row in comparisons):
        return f"One seed has no spread: how many would have 80% power for {margin} is not known."
    if not needed:
        return f"On the other views the seeds suffice to see {margin} (with 80% power)."
    return (
        f"On the other views {len(needed)} of {len(secondary)} differences"
        f" {'needs' if len(needed) == 1 else 'need'} more seeds: to see {margin} with 80% power"
        f" takes {_up_to(needed)}, each said in the report."
    )


def _up_to(numbers: Sequence[int]) -> str:
    """ "6 to 25", or "6"."""
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


@dataclasses.dataclass(frozen=True)
class Moments:
    """When a single run had which validation loss.

    Attributes:
      kept: the step of the parameters that are kept, and that its results are of.
      keeps_best: whether these are the best ones, not the last.
      lowest: the lowest validation loss in nats; None where it was not followed.
      lowest_step: its step.
      unigram: the loss of the unigram model.
    """

    kept: int
    keeps_best: bool
    lowest: float | None
    lowest_step: int
    unigram: float


MUCH_LOWER = 0.05
"""Nats by which an earlier evaluation is better than what is kept, so that it is said."""


def of_one_run(results: Mapping[str, Any], moments: Moments) -> list[str]:
    """Lines on a single run of next tokens: its losses, and when its validation loss was lowest."""
    [row] = results["arms"].values()
    losses = ", ".join(
        f"{view} {cell['mean']:.3f} nats (perplexity {perplexity(cell['mean'])})"
        for view, cell in row.items()
    )
    when = "the best evaluation, step" if moments.keeps_best else "the last step,"
    lines = [f"loss at {when} {moments.kept}: {losses}"]
    unigram = f"a unigram model has {moments.unigram:.3f}"
    if moments.lowest is None:
        return [*lines, unigram]
    lines.append(
        f"lowest validation loss {moments.lowest:.3f} at step {moments.lowest_step}; {unigram}"
    )
    over = row["validation"]["mean"] - moments.lowest
    if over > MUCH_LOWER and not moments.keeps_best:
        lines.append(
            f"the parameters that are kept are the last ones, {over:.3f} nats above the lowest;"
            " --config.stopping.keep_best=True keeps the best"
        )
    return lines


def _interval(ci95: Sequence[float], metric: Metric) -> str:
    if not np.isfinite(ci95).all():
        return "no interval from one seed"
    return f"95% interval {metric.change(ci95[0])} to {metric.change(ci95[1])}"
