"""Published results, judged: writes docs/judged.md from the files of numbers beside this one.

    python experiments/judged/tables.py

The numbers are facts, copied from the sources that are named; the margins are ours, since their
authors gave none, and were chosen after the numbers were public. The last two are our own.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jaxreg
from jaxreg.study.commands.judge import Judgement

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGE = ROOT / "docs" / "judged.md"

NANOGPT = "github.com/KellerJordan/modded-nanogpt, commit f411b3d (MIT license)"
ALGOPERF = "github.com/mlcommons/submissions_algorithms"
SIGMA_RULE = 0.004
"""The list's own rule: a z test at p < .001 with an assumed SD of .0013."""


@dataclasses.dataclass(frozen=True)
class Published:
    """One published table, and what is asked of it.

    Attributes:
      file: of numbers, beside this one. title: of its chapter.
      source: repository, commit, file and table. said: what its authors said.
      asked: arguments of `jaxreg.judge`. why: where the margin comes from.
      beside: lines computed from the verdicts, on what the authors' own rule gives.
      found: what the judge says, in words.
    """

    file: str
    title: str
    source: str
    said: str
    asked: Mapping[str, Any]
    why: str
    found: str
    beside: Callable[[Judgement], list[str]] = lambda _: []


def pairwise_rule(judged: Judgement) -> list[str]:
    """The list's own rule for two results at one number of steps, for each arm."""
    cells = {arm: row["val_loss"] for arm, row in judged.results["arms"].items()}
    base = cells[judged.question.baseline]
    lines = []
    for arm, cell in cells.items():
        if arm == judged.question.baseline:
            continue
        sizes = [len(cell["per_seed"]), len(base["per_seed"])]
        left = (base["mean"] - cell["mean"]) / math.sqrt(sum(1 / size for size in sizes))
        outcome = "reaches" if left >= SIGMA_RULE else "does not reach"
        lines.append(f"- {arm}: {left:.4f}, which {outcome} {SIGMA_RULE}")
    return ["By the list's own rule for pairs of results:", "", *lines]


PUBLISHED = (
    Published(
        "nanogpt_optimizers.csv",
        "Five optimizers at 3,250 steps",
        f"{NANOGPT}, `records/track_3_optimization`: results #36, #8, #9, #10 and #37 of the table"
        " in its README; the losses are those at step 3,250 in the logs of `results/`, all runs of"
        " each result. Results #8 and #10 ran schedules of 3,275 and 3,300 steps and count at"
        " step 3,250, as the table says. (For #8 the table has a mean of 3.2778, its logs 3.2780.)",
        "Each result is valid by itself: its mean is below 3.28 by a z test at p < .001 with an"
        " assumed SD of .0013. The README adds that this does not make one result better than"
        " another, and gives a rule for pairs: the difference of the means over"
        " sqrt(1/n1 + 1/n2) must reach .004.",
        {
            "baseline": "Muon tuned (#36)",
            "metric": "val_loss",
            "lower_is_better": True,
            "margin": 0.0011,
            "paired": False,
        },
        "25 steps, the unit in which the table counts, at the .0045 per 100 steps that the README"
        " measured.",
        "The judge and the list agree that most of these results are not shown to differ. They part"
        " on #9: the judge, at level .05 over four arms and with the spread that was seen, calls it"
        " supported; the list asks for p < .001.",
        pairwise_rule,
    ),
    Published(
        "nanogpt_value_embeddings.csv",
        "Six changes to value embeddings, five runs each",
        f"{NANOGPT}, `records/track_1_short/2026-02-03_VeTuned/README.md`, section Ablations, H0 to"
        " H6.",
        '"We kept hypotheses H{1,2,4}." The table\'s column "Loss p" tests each arm against the'
        " target 3.28 (H0 .07, H1 .06, H2 .011, H4 .006), not against H0. Whether the change as a"
        " whole holds was tested afterwards with 10 more runs, which are not in this table.",
        {
            "baseline": "H0 master",
            "metric": "val_loss",
            "lower_is_better": True,
            "margin": 0.0005,
            "paired": False,
        },
        "about 11 steps at .0045 per 100 steps; the record that came of it is 8 steps shorter.",
        "Five runs of each show that H6 is worse and leave the other five open, the three that were"
        " kept among them: a p below the target's threshold beside one that is not is no evidence"
        " that two arms differ.",
    ),
    Published(
        "nanogpt_fused_loss.csv",
        "A fused loss kernel: is it faster?",
        f"{NANOGPT}, `records/track_1_short/2026-01-16_FusedSoftcappedEntropy/README.md`, section"
        " Timing and validation: 10 runs of the record before and 10 with the kernel, on one"
        " machine.",
        '"New WR: Fused Softcapped Cross Entropy Kernel (-0.9s)"; losses against 3.28: p = .0246'
        " for the record before, .0067 with the kernel.",
        {
            "baseline": "record before",
            "metric": "seconds",
            "lower_is_better": True,
            "margin": 0.1,
            "paired": False,
        },
        "a tenth of a second, the last digit of the table of records.",
        "The speed-up is supported.",
    ),
    Published(
        "nanogpt_fused_loss.csv",
        "A fused loss kernel: is its loss no worse?",
        "as above.",
        '"this change resulted in the timings of the modified WR to be more consistently under the'
        ' loss threshold."',
        {
            "baseline": "record before",
            "metric": "val_loss",
            "lower_is_better": True,
            "margin": 0.001,
            "paired": False,
            "claim": "non_inferior",
        },
        "about 22 steps at .0045 per 100 steps.",
        "The means differ by .0001, and 10 runs of each just fail to exclude a loss worse by .001.",
    ),
    Published(
        "algoperf_finewebedu.csv",
        "AlgoPerf: time to the target on FineWeb-Edu, three studies each",
        f"{ALGOPERF}, `artifacts/tech_report_v1/section_4_leaderboards/out/byproducts/summaries/`:"
        " nadamw_baselinev05, schedule_free_adamw_jax_v2 (both 5d477cd), ademamix (3dd8f09);"
        ' column "time to target on val (s)" of the workload finewebedu_lm.',
        "The benchmark scores the median of the studies (20,590, 15,452 and 18,026 s in"
        " `time_to_targets.csv`) and makes no claim of significance.",
        {
            "baseline": "NAdamW",
            "metric": "seconds",
            "lower_is_better": True,
            "margin": 600.0,
            "paired": False,
        },
        "ten minutes, 3% of the baseline's time.",
        "Three studies of each cannot show a difference at level .05 to a test that assumes no"
        " distribution: the smallest p that exists is .1, however far apart the times are. Welch's"
        " t test alone would call AdEMAMix faster; it then rests on normal times, which three"
        " numbers, all at steps of the evaluation, cannot support.",
    ),
    Published(
        "../results/independent/flax_positions.csv",
        "Our own main result, implemented a second time",
        "`experiments/independent/cat_sat_plain.py` of this repository: plain Flax and optax, with"
        " jaxreg's sentences and nothing else of it; position table as `nn.Embed` draws it.",
        "`experiments/cat_sat.py` at 12 seeds: attention dropout .3 gains 13.3 points, weight decay"
        " 6.6.",
        {"baseline": "none", "primary": "recombination", "margin": 0.05, "paired": True},
        "5 points of accuracy, fixed beforehand in `experiments/cat_sat.py`.",
        "Both effects are there in an implementation that shares no code with ours.",
    ),
    Published(
        "../results/independent/usual_positions.csv",
        "The same, with the usual position table",
        "the same program; position table drawn from N(0, .02^2), as in BERT and ViT.",
        "`experiments/cat_sat_usual_positions.py` at 12 seeds: 9.1 and 4.2 points.",
        {"baseline": "none", "primary": "recombination", "margin": 0.05, "paired": True},
        "5 points, as above.",
        "Attention dropout is supported, with a smaller effect. Weight decay helps significantly,"
        " and whether by the margin is open.",
    ),
)


def judged(table: Published) -> Judgement:
    """The verdicts on one table."""
    return jaxreg.judge(HERE / table.file, **table.asked)


def chapter(table: Published) -> list[str]:
    """Its lines of the page."""
    found = judged(table)
    place = (HERE / table.file).resolve().relative_to(ROOT.resolve()).as_posix()
    return [
        f"## {table.title}",
        "",
        f"Source: {table.source} Numbers: [`{place}`](../{place}).",
        "",
        f"What its authors say: {table.said}",
        "",
        f"Margin (ours): {table.why}",
        "",
        found.markdown().rstrip("\n"),
        "",
        *([*lines, ""] if (lines := table.beside(found)) else []),
        f"**What the judge says.** {table.found}",
        "",
    ]


def page() -> str:
    """All of docs/judged.md."""
    head = [
        "# Published results, judged",
        "",
        "Tables that others published with a value for every run, put through"
        " [`jaxreg judge`](judge.md). Their numbers are copied; their margins are ours, chosen"
        " after the numbers were public, since the authors gave none; the last two tables are our"
        " own. A verdict that is inconclusive is not a verdict against a result: it says how many"
        " runs would decide.",
        "",
        "Written by `python experiments/judged/tables.py`; a test writes it again and compares.",
        "",
    ]
    return "\n".join([*head, *(line for table in PUBLISHED for line in chapter(table))])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
