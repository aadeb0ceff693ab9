"""Twenty real A/A experiments: the baseline against itself at other seeds, 20 seeds each, every
pair trained anew.

Command:  python experiments/simulations/real_aa.py --workdir=runs/real_aa
Time:     about ten minutes on two cores (800 members of 400 steps); stopped, it goes on
Result:   experiments/results/simulations/real_aa.json

Both sides of a pair are configs/cat_sat.py without a regularizer, at seeds that nothing else uses.
Each pair is judged alone, and once
more as the ledger judges its A/A pairs: Holm-corrected over all of them. Twenty pairs say little
about a rate of one in twenty (two or more come out in a quarter of such runs by luck), so the same
800 runs are also paired anew at random, 400 times.
"""

import argparse
from pathlib import Path

import numpy as np

from jaxreg.cli import jax_startup
from jaxreg.cli.live_display import open_display
from jaxreg.store.atomic import write_json
from jaxreg.study.analysis import verdict
from jaxreg.study.design import config as configs
from jaxreg.study.engine import member_scores
from jaxreg.study.engine.fingerprint import fingerprint
from jaxreg.study.engine.members import Spec, code_version, member_hash, plain
from jaxreg.study.engine.session import Session, hold
from jaxreg.study.engine.trainer import Trainer, Watch

ROOT = Path(__file__).parents[2]
NUM_PAIRS, NUM_SEEDS, FIRST_SEED = 20, 20, 10_000
NUM_ANEW, SHUFFLE_SEED = 400, 1
MARGIN, ALPHA, VIEW = 0.05, 0.05, "recombination"


def main() -> None:
    """Trains what is missing, judges the pairs, writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument(
        "--output",
        type=Path,
        default=ROOT / "experiments" / "results" / "simulations" / "real_aa.json",
    )
    given = parser.parse_args()
    jax_startup.start()
    with open_display() as display:
        raise SystemExit(
            hold(given.workdir.absolute(), display, lambda session: judge(session, given.output))
        )


def judge(session: Session, output: Path) -> None:
    """All pairs."""
    config = plain(configs.load_config(ROOT / "configs" / "cat_sat.py"))
    specs = []
    for seed in range(FIRST_SEED, FIRST_SEED + 2 * NUM_PAIRS * NUM_SEEDS):
        data = session.library.request(config["data"], seed)
        specs.append(
            Spec("none", seed, seed, config, member_hash(config, seed, data, code_version()), data)
        )
    session.display.layout(["none"], [VIEW], None, len(specs))
    watch = Watch(
        progress=session.display.progress,
        phase=session.phases,
        stop=lambda: session.interrupts.requested,
    )
    found = Trainer(session.workdir, specs, session.library, fingerprint(), watch).run()
    accuracy = []
    for spec in specs:
        dataset = session.library[spec.data]
        view = next(view for view in dataset.views if view.name == VIEW)
        accuracy.append(member_scores.accuracy(found[spec.hash], dataset, view))
    told = figures(verdict.fill_diverged(accuracy, 0.5))
    output.parent.mkdir(parents=True, exist_ok=True)
    write_json(output, told)
    session.display.note(
        f"{told['supported_or_opposite']} of {NUM_PAIRS} A/A experiments came out supported or"
        f" opposite, {told['in_family']} after Holm; paired anew"
        f" {told['anew']['supported_or_opposite']} of {told['anew']['experiments']}"
    )


def figures(values: np.ndarray) -> dict:
    """What the pairs say; values [pairs * 2 * seeds], in the order of the seeds."""
    by_pair = values.reshape(NUM_PAIRS, 2, NUM_SEEDS)
    differences = by_pair[:, 1] - by_pair[:, 0]
    alone = [verdict.judge(row, margin=MARGIN, alpha=ALPHA) for row in differences]
    family = verdict.judge_family(
        [verdict.Comparison(row, MARGIN) for row in differences], alpha=ALPHA
    )
    generator, anew = np.random.default_rng(SHUFFLE_SEED), []
    for _ in range(NUM_ANEW):
        drawn = generator.choice(values, (2, NUM_SEEDS), replace=False)
        anew.append(verdict.judge(drawn[1] - drawn[0], margin=MARGIN, alpha=ALPHA))
    return {
        "seeds": NUM_SEEDS,
        "margin": MARGIN,
        "alpha": ALPHA,
        "supported_or_opposite": _out(alone),
        "in_family": _out(family),
        "anew": {"experiments": NUM_ANEW, "supported_or_opposite": _out(anew)},
        "baseline": {"mean": float(values.mean()), "sd": float(values.std(ddof=1))},
        "pairs": [
            {
                "verdict": said.label,
                "difference": said.difference,
                "p": said.p,
                "sd": float(np.std(row, ddof=1)),
            }
            for said, row in zip(alone, differences, strict=True)
        ],
    }


def _out(judged: list[verdict.Verdict]) -> int:
    return sum(said.label in (verdict.SUPPORTED, verdict.OPPOSITE) for said in judged)


if __name__ == "__main__":
    main()
