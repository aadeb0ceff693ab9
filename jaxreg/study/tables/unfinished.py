"""Runs that did not end well: what they count as, and the line that warns of them."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import numpy as np

from jaxreg.study.analysis.runs import Runs, Seed

HOW = ("keep", "drop", "diverged")
MOST_LISTED = 5
"""Runs of an arm, and arms, that the warning names."""


def counted(
    runs: Runs, found: Mapping[str, Mapping[Seed, str]], how: Literal["keep", "drop", "diverged"]
) -> Runs:
    """The runs as asked, with a warning.

    Args:
      runs: all of them.
      found: arm -> seed -> how the run ended, where it did not end well.
      how: "keep": by its score; "drop": it is left out; "diverged": it has no score.
    """
    if how == "keep":
        found = {arm: _with_score(runs, arm, each) for arm, each in found.items()}
    found = {arm: each for arm, each in found.items() if each and arm in runs.scores}
    if not found:
        return runs
    words = {
        "keep": "not finished, and judged by the last score they have",
        "drop": "not finished, and left out, which favours arms whose runs fail",
        "diverged": "not finished, and counted as diverged",
    }[how]
    advice = "; --unfinished=drop or diverged says otherwise" if how == "keep" else ""
    warning = f"{words}: {_listed(runs, found)}{advice}"
    runs = dataclasses.replace(runs, warnings=(*runs.warnings, warning))
    return runs if how == "keep" else _without(runs, found, drop=how == "drop")


def check_how(text: str | None, mistakes: list[str]) -> Literal["keep", "drop", "diverged"]:
    """What is asked for; "keep", with a line in `mistakes`, where it is wrong."""
    if text == "drop":
        return "drop"
    if text == "diverged":
        return "diverged"
    if text not in (None, "keep"):
        mistakes.append(f"--unfinished={text}: must be keep, drop or diverged")
    return "keep"


def _with_score(runs: Runs, arm: str, found: Mapping[Seed, str]) -> dict[Seed, str]:
    """Those with a score on any view: of the others `Question.diverged` speaks."""
    rows = list(runs.scores.get(arm, {}).values())
    scored = [any(np.isfinite(row[i]) for row in rows) for i in range(len(runs.seeds.get(arm, ())))]
    kept = {seed for seed, keep in zip(runs.seeds[arm], scored, strict=True) if keep}
    return {seed: word for seed, word in found.items() if seed in kept}


def _listed(runs: Runs, found: Mapping[str, Mapping[Seed, str]]) -> str:
    parts = []
    for arm, each in found.items():
        named = ", ".join(f"seed {seed} {word}" for seed, word in list(each.items())[:MOST_LISTED])
        more = f" and {len(each) - MOST_LISTED} more" if len(each) > MOST_LISTED else ""
        parts.append(f"{arm} {len(each)} of {len(runs.seeds[arm])} runs ({named}{more})")
    left = f"; and {len(parts) - MOST_LISTED} more arms" if len(parts) > MOST_LISTED else ""
    return "; ".join(parts[:MOST_LISTED]) + left


def _without(runs: Runs, found: Mapping[str, Mapping[Seed, str]], *, drop: bool) -> Runs:
    """The runs without those found, or with no score for them."""
    seeds, scores = dict(runs.seeds), {arm: dict(row) for arm, row in runs.scores.items()}
    for arm, each in found.items():
        good = np.asarray([seed not in each for seed in seeds[arm]], bool)
        if drop:
            seeds[arm] = tuple(seed for seed in seeds[arm] if seed not in each)
        for view, values in scores[arm].items():
            scores[arm][view] = values[good] if drop else np.where(good, values, np.nan)
    return dataclasses.replace(runs, seeds=seeds, scores=scores)
