"""The README is the truth: every command and every example in it runs here, and its table is the
committed result.
"""

import collections
import json
import re
import shlex
import statistics
from pathlib import Path

import pytest

from jaxreg.study.claims import markdown

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.S)
LINES = [line for kind, body in BLOCKS if kind == "bash" for line in body.strip().splitlines()]
COMMANDS = [line for line in LINES if line.startswith("jaxreg ")]

SMALL = {
    "train": [
        "--config.train.num_steps=20",
        "--config.optim.warmup_steps=5",
        "--config.eval.every_steps=10",
        "--config.data.num_eval=64",
    ],
    "compare": [],
    "inspect": [],
    "judge": [],
    "report": [],
    "list": [],
    "counterfactual": [],
    "plan": [],
    "claims": [],
    "status": [],
    "launch": [],
}
"""What makes each command short; nothing where it is short already."""
SAID = (  # claim, question or effect, its sign, and the words of the README
    ("C1b", "novel words", 1, "7.26 on words never trained"),
    ("I1", "the gain is larger over-fitted", 1, "10 points more than elsewhere"),
    ("I1", "unseen pairs, dropout, under-fitted", 1, ".928, in one pass"),
    ("I1", "unseen pairs, dropout, one pass", -1, "1.02, and in the essay"),
    ("C1a", "one verb per noun", 1, "2.2: open"),
    ("C4", "CATSAT: noun or determiner cut", 1, "16.3 points more (C4)"),
    ("C4", "CATSAT, informative", 1, "8.7 are there with nothing cut"),
    ("C1", "accuracy, fronted", -1, "11.5 points ["),
    ("D4", "+ initialization", 1, "14.4 [+11.8"),
    ("D6", "accuracy, template", -1, "3.34 points behind, on new words"),
    ("D6", "accuracy, novel_word", -1, "4.93."),
    ("D7", "accuracy at the lowest rate, SGD", -1, "4.9\n  points and gains"),
    ("D7", "accuracy at the lowest rate, Adam", 1, '1.01: "the same"'),
    ("C6", "AGREE: strongest connection out", 1, "5.2 [+3.3, +7.1]"),
    ("D10", "unseen pairs, old, norm against old", -1, "4.75.)"),
    ("C1c", "verb -> noun dropped: noun cut", 1, "6 of them (C1c)"),
    ("C5", "what an ensemble adds with dropout", 1, "2.16 points instead"),
    ("C5", "what an ensemble adds without dropout", 1, "6.48 (C5)"),
    ("C7", "slower with four heads", 1, "31% (log) to find"),
    ("C7", "slower with one head", 1, "39% with one"),
    ("D6", "MODN: decay no worse than dropout", 1, "53.6), and AdamW"),
    ("D8", "sentences, unseen pairs", -1, "2.23 behind"),
    ("D1", "largest stable learning rate", 1, "3.45 octaves more"),
    ("D1b", "largest stable learning rate, 8 layers", 1, "5.7 more than post-norm"),
    ("D7", "fewer runs diverge", -1, "21 of 100 runs"),
    ("D1", "gap, train minus validation", 1, "3.88, against dropout without"),
    ("D3", "gap at a train loss of .1", 1, "5.06, at 2 layers"),
    ("D5", "gap, train minus validation", 1, "1.4, less than the margin"),
    ("D2", "drift of layer inputs", 1, "13.5%, log"),
    ("D5b", "attention against MLP dropout", 1, "11.3 points more there"),
    ("D10", "accuracy on unseen pairs", -1, "8.54 points worse"),
    ("D10", "unseen pairs, modern + dropout against modern", 1, "12.2 (D10)"),
    ("D9", "validation loss no higher than dropout's", 1, ".277 nats worse"),
    ("D9", "fewer steps", -1, "70%, log"),
    ("C3", "MODN: wrong labels", -1, "48.5\n  points beyond"),
    ("C3", "accuracy, train_clean, dropout", -1, "37)."),
)
VERDICTS = (  # what the README says in words alone
    ("C1c", "determiner -> noun dropped: position", "refuted: negligible"),
    ("C3", "CUES: canaries", "refuted: negligible"),
    ("C6", "CATSAT: strongest head out", "refuted: negligible"),
    ("D3", "dropout helps less", "refuted: opposite"),
    ("D6", "AdamW no worse than L2", "supported"),
    ("D4", "top without dropout, bottom with it", "supported"),
    ("D8", "images", "supported"),
    ("D10", "train against evaluation mode", "supported"),
    ("D3", "gradient of the first layer against the last, 6 layers", "supported"),
    ("D9", "prose: validation loss no higher than dropout's", "inconclusive"),
    ("D11", "prose: loss no higher than everywhere's", "refuted: opposite"),
    ("D10", "AGREE: accuracy on unseen pairs", "inconclusive"),
    ("C1a", "one verb per noun", "inconclusive"),
)


def test_the_first_three_commands_are_what_ci_runs():
    first, second, third = LINES[:3]
    for line in (first, second):
        assert line.startswith("python3 -m venv .venv && .venv/bin/pip install -q -e ")
    assert first.endswith(
        "&& .venv/bin/jaxreg compare experiments/cat_sat.py --workdir=runs/cat_sat"
    )
    pytest_command = ".venv/bin/python -m pytest -n 2 --dist loadfile"
    assert second.endswith(f"&& {pytest_command}")
    assert third == f'{pytest_command} -m "system or not system"'
    script = (ROOT / ".ci" / "run").read_text()
    for name, line in (("main", first), ("test", second), ("every_test", third)):
        assert f"$(command_of {name})" in script
        assert f"<!-- command: {name} -->\n```bash\n{line}\n```" in README
    # Apart from these, every line of a shell block is a jaxreg command and is run below.
    assert set(LINES[3:]) == set(COMMANDS)


@pytest.mark.short_cases("list", "plan")
@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: shlex.split(line)[1])
def test_every_command_runs(line, jaxreg_command, request):
    words = shlex.split(line)[1:]
    if "runs/cat_sat" in words or "runs/cat_sat/results.json" in words:
        request.getfixturevalue("small_run")
    done = jaxreg_command(*words, *SMALL[words[0]])
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("code", [body for kind, body in BLOCKS if kind == "python"])
def test_every_example_runs(code):
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["y"].shape == names["x"].shape
    assert names["kept"].shape == (1, 1, 6, 6)


def test_install_lines_and_links_are_right():
    bounds = re.search(r'"jax(>=[^"]+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert README.count(bounds) == 2
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_table_is_the_committed_result():
    results = json.loads((ROOT / "experiments/results/cat_sat/results.json").read_text())
    primary = next(row["split"] for row in results["comparisons"] if row["verdict"])
    shown = dict(re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", README, re.M))
    for arm, row in results["arms"].items():
        assert shown[arm].strip() == f"{100 * row[primary]['mean']:.1f}"
    rows = {c["arm"]: c for c in results["comparisons"] if c["split"] == primary}
    for arm, row in rows.items():
        line = next(text for text in README.splitlines() if text.startswith(f"| `{arm}` |"))
        low, high = row["ci95"]
        assert f"{100 * row['difference']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]" in line
        assert row["verdict"] in line


def test_the_speed_table_is_the_committed_measurement():
    measured = json.loads((ROOT / "experiments/results/training_speed.json").read_text())[
        "contenders"
    ]
    for entry in measured.values():
        line = next(text for text in README.splitlines() if text.startswith(f"| {entry['name']} |"))
        assert f"| {entry['steps_per_second']:.0f} |" in line


def test_the_scaling_table_is_the_committed_measurement():
    found = json.loads((ROOT / "experiments/results/weak_scaling.json").read_text())["contenders"]
    rates = {
        name: entry["members"] / statistics.median(entry["seconds"]["wave"])
        for name, entry in found.items()
    }
    for name, words in (("one", "one device"), ("two", "two devices, one program")):
        assert f"| {words} | {rates[name]:.2f} | {rates[name] / rates['one']:.2f} |" in README


def test_how_often_verdicts_err_is_the_committed_simulation():
    folder = ROOT / "experiments/results/simulations"
    figures, real = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("verdicts", "real_aa")
    )
    shares = [100 * row["share"] for row in figures["aa"]]
    assert f"| {min(shares):.1f} to {max(shares):.1f}%, at every spread |" in README
    found = {100 * row["sd"]: 100 * row["share"] for row in figures["planted"]}
    assert all(share == 100 for sd, share in found.items() if sd < 6.35)
    assert (
        f"{found[8.0]:.1f}% at 8, {found[11.0]:.1f}% at 11; the largest real spread is"
        f" {100 * max(figures['real_sd'].values()):.1f} |" in README
    )
    assert (
        f"800 trained runs) {real['supported_or_opposite']} came out uncorrected" in README
        and real["in_family"] == 0
    )
    assert (
        f"paired anew {real['anew']['experiments']} times:"
        f" {100 * real['anew']['supported_or_opposite'] / real['anew']['experiments']:.2f}%"
        in README
    )


def test_what_is_said_of_the_essay_is_the_committed_ledger():
    told = json.loads((ROOT / "experiments/results/ledger/ledger.json").read_text())
    assert (ROOT / "experiments/results/ledger/ledger.md").read_text() == markdown.markdown(told)
    section = README.split("## The essay on trial")[1].split("\n## ")[0]
    asked = [question for claim in told["claims"] for question in claim.get("questions", [])]
    counts = collections.Counter(question["verdict"] for question in asked)
    assert (
        f"All {len(told['claims'])} claims have run" in section
        and f"{len(asked)} questions" in section
    )
    opposite, negligible = counts["refuted: opposite"], counts["refuted: negligible"]
    assert (
        f"{counts['supported']} were supported, {opposite} refuted as opposite, {negligible} as"
        f" negligible, {counts['inconclusive']} stay open." in section
    )
    assert (
        f"Of {told['aa']['pairs']} A/A pairs {told['aa']['supported_or_opposite']} came out,"
        " uncorrected." in section
    )
    assert all(
        check["passed"]
        for question in asked
        for check in (*question["preconditions"], *question["controls"])
    ), "all held"
    steps = sum(
        claim["cost"]["tuning"] + claim["cost"]["evaluation"]
        for claim in told["claims"]
        if "cost" in claim
    )
    assert f"{steps / 1e6:.2f} million model-steps" in section
    for name, effect, sign, text in SAID:
        found = shown(told, name, effect)
        assert text in section and found["scale"] * found["difference"] == pytest.approx(
            sign * float(re.search(r"\d*\.?\d+", text)[0]), rel=6e-3
        ), (name, effect)
    for name, effect, verdict in VERDICTS:
        assert shown(told, name, effect)["verdict"] == verdict, (name, effect)
    for name, effect in (
        ("C1", "unseen pairs"),
        ("C1", "unseen pairs, AGREE"),
        ("D6", "decay no worse than dropout"),
    ):
        assert markdown.effect(shown(told, name, effect)).removesuffix(" points") in section


def shown(told, name, effect):
    """A question or a secondary effect of the ledger."""
    claim = next(claim for claim in told["claims"] if claim["id"] == name)
    return next(
        entry for entry in (*claim["questions"], *claim["secondary"]) if entry["name"] == effect
    )
