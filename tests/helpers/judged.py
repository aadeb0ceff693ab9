"""Outcomes of the judge on made-up runs, for tests of what is shown of them."""

import numpy as np

from jaxreg.study.analysis import power, scores, statistics, verdict
from jaxreg.study.analysis.judge import Outcome
from jaxreg.study.analysis.runs import Question, Runs

UNDERSTOOD = ("runs.csv: 60 rows", "arm: column 'arm'; seed: 'seed'; view: 'split'; value: 'value'")


def make_runs(*, num_seeds: int = 8, views: tuple[str, ...] = ("test", "val_loss")) -> Runs:
    """Four arms around 3.28, lower is better: one better, one equal, one worse, one noisy."""
    stream = np.random.default_rng(7)
    base = 3.28 + 0.002 * stream.standard_normal(num_seeds)
    effects = {"adamw": (0, 0), "muon": (-0.02, 0.002), "lion": (0.0004, 0.001)} | {
        "sgd": (0.031, 0.004),
        "noisy | arm": (-0.006, 0.02),
    }
    table = {
        arm: {
            view: base + shift + spread * stream.standard_normal(num_seeds) + 0.1 * place
            for place, view in enumerate(views)
        }
        for arm, (shift, spread) in effects.items()
    }
    seeds = {arm: tuple(range(num_seeds)) for arm in table}
    return Runs(seeds, table, UNDERSTOOD)


def make_question(**changes) -> Question:
    """Asks for a lower score than adamw's, by .01."""
    asked = {"baseline": "adamw", "primary": "test", "margin": 0.01, "higher_is_better": False}
    return Question(**(asked | changes))


def make_outcome(runs: Runs, question: Question) -> Outcome:
    """The outcome of paired runs, put together from the tests themselves."""
    direction = 1 if question.higher_is_better else -1
    others = [arm for arm in runs.arms if arm != question.baseline]
    found = {
        (arm, view): runs.scores[arm][view] - runs.scores[question.baseline][view]
        for arm in others
        for view in runs.views
    }
    verdicts = {}
    if question.margin is not None:
        asked = [
            verdict.Comparison(
                found[arm, question.primary], question.margin, direction, question.claim
            )
            for arm in others
        ]
        verdicts = dict(zip(others, verdict.judge_family(asked, alpha=question.alpha), strict=True))
    p = [statistics.sign_flip_test(found[arm, question.primary]).p for arm in others]
    p_holm = dict(zip(others, statistics.holm(p).tolist(), strict=True))
    rows = []
    for (arm, view), values in found.items():
        decides = view == question.primary
        judged = verdicts.get(arm) if decides else None
        told = scores.summary(values)
        needed = None
        if judged is not None:
            needed = judged.seeds_needed
        elif question.margin is not None:
            needed = power.seeds_needed(values, question.margin, alpha=question.alpha)
        rows.append(
            {
                "arm": arm,
                "split": view,
                "difference": told.mean,
                "ci95": told.ci95,
                "p": p[others.index(arm)] if decides else None,
                "p_holm": p_holm[arm] if decides else None,
                "verdict": judged.label if judged else None,
                "per_seed": told.per_seed,
                "seeds_needed": needed,
                "reason": judged.reason if judged else None,
            }
        )
    arms = {
        arm: {view: scores.summary(values)._asdict() for view, values in row.items()}
        for arm, row in runs.scores.items()
    }
    results = {
        "baseline": question.baseline,
        "margin": question.margin,
        "alpha": question.alpha,
        "seeds": list(runs.seeds[question.baseline]),
        "pairing": {"paired": True, "why": "paired by seed, as was said", "correlation": 0.5},
        "notes": ["paired by seed, as was said"],
        "arms": arms,
        "comparisons": rows,
        "controls": {},
    }
    return Outcome(results, verdicts, {})
