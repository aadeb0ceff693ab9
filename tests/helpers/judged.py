"""Outcomes of the judge on made-up runs, for tests of what is shown of them."""

import numpy as np

from jaxreg.study.analysis.judge import Outcome, judge_runs
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
    asked |= {"paired": True}
    return Question(**(asked | changes))


def make_outcome(runs: Runs, question: Question) -> Outcome:
    """What the judge says of them."""
    return judge_runs(runs, question)
