"""What makes a comparison impossible, in the scores and in the question: all of it at once."""

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from jaxreg.errors import nearest
from jaxreg.study.analysis.run_samples import differing
from jaxreg.study.analysis.runs import Claim, Question, Runs
from jaxreg.study.analysis.scores import LEVEL

CLAIMS: Mapping[str, Claim] = {
    "superiority": "superiority",
    "superior": "superiority",
    "non-inferiority": "non-inferiority",
    "non_inferiority": "non-inferiority",
    "non-inferior": "non-inferiority",
    "non_inferior": "non-inferiority",
    "equivalence": "equivalence",
    "equivalent": "equivalence",
}
"""As people write it -> the claim."""
_APART = 20.0
"""Ratio of medians from which shares and percent are taken for one score in two units."""
_MOST_LISTED = 8
_LOSSES = frozenset(
    "loss losses logloss nll ppl perplexity error errors err wer cer rmse nrmse mse mae mape smape"
    " bpb bpc bpd fid brier ece regret xent crossentropy".split()
)
"""Words in the name of a score of which less is better."""
_LOSS_PHRASES = (("bits", "per"), ("bits", "byte"), ("cross", "entropy"))


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A question as a person asks it; None: as the input says, or the usual.

    Attributes:
      same_unit: scores of arms that look like shares and like percent are in one unit.
      Others: see `analysis.runs.Question`.
    """

    baseline: str | None = None
    primary: str | None = None
    margin: float | None = None
    higher_is_better: bool | None = None
    claim: Claim = "superiority"
    paired: bool | Literal["auto"] | None = None
    aa: str | None = None
    diverged: Literal["worst", "drop"] | float | None = None
    looks: int = 1
    look: int = 1
    alpha: float | None = None
    same_unit: bool = False


def question_of(
    runs: Runs, wanted: Wanted, said: Mapping[str, Any], mistakes: list[str]
) -> Question | None:
    """The question; None, with lines in `mistakes`, where these runs cannot answer it.

    Args:
      runs: to be judged.
      wanted: what the person asks.
      said: what the input has of itself: baseline, primary, margin, alpha, aa, paired, known,
        higher_is_better (a results.json, which has a baseline, and a direction: higher where it
        says none); scores, the names of what is scored; guessed, the guesses behind arm and seed;
        not_wide, why it is not read as a column for each arm, where the baseline is a column.
      mistakes: gets the lines.
    """
    before = len(mistakes)
    guess = f" [{said['guessed']}]" if said.get("guessed") else ""
    more = said.get("not_wide", "") + guess
    baseline = _baseline(runs, wanted.baseline or said.get("baseline"), more, mistakes)
    primary = _primary(runs, wanted.primary or said.get("primary"), mistakes)
    aa = wanted.aa or said.get("aa")
    if aa is not None and aa not in runs.arms:
        mistakes.append(f"--aa={aa}: there is no such arm{nearest(aa, runs.arms)}")
    elif aa is not None and aa == baseline:
        mistakes.append(f"--aa={aa}: is the baseline itself; an A/A arm has other seeds")
    _check_runs(runs, primary, wanted, guess, mistakes)
    _check_direction(primary, wanted, said, mistakes)
    margin = wanted.margin if wanted.margin is not None else said.get("margin")
    if primary is not None and margin is not None and not wanted.same_unit:
        mistakes += _impossible_margin(runs, primary, margin)
    paired = wanted.paired if wanted.paired is not None else said.get("paired", "auto")
    if baseline is not None and paired is True:
        _check_pairs(runs, baseline, primary, aa, wanted, mistakes)
    if len(mistakes) > before or baseline is None or primary is None:
        return None
    return Question(
        baseline=baseline,
        primary=primary,
        margin=margin,
        higher_is_better=_is_higher_better(wanted, said),
        claim=wanted.claim,
        paired=paired,
        aa=aa,
        known=tuple(arm for arm in said.get("known", ()) if arm not in (baseline, aa)),
        diverged=wanted.diverged,
        looks=wanted.looks,
        look=wanted.look,
        alpha=wanted.alpha if wanted.alpha is not None else said.get("alpha", LEVEL),
    )


def check_diverged(
    counts: str | float | int | None, mistakes: list[str]
) -> Literal["worst", "drop"] | float | None:
    """What a missing score counts as; None, with a line in `mistakes`, where it is wrong."""
    if counts is None:
        return None
    if counts == "worst":
        return "worst"
    if counts == "drop":
        return "drop"
    try:
        value = float(counts)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        mistakes.append(f"--diverged={counts}: must be worst, drop or a number")
        return None
    return value


def wanted_mistakes(wanted: Wanted) -> list[str]:
    """What is wrong with a question whatever the runs are."""
    mistakes = []
    if wanted.margin is not None and not (math.isfinite(wanted.margin) and wanted.margin > 0):
        mistakes.append(f"--margin={wanted.margin:g}: must be above 0, in the unit of the scores")
    if wanted.alpha is not None and not 0 < wanted.alpha < 1:
        mistakes.append(f"--alpha={wanted.alpha:g}: must be above 0 and below 1")
    if wanted.look > wanted.looks:
        mistakes.append(f"--look={wanted.look}: only {wanted.looks} are planned; see --looks")
    return mistakes


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_LISTED:,} more" if len(names) > _MOST_LISTED else ""
    return ", ".join(names[:_MOST_LISTED]) + more


def _is_higher_better(wanted: Wanted, said: Mapping[str, Any]) -> bool:
    if wanted.higher_is_better is not None:
        return wanted.higher_is_better
    return said.get("higher_is_better", True)


def _check_direction(
    primary: str | None, wanted: Wanted, said: Mapping[str, Any], mistakes: list[str]
) -> None:
    """A score that reads as a loss is not judged as one of which more is better, in silence."""
    if "baseline" in said:  # a results.json has its direction
        if wanted.higher_is_better and not said.get("higher_is_better", True):
            mistakes.append("--higher_is_better: the results say that lower is better")
        return
    if primary is None or wanted.higher_is_better is not None:
        return
    scores = said.get("scores", ())
    names = (primary,) if primary in scores else (primary, *scores)  # a view may be a column
    losses = [name for name in names if reads_as_loss(name)]
    if losses:
        mistakes.append(
            f"{losses[0]}: reads as a loss; say which way is better: --lower_is_better or"
            " --higher_is_better"
        )


def reads_as_loss(name: str) -> bool:
    """Whether a word of a name says that less is better: "val_loss", "testRMSE", "bits/byte"."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    words = re.findall(r"[a-z]+", parted)
    pairs = set(itertools.pairwise(words))
    return not _LOSSES.isdisjoint(words) or not pairs.isdisjoint(_LOSS_PHRASES)


def _impossible_margin(runs: Runs, primary: str, margin: float) -> list[str]:
    """A margin in points on scores that are shares: no two of them can be so far apart."""
    rows = [row[primary] for row in runs.scores.values() if primary in row]
    held = np.concatenate([values[np.isfinite(values)] for values in rows] or [np.zeros(0)])
    if margin < 1 or not held.size or held.min() < 0 or held.max() > 1:
        return []
    points = f"; did you mean {margin / 100:g}?" if margin < 100 else ""
    return [
        f"--margin={margin:g}: {primary} is from {held.min():.3g} to {held.max():.3g}, as shares"
        f" are, and no two shares differ by more than 1{points} (or say --same_unit where it is in"
        " the unit of the scores)"
    ]


def _baseline(runs: Runs, name: str | None, guess: str, mistakes: list[str]) -> str | None:
    if name is None:
        mistakes.append(f"--baseline is missing: one of the arms {_listed(runs.arms)}{guess}")
    elif name not in runs.arms:
        close = nearest(name, runs.arms)
        hint = close if "did you mean" in close else f"; arms: {_listed(runs.arms)}"
        mistakes.append(f"--baseline={name}: there is no such arm{hint}{guess}")
        return None
    return name


def _primary(runs: Runs, name: str | None, mistakes: list[str]) -> str | None:
    if name is None and len(runs.views) == 1:
        return runs.views[0]
    if name is None:
        mistakes.append(
            f"--primary is missing: the view that gets verdicts, one of {_listed(runs.views)}"
        )
    elif name not in runs.views:
        close = nearest(name, runs.views)
        hint = close if "did you mean" in close else f"; views: {_listed(runs.views)}"
        mistakes.append(f"--primary={name}: there is no such view{hint}")
        return None
    return name


def _check_runs(
    runs: Runs, primary: str | None, wanted: Wanted, guess: str, mistakes: list[str]
) -> None:
    """What is wrong with the arms and the scores."""
    if len(runs.arms) < 2:
        shown = ", ".join(f"{arm!r} with {len(seeds):,} runs" for arm, seeds in runs.seeds.items())
        mistakes.append(f"there is only one arm, {shown}; a comparison needs two{guess}")
    before = len(mistakes)
    for arm in runs.arms:
        _check_arm(runs, arm, primary, wanted, mistakes)
    if len(mistakes) - before > 2 * _MOST_LISTED:
        left = len(mistakes) - before - 2 * _MOST_LISTED
        del mistakes[before + 2 * _MOST_LISTED :]
        mistakes.append(f"and {left:,} more arms with the like")
    for view in runs.views:
        by_arm = {arm: row[view] for arm, row in runs.scores.items() if view in row}
        if not wanted.same_unit:
            mistakes += _mixed_units(view, by_arm)
        if view == primary:
            mistakes += _constant(view, by_arm)


def _check_arm(
    runs: Runs, arm: str, primary: str | None, wanted: Wanted, mistakes: list[str]
) -> None:
    row, seeds = runs.scores[arm], runs.seeds[arm]
    if len(seeds) < 2:
        mistakes.append(
            f"arm {arm}: has {'one run' if seeds else 'no run'}; a spread over seeds needs two, and"
            " a verdict at least 4 of each arm, or 6 pairs of equal seeds"
        )
    if primary is not None and primary in runs.views and primary not in row:
        mistakes.append(f"arm {arm}: has no score on {primary}")
    lost = {view: np.flatnonzero(np.isnan(values)) for view, values in row.items()}
    lost = {view: at for view, at in lost.items() if at.size}
    if lost and wanted.diverged is None:
        view, at = next(iter(lost.items()))
        shown = _listed([str(seeds[i]) for i in at])
        have, word = ("has", "seed") if at.size == 1 else ("have", "seeds")
        others = f", and on {len(lost) - 1} more views" if len(lost) > 1 else ""
        mistakes.append(
            f"arm {arm}: {at.size} of {len(seeds)} runs {have} no score on {view}{others} ({word}"
            f" {shown}); say what they count as: --diverged=worst, drop or VALUE"
        )
    elif primary in lost and wanted.diverged == "drop" and len(seeds) > 1:
        left = len(seeds) - lost[primary].size
        if left < 2:
            mistakes.append(
                f"arm {arm}: --diverged=drop leaves {left} of {len(seeds)} runs on {primary}; give"
                " worst or VALUE"
            )


def _mixed_units(view: str, by_arm: Mapping[str, Float[np.ndarray, " _"]]) -> list[str]:
    """Shares in some arms and percent in others, by one line."""
    shares, percents = {}, {}
    for arm, values in by_arm.items():
        held = values[~np.isnan(values)]
        if not held.size:
            continue
        low, high, middle = held.min(), held.max(), float(np.median(held))
        if low >= 0 and high <= 1:
            shares[arm] = middle
        elif low > 1 and high <= 100:
            percents[arm] = middle
    if not shares or not percents or min(percents.values()) < _APART * max(shares.values()):
        return []
    return [
        f"{view}: {_listed(list(shares))} look like shares (0 to 1) and {_listed(list(percents))}"
        " like percent (1 to 100): give all in one unit, or say --same_unit where they are"
    ]


def _constant(view: str, by_arm: Mapping[str, Float[np.ndarray, " _"]]) -> list[str]:
    held = np.concatenate([values[~np.isnan(values)] for values in by_arm.values()])
    if held.size < 2 or held.min() < held.max():
        return []
    return [
        f"{view}: is {held[0]:g} in all {held.size:,} runs: there is nothing to compare; is it"
        " another column?"
    ]


def _check_pairs(
    runs: Runs,
    baseline: str,
    primary: str | None,
    aa: str | None,
    wanted: Wanted,
    mistakes: list[str],
) -> None:
    """Runs of one seed in every arm; an A/A arm has other seeds by its nature."""
    dropped = primary if wanted.diverged == "drop" else None
    unlike = {}
    for arm in runs.arms:
        missing = [seed for part in differing(runs, arm, baseline, dropped) for seed in part]
        if missing and arm != aa:
            unlike[arm] = _listed([str(seed) for seed in sorted(missing, key=str)])
    mistakes += [
        f"--paired: {arm} and {baseline} do not have the same seeds (only in one: {shown});"
        " give every arm the same seeds, or leave --paired out: then all arms are unpaired"
        for arm, shown in unlike.items()
    ]
