"""Writes the figures of README.md and of the pages in docs/ from the committed results.

Command:  python -m experiments.pages.figures

A page has a block for each table or sentence of figures:

    <!-- generated: NAME -->
    ...
    <!-- end of NAME -->

`BLOCKS` says of each name what stands between. A single effect of the first ledger stands inside a
sentence, behind its claim and name:

    <!-- = C1: unseen pairs -->...<!-- -->

tests/test_pages.py compares.
"""

import collections
import csv
import json
import re
import statistics
import textwrap
from collections.abc import Callable
from pathlib import Path

from experiments.benchmarks import attention_speed, device_speed, nanodo_step
from experiments.pages import grids
from experiments.pages.markdown import table
from jaxreg.study.analysis import error_shares
from jaxreg.study.analysis.verdict import words
from jaxreg.study.claims import markdown
from jaxreg.study.design.config import load_config

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments" / "results"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_EFFECT = re.compile(r"(<!-- = (\w+): (.+?) -->).*?(<!-- -->)", re.DOTALL)
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
    rows = [["none", f"{100 * start:.1f}%", "", "", "baseline"]]
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
                _fewer_errors(results, arm),
                words(found[arm]["verdict"], found[arm]["by_margin"]),
            ]
        )
    heads = ["regularizer", "unseen pairs", "difference, points [95%]", "errors", "verdict"]
    return table(heads, rows)


def _fewer_errors(results: dict, arm: str) -> str:
    """The change of an arm's errors on unseen pairs, in percent of the baseline's."""
    own = error_shares.words_between(results["arms"], arm, results["baseline"], "recombination")
    return own.partition(" ")[0]


def effect_size() -> str:
    """The smallest and the largest effect of attention dropout in the main experiment, with both
    position tables, by jaxreg and by the independent implementation; and what the ledger says
    beside it.
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
    tuned = _cell_of_the_main_setting()
    baseline = 100 * tuned["arms"]["none"]["mean"]
    fronted = 100 * _entry("C1", "accuracy, fronted")["difference"]
    initialization = 100 * _entry("D4", "+ initialization")["difference"]
    config, seeds = load_config(ROOT / "configs" / "cat_sat.py"), load("cat_sat/results")["seeds"]
    text = (
        f"Trained on {config.data.num_train} sentences for {config.train.num_steps} steps at"
        f" {len(seeds)} paired seeds, dropout gains {low} to {high} points, depending on how"
        f" positions are initialized. GPT-2's initialization alone, instead of Flax's, gains"
        f" {initialization:.0f}. All arms share one untuned learning rate; data and model were"
        f" chosen after a look at other seeds. With tuned rates the baseline has {baseline:.1f}%,"
        f" dropout changes it by {signed(tuned['effects']['dropout'])} points, weight decay by"
        f" {signed(tuned['effects']['decay'])}. In *fronted* sentences, whose first noun misleads,"
        f" dropout loses {-fronted:.1f}."
    )
    return textwrap.fill(text, 100, break_on_hyphens=False) + "\n"


def _cell_of_the_main_setting() -> dict:
    """The cell of the phase diagram that is the main experiment with tuned rates."""
    setting = {"sentences": 256, "steps": 400, "width": 32, "initialization": "lecun"}
    cells = load("phase_diagram/grid")["cells"]
    return next(each for each in cells if each["cell"] == setting)


def _entry(claim: str, name: str) -> dict:
    """A question or a secondary effect of the first ledger."""
    [own] = [each for each in load("ledger/ledger")["claims"] if each["id"] == claim]
    return next(each for each in (*own["questions"], *own["secondary"]) if each["name"] == name)


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
            rows.append([f"`{arm}`", mean, "", "", "baseline", *levels])
        else:
            row = primary[arm]
            changes = [f"{100 * beside[view][arm]['difference']:+.1f}" for view in others]
            verdict = words(row["verdict"], row["by_margin"])
            errors = _fewer_errors(results, arm)
            rows.append([f"`{arm}`", mean, signed(row), errors, verdict, *changes])
    heads = ["arm", "unseen pairs, %", "difference, points [95%]", "errors", "verdict"]
    return table([*heads, *others.values()], rows)


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
    times, megabytes = [], []
    for length in (512, 1024, 2048):
        own, dropped = (_nanodo(name, length) for name in ("nanodo", "jaxreg_dropout"))
        times.append(f"{dropped['seconds'] / own['seconds']:.2f}")
        megabytes.append([f"{row['temporary_bytes'] / 1e6:,.0f}" for row in (dropped, own)])
    new, old = zip(*megabytes, strict=True)
    text = (
        "On two CPU cores, forward and backward at length 2,048 take"
        f" {ratio:.2f} of the time of Flax's attention with a mask per connection, and"
        f" {ours:.0f} MB instead of {theirs:,.0f}. In nanodo, DeepMind's small language model,"
        " a step with our attention and dropout at lengths 512, 1,024, 2,048 takes"
        f" {', '.join(times)} of the time with nanodo's own attention, without dropout, and"
        f" {', '.join(new)} MB instead of {', '.join(old)}."
    )
    return textwrap.fill(text, 100, break_on_hyphens=False) + "\n"


def _nanodo(contender: str, length: int) -> dict:
    """A contender's row of nanodo_step.json at a length."""
    rows = load("nanodo_step")["rows"]
    return next(r for r in rows if r["contender"] == contender and r["length"] == length)


def attention_vectors() -> str:
    """What dropout costs on both kinds of processor."""
    return attention_speed.cost_of_dropout(load("attention_speed"), load("attention_speed_avx2"))


def training() -> str:
    """Training beside Flax and PyTorch loops."""
    return _training("training_speed")


def training_language_model() -> str:
    """The same of a language model on bytes, in tokens."""
    return _training("training_speed_language_model")


def training_short_data() -> str:
    """The same at the size of study 2's smallest tier."""
    return _training("training_speed_short_data")


def data_wait() -> str:
    """How long training waits for its rows, streamed and in a table."""
    rows = [
        [row["name"], f"{row['steps_per_second']:.0f}", f"{row['waiting']:.1%}"]
        for row in load("data_wait")["inputs"].values()
    ]
    return table(["training rows", "steps/s", "waiting for rows"], rows)


def goodput() -> str:
    """The share of training in the time of a small study, and where the rest goes."""
    rows = []
    for name, found in load("goodput")["studies"].items():
        seconds = sorted(found["seconds"].items(), key=lambda item: -item[1])
        rest = ", ".join(f"{phase} {x:.0f}" for phase, x in seconds if phase != "training")
        whole = (f"{found['wall_seconds']:.0f}", f"{found['goodput']:.0%}")
        rows.append([name, f"{found['model_steps']:,}", *whole, rest])
    return table(["study", "model-steps", "seconds", "goodput", "the rest, in seconds"], rows)


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
    among_pairs = 100 * max(pair["sd"] for pair in load("simulations/real_aa")["pairs"])
    heads = [
        "two equal arms come out supported or opposite",
        "an effect of twice the margin (10 points) is found, after Holm over 45 questions",
    ]
    equal = f"{min(shares):.1f} to {max(shares):.1f}%, at every spread"
    effect = f"100% at spreads up to {always:.1f} points (SD over seeds), {', '.join(beyond)}"
    real = (
        f"real spreads: up to {largest:.1f} in the runs on CATSAT, {among_pairs:.0f} in A/A pairs"
    )
    return table(heads, [[equal, f"{effect}; {real}"]])


def asked_first() -> str:
    """Every question of the first ledger, and how many came out how."""
    return _questions("ledger/ledger", "asked")


def asked_again() -> str:
    """Every question of the second ledger, and how many came out how."""
    return _questions("followups/ledger", "asked again")


def _questions(name: str, head: str) -> str:
    """A ledger's questions as a table."""
    told = load(name)
    asked = [(claim["id"], each) for claim in told["claims"] for each in claim.get("questions", ())]
    counts = collections.Counter(each["verdict"] or each["reason"] for _, each in asked)
    listed = ", ".join(f"{count} {label}" for label, count in sorted(counts.items()))
    heads = ["claim", head, "effect [95%]", "errors", "predicted", "verdict"]
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
    pairs += " supported or opposite"
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


def short_text() -> str:
    """An ensemble at equal compute, and dropout over many passes and one."""
    return _questions("short_text/ledger", "question")


def short_text_effects() -> str:
    """What dropout by itself does to the loss there, over many passes and in one."""
    [claim] = (each for each in load("short_text/ledger")["claims"] if each["id"] == "I1p")
    rows: dict[str, dict[str, str]] = {}
    for effect in claim["secondary"]:
        when, _, regime, rate = effect["name"].split(", ")
        rows.setdefault(f"{when}, learning rate {rate}", {})[regime] = markdown.effect(effect)
    regimes = list(next(iter(rows.values())))
    return table(["", *regimes], [[name, *own.values()] for name, own in rows.items()])


def over_fitted() -> str:
    """The study in which the model over-fits its text, by the lowest validation loss."""
    return grids.by_cell(load("short_data_overfitted/grid"), digits=3)


def over_fitted_last() -> str:
    """The same by the loss at the last step."""
    return grids.by_cell(load("short_data_overfitted/grid"), digits=3, metric="loss")


def over_fitted_tuned() -> str:
    """What each arm of it was tuned to."""
    return grids.tuned(load("short_data_overfitted/grid"))


def phase_diagram() -> str:
    """Study 1: the effect of attention dropout in every cell, in points."""
    return grids.of_arm(load("phase_diagram/grid"), "dropout", "sentences", digits=1)


def phase_diagram_counts() -> str:
    """In how many of its cells each arm gains and loses."""
    return grids.counts(load("phase_diagram/grid"))


def phase_diagram_law() -> str:
    """Its law of attention dropout: the coefficients."""
    return grids.coefficients(load("phase_diagram/grid"), "dropout")


def phase_diagram_tests() -> str:
    """How the laws of all arms did on cells that they were not fitted on."""
    names = ("phase_diagram", "phase_diagram_agree", "phase_diagram_tokens")
    run = (name for name in names if (RESULTS / name / "grid.json").exists())
    return grids.laws(*(load(f"{name}/grid") for name in run))


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
        training_short_data,
        data_wait,
        goodput,
        nanodo,
        scaling,
        accelerators,
        errors,
        asked_first,
        asked_again,
        short_data,
        short_data_last,
        short_data_tuned,
        short_text,
        short_text_effects,
        over_fitted,
        over_fitted_last,
        over_fitted_tuned,
        phase_diagram,
        phase_diagram_counts,
        phase_diagram_law,
        phase_diagram_tests,
    )
}
"""Name of a block -> what it holds."""


def filled(page: str) -> str:
    """A page with each of its blocks and effects written anew."""
    page = _EFFECT.sub(lambda found: found[1] + _effect(found[2], found[3]) + found[4], page)
    return _BLOCK.sub(lambda found: found[1] + BLOCKS[found[2]]() + found[3], page)


def _effect(claim: str, name: str) -> str:
    """A question's or a secondary effect of the first ledger, with its interval and unit."""
    return markdown.effect(_entry(claim, name))


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
