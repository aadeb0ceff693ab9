"""Writes the figures of README.md and of the pages in docs/ from the committed results.

Command:  python -m experiments.pages.figures

A page has a block for each table or sentence of figures:

    <!-- generated: NAME -->
    ...
    <!-- end of NAME -->

`BLOCKS` says of each name what stands between. tests/test_pages.py compares.
"""

import collections
import csv
import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path

from experiments.benchmarks import attention_speed, device_speed, nanodo_step
from experiments.pages import grids
from experiments.pages.markdown import table
from jaxreg.study.analysis import error_shares
from jaxreg.study.analysis.verdict import words
from jaxreg.study.claims import markdown

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments" / "results"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end of \2 -->)", re.DOTALL)


def load(name: str) -> dict:
    """The committed results of that name: experiments/results/NAME.json."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def signed(row: dict) -> str:
    """A difference of accuracies with its interval, in points."""
    low, high = row["ci95"]
    return f"{100 * row['difference']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def comparisons(results: dict, view: str) -> dict[str, dict]:
    """Arm -> its comparison with the baseline on a view."""
    return {row["arm"]: row for row in results["comparisons"] if row["split"] == view}


def main_result() -> str:
    """Three arms of the main experiment."""
    results = load("cat_sat/results")
    found = comparisons(results, "recombination")
    start = results["arms"]["none"]["recombination"]["mean"]
    rows = [["none", f"{100 * start:.1f}%", "", "baseline"]]
    for arm, what in (
        ("attention_0.3", "attention dropout .3"),
        ("weight_decay", "weight decay 1"),
        ("attention_0.3+decay", "both"),
    ):
        mean = results["arms"][arm]["recombination"]["mean"]
        rows.append(
            [
                what,
                f"{100 * mean:.1f}%",
                signed(found[arm]),
                words(found[arm]["verdict"], found[arm]["by_margin"]),
            ]
        )
    return table(["regularizer", "unseen pairs", "difference, points [95%]", "verdict"], rows)


def effect_size() -> str:
    """The smallest and the largest effect of attention dropout in the main experiment, with both
    position tables, by jaxreg and by the independent implementation.
    """
    view, gains = "recombination", []
    for name in ("cat_sat", "cat_sat_usual_positions"):
        gains.append(comparisons(load(f"{name}/results"), view)["attention_0.3"]["difference"])
    for name in ("flax_positions", "usual_positions"):
        with (RESULTS / "independent" / f"{name}.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        means = {
            arm: statistics.mean(float(row[view]) for row in rows if row["arm"] == arm)
            for arm in ("none", "attention_0.3")
        }
        gains.append(means["attention_0.3"] - means["none"])
    low, high = round(100 * min(gains)), round(100 * max(gains))
    return f"The effect is {low} to {high} points, depending on how positions are initialized.\n"


def cat_sat() -> str:
    """All arms of the main experiment."""
    results = load("cat_sat/results")
    others = {
        "template": "unseen frames",
        "novel_word": "novel word",
        "determiner_cut": "determiner cut",
    }
    primary = comparisons(results, "recombination")
    beside = {view: comparisons(results, view) for view in others}
    rows = []
    for arm, scores in results["arms"].items():
        mean = f"{100 * scores['recombination']['mean']:.1f}"
        if arm == results["baseline"]:
            levels = [f"{100 * scores[view]['mean']:.1f}" for view in others]
            rows.append([f"`{arm}`", mean, "", "baseline", *levels])
        else:
            row = primary[arm]
            changes = [f"{100 * beside[view][arm]['difference']:+.1f}" for view in others]
            rows.append(
                [f"`{arm}`", mean, signed(row), words(row["verdict"], row["by_margin"]), *changes]
            )
    heads = ["arm", "unseen pairs, %", "difference, points [95%]", "verdict", *others.values()]
    return table(heads, rows)


def attention() -> str:
    """Attention beside Flax and PyTorch, on a processor with vectors of 512 bits."""
    return attention_speed.markdown(load("attention_speed")["table"])


def attention_machine() -> str:
    """Where attention was measured, and how."""
    found = load("attention_speed")
    return f"{found['machine']}; medians of {found['rounds']} rounds.\n"


def attention_short() -> str:
    """What dropout of single connections costs beside Flax, in one sentence."""
    figures = attention_speed.Figures(load("attention_speed"))
    ratio = figures.ratio(f"{attention_speed.OURS} 2048", "flax_dropout 2048")
    ours, theirs = (
        figures.megabytes(f"{name} 2048") for name in (attention_speed.OURS, "flax_dropout")
    )
    longest = {
        row["contender"]: row for row in load("nanodo_step")["rows"] if row["length"] == 2048
    }
    own, dropped = longest["nanodo"], longest["jaxreg_dropout"]
    megabytes = [row["temporary_bytes"] / 1e6 for row in (dropped, own)]
    return (
        "On two CPU cores, forward and backward at length 2,048 take"
        f" {ratio:.2f} of the time of Flax's\nattention with a mask per connection,"
        f" and {ours:.0f} MB in place of {theirs:,.0f}. A training step of nanodo\n"
        f"takes {dropped['seconds'] / own['seconds']:.2f} of its time with our attention and"
        f" dropout in place of its own without,\nand {megabytes[0]:,.0f} MB in place of"
        f" {megabytes[1]:,.0f}.\n"
    )


def attention_vectors() -> str:
    """What dropout costs on both kinds of processor."""
    return attention_speed.cost_of_dropout(load("attention_speed"), load("attention_speed_avx2"))


def training() -> str:
    """Training beside Flax and PyTorch loops."""
    return _training("training_speed")


def training_language_model() -> str:
    """The same of a language model on bytes, in tokens."""
    return _training("training_speed_language_model")


def _training(name: str) -> str:
    found = load(name)
    limit, ours = found["limit_steps_per_second"], found["contenders"]["jaxreg"]
    per_step = found.get("tokens_of_step")
    heads = ["contender", "model-steps/s", "ours / it", "of the limit"]
    rows = []
    for entry in found["contenders"].values():
        rate = entry["steps_per_second"]
        ratio = ours["steps_per_second"] / rate
        row = [entry["name"], f"{rate:.3g}", f"{ratio:.2f}", f"{rate / limit:.0%}"]
        rows.append([*row, f"{rate * per_step:,.0f}"] if per_step else row)
    return table([*heads, "tokens/s"] if per_step else heads, rows)


def nanodo() -> str:
    """A training step of nanodo with other attention in it."""
    found = load("nanodo_step")
    rows = []
    for row in found["rows"]:
        rows.append(
            [
                f"{row['length']:,}",
                nanodo_step.CONTENDERS[row["contender"]],
                f"{1e3 * row['seconds']:,.0f}",
                f"{row['temporary_bytes'] / 1e6:,.0f}",
            ]
        )
    return table(["length", "", "ms a step", "temporary MB"], rows)


def scaling() -> str:
    """Members per second on one and two devices."""
    found = load("weak_scaling")["contenders"]
    rates = {
        name: entry["members"] / statistics.median(entry["seconds"]["wave"])
        for name, entry in found.items()
    }
    said = {
        "one": "one device",
        "two": "two devices, one program",
        "apart": "two processes, one device each",
    }
    rows = [
        [what, f"{rates[name]:.2f}", f"{rates[name] / rates['one']:.2f}"]
        for name, what in said.items()
    ]
    return table(["contender", "members/s", "against one device"], rows)


def accelerators() -> str:
    """Which accelerators jaxreg never ran on, or the results of those it did."""
    never, ran = [], []
    for name in device_speed.ACCELERATORS:
        state = device_speed.state(name)
        if state == device_speed.NOT_RUN:
            never.append(name)
        else:
            ran.append(f"{name}: {state}.\n")
    idle = [f"{', '.join(never)}: {device_speed.NOT_RUN}.\n"] if never else []
    tables = []
    for path in sorted(device_speed.RESULTS.glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        tables.append(f"\n{found['machine']}:\n\n{attention_speed.markdown(found['table'])}")
    return "".join([*idle, *ran, *tables])


def errors() -> str:
    """How often verdicts err, by simulation."""
    found = load("simulations/verdicts")
    shares = [100 * row["share"] for row in found["aa"]]
    planted = {round(100 * row["sd"], 1): 100 * row["share"] for row in found["planted"]}
    always = max(sd for sd, share in planted.items() if share == 100)
    beyond = [f"{share:.1f}% at {sd:.0f}" for sd, share in planted.items() if share < 100]
    largest = 100 * max(found["real_sd"].values())
    heads = [
        "two equal arms come out supported or opposite",
        "an effect of twice the margin (10 points) is found, after Holm over 45 questions",
    ]
    equal = f"{min(shares):.1f} to {max(shares):.1f}%, at every spread"
    effect = f"100% at spreads up to {always:.1f} points (SD over seeds), {', '.join(beyond)}"
    return table(heads, [[equal, f"{effect}; the largest real spread is {largest:.1f}"]])


def asked_again() -> str:
    """Every question of the second ledger, and how many came out how."""
    told = load("followups/ledger")
    asked = [(claim["id"], each) for claim in told["claims"] for each in claim["questions"]]
    counts = collections.Counter(each["verdict"] or each["reason"] for _, each in asked)
    listed = ", ".join(f"{count} {label}" for label, count in sorted(counts.items()))
    heads = ["claim", "asked again", "effect [95%]", "errors", "predicted", "verdict"]
    rows = [
        [
            name,
            each["name"],
            markdown.effect(each),
            error_shares.words_of_entry(each),
            f"{each['predict']:+g}",
            (markdown.label(each) or each["reason"]) + markdown.why(each),
        ]
        for name, each in asked
    ]
    pairs = f"Of {told['aa']['pairs']} A/A pairs {told['aa']['supported_or_opposite']} came out"
    return f"{len(asked)} questions: {listed}. {pairs}, uncorrected.\n\n{table(heads, rows)}"


def short_data() -> str:
    """Study 2: every arm at every number of passes, by the lowest validation loss."""
    return grids.by_cell(load("short_data/grid"), digits=3)


def short_data_last() -> str:
    """The same by the loss at the last step."""
    return grids.by_cell(load("short_data/grid"), digits=3, metric="loss")


def short_data_tuned() -> str:
    """What each arm of it was tuned to."""
    return grids.tuned(load("short_data/grid"))


BLOCKS: dict[str, Callable[[], str]] = {
    make.__name__: make
    for make in (
        main_result,
        effect_size,
        cat_sat,
        attention,
        attention_machine,
        attention_short,
        attention_vectors,
        training,
        training_language_model,
        nanodo,
        scaling,
        accelerators,
        errors,
        asked_again,
        short_data,
        short_data_last,
        short_data_tuned,
    )
}
"""Name of a block -> what it holds."""


def filled(page: str) -> str:
    """A page with each of its blocks written anew."""
    return _BLOCK.sub(lambda found: found[1] + BLOCKS[found[2]]() + found[3], page)


def names(page: str) -> list[str]:
    """The blocks of a page."""
    return [found[2] for found in _BLOCK.finditer(page)]


def main() -> None:
    """Writes every page whose figures have changed."""
    for path in PAGES:
        before = path.read_text(encoding="utf-8")
        after = filled(before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
